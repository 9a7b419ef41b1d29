"""Packets decoded and preprocessed per second on one core, beside the original's way.

    python -m benchmarks.decode --alerts ../shared/data/alerts

LSST's packets are held to fastavro and astropy, by the time that each takes on a processor.

The floor is the time that gunzip alone takes for the same stamps: nobody can score without it.
Results go to benchmarks/results/decode-<device>.json.
"""

import argparse
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import fastavro
import numpy as np
from isal import isal_zlib

from acai_jax.alerts import avro
from acai_jax.alerts.packet import read_packet
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.errors import AvroError
from benchmarks import peers, timing

_EVERY = 6  # packet of LSST's: a peer takes a tenth of a second for one


def read_with_original(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """One packet as the original reads it: fastavro.reader, gzip, astropy."""
    alert = next(iter(fastavro.reader(io.BytesIO(raw))))
    assert isinstance(alert, dict)
    features, triplets = peers.original_inputs(alert)
    return features[0], triplets[0]


def read_lsst_with_peers(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """One packet of LSST's by fastavro and astropy."""
    return next(peers.lsst_packets(io.BytesIO(raw)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Packets decoded per second, beside peers.")
    parser.add_argument("--alerts", type=Path, default=timing.DATA / "alerts")
    parser.add_argument("--lsst", type=Path, default=timing.DATA / "lsst" / "lsst_v10_0.avro")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()

    packets = [path.read_bytes() for path in sorted(arguments.alerts.glob("*.avro"))]
    if not packets:
        raise SystemExit(f"no alerts in {arguments.alerts}")
    stamps = [stamp for raw in packets for stamp in read_packet(raw).cutouts if stamp]
    for raw in packets:
        ours, theirs = alert_arrays(read_packet(raw)), read_with_original(raw)
        np.testing.assert_array_equal(ours.features, theirs[0])
        np.testing.assert_allclose(ours.triplet, theirs[1], atol=1e-7)

    def all_packets(read: Callable[[bytes], object]) -> Callable[[], object]:
        return lambda: [read(raw) for raw in packets]

    programs = [
        timing.Program(
            "acai_jax", all_packets(lambda r: alert_arrays(read_packet(r))), len(packets)
        ),
        timing.Program("the original's way", all_packets(read_with_original), len(packets)),
        timing.Program(
            "gunzip alone, ISA-L",
            lambda: [isal_zlib.decompress(s, 31) for s in stamps],
            len(packets),
        ),
        timing.Program(
            "gunzip alone, zlib", lambda: [gzip.decompress(s) for s in stamps], len(packets)
        ),
    ]
    groups = [
        ("one packet at a time, one core", programs),
        ("LSST, one packet at a time, processor's time", lsst_programs(arguments.lsst)),
    ]
    timing.compare("decode", groups, arguments.rounds)


def lsst_programs(container: Path) -> list[timing.Program]:
    """Both ways from LSST's packets to arrays, which are the same."""
    found = list(avro.one_record_containers(container.read_bytes()))
    packets = [each[0] for each in found[::_EVERY] if not isinstance(each, AvroError)]
    for raw in packets:
        ours, theirs = alert_arrays(read_packet(raw)), read_lsst_with_peers(raw)
        np.testing.assert_array_equal(ours.features, theirs[0])
        np.testing.assert_allclose(ours.triplet, theirs[1], atol=1e-7)
    ways: dict[str, Callable[[bytes], object]] = {
        "acai_jax": lambda raw: alert_arrays(read_packet(raw)),
        "fastavro and astropy": read_lsst_with_peers,
    }

    def of_all(read: Callable[[bytes], object]) -> Callable[[], object]:
        return lambda: [read(raw) for raw in packets]

    count = len(packets)
    return [timing.Program(n, of_all(way), count, of_processor=True) for n, way in ways.items()]


if __name__ == "__main__":
    main()
