"""Simulated alerts: sound packets, the physics that was put in, the same for the same seed."""

import collections
import csv
import dataclasses
import io
import itertools
import math
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from isal import igzip

import acai_jax
from acai_jax.alerts.packet import packet_from_record
from acai_jax.alerts.preprocess import alert_arrays
from acai_jax.alerts.stamps import decode_stamp
from acai_jax.classes import CLASSES
from acai_jax.errors import AcaiError, OutputError
from acai_jax.simulate import simulate_packets, write_alerts
from acai_jax.simulate.catalogues import catalogue_entries
from acai_jax.simulate.images import Field, Subtraction, draw_subtraction, expose, point_change
from acai_jax.simulate.observing import Exposure, Reference, draw_exposure, draw_pointing
from acai_jax.simulate.optics import (
    CENTRE,
    coloured,
    moffat,
    points,
    sersic,
    smooth_noise,
    trail,
    with_psf,
)
from acai_jax.simulate.photometry import detection
from acai_jax.simulate.run import plan_objects
from acai_jax.simulate.schema402 import alert_schema
from acai_jax.simulate.sky import background, galaxy, star
from acai_jax.surveys.ztf import FEATURE_NAMES

EXPOSURE = Exposure(
    jd=2459000.5,
    fid=2,
    seeing=2.1,
    sky=180.0,
    noise=6.0,
    zero_point=26.2,
    colour_coefficient=0.1,
)
REFERENCE = Reference(frames=20, first=2458300.5, last=2458400.5, seeing=2.1, noise=1.3)


@pytest.fixture(scope="module")
def labelled():
    return list(simulate_packets(250, seed=7))


@pytest.fixture(scope="module")
def candidates(labelled):
    return [record["candidate"] for _, _, record in labelled]


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- packets ---------------------------------------------------------------------------------


def test_packets_are_read_by_others_and_by_us(tmp_path):
    labelled = list(simulate_packets(40, seed=7))
    write_alerts(tmp_path, 40, seed=7)
    (path,) = (tmp_path / "alerts").iterdir()
    with path.open("rb") as file:
        records = list(fastavro.reader(file))
    packets = list(acai_jax.read_alerts(path))
    assert len(records) == len(packets) == len(labelled) == 40
    for (_, _, made), record, packet in zip(labelled, records, packets, strict=True):
        assert isinstance(packet, acai_jax.AlertPacket)
        assert packet.candid == record["candid"] == made["candid"]
        assert packet.schemavsn == "4.02"
        for name, value in packet.candidate.items():
            if isinstance(value, float):
                assert value == pytest.approx(made["candidate"][name], rel=1e-6), name


def test_schema_has_the_names_and_types_of_a_real_packet(real_data):
    with (real_data / "alerts" / "2475433850015010009.avro").open("rb") as file:
        real = fastavro.reader(file).writer_schema
    ours = fastavro.parse_schema(alert_schema())
    assert names_and_types(ours) == names_and_types(real)


def names_and_types(schema):
    if isinstance(schema, list):
        return [names_and_types(branch) for branch in schema]
    if isinstance(schema, str):
        return schema
    if schema["type"] == "array":
        return ["array", names_and_types(schema["items"])]
    return [(field["name"], names_and_types(field["type"])) for field in schema["fields"]]


def test_stamps_are_fits_files(labelled):
    record = labelled[0].record
    data = igzip.decompress(record["cutoutTemplate"]["stampData"])
    with fits.open(io.BytesIO(data)) as hdus:
        hdus.verify("exception")
        assert hdus[0].data.shape == (63, 63)
        np.testing.assert_array_equal(
            hdus[0].data, decode_stamp(record["cutoutTemplate"]["stampData"])
        )


def test_every_packet_can_be_scored(labelled):
    for _, _, record in labelled:
        arrays = alert_arrays(packet_from_record(record))
        assert arrays.drb_source == "packet"
        assert np.isfinite(arrays.triplet).all()


