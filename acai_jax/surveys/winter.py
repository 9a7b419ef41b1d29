"""WINTER, the near-infrared survey of Palomar: every fact about its alerts.

Nobody has trained heads for it yet: `Inputs` says what they would read. Many fields of its packets
are null, such as the neighbours' star scores; features are those that the pipeline always measures.

Source: the schema inside its packets, version 0.1.
"""

from typing import Final

from acai_jax.surveys.base import (
    COMMON_FILTERS,
    Derived,
    Field,
    Grouping,
    Inputs,
    Recipe,
    Signs,
    Survey,
)
from acai_jax.times import DATES

_FEATURES: Final = (
    "diffmaglim",
    "magpsf",
    "sigmapsf",
    "chipsf",
    "magap",
    "fwhm",
    "elong",
    "nneg",
    "nbad",
    "sumrat",
    "scorr",
    "ndethist",
    "nmtchps",
    "nmtchtm",
)

_FIELDS: Final = (
    Field("jd", "double", "day", required=True, plausible=DATES),
    Field("ra", "double", "deg", required=True, plausible=(0.0, 360.0)),
    Field("dec", "double", "deg", required=True, plausible=(-90.0, 90.0)),
    Field("fid", "integer", required=True),
    Field("programid", "integer", required=True),
    Field("diffmaglim", unit="mag"),
    Field("magpsf", unit="mag"),
    Field("sigmapsf", unit="mag"),
    Field("chipsf"),
    Field("magap", unit="mag"),
    Field("fwhm", unit="pixel"),
    Field("elong"),
    Field("nneg", "integer"),
    Field("nbad", "integer"),
    Field("sumrat"),
    Field("scorr", "double"),
    Field("ndethist", "integer"),
    Field("nmtchps", "integer"),
    Field("nmtchtm", "integer"),
    Field("isdiffpos", "text"),
    Field("rb"),
    Field("jdstarthist", "double", "day"),
    Field("jdendhist", "double", "day"),
    Field("sgscore1"),
    Field("distpsnr1", unit="arcsec"),
    Field("sgmag1", unit="mag"),
    Field("tmjmag1", unit="mag"),
    Field("ssdistnr", unit="arcsec"),
    Field("ssmagnr", unit="mag"),
    Field("ssnamenr", "text"),
    Field("mindtoedge", unit="pixel"),
    Field("field", "integer"),
)

WINTER: Final = Survey(
    name="winter",
    title="WINTER",
    signs=Signs(
        ("winter",),
        frozenset({"objectid", "cutout_science", "cutout_template"}),
        ("WINTER", "WNTR"),
    ),
    record="candidate",
    alert_id="candid",
    object_id="objectid",
    object_name=r"WNTR\d\d[a-z]{5}",
    time="jd",
    band="fid",
    magnitude="magpsf",
    fields=_FIELDS,
    inputs=Inputs(
        features=_FEATURES,
        stamp=63,  # 1.1 arcsec each
        channels=("science", "template", "difference"),
        sentinel=-999.0,  # which no feature holds
    ),
    recipes={"winter": Recipe("centred", whole_centre=True)},
    cutouts=("cutout_science", "cutout_template", "cutout_difference"),
    largest_stamp=81,
    histories=("prv_candidates",),
    bands={0: "Y", 1: "J", 2: "H", 3: "Ks"},
    derived=(
        Derived("n_detections", "ndethist"),
        Derived("is_positive_subtraction", "isdiffpos", values={"t": True, "f": False}),
        Derived("is_known_ss_object", "ssdistnr", between=(0.0, 12.0)),
    ),
    filters=COMMON_FILTERS,
    groupings={
        "filter": Grouping("filter", "fid"),
        "magnitude": Grouping("magpsf [mag]", "magpsf", (14.0, 15.0, 16.0, 17.0)),
        "latitude": Grouping("galactic latitude, N or S", "latitude", (10.0, 20.0, 40.0), "°"),
        "year": Grouping("year", "year"),
    },
    key_fields=(
        "magpsf",
        "sigmapsf",
        "diffmaglim",
        "isdiffpos",
        "fwhm",
        "scorr",
        "ndethist",
        "nmtchps",
        "nmtchtm",
        "distpsnr1",
        "ssdistnr",
    ),
    message_fields=("magpsf",),
    topic="winter_{night:%Y%m%d}",
)
