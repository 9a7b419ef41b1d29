"""Surveys whose packets people have tried to score, and that nothing here reads."""

from typing import Final

from acai_jax.surveys.base import Other, Signs

# Roman's packets have fields of LSST's, too: it comes first.
OTHERS: Final = (
    Other(
        "Roman",
        Signs(
            ("rapid", "roman"),
            frozenset({"ssMatches", "cutoutReference", "prvDiaForcedPhotometry"}),
        ),
    ),
    Other("LSST, simulated (ELAsTiCC)", Signs(("elasticc",))),
    Other("WIRC", Signs(("wirc",), beginnings=("WIRC",))),
    Other("DECam", Signs(("desirt", "decam"), beginnings=("DESIRT", "DECAM", "C4D_"))),
    Other("Palomar Gattini-IR", Signs(("pgir",), beginnings=("PGIR",))),
    Other("TURBO", Signs(("turbo",), beginnings=("TURBO",))),
)
