"""Datasets of other surveys than ZTF: the same builder, with the survey's own facts."""

import collections
import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.alerts.sources import read_alerts
from acai_jax.commands.main import main
from acai_jax.datasets.builders import builder_class
from acai_jax.datasets.builders.lsst_acai import Builder
from acai_jax.datasets.gather.local import sky_patches
from acai_jax.datasets.records import Records, load_split, packet_of
from acai_jax.datasets.splits import SPLITS, sky_patch, split_of
from acai_jax.surveys.lsst import LSST
from acai_jax.surveys.winter import WINTER
from acai_jax.surveys.ztf import ZTF


@pytest.fixture
def package(monkeypatch):
    """The command, in this process."""

    def run(*arguments: object) -> None:
        words = ["acai-jax", "package", *map(str, arguments), "--workers", "0"]
        monkeypatch.setattr("sys.argv", words)
        main()

    return run


def labelled(path: Path, folder: Path) -> dict[int, AlertPacket]:
    """The alerts in a file, and labels for them in a folder."""
    alerts = [alert for alert in read_alerts(path) if isinstance(alert, AlertPacket)]
    rows = [f"{each.object_id},{each.alert_id},{'ov'[i % 2]}\n" for i, each in enumerate(alerts)]
    (folder / "labels.csv").write_text("".join(["oid,candid,label\n", *rows]))
    return {alert.alert_id: alert for alert in alerts}


def test_each_survey_has_its_builder():
    assert builder_class(LSST) is Builder
    assert builder_class(ZTF).name == "ztf_acai"
    for survey in (ZTF, LSST, WINTER):
        facts = builder_class(survey).get_metadata()
        assert facts.description
        assert "2111.12142" in facts.citation
        assert set(facts.tags) <= set(tfds.core.dataset_metadata.valid_tags())
    assert tfds.builder_cls("lsst_acai") is Builder
    assert [*Builder.builder_configs] == ["simulated", "alerts", "alerts_stamps"]


def test_real_alerts_are_split_by_position(real_data, package, tmp_path, capsys):
    source = real_data / "lsst" / "lsst_v10_0.avro"
    alerts = labelled(source, tmp_path)
    given = (source, "--labels", tmp_path / "labels.csv", "--data-dir", tmp_path)
    package(*given, "--preset", "lsst-snr")
    package(*given, "--config", "alerts_stamps")
    folder = tmp_path / "lsst_acai"
    found: dict[int, str] = {}
    places = collections.defaultdict(set)
    for split in Records(folder / "alerts_preset_lsst-snr", "train").info.splits:
        arrays = load_split(folder / "alerts_preset_lsst-snr", split)
        for record in Records(folder / "alerts_stamps", split):
            alert = alerts[record["diaSourceId"]]
            found[alert.alert_id] = split
            places[sky_patch(record["ra"], record["dec"])].add(split)
            kept = packet_of(record)
            assert kept.cutouts == alert.cutouts
            row = arrays.alert_ids.tolist().index(alert.alert_id)
            expected = alert_arrays(alert, "lsst-snr")
            for ours in (
                alert_arrays(kept, "lsst-snr"),
                (arrays.features[row], arrays.triplets[row]),
            ):
                np.testing.assert_array_equal(ours[0], expected.features)
                np.testing.assert_array_equal(ours[1], expected.triplet)
    assert found.keys() == alerts.keys()
    assert all(len(splits) == 1 for splits in places.values())
    assert {place: split_of(place) for place in places} == {p: s for p, (s,) in places.items()}
    info = Records(folder / "alerts_stamps", "train").info
    assert info.metadata["survey"] == "lsst"
    assert info.metadata["split_by"] == "position"
    assert "patch of sky" in info.metadata["split_rule"]
    assert "alerts: 79" in capsys.readouterr().err


def test_a_survey_without_a_folder_of_its_own(real_data, package, tmp_path, capsys):
    source = real_data / "lsst" / "other" / "winter.avro"
    (alert,) = labelled(source, tmp_path).values()
    given = (source, "--labels", tmp_path / "labels.csv", "--data-dir", tmp_path)
    package(*given)
    (split,) = Records(tmp_path / "winter_acai", split_of(alert.object_id)).info.splits
    found = load_split(tmp_path / "winter_acai", split)
    np.testing.assert_array_equal(found.triplets[0], alert_arrays(alert).triplet)
    assert found.object_ids.tolist() == [alert.object_id]
    for wrong, said in (
        (("--config", "alerts_split_by_alert"), "no config alerts_split_by_alert in winter_acai"),
        (("--survey", "sdss"), "unknown survey 'sdss'; known: ztf, lsst, winter"),
    ):
        with pytest.raises(SystemExit):
            package(*given, *wrong)
        assert said in " ".join(capsys.readouterr().err.split())


def test_patches_of_sky_are_those_of_the_first_double(real_data):
    source = real_data / "lsst" / "lsst_v10_0.avro"
    first, second, *_ = read_alerts(source)
    assert isinstance(first, AlertPacket)
    assert isinstance(second, AlertPacket)
    found = sky_patches([source, source], [first.alert_id, 7], 0)
    ra, dec = first.fields["ra"], first.fields["dec"]
    assert isinstance(ra, float)
    assert isinstance(dec, float)
    assert found == {first.alert_id: sky_patch(ra, dec)}


def test_patches_are_about_a_degree_wide_and_cover_the_sky():
    rng = np.random.default_rng(0)
    for ra, sine in rng.uniform((0, -1), (360, 1), (300, 2)).tolist():
        dec = math.degrees(math.asin(sine))
        row, column = map(int, sky_patch(ra, dec).split(":"))
        assert row == int(dec + 90)
        width = 360 / max(1, round(360 * math.cos(math.radians(row - 89.5))))
        assert column == int(ra / width)
    shares = collections.Counter(
        split_of(sky_patch(ra, dec))
        for ra in map(float, range(360))
        for dec in map(float, range(-60, 20))
    )
    assert [round(100 * shares[name] / shares.total()) for name in SPLITS] == [81, 9, 10]
