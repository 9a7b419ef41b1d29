"""Scorer: real alerts against golden scores, and the promises of its table."""

import dataclasses
import gzip
import json
import subprocess
import sys
import tarfile
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from references import USUAL
from synthetic import avro_bytes, packet_record

from acai_jax.alerts import prepare
from acai_jax.alerts.packet import AlertPacket, packet_from_record
from acai_jax.alerts.preprocess import alert_arrays, check_preset
from acai_jax.alerts.sources import read_alerts
from acai_jax.classes import CLASSES
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.separable import cpu_compiler_options
from acai_jax.score import scorer as score
from acai_jax.score.columns import score_columns
from acai_jax.score.scorer import Scorer
from acai_jax.surveys.ztf import ZTF

VERSIONS = {name: {"version": f"test_{name}"} for name in CLASSES}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(HeadBank(create_heads(HeadConfig(), 5, jax.random.key(0)), CLASSES, VERSIONS))


@pytest.fixture(scope="session")
def published(real_data) -> Scorer:
    """Compiled as users compile it, whatever other tests do."""
    options = cpu_compiler_options() | USUAL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("acai_jax.score.scorer.cpu_compiler_options", lambda: options)
        return Scorer.load("published", weights_dir=real_data / "acai_h5")


def logit(score: np.ndarray) -> np.ndarray:
    score = score.astype(np.float64)
    return np.log(score) - np.log1p(-score)


def compare_with_golden(table: pl.DataFrame, golden: pl.DataFrame) -> None:
    """Same alerts scored, scores to 1e-5, logits to 1e-3 wherever nine digits resolve them."""
    scored = table.filter(pl.col("reason").is_null()).unique("candid")
    assert set(scored["candid"]) == set(golden["candid"])
    both = golden.join(scored, on="candid", suffix="_ours")
    assert len(both) == len(golden)
    np.testing.assert_allclose(both["drb_ours"], both["drb"], atol=1e-6)
    for name in CLASSES:
        expected, ours = both[f"acai_{name}"].to_numpy(), both[f"acai_{name}_ours"].to_numpy()
        assert np.abs(ours - expected).max() <= 1e-5
        resolved = (expected > 1e-30) & (expected < 1 - 1e-4)
        assert resolved.sum() > len(both) / 2
        assert np.abs(logit(ours[resolved]) - logit(expected[resolved])).max() <= 1e-3


@pytest.mark.parametrize("preset", ZTF.recipes)
def test_published_scores_are_reproduced(real_data, published, preset):
    golden = pl.read_csv(real_data / "golden" / "scores.csv").filter(pl.col("preset") == preset)
    paths = [real_data / "alerts", real_data / "fink_alerts.parquet"]
    table = published.score(paths, preset)
    assert len(table) == 97
    compare_with_golden(table, golden)
    rejected = table.filter(pl.col("reason").is_not_null())
    assert rejected["candid"].null_count() == 0
    assert set(rejected["reason"]) <= {"null feature: drb"}


def test_every_source_gives_the_same_scores(real_data, published, tmp_path):
    paths = sorted((real_data / "alerts").glob("*.avro"))[:12]
    expected = published.score(paths)
    with tarfile.open(tmp_path / "night.tar.gz", "w:gz") as archive:
        for path in paths:
            archive.add(path, path.name)
    with gzip.open(tmp_path / "night.json.gz", "wt") as file:
        for alert in read_alerts(paths):
            assert isinstance(alert, AlertPacket)
            file.write(json.dumps(kowalski_document(alert)) + "\n")
    columns = [name for name in expected.columns if name != "origin"]
    for name in ("night.tar.gz", "night.json.gz"):
        table = published.score(tmp_path / name)
        assert table.select(columns).equals(expected.select(columns)), name


def kowalski_document(alert: AlertPacket) -> dict:
    names = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    return {
        "_id": {"$oid": "5f0c1b2a9d1e8b0001a2b3c4"},
        "objectId": alert.objectId,
        "candid": {"$numberLong": str(alert.candid)},
        "schemavsn": alert.schemavsn,
        "candidate": dict(alert.candidate),
    } | {
        name: {
            "fileName": name,
            "stampData": {"$binary": {"base64": b64encode(data or b"").decode(), "subType": "00"}},
        }
        for name, data in zip(names, alert.cutouts, strict=True)
    }


