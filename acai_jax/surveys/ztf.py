"""The Zwicky Transient Facility: names and shapes of its alerts, each declared here, once."""

from typing import Final, Literal, get_args

# Fields of `candidate`, in the order in which the published networks take them.
FEATURE_NAMES: Final = (
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
DRB_INDEX: Final = FEATURE_NAMES.index("drb")

SENTINEL: Final = -999.0
"""What the survey writes in a field that has no value: no neighbour within reach, for example."""

STAMP_SIZE: Final = 63
"""Pixels along each side of a full stamp; 1.01 arcsec each."""

CUTOUTS: Final = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
"""The packet's three cutouts, in the order of a triplet's channels."""

HISTORIES: Final = ("prv_candidates", "fp_hists")
"""Arrays of earlier photometry: most of a packet's records, and nothing that a score needs."""

Preset = Literal["acai", "kowalski", "boom"]
"""How a packet becomes arrays: as the original ACAI did, as Kowalski does, as BOOM does."""

PRESETS: Final[tuple[Preset, ...]] = get_args(Preset)

DrbSource = Literal["packet", "rb", "braai"]
"""Where the `drb` that a score used came from."""

# Fields of `candidate` that are no features, but that filters and reports look at; the packaged
# dataset keeps them with raw stamps, so that one more would be another version of it.
CONTEXT_FIELDS: Final = (
    "isdiffpos",
    "rb",
    "magap",
    "distnr",
    "magnr",
    "classtar",
    "nbad",
    "nneg",
    "elong",
    "ssdistnr",
    "ssmagnr",
    "ssnamenr",
    "sgmag1",
    "srmag1",
    "simag1",
    "maggaia",
    "maggaiabright",
    "jdstarthist",
    "jdendhist",
)

# Further ones, for filters alone.
FILTER_FIELDS: Final = (
    "magdiff",
    "mindtoedge",
    "sumrat",
    "tooflag",
    "field",
    "szmag1",
    *(f"s{band}mag{place}" for place in (2, 3) for band in "griz"),
)

TEXT_FIELDS: Final = frozenset({"isdiffpos", "ssnamenr"})
INTEGER_FIELDS: Final = frozenset(
    {"fid", "programid", "ndethist", "ncovhist", "nmtchps", "nbad", "nneg", "tooflag", "field"}
)
DOUBLE_FIELDS: Final = frozenset({"jd", "ra", "dec", "scorr", "jdstarthist", "jdendhist"})
REQUIRED_FIELDS: Final = ("jd", "ra", "dec", "fid", "programid")

DATASET_FIELDS: Final = tuple(dict.fromkeys((*REQUIRED_FIELDS, *FEATURE_NAMES, *CONTEXT_FIELDS)))
"""Fields of `candidate` that the packaged dataset keeps, in its order."""

TABLE_FIELDS: Final = (*DATASET_FIELDS, *FILTER_FIELDS)
"""Fields of `candidate` that a score table carries, in its order."""

FILTERS: Final = {1: "g", 2: "r", 3: "i"}
KEY_FEATURES: Final = (
    ("magpsf", "mag"),
    ("sigmapsf", "mag"),
    ("diffmaglim", "mag"),
    ("isdiffpos", ""),
    ("drb", ""),
    ("rb", ""),
    ("fwhm", "pixel"),
    ("scorr", ""),
    ("ndethist", ""),
    ("ncovhist", ""),
    ("sgscore1", ""),
    ("distpsnr1", "arcsec"),
    ("neargaia", "arcsec"),
    ("ssdistnr", "arcsec"),
)
"""Fields that people look at first, with their units."""
