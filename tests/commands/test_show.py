"""What an alert may cause while it is drawn is one line."""

import pytest
from synthetic import avro_bytes, packet_record

from acai_jax.commands.show import Show
from acai_jax.errors import AcaiError
from acai_jax.report import pictures


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