def test_score_arrays_agrees_with_score(real_data, published):
    packets = [a for a in read_alerts(real_data / "alerts") if isinstance(a, AlertPacket)]
    arrays = [alert_arrays(packet, "kowalski") for packet in packets]
    scores = published.score_arrays(
        np.stack([a.features for a in arrays]), np.stack([a.triplet for a in arrays])
    )
    table = published.score(real_data / "alerts", "kowalski")
    columns = [f"acai_{name}" for name in CLASSES]
    np.testing.assert_array_equal(table.select(columns).to_numpy(), scores)
    few = published.score(sorted((real_data / "alerts").glob("*.avro"))[-3:], "kowalski")
    assert few.equals(table[-3:])  # the same bits, whatever an alert is scored beside


def test_both_generations_score_differently(real_data, published):
    first = Scorer.load("published-20201110", weights_dir=real_data / "acai_h5_first")
    path = sorted((real_data / "alerts").glob("*.avro"))[0]
    new, old = published.score(path), first.score(path)
    assert new["acai_h_version"].item() == "d1_dnn_20201130"
    assert old["acai_h_version"].item() == "d1_dnn_20201107"
    assert new["acai_h"].item() != old["acai_h"].item()


def write_night(folder: Path, records: list[dict]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, record in enumerate(records):
        (folder / f"{number:04d}.avro").write_bytes(avro_bytes(record))
    return folder


def test_table_has_one_row_per_alert_in_order_with_reasons(scorer, tmp_path):
    records = [packet_record(n) for n in range(6)]
    records[1]["cutoutTemplate"] = None
    records[3]["candidate"]["scorr"] = None
    night = write_night(tmp_path / "night", records)
    (night / "0004.avro").write_bytes(b"Obj\x01 poison")
    table = scorer.score(night)
    assert table.schema == score.score_table_schema(CLASSES)
    assert table["candid"].to_list() == [
        None if n == 4 else record["candid"] for n, record in enumerate(records)
    ]
    reasons = table["reason"].to_list()
    assert reasons[0] is reasons[2] is reasons[5] is None
    assert reasons[1] == "null stamp (cutoutTemplate)"
    assert reasons[3] == "null feature: scorr"
    assert "truncated Avro" in reasons[4]
    assert table["origin"][4].endswith("0004.avro")
    for name in CLASSES:
        assert table[f"acai_{name}"].is_null().to_list() == [r is not None for r in reasons]
    assert table["preset"].unique().to_list() == ["acai"]
    assert table["acai_b_version"].unique().to_list() == ["test_b"]


def test_rb_stands_in_for_drb_under_kowalski_and_is_recorded(scorer, tmp_path):
    night = write_night(tmp_path / "night", [packet_record(0, drb=None), packet_record(1)])
    table = scorer.score(night, "kowalski")
    assert table["drb_source"].to_list() == ["rb", "packet"]
    assert table["drb"].to_list() == pytest.approx([0.75, 0.98])
    assert scorer.score(night, "boom")["reason"].to_list() == ["null feature: drb", None]


def test_without_braai_weights_alerts_without_drb_get_a_reason(tmp_path):
    bank = HeadBank(create_heads(HeadConfig(), 5, jax.random.key(0)), CLASSES, VERSIONS)
    scorer = Scorer(bank, weights_dir=tmp_path)
    night = write_night(tmp_path / "night", [packet_record(0, drb=None), packet_record(1)])
    table = scorer.score(night)
    assert "braai cannot stand in: not in " in table["reason"][0]
    assert table["acai_h"].is_null().to_list() == [True, False]
    assert table["drb"][0] is None
    assert table["drb_source"].to_list() == [None, "packet"]


def test_a_score_that_is_no_number_is_a_reject(scorer, tmp_path):
    night = write_night(tmp_path / "night", [packet_record(0, neargaia=3e38, sky=-3e38)])
    table = scorer.score(night)
    if table["acai_h"][0] is None:
        assert table["reason"][0] == "score is not a number"
    else:
        assert np.isfinite(table["acai_h"][0])


def test_scoring_files_compiles_nothing_after_warm_up(scorer, tmp_path):
    scorer.warm_up()
    compiled = list(scorer.compiled_batches)
    for count in (1, 20, 200):
        night = tmp_path / f"{count}.avro"
        night.write_bytes(avro_bytes(*(packet_record(n % 7) for n in range(count))))
        assert scorer.score(night, num_workers=0)["reason"].null_count() == count
    assert scorer.compiled_batches == compiled


def test_worker_processes_change_nothing(scorer, tmp_path):
    records = [packet_record(n) for n in range(20)]
    night = tmp_path / "night.avro"
    night.write_bytes(avro_bytes(*records))
    alone = scorer.score(night, num_workers=0)
    shared = scorer.score(night, num_workers=2)
    assert alone.equals(shared)


def test_chunks_are_skipped_for_resuming(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "CHUNK_ALERTS", 4)
    night = write_night(tmp_path / "night", [packet_record(n) for n in range(10)])
    tables = [table for table, _ in scorer.score_tables(night, num_workers=0)]
    assert [len(table) for table in tables] == [4, 4, 2]
    rest = [table for table, _ in scorer.score_tables(night, num_workers=0, skip_chunks=1)]
    assert pl.concat(rest).equals(pl.concat(tables[1:]))


@pytest.mark.parametrize("count", [0, 1, 2, 9, 17, 31, 33, 129, 300])
def test_any_batch_size_gives_the_same_bits_without_recompiling(scorer, count):
    scorer.warm_up()
    compiled = list(scorer.compiled_batches)
    assert sorted(compiled) == [1, 8, 16, 32, 128]
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (300, 25)).astype(np.float32)
    triplets = rng.normal(0, 0.02, (300, 63, 63, 3)).astype(np.float32)
    scores = scorer.score_arrays(features[:count], triplets[:count])
    assert scores.shape == (count, 5)
    assert scores.dtype == np.float32
    for row in range(0, count, 13):
        alone = scorer.score_arrays(features[row : row + 1], triplets[row : row + 1])
        np.testing.assert_array_equal(scores[row : row + 1], alone)
    assert scorer.compiled_batches == compiled


