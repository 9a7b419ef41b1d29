"""The builder `ztf_acai`: what it packages, what it leaves out, and what it survives."""

import collections
import csv
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow_datasets as tfds
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.alerts.sources import read_alerts
from acai_jax.commands.main import main
from acai_jax.datasets.builders.ztf_acai import AcaiConfig, Builder
from acai_jax.datasets.gather.local import append_records, read_records, rejects_file
from acai_jax.datasets.records import Records, load_split, packet_of
from acai_jax.datasets.splits import SPLITS, split_of
from acai_jax.errors import AcaiError, DatasetError, LabelsError, OutputError, Reject, SourceError
from acai_jax.score.scorer import Scorer
from acai_jax.surveys.ztf import FEATURE_NAMES, ZTF
from tfds_builders.ztf_acai import __main__ as checkout

ROOT = Path(__file__).parents[2]


def write_labels(path, records, label=lambda number: "honvb"[number % 5]):
    rows = [f"{r['objectId']},{r['candid']},{label(i)}" for i, r in enumerate(records)]
    path.write_text("\n".join(["oid,candid,label", *rows]) + "\n")
    return path


def build(folder, sources, labels, config="alerts", **options):
    builder = Builder(
        data_dir=folder,
        config=config,
        file_format="array_record",
        sources=sources,
        labels=labels,
        **{"num_workers": 0, **options},
    )
    builder.download_and_prepare()
    return builder


def memberships(builder):
    """objectId -> splits in which it has records."""
    found = collections.defaultdict(set)
    for split in builder.info.splits:
        for record in Records(builder.data_path, split):
            found[record["objectId"]].add(split)
    return found


def rejects_of(builder):
    with Path(builder.data_path, "rejects.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def record_files(builder):
    files = sorted(Path(builder.data_path).glob("*.array_record*"))
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """60 alerts of 20 objects in two files, and their labels."""
    folder = tmp_path_factory.mktemp("night")
    records = [packet_record(i, objectId=f"ZTF26dust{i // 3:03d}") for i in range(60)]
    (folder / "a.avro").write_bytes(avro_bytes(*records[:25]))
    (folder / "b.avro").write_bytes(avro_bytes(*records[25:], codec="deflate"))
    write_labels(folder / "labels.csv", records)
    return folder


@pytest.fixture(scope="module")
def built(night, tmp_path_factory):
    return build(tmp_path_factory.mktemp("datasets"), night, night / "labels.csv")


def test_every_labelled_alert_is_in_its_split(night, built):
    labels = pl.read_csv(night / "labels.csv")
    assert {name: split.num_examples for name, split in built.info.splits.items()} == dict(
        collections.Counter(map(split_of, labels["oid"]))
    )
    found = {r["candid"]: r for split in SPLITS for r in Records(built.data_path, split)}
    assert len(found) == 60
    for oid, candid, label in labels.iter_rows():
        record = found[candid]
        assert (record["objectId"], record["label"]) == (oid, label)
    for packet in read_alerts(night):
        record, arrays = found[packet.candid], alert_arrays(packet)
        np.testing.assert_array_equal(record["triplet"], arrays.triplet)
        np.testing.assert_array_equal(record["features"], arrays.features)
        for name in ("jd", "ra", "dec", "fid", "programid"):
            assert record[name] == packet.candidate[name]
        assert (record["preset"], record["drb_source"]) == ("acai", "packet")


def test_no_object_is_in_two_splits(built):
    found = memberships(built)
    assert len(found) == 20
    assert all(len(splits) == 1 for splits in found.values())


def test_a_thousand_more_alerts_move_no_object(night, built, tmp_path):
    stamps = packet_record(0)
    more = []
    for number in range(1000):
        record = dict(stamps, candid=5 * 10**18 + number, objectId=f"ZTF27more{number // 4:03d}")
        record["candidate"] = {**stamps["candidate"], "candid": record["candid"]}
        more.append(record)
    (tmp_path / "more.avro").write_bytes(avro_bytes(*more))
    rows = (night / "labels.csv").read_text()
    labels = write_labels(tmp_path / "labels.csv", more)
    labels.write_text(rows + labels.read_text().partition("\n")[2])
    bigger = build(tmp_path / "datasets", [tmp_path / "more.avro", night], labels)
    before, after = memberships(built), memberships(bigger)
    assert bigger.info.metadata["records"] == 1060
    assert len(after) == 270
    assert {name: after[name] for name in before} == before
    # and their records keep their order
    for split in built.info.splits:
        old = [record["candid"] for record in Records(built.data_path, split)]
        new = [record["candid"] for record in Records(bigger.data_path, split)]
        assert [candid for candid in new if candid in set(old)] == old


def test_what_a_model_chose_to_be_labelled_is_only_trained_on(night, built, tmp_path):
    labels = pl.read_csv(night / "labels.csv")
    rows = [
        f"{o},{c},{label},{'boundary' if i % 2 else 'random'}"
        for i, (o, c, label) in enumerate(labels.iter_rows())
    ]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["oid,candid,label,why", *rows]) + "\n")
    builder = build(tmp_path, night, path)
    chosen = set(labels["candid"][1::2])
    for split in SPLITS:
        before = {record["candid"] for record in Records(built.data_path, split)}
        after = {record["candid"] for record in Records(builder.data_path, split)}
        assert after == (before if split == "train" else before - chosen)
    left_out = [row for row in rejects_of(builder) if row["reason"].startswith("active pick")]
    assert 60 - builder.info.metadata["records"] == len(left_out) > 0
    assert builder.info.metadata["rejects"] == {"active pick": len(left_out)}


