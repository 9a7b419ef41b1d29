"""What an alert may cause while it is drawn is one line."""

import json
from base64 import b64encode

import pytest
from command_line import acai_jax
from synthetic import avro_bytes, packet_record

from acai_jax.commands.show import Show
from acai_jax.errors import AcaiError
from acai_jax.report import pictures
from tests.surveys import test_lsst, test_winter


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), MemoryError(), UnspeakableError()])
def test_whatever_an_alert_causes_is_one_line(tmp_path, monkeypatch, real_data, error):
    def fail(*_, **__):
        raise error

    (tmp_path / "a.avro").write_bytes(avro_bytes(packet_record(1)))
    monkeypatch.setattr(pictures, "draw_alert", fail)
    with pytest.raises(AcaiError, match=f"internal error: {type(error).__name__}") as caught:
        Show(path=tmp_path / "a.avro", out=tmp_path / "a.png", weights=real_data / "acai_h5").run()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.png").exists()


def as_json(record: dict) -> str:
    return json.dumps(record, default=lambda raw: b64encode(raw).decode())


@pytest.mark.parametrize(
    ("module", "said"),
    [(test_lsst, "of LSST: scores by lsst-simulated"), (test_winter, "of WINTER: no scores")],
)
def test_an_alert_that_the_published_heads_do_not_read(module, said, tmp_path):
    path, out = tmp_path / "alert.json", tmp_path / "alert.png"
    path.write_text(as_json(module.record()))
    result = acai_jax("show", path, "--out", out)
    assert (result.returncode, result.stdout) == (0, "")
    assert f"the published heads read no alerts {said}" in result.stderr
    assert out.stat().st_size > 20_000
    wrong = acai_jax("show", path, "--preset", "boom", "--out", tmp_path / "other.png")
    assert wrong.returncode == 1
    assert "unknown preset 'boom'" in wrong.stderr


def test_scoring_them_by_default_names_the_model_that_does(tmp_path):
    path, out = tmp_path / "alert.json", tmp_path / "scores.parquet"
    path.write_text(as_json(test_lsst.record()))
    result = acai_jax("score", path, "--out", out)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.endswith("read no alerts of LSST: try --model lsst-simulated")
    assert not out.exists()