def test_wrong_shapes_are_refused(scorer):
    with pytest.raises((ValueError, TypeError), match=r"(?i)expected"):
        scorer.score_arrays(np.zeros((2, 24), np.float32), np.zeros((2, 63, 63, 3), np.float32))


def test_a_model_brings_its_own_preset(scorer, tmp_path):
    bank = HeadBank(scorer.bank.heads, CLASSES, VERSIONS, "boom")
    night = write_night(tmp_path / "night", [packet_record(0, drb=None)])
    assert Scorer(bank).score(night)["preset"].item() == "boom"
    assert Scorer(bank).score(night, "kowalski")["preset"].item() == "kowalski"


def test_alerts_of_another_survey_are_rejects(scorer, tmp_path):
    other = dataclasses.replace(ZTF, name="other", title="Other")
    alerts = [packet_from_record(packet_record(number)) for number in range(3)]
    alerts[1] = dataclasses.replace(alerts[1], survey=other)
    table = scorer.score_packets(alerts)
    assert table["reason"].to_list() == [None, "not a ZTF alert: a packet of Other", None]
    assert table["candid"].to_list() == [alert.candid for alert in alerts]
    assert table["acai_h"].is_null().to_list() == [False, True, False]
    theirs = Scorer(dataclasses.replace(scorer.bank, survey=other))
    reasons = theirs.score_packets(alerts)["reason"].to_list()
    assert reasons == [
        "not an Other alert: a packet of ZTF",
        None,
        "not an Other alert: a packet of ZTF",
    ]


def test_threads_can_share_a_scorer(scorer):
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (60, 25)).astype(np.float32)
    triplets = rng.normal(0, 0.02, (60, 63, 63, 3)).astype(np.float32)
    expected = scorer.score_arrays(features, triplets)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: scorer.score_arrays(features, triplets), range(8)):
            np.testing.assert_array_equal(scores, expected)