def test_splitting_by_alert_reproduces_the_original(night, tmp_path):
    builder = build(tmp_path, night, night / "labels.csv", "alerts_split_by_alert")
    for split in builder.info.splits:
        for record in Records(builder.data_path, split):
            assert split_of(str(record["candid"])) == split
    assert any(len(splits) > 1 for splits in memberships(builder).values())


def test_same_bytes_whatever_the_workers_and_the_order_of_files(night, built, tmp_path):
    files = [night / "b.avro", night / "a.avro"]
    shared = build(tmp_path, files, night / "labels.csv", num_workers=2)
    assert record_files(shared) == record_files(built)
    assert len(record_files(built)) == 3


def test_same_bytes_from_another_process(night, built, tmp_path):
    run(
        f"""
        from acai_jax.datasets.builders.ztf_acai import Builder
        Builder(
            data_dir={str(tmp_path)!r}, config="alerts", file_format="array_record",
            sources={str(night)!r}, labels={str(night / "labels.csv")!r},
        ).download_and_prepare()
        """
    )
    again = Builder(data_dir=tmp_path, config="alerts")
    assert record_files(again) == record_files(built)
    for name in ("metadata.json", "dataset_info.json", "features.json", "sources.sha256"):
        assert (again.data_path / name).read_text() == (built.data_path / name).read_text()


def test_several_shards_are_sorted_as_a_whole(night, built, tmp_path, monkeypatch):
    monkeypatch.setattr("acai_jax.datasets.gather.plan.SHARD_RECORDS", 10)
    builder = build(tmp_path / "one", night, night / "labels.csv")
    monkeypatch.setattr("acai_jax.datasets.builders.shards._FEW_RECORDS", 0)
    side_by_side = build(tmp_path / "two", night, night / "labels.csv", num_workers=2)
    assert record_files(side_by_side) == record_files(builder)
    assert builder.info.splits["train"].num_shards > 2
    for split in SPLITS:
        candids = [record["candid"] for record in Records(builder.data_path, split)]
        assert candids == [record["candid"] for record in Records(built.data_path, split)]