def test_some_stamps_lack_pixels_as_real_ones_do(labelled):
    templates = [decode_stamp(record["cutoutTemplate"]["stampData"]) for _, _, record in labelled]
    assert any(np.isnan(image).any() for image in templates)
    assert any((np.abs(image) > 1e38).any() for image in templates)


def test_the_difference_of_a_fading_source_is_turned_round(labelled):
    fading = [r for label, _, r in labelled if label == "v" and r["candidate"]["isdiffpos"] == "f"]
    assert len(fading) > 5
    for record in fading:
        image = decode_stamp(record["cutoutDifference"]["stampData"])
        assert np.nansum(image[CENTRE - 1 : CENTRE + 2, CENTRE - 1 : CENTRE + 2]) > 0


# --- objects ---------------------------------------------------------------------------------


def test_objects_send_several_alerts_in_order(labelled):
    by_object = collections.defaultdict(list)
    for label, _, record in labelled:
        by_object[record["objectId"]].append((label, record))
    assert max(map(len, by_object.values())) > 3
    for alerts in by_object.values():
        assert len({label for label, _ in alerts}) == 1
        dates = [record["candidate"]["jd"] for _, record in alerts]
        assert dates == sorted(dates)
        for (_, before), (_, after) in itertools.pairwise(alerts):
            recent = after["candidate"]["jd"] - before["candidate"]["jd"] < 30
            earlier = [p["candid"] for p in after["prv_candidates"] or []]
            assert (before["candid"] in earlier) == recent
    candids = [record["candid"] for _, _, record in labelled]
    assert len(set(candids)) == len(candids)


def test_fields_agree_with_each_other(candidates):
    for c in candidates:
        assert c["scorr"] >= 5
        assert 1 <= c["ndethist"] <= c["ncovhist"]
        assert c["jdstarthist"] <= c["jd"]
        assert c["jdendref"] < c["jd"]
        assert c["magdiff"] == pytest.approx(c["magap"] - c["magpsf"])
        assert c["elong"] >= 1
        distances = [c[f"distpsnr{i}"] for i in (1, 2, 3)]
        matched = [d for d in distances if d != -999]
        assert len(matched) == min(3, c["nmtchps"])
        assert distances == matched + [-999.0] * (3 - len(matched))
        for i in (1, 2, 3):
            assert (c[f"sgscore{i}"] == -999) == (c[f"distpsnr{i}"] == -999)
        if c["neargaiabright"] != -999:
            assert 0 <= c["neargaia"] <= c["neargaiabright"] <= 90
        assert all(math.isfinite(c[name]) for name in FEATURE_NAMES)


def test_an_earlier_alert_was_a_detection(labelled):
    by_object = collections.defaultdict(list)
    for _, _, record in labelled:
        by_object[record["objectId"]].append(record["candidate"]["ndethist"])
    for counts in by_object.values():
        assert all(later > earlier for earlier, later in itertools.pairwise(counts))


def test_an_objects_alerts_scatter_about_its_neighbours(labelled):
    by_object = collections.defaultdict(list)
    for _, _, record in labelled:
        by_object[record["objectId"]].append(record["candidate"])
    several = [alerts for alerts in by_object.values() if len(alerts) > 1]
    for alerts in several:
        for name in ("distpsnr1", "neargaia"):
            distances = [c[name] for c in alerts if c[name] != -999]
            assert np.ptp(distances or [0]) < 3
    assert any(np.ptp([c["distpsnr1"] for c in alerts]) > 0.01 for alerts in several)


def test_widths_are_in_hundredths_or_half_the_seeing(candidates):
    lost = [c["seeratio"] == 2 for c in candidates]
    assert 0 < sum(lost) < len(lost) / 2
    for c, missing in zip(candidates, lost, strict=True):
        assert missing or c["fwhm"] == pytest.approx(round(c["fwhm"], 2))