def test_an_unknown_preset_is_an_error(scorer, tmp_path):
    night = write_night(tmp_path / "night", [packet_record(0)])
    # the type checker of the tests refuses it before we do
    with pytest.raises((ValueError, TypeError), match="acia"):
        scorer.score(night, "acia")
    with pytest.raises(ValueError, match="unknown preset 'acia'; known: acai, kowalski, boom"):
        check_preset("acia")


def test_an_empty_container_gives_an_empty_table(scorer, tmp_path):
    (tmp_path / "empty.avro").write_bytes(avro_bytes())
    table = scorer.score(tmp_path / "empty.avro")
    assert len(table) == 0
    assert table.schema == score.score_table_schema(CLASSES)


def test_a_new_class_gets_its_own_columns(tmp_path):
    heads = create_heads(HeadConfig(filters=(4, 4)), 2, jax.random.key(0))
    bank = HeadBank(heads, ("h", "kilonova"), {"h": {"version": "1"}, "kilonova": {"version": "2"}})
    night = write_night(tmp_path / "night", [packet_record(0)])
    table = Scorer(bank).score(night)
    assert table["acai_kilonova"].null_count() == 0
    assert "acai_b" not in table.columns


def test_an_ensemble_gives_the_mean_of_its_members_and_says_how_far_they_disagree(tmp_path):
    heads = create_heads(HeadConfig(), 4, jax.random.key(3))
    versions = {"h": {"version": "1"}, "v": {"version": "2"}}
    ensemble = Scorer(HeadBank(heads, ("h", "v"), versions, members=2))
    names = ("a", "b", "c", "d")
    single = Scorer(HeadBank(heads, names, {name: {"version": "1"} for name in names}))
    records = [packet_record(n) for n in range(4)]
    records[3]["cutoutTemplate"] = None
    night = write_night(tmp_path, records)
    table, members = ensemble.score(night), single.score(night)
    assert dict(table.schema) == dict(ensemble.schema)
    for name, two in {"h": ("a", "b"), "v": ("c", "d")}.items():
        scores = members.select(f"acai_{member}" for member in two).to_numpy()
        for end, of in (("", np.mean), ("_std", np.std)):
            found = table[f"acai_{name}{end}"].to_numpy()
            np.testing.assert_allclose(found, of(scores, axis=1), atol=1e-6)
        information = table[f"acai_{name}_mi"]
        assert information[:3].is_between(0, np.log(2)).all()
        assert information.is_null().to_list() == [False] * 3 + [True]
    assert score_columns(table.columns) == ["acai_h", "acai_v"]
    loaded = ensemble.score_arrays(np.zeros((0, 25)), np.zeros((0, 63, 63, 3)))
    assert loaded.shape == (0, 2)


def test_a_scorer_in_a_forked_process_is_a_clear_error(tmp_path):
    """Forked from a process of its own: the tests' has threads, of which a fork warns."""
    (tmp_path / "a.avro").write_bytes(avro_bytes(packet_record(0)))
    program = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
import jax, numpy as np
from acai_jax import AcaiError, read_alerts
from acai_jax import HeadBank, HeadConfig, Scorer, create_heads

alerts = list(read_alerts({str(tmp_path)!r}))
heads = create_heads(HeadConfig(filters=(4, 8), dense_units=(5, 6)), 1, jax.random.key(0))
scorer = Scorer(HeadBank(heads, ("h",), {{"h": {{"version": "test"}}}}))
assert len(scorer.score_packets(alerts)) == 1
if os.fork() == 0:
    arrays = np.zeros((1, 25), np.float32), np.zeros((1, 63, 63, 3), np.float32)
    for call in (
        lambda: scorer.score_packets(alerts),
        lambda: scorer.score_arrays(*arrays),
        lambda: scorer.score({str(tmp_path)!r}),
        lambda: next(scorer.score_tables({str(tmp_path)!r})),
    ):
        try:
            call()
        except AcaiError as error:
            print(error, flush=True)
    os._exit(0)
os.wait()
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.count("a Scorer does not work in a fork()ed process") == 4