def test_metadata_accounts_for_every_alert(tmp_path):
    records = [packet_record(i) for i in range(12)]
    records[1]["candidate"]["magpsf"] = None
    records[2]["cutoutScience"] = None
    records[3]["candidate"]["programid"] = 2
    unlabelled, other_object = records[4], records[5]
    again = packet_record(6)
    again["candidate"]["magpsf"] = 9.0
    labelled = [*records[:4], dict(other_object, objectId="ZTF26other"), *records[6:]]
    missing = packet_record(99)
    labels = write_labels(tmp_path / "labels.csv", [*labelled, missing, records[0]], lambda _: "h")
    (tmp_path / "a.avro").write_bytes(avro_bytes(*records, again))
    (tmp_path / "b.avro").write_bytes(b"no alert")
    builder = build(tmp_path / "datasets", tmp_path, labels)
    facts = json.loads((builder.data_path / "metadata.json").read_text())
    assert facts["counts"] == {
        "alerts": 14,
        "unlabelled": 1,
        "not_public": 1,
        "duplicate": 1,
        "label_not_found": 1,
    }
    assert facts["rejects"] == {
        "not an Avro container": 1,
        "null feature": 1,
        "null stamp (cutoutScience)": 1,
        "other object": 1,
    }
    assert facts["records"] == 7
    gone = sum(facts["rejects"].values()) + facts["counts"]["unlabelled"]
    gone += facts["counts"]["not_public"] + facts["counts"]["duplicate"]
    assert facts["counts"]["alerts"] == facts["records"] + gone
    assert sum(n for split in facts["classes"].values() for n in split.values()) == 7
    assert facts["labels"]["repeated"] == 1
    assert facts["labels"]["rows"] == 13
    assert (facts["preset"], facts["split_by"], facts["public_only"]) == ("acai", "objectId", True)
    assert facts["sources"]["files"] == 2

    rejects = rejects_of(builder)
    assert [(r["candid"], r["objectId"]) for r in rejects] == [
        *((str(records[i]["candid"]), records[i]["objectId"]) for i in (1, 2, 5)),
        ("", ""),
    ]
    assert rejects[0]["reason"] == "null feature: magpsf"
    assert rejects[0]["origin"] == str(tmp_path / "a.avro")
    assert rejects[3]["origin"] == str(tmp_path / "b.avro")
    kept = {r["candid"]: r for s in builder.info.splits for r in Records(builder.data_path, s)}
    assert unlabelled["candid"] not in kept
    # of two alerts with one candid, the first is kept
    magpsf = kept[again["candid"]]["features"][4]
    assert magpsf == np.float32(records[6]["candidate"]["magpsf"])


def test_of_doubles_the_first_in_the_sources_counts(tmp_path):
    shard = tmp_path / "train-000000"
    for process, place, text in [(7, (5, 0), "late"), (8, (2, 130), "first"), (7, (11, 1), "last")]:
        append_records(shard / f"{process}.pickle", [(place, {"candid": 4, "text": text})])
    append_records(shard / "8.pickle", [((0, 0), {"candid": 5, "text": "other"})])
    texts = [record["text"] for _, record in read_records(shard, ZTF)]
    assert sorted(texts) == ["first", "other"]