def test_each_class_is_where_it_belongs(labelled):
    by_class = collections.defaultdict(list)
    for label, _, record in labelled:
        by_class[label].append(record["candidate"])

    def median(label: str, name: str) -> float:
        return float(np.median([c[name] for c in by_class[label]]))

    assert median("v", "sgscore1") > 0.9 > 0.3 > median("n", "sgscore1")
    assert median("v", "distpsnr1") < 0.5 < median("h", "distpsnr1")
    assert median("n", "distpsnr1") < 0.5 < 5 < median("o", "distpsnr1")
    assert median("b", "drb") < 0.5 < 0.99 < median("h", "drb")
    assert any(c["ssdistnr"] != -999 for c in by_class["o"])
    assert all(c["ssdistnr"] == -999 for label in "hnvb" for c in by_class[label])
    assert all(c["isdiffpos"] == "t" for c in by_class["o"])


# --- physics ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fwhm", [1.8, 2.4, 4.0])
def test_point_sources_keep_their_flux_and_width(fwhm):
    image = moffat(0.3, -0.4, fwhm)
    assert image.sum() == pytest.approx(1, abs=0.02)
    fine = moffat(0.0, 0.0, 20 * fwhm, (201, 201))
    assert (fine > fine.max() / 2).sum() == pytest.approx(math.pi * (10 * fwhm) ** 2, rel=0.02)


def test_a_bright_star_outside_lights_the_edge():
    x, y, flux = np.array([50.0, -80.0]), np.array([0.0, 70.0]), np.array([1e8, 1e9])
    image = points(x, y, flux, 5.5, 0.1)
    expected = flux[0] * moffat(50.0, 0.0, 5.5)[CENTRE, -1]
    assert image[CENTRE, -1] == pytest.approx(expected, rel=1e-3)
    assert image[CENTRE, CENTRE] == 0


def test_trails_are_as_long_as_their_path():
    image = trail(12.0, math.pi / 2, 0.0, 0.0, 2.0, 1e-5)
    assert image.sum() == pytest.approx(1, abs=0.02)
    rows, columns = np.nonzero(image > image.max() / 2)
    assert np.ptp(rows) == pytest.approx(12, abs=1.5)
    assert np.ptp(columns) <= 2


def test_galaxies_keep_their_flux_and_half_light_radius():
    transform = sersic(0.0, 0.0, 6.0, 1.0, 1.0, 0.0)
    image = with_psf(transform, 1.5)
    rows, columns = np.indices(image.shape) - CENTRE
    inside = image[np.hypot(rows, columns) < 6.1].sum()
    assert image.sum() == pytest.approx(1, abs=0.05)
    assert inside == pytest.approx(0.5, abs=0.05)
    flat = with_psf(sersic(0.0, 0.0, 6.0, 1.0, 0.4, 0.0), 1.5)
    assert (flat * columns**2).sum() > 3 * (flat * rows**2).sum()


def test_template_noise_is_correlated():
    image = smooth_noise(np.random.default_rng(0))
    assert image.std() == pytest.approx(1, abs=0.05)
    neighbours = np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1]
    assert neighbours == pytest.approx(0.21, abs=0.04)


def test_colouring_keeps_the_variance_and_correlates_as_asked():
    white = np.random.default_rng(1).standard_normal((63, 63))
    image = coloured(white, [0.0, -0.1], [0.2])
    assert image.std() == pytest.approx(white.std(), abs=0.05)
    along_rows = np.corrcoef(image[:, 2:].ravel(), image[:, :-2].ravel())[0, 1]
    along_columns = np.corrcoef(image[1:].ravel(), image[:-1].ravel())[0, 1]
    assert along_rows == pytest.approx(-0.2, abs=0.06)
    assert along_columns == pytest.approx(0.4 / 1.08, abs=0.06)


