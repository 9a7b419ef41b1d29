"""The exit status of packaging: by the share of labelled alerts that were rejected."""

import pytest
from synthetic import avro_bytes, packet_record

from acai_jax.commands.console import clear_errors
from acai_jax.commands.package import Package


@pytest.mark.parametrize(
    ("damaged", "max_rejects", "status"), [(1, 1.0, None), (1, 0.1, 4), (4, 1.0, 4)]
)
def test_too_many_rejects_exit_with_4(tmp_path, capsys, damaged, max_rejects, status):
    records = [packet_record(number) for number in range(4)]
    for record in records[:damaged]:
        record["cutoutScience"] = None
    (tmp_path / "night.avro").write_bytes(avro_bytes(*records))
    labels = [f"{record['objectId']},{record['candid']},h" for record in records]
    (tmp_path / "labels.csv").write_text("\n".join(["oid,candid,label", *labels]) + "\n")

    def run():
        with clear_errors():
            Package(
                sources=(tmp_path / "night.avro",),
                labels=tmp_path / "labels.csv",
                data_dir=tmp_path / "datasets",
                workers=0,
                max_rejects=max_rejects,
            ).run()

    if status is None:
        run()
        return
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == status
    said = capsys.readouterr().err
    assert "1 of 4 alerts were rejected" in said or "none of the 4 labelled alerts" in said
    # what could be packaged is there all the same
    assert any((tmp_path / "datasets").rglob("rejects.csv")) == (damaged < 4)