def test_digests_of_sources_can_be_checked(night, built):
    assert shutil.which("sha256sum")
    command = ["sha256sum", "--check", str(built.data_path / "sources.sha256")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK") == 2


def test_programmes_that_are_not_public_are_kept_if_asked(tmp_path):
    records = [packet_record(i, programid=1 + i % 3) for i in range(9)]
    (tmp_path / "a.avro").write_bytes(avro_bytes(*records))
    labels = write_labels(tmp_path / "labels.csv", records)
    config = AcaiConfig(name="all", public_only=False)
    builder = build(tmp_path / "datasets", tmp_path, labels, config)
    assert builder.info.metadata["records"] == 9
    assert builder.info.metadata["counts"]["not_public"] == 0


def test_new_classes_and_extra_columns(night, tmp_path):
    candid = packet_record(7)["candid"]
    labels = tmp_path / "labels.csv"
    labels.write_text(f"candid,who,label,oid\n{candid},me,kilonova ✨,ZTF26dust002\n")
    builder = build(tmp_path / "datasets", night, labels)
    (split,) = builder.info.splits
    assert builder.info.metadata["classes"] == {split: {"kilonova ✨": 1}}
    assert builder.info.metadata["labels"]["extra_columns"] == ["who"]
    assert load_split(builder.data_path, split).labels.tolist() == ["kilonova ✨"]


def test_raw_stamps_become_arrays_under_every_preset(tmp_path):
    records = [packet_record(i) for i in range(6)]
    records[1]["candidate"]["drb"] = None
    records[2]["cutoutTemplate"] = None
    records[3]["candidate"]["sgscore1"] = None
    for record in records:
        record["objectId"] = "ZTF20aaaaaaa"
    (tmp_path / "a.avro").write_bytes(avro_bytes(*records))
    labels = write_labels(tmp_path / "labels.csv", records)
    builder = build(tmp_path / "datasets", tmp_path, labels, "alerts_stamps")
    back = {r["candid"]: packet_of(r) for r in Records(builder.data_path, "train")}
    assert len(back) == 6
    for packet in read_alerts(tmp_path / "a.avro"):
        assert back[packet.candid].objectId == packet.objectId
        assert back[packet.candid].cutouts == packet.cutouts
        for preset in ZTF.recipes:
            assert outcome(back[packet.candid], preset) == outcome(packet, preset)
    with pytest.raises(DatasetError, match="keeps raw stamps"):
        load_split(builder.data_path, "train")


def outcome(packet, preset):
    try:
        features, triplet, source = alert_arrays(packet, preset)
    except AcaiError as error:
        return str(error)
    return features.tobytes(), triplet.tobytes(), source


def real_sources(real_data):
    return [real_data / "alerts", real_data / "fink_alerts.parquet"]


@pytest.fixture(scope="module")
def real_labels(real_data, tmp_path_factory):
    """The class that the published classifiers rank highest."""
    path = tmp_path_factory.mktemp("real") / "labels.csv"
    scores = pl.read_csv(real_data / "golden" / "scores.csv").filter(preset="acai")
    rows = {
        (row["objectId"], row["candid"], max("honvb", key=lambda name: row[f"acai_{name}"] or 0))
        for row in scores.iter_rows(named=True)
    }
    lines = [",".join(map(str, row)) for row in sorted(rows)]
    path.write_text("\n".join(["oid,candid,label", *lines]) + "\n")
    return path


@pytest.mark.parametrize("preset", ZTF.recipes)
def test_real_alerts_give_the_scorers_arrays(real_data, real_labels, tmp_path, preset):
    config = AcaiConfig(name=f"all_{preset}", preset=preset, public_only=False)
    weights = real_data / "braai"
    builder = build(tmp_path, real_sources(real_data), real_labels, config, weights=weights)
    kept = {r["candid"]: r for s in builder.info.splits for r in Records(builder.data_path, s)}

    alerts = list(read_alerts(real_sources(real_data)))
    prepared = prepare_alerts(alerts, preset)
    scorer = Scorer.load(weights_dir=published(real_data, tmp_path))
    table = scorer.score_packets(alerts, preset)
    features = prepared.features.copy()
    # the table says which drb a score used, braai's included
    features[:, FEATURE_NAMES.index("drb")] = table["drb"].to_numpy()[prepared.accepted]
    assert table["reason"].is_null().sum() == len(kept) == len(prepared.accepted)
    for index, row in enumerate(prepared.accepted):
        record = kept[table["candid"][int(row)]]
        np.testing.assert_array_equal(record["features"], features[index])
        np.testing.assert_array_equal(record["triplet"], prepared.triplets[index])
        assert record["drb_source"] == table["drb_source"][int(row)]
    if preset == "acai":
        assert "braai" in set(table["drb_source"])
    # Each score follows from its record alone
    records = [kept[table["candid"][int(row)]] for row in prepared.accepted]
    scores = scorer.score_arrays(
        np.stack([r["features"] for r in records]), np.stack([r["triplet"] for r in records])
    )
    expected = table.select(f"acai_{name}" for name in "honvb").to_numpy()[prepared.accepted]
    np.testing.assert_allclose(scores, expected, atol=2e-6)


def published(real_data, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in [*(real_data / "acai_h5").iterdir(), *(real_data / "braai").iterdir()]:
        (folder / path.name).symlink_to(path)
    return folder


def test_alerts_without_drb_are_rejects_where_braai_is_missing(tmp_path):
    records = [packet_record(i) for i in range(4)]
    records[2]["candidate"]["drb"] = None
    (tmp_path / "a.avro").write_bytes(avro_bytes(*records))
    labels = write_labels(tmp_path / "labels.csv", records)
    builder = build(tmp_path / "datasets", tmp_path, labels, weights=tmp_path)
    assert builder.info.metadata["records"] == 3
    assert builder.info.metadata["rejects"] == {"null feature": 1}
    (row,) = rejects_of(builder)
    assert row["candid"] == str(records[2]["candid"])
    assert row["origin"] == str(tmp_path / "a.avro")
    assert row["reason"].startswith("null feature: drb, and braai cannot stand in: not in")


def test_simulated_alerts_are_built_in(tmp_path):
    config = AcaiConfig(name="few", count=12, seed=3)
    builders = [build(tmp_path / name, None, None, config) for name in ("one", "two")]
    assert builders[0].info.metadata["records"] == 12
    assert builders[0].info.metadata["simulated"] == {"count": 12, "seed": 3}
    assert record_files(builders[0]) == record_files(builders[1])
    left = {path.name for path in Path(builders[0].data_path).iterdir() if path.is_dir()}
    assert left == set()
    with pytest.raises(DatasetError, match="the config few simulates: it takes no sources"):
        build(tmp_path / "three", tmp_path, None, config)


def test_manual_folder(night, tmp_path):
    builder = tfds.builder("ztf_acai/alerts", data_dir=tmp_path, file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=str(night))
    builder.download_and_prepare(download_config=config)
    assert builder.info.metadata["records"] == 60
    missing = tfds.builder("ztf_acai/alerts", data_dir=tmp_path / "other")
    with pytest.raises(DatasetError, match="no sources, no labels"):
        missing.download_and_prepare()


def test_conventions(built):
    assert Builder.name == "ztf_acai"
    assert set(Builder.builder_configs) == {
        "simulated",
        "alerts",
        "alerts_stamps",
        "alerts_split_by_alert",
    }
    assert Builder(data_dir=built.data_dir).builder_config.name == "simulated"
    facts = Builder.get_metadata()
    assert set(facts.tags) <= set(tfds.core.dataset_metadata.valid_tags())
    assert facts.tags
    assert "2111.12142" in facts.citation
    assert built.info.description.startswith("Alerts of the Zwicky Transient Facility")
    assert str(built.info.version) in Builder.RELEASE_NOTES


@pytest.mark.parametrize("first", ["acai_jax.datasets.builders", "tfds_builders", "tfds build"])
def test_one_dataset_by_every_door(first):
    """Of an installed package, of a checkout, and of TFDS's own command; in one process."""
    program = """
        import importlib, sys
        import tensorflow_datasets as tfds
        sys.path.insert(0, "tfds_builders")  # as `tfds build tfds_builders/ztf_acai` does
        first = sys.argv[1]
        if first != "tfds build":
            builder = importlib.import_module(f"{first}.ztf_acai").Builder
            assert tfds.builder_cls("ztf_acai") is builder
        own = tfds.core.community.builder_cls_from_module("ztf_acai.ztf_acai_dataset_builder")
        import acai_jax.datasets.builders.ztf_acai, tfds_builders.ztf_acai
        from tfds_builders.ztf_acai.ztf_acai_dataset_builder import Builder as thin
        builder = acai_jax.datasets.builders.ztf_acai.Builder
        assert tfds_builders.ztf_acai.Builder is builder
        for other in (own, thin):
            assert issubclass(other, builder)
            assert other.name == builder.name == "ztf_acai"
            assert other.get_metadata() == builder.get_metadata()
        assert builder.get_metadata().description
        """
    run(program, arguments=[first])


def test_no_record_at_all(night, tmp_path):
    labels = write_labels(tmp_path / "labels.csv", [packet_record(900)])
    with pytest.raises(DatasetError, match=r"none of the 1 labelled alerts .*60 unlabelled"):
        build(tmp_path / "datasets", night, labels)
    nothing_is_left(tmp_path / "datasets")


def nothing_is_left(data_dir):
    left = [p for p in data_dir.rglob("*") if p.is_file() and p.parent.name != ".config"]
    assert left == []


@pytest.mark.parametrize(
    ("rows", "error", "problem"),
    [
        ("", LabelsError, "is empty"),
        ("oid,label\na,h\n", LabelsError, "column candid is missing"),
        ("oid,candid,label\na,1,h\na,1,v\n", LabelsError, "line 3: candid 1"),
    ],
)
def test_bad_labels(night, tmp_path, rows, error, problem):
    labels = tmp_path / "labels.csv"
    labels.write_text(rows)
    with pytest.raises(error, match=problem):
        build(tmp_path / "datasets", night, labels)
    nothing_is_left(tmp_path / "datasets")


def test_bad_sources(night, tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        build(tmp_path, night / "none.avro", night / "labels.csv")
    with pytest.raises(SourceError, match="not a source of alerts"):
        build(tmp_path, night / "labels.csv", night / "labels.csv")
    odd = AcaiConfig(name="odd")
    odd.preset = "kowalksi"
    with pytest.raises(ValueError, match="unknown preset 'kowalksi'"):
        Builder(data_dir=tmp_path, config=odd)


def test_truncated_archive_is_a_counted_reject(night, tmp_path):
    archive = tmp_path / "night.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(night / "a.avro", "a.avro")
        tar.add(night / "b.avro", "b.avro")
    raw = archive.read_bytes()
    archive.write_bytes(raw[: len(raw) * 3 // 4])
    builder = build(tmp_path / "datasets", archive, night / "labels.csv")
    facts = builder.info.metadata
    assert 0 < facts["records"] < 60
    assert facts["rejects"]["unreadable file"] >= 1
    assert facts["counts"]["label_not_found"] == 60 - facts["records"]


def run(source, *, arguments=(), check=True):
    """Runs a program in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=120,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def build_program(night, data_dir, before=""):
    return f"""
import resource, sys
from acai_jax.commands.main import main
sys.argv = ["acai-jax", "package", {str(night)!r}, "--labels",
            {str(night / "labels.csv")!r}, "--data-dir", {str(data_dir)!r}, "--workers", "0"]
{before}
main()
"""


@pytest.mark.parametrize("while_writing", [False, True])
def test_full_disk(night, built, tmp_path, while_writing):
    limit = 1_000_000
    if while_writing:  # ArrayRecord pads a file: it is larger than what was gathered for it
        limit = max(len(content) for content in record_files(built).values()) - 1
    before = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    done = run(build_program(night, tmp_path, before), check=False)
    assert done.returncode == 1
    problem = "cannot write the dataset: " if while_writing else "no space for the dataset in "
    assert f"error: {problem}" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    nothing_is_left(tmp_path)


def test_a_killed_build_leaves_nothing_that_loads(night, tmp_path):
    before = """
import os, signal
from acai_jax.datasets.builders import formats
write = formats.ExampleWriter.write
def write_and_die(self, path, examples):
    write(self, path, examples)
    os.kill(os.getpid(), signal.SIGKILL)
formats.ExampleWriter.write = write_and_die
"""
    done = run(build_program(night, tmp_path, before), check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.array_record*"))
    with pytest.raises(DatasetError, match="no dataset in"):
        load_split(tmp_path, "train")
    builder = build(tmp_path, night, night / "labels.csv")
    assert builder.info.metadata["records"] == 60
    assert [path.name for path in Path(builder.data_path).parent.iterdir()] == ["1.0.0"]


def test_two_builds_at_once(night, tmp_path):
    before = """
import time
from acai_jax.datasets.gather import local
digests = local.digests
def slow(files, advance):
    print("under way", flush=True)
    time.sleep(600)
local.digests = slow
"""
    program = build_program(night, tmp_path, before)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        while "under way" not in other.stdout.readline():
            pass
        with pytest.raises(OutputError, match="another run is writing to"):
            build(tmp_path, night, night / "labels.csv")
        other.send_signal(signal.SIGINT)
        assert other.wait(timeout=120) == 130
    nothing_is_left(tmp_path)


def test_no_tensorflow_is_imported(night, tmp_path):
    done = run(
        build_program(night, tmp_path)
        + f"""
from acai_jax.datasets import load_split
import tensorflow_datasets as tfds
builder = tfds.builder("ztf_acai/alerts", data_dir={str(tmp_path)!r})
print(len(load_split({str(tmp_path)!r}, "train").labels), len(builder.as_data_source("train")))
print("tensorflow" in sys.modules)
"""
    )
    *_, numbers, imported = done.stdout.splitlines()
    assert numbers.split() == ["45", "45"]
    assert imported == "False"


def test_tensorflow_need_not_be_installed(night, tmp_path):
    hide = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None:
        None if name.split(".")[0] == "tensorflow" else find(name, path, target))
"""
    done = run(
        hide
        + build_program(night, tmp_path)
        + f"""
from acai_jax.datasets import load_split
import importlib.util
print(len(load_split({str(tmp_path)!r}, "train").labels), importlib.util.find_spec("tensorflow"))
"""
    )
    assert done.stdout.splitlines()[-1] == "45 None"
    assert "Failed to import TensorFlow" not in done.stdout + done.stderr


def test_tensorflow_reads_the_same(night, built, tmp_path):
    """`tfds.load` to tf.data: from ArrayRecord, and from TFDS's own default format."""
    run(
        f"""
        import numpy as np
        import tensorflow_datasets as tfds
        import acai_jax.datasets.builders.ztf_acai
        from acai_jax.datasets import load_split
        expected = load_split({str(built.data_path)!r}, "train")
        own = {{"sources": {str(night)!r}, "labels": {str(night / "labels.csv")!r}}}
        for data_dir, format in [({str(built._data_dir_root)!r}, "array_record"),
                                 ({str(tmp_path)!r}, "tfrecord")]:
            dataset = tfds.load(
                "ztf_acai/alerts", data_dir=data_dir, split="train",
                builder_kwargs={{"file_format": format, **own}},
            )
            assert dataset.cardinality().numpy() == len(expected.labels)
            batch = next(iter(dataset.batch(100).as_numpy_iterator()))
            np.testing.assert_array_equal(batch["triplet"], expected.triplets)
            np.testing.assert_array_equal(batch["features"], expected.features)
            np.testing.assert_array_equal(batch["candid"], expected.alert_ids)
            np.testing.assert_array_equal(batch["jd"], expected.fields["jd"])
            assert [label.decode() for label in batch["label"]] == expected.labels.tolist()
            shuffled = tfds.load(
                "ztf_acai/alerts", data_dir=data_dir, split="train[:10]", as_supervised=True,
                shuffle_files=True, read_config=tfds.ReadConfig(shuffle_seed=1),
            )
            triplet, label = next(iter(shuffled))
            assert triplet.shape == (63, 63, 3)
            assert label.dtype == "string"
        """
    )


def test_beam_makes_the_same_dataset(tmp_path):
    """With rejects, doubles and unlabelled alerts, in several files and shards."""
    records = [packet_record(i, objectId="ZTF20aaaaaaa") for i in range(30)]
    records[3]["candidate"]["magpsf"] = None
    records[4]["candidate"]["programid"] = 2
    again = packet_record(6, objectId="ZTF20aaaaaaa", magpsf=9.0)
    night = tmp_path / "night"
    night.mkdir()
    (night / "a.avro").write_bytes(avro_bytes(*records[:12]))
    (night / "b.avro").write_bytes(avro_bytes(again, *records[12:]))
    (night / "c.avro").write_bytes(b"no alert")
    labels = write_labels(tmp_path / "labels.csv", [*records[1:], packet_record(99)])
    program = f"""
        import sys
        import tensorflow_datasets as tfds
        from acai_jax.datasets.gather import plan
        from acai_jax.datasets.builders.ztf_acai import Builder
        plan.SHARD_RECORDS = 10
        builder = Builder(
            data_dir=sys.argv[1], config="alerts", file_format="array_record",
            sources={str(night)!r}, labels={str(labels)!r}, num_workers=0,
        )
        config = tfds.download.DownloadConfig()
        if sys.argv[2:]:
            from apache_beam.options.pipeline_options import PipelineOptions
            config.beam_options = PipelineOptions(sys.argv[2:])
        builder.download_and_prepare(download_config=config)
        print(builder.data_path)
        """
    runner = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    ours, beam = (
        Path(run(program, arguments=[tmp_path / name, *options]).stdout.splitlines()[-1])
        for name, options in [("ours", []), ("beam", runner)]
    )
    names = sorted(path.name for path in ours.iterdir())
    assert sorted(path.name for path in beam.iterdir()) == names
    assert sum(".array_record-" in name for name in names) > 1
    facts = json.loads((ours / "metadata.json").read_text())
    assert facts["records"] == 27
    assert {*facts["counts"].values(), *facts["rejects"].values()} == {32, 1}
    for name in names:
        assert (beam / name).read_bytes() == (ours / name).read_bytes(), name


@pytest.fixture(params=["acai-jax package", "python -m tfds_builders.ztf_acai"])
def command(request, monkeypatch):
    """Both commands, which are one."""

    def run(*arguments):
        installed = request.param == "acai-jax package"
        words = ["package"][:installed]
        monkeypatch.setattr(sys, "argv", ["command", *words, *map(str, arguments)])
        (main if installed else checkout.main)()

    return run


def test_command(night, tmp_path, command, capsys):
    arguments = (night, "--labels", night / "labels.csv", "--data-dir", tmp_path, "--workers", 0)
    command(*arguments)
    printed = capsys.readouterr().err
    assert "alerts: 60" in printed
    assert "load_split" in printed
    with pytest.raises(SystemExit):
        command(*arguments)
    assert "exists: --overwrite replaces it" in capsys.readouterr().err
    command(*arguments, "--overwrite")
    command(*arguments, "--preset", "boom", "--all-programs")
    names = {path.name for path in (tmp_path / "ztf_acai").iterdir()}
    assert names == {".config", "alerts", "alerts_preset_boom_all_programs"}
    records = Records(tmp_path / "ztf_acai" / "alerts_preset_boom_all_programs", "test")
    assert records[0]["preset"] == "boom"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "the config alerts takes paths of alerts, and --labels"),
        (("a.avro", "--labels", "l.csv", "--workers", "-1"), "--workers takes 0 or more"),
        (("a.avro", "--labels", "l.csv", "--seed", "1"), "--count and --seed are for the config"),
        (("a.avro", "--labels", "l.csv"), "no such file or directory: a.avro"),
    ],
)
def test_mistakes_at_the_command_line(tmp_path, monkeypatch, command, capsys, arguments, problem):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        command(*arguments)
    assert caught.value.code == (1 if "no such file" in problem else 2)
    assert problem in capsys.readouterr().err


def test_no_cell_of_the_rejects_begins_a_formula(tmp_path):
    with rejects_file(tmp_path / "rejects.csv", ZTF) as add:
        add([Reject("@SUM(A1)", -7, "=1+1", "+night.avro"), Reject("null feature: drb")])
    with (tmp_path / "rejects.csv").open(newline="") as file:
        _, first, second = csv.reader(file)
    assert first == ["-7", "'=1+1", "'@SUM(A1)", "'+night.avro"]
    assert second == ["", "", "null feature: drb", ""]