def test_clouds_leave_shallow_images_that_are_badly_calibrated():
    rng = np.random.default_rng(9)
    clear, cloudy = (
        [draw_exposure(rng, 2459000.5, clouds) for _ in range(60)] for clouds in (0.0, 1.0)
    )

    def median(exposures: list[Exposure], name: str) -> float:
        return float(np.median([getattr(e, name) for e in exposures]))

    assert median(cloudy, "colour_error") > 30 * median(clear, "colour_error")
    assert median(cloudy, "depth") < median(clear, "depth") - 2
    assert median(cloudy, "sky") < median(clear, "sky") / 5
    assert median(cloudy, "registration") == 3 * median(clear, "registration")


def test_false_stars_that_look_real_are_rarely_labelled_bogus():
    made = simulate_packets(150, seed=5, proportions={"b": 1.0})
    trusted = [
        alert.record["candidate"]["drb"]
        for alert in made
        if alert.kind in ("cloud", "bright star", "misregistration")
    ]
    assert len(trusted) > 50
    assert np.mean(np.array(trusted) > 0.95) < 0.06
    assert np.mean(np.array(trusted) > 0.5) > 0.1


def test_catalogues_split_wide_galaxies_and_know_stars_from_galaxies():
    rng = np.random.default_rng(10)
    wide = [dataclasses.replace(galaxy(rng, 0.0, 0.0, 16.0), radius=6.0) for _ in range(40)]
    assert len(catalogue_entries(rng, wide)) > 50
    stars = [star(rng, 0.0, 0.0, 17.5) for _ in range(40)]
    assert len(catalogue_entries(rng, stars)) == 40
    of_stars, of_galaxies = (
        np.median([entry.star_score for entry in catalogue_entries(rng, sources)])
        for sources in (stars, wide)
    )
    assert of_stars > 0.95 > 0.05 > of_galaxies


@pytest.mark.parametrize("magnitude", [16.0, 18.0, 19.5])
def test_photometry_finds_the_flux_that_was_put_in(magnitude):
    rng = np.random.default_rng(3)
    measured = []
    for _ in range(20):
        change = point_change(0.2, -0.1, EXPOSURE.flux(magnitude), EXPOSURE)
        stamps = expose(
            rng, Field(()), EXPOSURE, REFERENCE, (0.2, -0.1), change, draw_subtraction(rng)
        )
        found = detection(rng, stamps, EXPOSURE, 0.2, -0.1)
        assert found is not None
        assert found["isdiffpos"] == "t"
        measured.append((found["magpsf"], found["magap"], found["sigmapsf"], found["scorr"]))
    magpsf, magap, sigmapsf, scorr = np.median(measured, axis=0)
    assert magpsf == pytest.approx(magnitude, abs=0.05 + 0.5 * sigmapsf)
    assert magap == pytest.approx(magnitude, abs=0.15)
    # the survey's limit is conservative: S/N 5 there is about 6.5 in the matched filter
    assert scorr > 5 * 10 ** (0.4 * (EXPOSURE.depth - magnitude)) or magnitude < 17


def test_nothing_is_detected_in_empty_sky():
    rng = np.random.default_rng(4)
    nothing = np.zeros((63, 63))
    stamps = expose(rng, Field(()), EXPOSURE, REFERENCE, (0.0, 0.0), nothing, draw_subtraction(rng))
    assert detection(rng, stamps, EXPOSURE, 0.0, 0.0) is None


def test_subtraction_removes_fixed_stars():
    rng = np.random.default_rng(5)
    field = Field((star(rng, 10.3, -7.2, 17.0),))
    nothing = np.zeros((63, 63))
    stamps = expose(rng, field, EXPOSURE, REFERENCE, (0.0, 0.0), nothing, draw_subtraction(rng))
    at = (CENTRE - 7, CENTRE + 10)
    assert stamps.science[at] - EXPOSURE.sky > 100 * EXPOSURE.noise
    assert stamps.template[at] - EXPOSURE.sky > 100 * EXPOSURE.noise
    assert abs(stamps.difference[at]) < 15 * EXPOSURE.noise


