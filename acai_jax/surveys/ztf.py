"""The Zwicky Transient Facility: every fact about its alerts, each declared here, once.

Source: https://github.com/ZwickyTransientFacility/ztf-avro-alert, schemas 3.0 to 4.02.
"""

import datetime
from typing import Final, Literal

from acai_jax.surveys.base import (
    BRAAI,
    COMMON_FILTERS,
    Derived,
    Field,
    Grouping,
    Inputs,
    NamedFilter,
    Photometry,
    Recipe,
    Signs,
    Survey,
)
from acai_jax.times import DATES

DrbSource = Literal["packet", "rb", "braai"]
"""Where the `drb` that a score used came from."""

# in the order in which the published networks take them
_FEATURES: Final = (
    "drb",
    "diffmaglim",
    "ra",
    "dec",
    "magpsf",
    "sigmapsf",
    "chipsf",
    "fwhm",
    "sky",
    "chinr",
    "sharpnr",
    "sgscore1",
    "distpsnr1",
    "sgscore2",
    "distpsnr2",
    "sgscore3",
    "distpsnr3",
    "ndethist",
    "ncovhist",
    "scorr",
    "nmtchps",
    "clrcoeff",
    "clrcounc",
    "neargaia",
    "neargaiabright",
)

# in the order of tables: the required ones, features, what filters and reports look at
_FIELDS: Final = (
    Field("jd", "double", "day", required=True, plausible=DATES),
    Field("ra", "double", "deg", required=True, plausible=(0.0, 360.0)),
    Field("dec", "double", "deg", required=True, plausible=(-90.0, 90.0)),
    Field("fid", "integer", required=True),
    Field("programid", "integer", required=True),
    Field("drb"),
    Field("diffmaglim", unit="mag"),
    Field("magpsf", unit="mag"),
    Field("sigmapsf", unit="mag"),
    Field("chipsf"),
    Field("fwhm", unit="pixel"),
    Field("sky", unit="DN"),
    Field("chinr"),
    Field("sharpnr"),
    Field("sgscore1"),
    Field("distpsnr1", unit="arcsec"),
    Field("sgscore2"),
    Field("distpsnr2", unit="arcsec"),
    Field("sgscore3"),
    Field("distpsnr3", unit="arcsec"),
    Field("ndethist", "integer"),
    Field("ncovhist", "integer"),
    Field("scorr", "double"),
    Field("nmtchps", "integer"),
    Field("clrcoeff"),
    Field("clrcounc"),
    Field("neargaia", unit="arcsec"),
    Field("neargaiabright", unit="arcsec"),
    Field("isdiffpos", "text"),
    Field("rb"),
    Field("magap", unit="mag"),
    Field("distnr", unit="pixel"),
    Field("magnr", unit="mag"),
    Field("classtar"),
    Field("nbad", "integer"),
    Field("nneg", "integer"),
    Field("elong"),
    Field("ssdistnr", unit="arcsec"),
    Field("ssmagnr", unit="mag"),
    Field("ssnamenr", "text"),
    Field("sgmag1", unit="mag"),
    Field("srmag1", unit="mag"),
    Field("simag1", unit="mag"),
    Field("maggaia", unit="mag"),
    Field("maggaiabright", unit="mag"),
    Field("jdstarthist", "double", "day"),
    Field("jdendhist", "double", "day"),
    Field("magdiff", unit="mag", packaged=False),
    Field("mindtoedge", unit="pixel", packaged=False),
    Field("sumrat", packaged=False),
    Field("tooflag", "integer", packaged=False),
    Field("field", "integer", packaged=False),
    Field("szmag1", unit="mag", packaged=False),
    *(
        Field(f"s{band}mag{place}", unit="mag", packaged=False)
        for place in (2, 3)
        for band in "griz"
    ),
)

