"""The file of trials: whatever a killed process leaves of it, what is whole counts."""

import math

import polars as pl
import pytest

from acai_jax.errors import OutputError
from acai_jax.sweep.trials import Result, TrialLog, write_table


def filled(path):
    """A round of three trials, of which two went on."""
    log = TrialLog(path)
    log.ask(0, [{"units": 4, "rate": 0.1 * number} for number in range(3)])
    losses = (0.3, math.inf, 0.2)
    log.reach({n: Result(0, 3, {"h": loss, "v": 0.1}) for n, loss in enumerate(losses)})
    log.reach({n: Result(1, 9, {"h": 0.1, "v": 0.1}, error=0.01) for n in (0, 2)})
    return log


def test_a_file_that_is_cut_anywhere_gives_whole_batches(tmp_path):
    whole = filled(tmp_path / "trials.jsonl")
    text = (tmp_path / "trials.jsonl").read_text()
    ends = [0]
    for count in (3, 3, 2):
        ends.append(ends[-1] + sum(map(len, text[ends[-1] :].splitlines(keepends=True)[:count])))
    for cut in sorted(
        {*range(0, len(text), 31), *(end + near for end in ends for near in (-1, 0, 1))}
    ):
        path = tmp_path / "cut.jsonl"
        path.write_text(text[: max(cut, 0)])
        found = TrialLog(path)
        batches = sum(cut >= end for end in ends[1:])
        assert path.read_text() == text[: ends[batches]]
        assert [len(trial.results) for trial in found.trials] == (
            [[], [0, 0, 0], [1, 1, 1], [2, 1, 2]][batches]
        )
    assert found.trials == whole.trials
    assert found.trials[1].loss == math.inf


def test_what_is_no_trial_is_named_with_its_line(tmp_path):
    path = tmp_path / "trials.jsonl"
    filled(path)
    text = path.read_text()
    for bad in ('{"of": 1}\n', "[]\n", "nonsense\n"):
        path.write_text(text + bad)
        with pytest.raises(OutputError, match=r"trials\.jsonl, line 9: no trial of a sweep"):
            TrialLog(path)


def test_the_table_has_a_row_for_each_trial(tmp_path):
    log = filled(tmp_path / "trials.jsonl")
    write_table(log.trials, tmp_path / "trials.parquet")
    table = pl.read_parquet(tmp_path / "trials.parquet")
    assert table["rungs"].to_list() == [2, 1, 2]
    assert table["epochs"].to_list() == [9, 3, 9]
    assert table["loss"].to_list() == pytest.approx([0.1, math.inf, 0.1])
    assert {"loss_h", "loss_v", "units", "rate", "error"} <= set(table.columns)