def test_stars_ring_in_the_difference_and_leave_no_flux():
    rng = np.random.default_rng(11)
    x, y = 10.3, -7.2
    field = Field((star(rng, x, y, 15.0),))
    psf = moffat(x, y, EXPOSURE.seeing)
    nothing = np.zeros((63, 63))
    rows, columns = (np.arange(63) - CENTRE - at for at in (y, x))
    one_off = np.abs(np.hypot(rows[:, None], columns) - 1) < 0.5
    left, fluxes = [], []
    for _ in range(30):
        subtraction = Subtraction(0.0, 0.0, 0.0, 0.0, ringing=0.05)
        stamps = expose(rng, field, EXPOSURE, REFERENCE, (0.0, 0.0), nothing, subtraction)
        peak = stamps.science.max() - EXPOSURE.sky
        left.append(np.sqrt((stamps.difference[one_off] ** 2).mean()) / peak)
        fluxes.append((psf * stamps.difference).sum() / (psf * psf).sum())
    # so much of their peaks real stars beside alerts leave, one pixel from it
    assert np.median(left) == pytest.approx(0.032, abs=0.008)
    assert np.std(fluxes) < 0.005 * EXPOSURE.flux(15.0)


def test_squares_hide_stars_that_saturate_and_templates_show_their_spikes():
    rng = np.random.default_rng(12)
    field = Field((star(rng, 20.0, -18.0, 9.5), star(rng, -20.0, 0.0, 13.0)))
    bad = field.masked(EXPOSURE, 0.0, 0.0)
    assert bad[CENTRE - 18, CENTRE + 20]
    assert not bad[CENTRE, CENTRE - 20]
    assert 17**2 <= bad.sum() <= 22**2
    nothing = np.zeros((63, 63))
    stamps = expose(rng, field, EXPOSURE, REFERENCE, (0.0, 0.0), nothing, draw_subtraction(rng))
    beyond = CENTRE + 20 - 14  # the square ends before
    along = stamps.template[CENTRE - 18, beyond] - EXPOSURE.sky
    across = stamps.template[CENTRE - 18 + 14, CENTRE + 20] - EXPOSURE.sky
    assert along > 10 * REFERENCE.noise + across


def test_the_deeper_reference_is_less_noisy():
    rng = np.random.default_rng(6)
    nothing = np.zeros((63, 63))
    stamps = expose(rng, Field(()), EXPOSURE, REFERENCE, (0.0, 0.0), nothing, draw_subtraction(rng))
    assert stamps.science.std() == pytest.approx(6, rel=0.05)
    assert stamps.template.std() == pytest.approx(1.3, rel=0.08)
    assert np.median(stamps.template) == pytest.approx(180, abs=1)


def test_stars_crowd_the_galactic_plane():
    rng = np.random.default_rng(8)
    pointings = [draw_pointing(rng, "anywhere") for _ in range(60)]
    counts = [len(background(rng, p)) for p in pointings]
    latitudes = [abs(p.latitude) for p in pointings]
    assert np.corrcoef(latitudes, np.log(counts))[0, 1] < -0.5
    assert all(-28 <= p.dec <= 86 for p in pointings)


