"""Runs from Python: interrupted, resumed, and told about."""

import jax
import polars as pl
import pytest
from synthetic import avro_bytes, packet_record

from acai_jax.errors import OutputError
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.night import score_night
from acai_jax.score.scorer import Scorer


@pytest.fixture(scope="module")
def scorer():
    config = HeadConfig(filters=(4, 4), dense_units=(8, 8), head_units=4)
    heads = create_heads(config, 1, jax.random.key(0))
    return Scorer(HeadBank(heads, ("h",), {"h": {"version": "1"}}, "boom"))


@pytest.fixture
def night(tmp_path):
    """Three chunks of alerts, one of which has no score."""
    records = [packet_record(n % 20, candid=n) for n in range(300)]
    records[7]["candidate"]["magpsf"] = None
    for place in range(3):
        (tmp_path / f"{place}.avro").write_bytes(avro_bytes(*records[place::3]))
    return tmp_path


def test_a_run_that_is_interrupted_goes_on(scorer, night):
    out, seen = night / "scores.parquet", []

    def interrupt(table, source_bytes):
        seen.append(len(table))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_night(scorer, night, out, num_workers=0, advance=interrupt)
    with pytest.raises(OutputError, match="resume"):
        score_night(scorer, night, out, num_workers=0)
    told = []
    kinds = score_night(
        scorer,
        night,
        out,
        num_workers=0,
        resume=True,
        begin=lambda writer, total_bytes: told.append((writer.rows_done(), total_bytes)),
        advance=lambda table, source_bytes: seen.append(len(table)),
    )
    assert told == [(seen[0], sum(path.stat().st_size for path in night.glob("*.avro")))]
    assert sum(seen) == 300
    assert sorted(pl.read_parquet(out)["candid"]) == list(range(300))
    assert dict(kinds.rows()) == {None: 299, "null feature": 1}


def test_a_complete_run_is_left_alone(scorer, night):
    out = night / "scores.parquet"
    first = score_night(scorer, [night / "0.avro"], out, num_workers=0)
    before = out.read_bytes()
    told = []
    again = score_night(
        scorer,
        [night / "0.avro"],
        out,
        num_workers=0,
        resume=True,
        begin=lambda writer, _: told.append(writer.complete),
        advance=lambda *_: told.append("scored again"),
    )
    assert told == [True]
    assert first.equals(again)
    assert out.read_bytes() == before