_FILTERS: Final = {
    **COMMON_FILTERS,
    "early_hosted": NamedFilter(
        COMMON_FILTERS["early_hosted"].where,
        "Young supernova candidates near visible galaxies: the filter of the paper's section 5, "
        "which gave 12,035 objects in nine months, 52 of them bogus.",
    ),
    "likely_tde": NamedFilter(
        "acai_n > 0.8 AND MAX(acai_b, acai_v) < 0.1 AND is_positive_subtraction "
        "AND NOT is_known_ss_object AND sgscore1 < 0.5 AND distpsnr1 < 1 "
        "AND n_detections BETWEEN 2 AND 40 AND jd - jdstarthist < 120",
        "New, positive flux in the nucleus of a galaxy, seen before but not for long: active "
        "nuclei have flickered since the survey began.",
    ),
}

ZTF: Final = Survey(
    name="ztf",
    title="ZTF",
    signs=Signs(),  # brokers write its packets anew, under names of their own
    record="candidate",
    alert_id="candid",
    object_id="objectId",
    object_name=r"ZTF\d\d[a-z]{7}",
    time="jd",
    band="fid",
    magnitude="magpsf",
    fields=_FIELDS,
    inputs=Inputs(
        features=_FEATURES,
        stamp=63,  # 1.01 arcsec each
        channels=("science", "template", "difference"),
        sentinel=-999.0,  # no neighbour within reach, for example
    ),
    recipes={
        "acai": Recipe("corner", {"drb": BRAAI}),
        "kowalski": Recipe("corner", {"drb": "rb"}),
        "boom": Recipe("centred"),
    },
    cutouts=("cutoutScience", "cutoutTemplate", "cutoutDifference"),
    largest_stamp=63,
    histories=("prv_candidates", "fp_hists"),
    light_curve=tuple(
        Photometry(rows, "jd", "magpsf", "sigmapsf", sign="isdiffpos", limit="diffmaglim")
        for rows in ("candidate", "prv_candidates")
    ),
    late_features=frozenset({"clrcoeff", "clrcounc"}),
    late_reason=(
        "missing features: clrcoeff and clrcounc, which packets before schema 3.0 "
        "(18 July 2018) do not have"
    ),
    bands={1: "g", 2: "r", 3: "i"},
    public={"programid": 1},
    derived=(
        Derived("n_detections", "ndethist"),
        Derived(
            "is_positive_subtraction",
            "isdiffpos",
            values={"t": True, "1": True, "f": False, "0": False},
        ),
        # nearer than 12 arcsec it is taken for the source, as brokers do
        Derived("is_known_ss_object", "ssdistnr", between=(0.0, 12.0)),
    ),
    filters=_FILTERS,
    groupings={
        "filter": Grouping("filter", "fid"),
        "magnitude": Grouping("magpsf [mag]", "magpsf", (17.0, 18.0, 19.0, 20.0)),
        "latitude": Grouping("galactic latitude, N or S", "latitude", (10.0, 20.0, 40.0), "°"),
        "year": Grouping("year", "year"),
        "ndethist": Grouping("ndethist", "ndethist", (2.0, 5.0, 20.0, 100.0), whole=True),
    },
    key_fields=(
        "magpsf",
        "sigmapsf",
        "diffmaglim",
        "isdiffpos",
        "drb",
        "rb",
        "fwhm",
        "scorr",
        "ndethist",
        "ncovhist",
        "sgscore1",
        "distpsnr1",
        "neargaia",
        "ssdistnr",
    ),
    message_fields=("magpsf", "drb"),
    programmes=(1, 2, 3),
    topic="ztf_{night:%Y%m%d}_programid{programme}",
    archive_url="https://ztf.uw.edu/alerts/public/",
    archive_file="ztf_public_{night:%Y%m%d}.tar.gz",
    first_scorable=datetime.date(2018, 7, 18),
)

FEATURE_NAMES: Final = ZTF.inputs.features
"""Fields of `candidate`, in the order in which heads take them."""
SENTINEL: Final = ZTF.inputs.sentinel
STAMP_SIZE: Final = ZTF.inputs.stamp
CUTOUTS: Final = ZTF.cutouts