# --- runs ------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setattr("acai_jax.simulate.run._FILE_ALERTS", 25)
    write_alerts(tmp_path / "one", 40, seed=2, num_workers=0)
    write_alerts(tmp_path / "two", 40, seed=2, num_workers=2)
    write_alerts(tmp_path / "other", 40, seed=3, num_workers=0)
    one, two, other = (written(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert set(one) == {"labels.csv", "alerts/000000.avro", "alerts/000001.avro"}
    assert one["alerts/000000.avro"] != other["alerts/000000.avro"]
    candids = [{row["candid"] for row in labels(tmp_path / n)} for n in ("one", "other")]
    assert candids[0].isdisjoint(candids[1])


def labels(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_labels_name_every_alert(tmp_path):
    seen = []
    write_alerts(tmp_path, 60, seed=4, proportions={"o": 3.0, "b": 1.0}, progress=seen.append)
    rows = labels(tmp_path)
    packets = list(acai_jax.read_alerts(tmp_path / "alerts"))
    assert [int(row["candid"]) for row in rows] == [packet.candid for packet in packets]
    assert [row["oid"] for row in rows] == [packet.objectId for packet in packets]
    counts = collections.Counter(row["label"] for row in rows)
    assert counts["o"] == pytest.approx(45, abs=6)
    assert set(counts) == {"o", "b"}
    assert sum(seen) == 60


def test_wrong_labels_are_counted(tmp_path):
    write_alerts(tmp_path, 120, seed=4, proportions={"o": 1.0}, label_noise=0.25)
    rows = labels(tmp_path)
    wrong = [row for row in rows if row["label"] != row["true_label"]]
    assert {row["true_label"] for row in rows} == {"o"}
    assert len(wrong) == pytest.approx(30, abs=14)
    assert len({row["label"] for row in wrong}) == 4


def test_proportions_are_kept():
    plans = plan_objects(20_000, 0)
    alerts = collections.Counter()
    for plan in plans:
        alerts[plan.label] += plan.alerts
    assert alerts.total() == 20_000
    assert alerts["v"] == pytest.approx(20_000 * 70 / 215, rel=0.01)
    assert alerts["h"] == pytest.approx(20_000 * 30 / 215, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 5, "seed": -1}, "seed is -1"),
        ({"count": 5, "proportions": {"x": 1.0}}, "unknown class 'x'"),
        ({"count": 5, "proportions": {"h": -1.0}}, "proportions"),
        ({"count": 5, "proportions": {}}, "proportions"),
        ({"count": 5, "label_noise": 1.5}, "label noise is 1.5"),
    ],
)
def test_senseless_numbers_are_refused(tmp_path, arguments, message):
    with pytest.raises(AcaiError, match=message):
        write_alerts(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unasked(tmp_path):
    write_alerts(tmp_path, 3, seed=1)
    before = written(tmp_path)
    with pytest.raises(OutputError, match="--overwrite"):
        write_alerts(tmp_path, 3, seed=2)
    assert written(tmp_path) == before
    write_alerts(tmp_path, 3, seed=2, overwrite=True)
    assert written(tmp_path) != before


def test_a_folder_of_other_alerts_is_never_replaced(tmp_path):
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "2475433850015010009.avro").write_bytes(b"precious")
    with pytest.raises(OutputError, match="holds other files"):
        write_alerts(tmp_path, 3, overwrite=True)
    assert (tmp_path / "alerts" / "2475433850015010009.avro").exists()


def test_an_interrupted_run_leaves_nothing_complete(tmp_path):
    def stop(alerts: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_alerts(tmp_path, 3, progress=stop)
    assert not (tmp_path / "alerts").exists()
    assert not (tmp_path / "labels.csv").exists()
    write_alerts(tmp_path, 3)
    assert set(written(tmp_path)) == {"alerts/000000.avro", "labels.csv"}


# --- the judge -------------------------------------------------------------------------------


def test_published_classifiers_tell_the_simulated_classes_apart(real_data, labelled):
    arrays = [alert_arrays(packet_from_record(a.record)) for a in labelled]
    truth = np.array([a.label for a in labelled])
    scorer = acai_jax.Scorer.load("published", weights_dir=real_data / "acai_h5")
    scores = scorer.score_arrays(
        np.stack([a.features for a in arrays]), np.stack([a.triplet for a in arrays])
    )
    chosen, positive = scores.T > 0.5, truth == np.array(CLASSES)[:, None]
    accuracies = [
        (c[p].mean() + (~c[~p]).mean()) / 2 for c, p in zip(chosen, positive, strict=True)
    ]
    assert min(accuracies) > 0.83
    assert np.mean(accuracies) > 0.92
