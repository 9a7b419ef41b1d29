"""Small synthetic alerts for tests: the shape of real packets, with known contents."""

import copy
import functools
import gzip
import io
from typing import Any

import fastavro
import numpy as np

from acai_jax.surveys.ztf import ZTF

FLOATS = tuple(
    name
    for name in ZTF.table_fields
    if name not in ZTF.double_fields | ZTF.integer_fields | ZTF.text_fields
)
DOUBLES = ("scorr", "jdstarthist", "jdendhist")
COUNTS = ("nbad", "nneg", "tooflag", "field")


def _nullable(kind: str, name: str) -> dict[str, Any]:
    return {"name": name, "type": [kind, "null"], "default": None}


HISTORY = {
    "type": "record",
    "name": "ztf.alert.prv_candidate",
    "fields": [
        {"name": "jd", "type": "double"},
        {"name": "fid", "type": "int"},
        {"name": "pid", "type": "long"},
        _nullable("float", "diffmaglim"),
        _nullable("string", "pdiffimfilename"),
        _nullable("long", "candid"),
        *[_nullable("float", f"m{i}") for i in range(6)],
    ],
}
CUTOUT = {
    "type": "record",
    "name": "ztf.alert.cutout",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "ztf.alert",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "publisher", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {
            "name": "candidate",
            "type": {
                "type": "record",
                "name": "ztf.alert.candidate",
                "fields": [
                    {"name": "jd", "type": "double"},
                    {"name": "fid", "type": "int"},
                    {"name": "programid", "type": "int"},
                    {"name": "candid", "type": "long"},
                    {"name": "ra", "type": "double"},
                    {"name": "dec", "type": "double"},
                    {"name": "isdiffpos", "type": "string"},
                    {"name": "ndethist", "type": "int"},
                    {"name": "ncovhist", "type": "int"},
                    {"name": "nmtchps", "type": "int"},
                    _nullable("string", "ssnamenr"),
                    *[_nullable("float", name) for name in FLOATS],
                    *[_nullable("double", name) for name in DOUBLES],
                    *[_nullable("int", name) for name in COUNTS],
                ],
            },
        },
        {"name": "prv_candidates", "type": [{"type": "array", "items": HISTORY}, "null"]},
        {"name": "cutoutScience", "type": [CUTOUT, "null"]},
        {"name": "cutoutTemplate", "type": ["ztf.alert.cutout", "null"]},
        {"name": "cutoutDifference", "type": ["ztf.alert.cutout", "null"]},
    ],
}


def fits_bytes(image: np.ndarray, *, simple: bool = True) -> bytes:
    """A FITS file of one float32 image, written as ZTF's cutouts are."""
    cards = ["SIMPLE  =                    T"] if simple else []
    cards += [
        "BITPIX  =                  -32",
        f"NAXIS   = {image.ndim:20d}",
        *[f"NAXIS{i + 1}  = {n:20d}" for i, n in enumerate(reversed(image.shape))],
        "END",
    ]
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    data = image.astype(">f4").tobytes()
    return header + data + bytes(-len(data) % 2880)


def stamp(image: np.ndarray) -> bytes:
    return gzip.compress(fits_bytes(image), mtime=0)


def packet_record(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A sound packet; `changes` replace top-level fields or, failing that, candidate fields."""
    record = copy.deepcopy(_record(number))
    for name, value in changes.items():
        (record if name in record else record["candidate"])[name] = value
    return record


@functools.cache
def _record(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    candid = 2_475_433_850_015_000_000 + number
    candidate: dict[str, Any] = {
        "jd": 2460500.5 + number / 1000,
        "fid": 1 + number % 3,
        "programid": 1,
        "candid": candid,
        "ra": float(rng.uniform(0, 360)),
        "dec": float(rng.uniform(-30, 90)),
        "isdiffpos": "t",
        "ndethist": 4,
        "ncovhist": 90,
        "nmtchps": 3,
        "ssnamenr": None,
        **{name: float(np.float32(rng.uniform(0, 20))) for name in FLOATS},
        **{name: float(rng.uniform(5, 50)) for name in DOUBLES},
        **dict.fromkeys(COUNTS, 0),
        "drb": 0.98,
        "rb": 0.75,
    }
    images = rng.normal(200, 10, (3, 63, 63)).astype(np.float32)
    record: dict[str, Any] = {
        "schemavsn": "4.02",
        "publisher": "ZTF (www.ztf.caltech.edu)",
        "objectId": f"ZTF26test{number:03d}",
        "candid": candid,
        "candidate": candidate,
        "prv_candidates": [
            {
                "jd": 2460499.5,
                "fid": 1,
                "pid": 247543385001,
                "diffmaglim": 20.5,
                "pdiffimfilename": "a.fits",
                "candid": None,
                **dict.fromkeys((f"m{i}" for i in range(6)), None if number % 2 else 1.5),
            }
        ]
        * (number % 4),
    }
    names = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    for name, image in zip(names, images, strict=True):
        record[name] = {"fileName": f"{name}.fits.gz", "stampData": stamp(image)}
    return record


def avro_bytes(*records: dict[str, Any], codec: str = "null", interval: int = 16000) -> bytes:
    """An Avro object container of `records`."""
    buffer = io.BytesIO()
    fastavro.writer(buffer, SCHEMA, records, codec=codec, sync_interval=interval)
    return buffer.getvalue()


def bare_avro(value: Any, schema: Any = SCHEMA) -> bytes:
    """A value without its schema."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), value)
    return buffer.getvalue()
