"""The command line, as users run it; in a process of its own where signals are sent."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import polars as pl
import pytest
from command_line import acai_jax
from synthetic import avro_bytes, packet_record

from acai_jax.commands.subcommands import COMMANDS, GROUPS
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.checkpoints import load_heads, save_heads
from acai_jax.network.head_config import HeadConfig


@pytest.fixture
def night(tmp_path) -> Path:
    folder = tmp_path / "night"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.avro").write_bytes(avro_bytes(packet_record(number)))
    (folder / "5.avro").write_bytes(b"poison")
    return folder


@pytest.fixture(scope="session")
def checkpoint(real_data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "heads"
    result = acai_jax("convert", path, "--weights", real_data / "acai_h5")
    assert result.returncode == 0, result.stderr
    assert "v d1_dnn_20201130" in result.stderr
    return path


@pytest.fixture(scope="module")
def completion(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "acai-jax"
    path.write_text(acai_jax("--completion", "bash").stdout)
    return path


# background jobs of a shell ignore Ctrl-C, and so do their children
HEARING_CTRL_C = [
    *(sys.executable, "-c"),
    "import os, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    "os.execv(sys.argv[1], sys.argv[1:])",
]


def test_heads_of_several_checkpoints_become_one_model(tmp_path):
    def save(name: str, classes: str, **changes: int) -> Path:
        config = HeadConfig(filters=(2, 2), dense_units=(2,), **changes)
        heads = create_heads(config, len(classes), jax.random.key(0))
        versions = {each: {"version": name} for each in classes}
        save_heads(HeadBank(heads, tuple(classes), versions), tmp_path / name)
        return tmp_path / name

    one, other, out = save("one", "ho"), save("other", "nh"), tmp_path / "out"
    result = acai_jax("convert", out, "--model", one, "--add", other)
    assert result.returncode == 0, result.stderr
    assert load_heads(out).versions == {"h": "other", "o": "one", "n": "other"}
    unlike = save("unlike", "v", head_units=3)
    result = acai_jax("convert", tmp_path / "none", "--model", one, "--add", other, unlike)
    assert result.returncode == 1
    assert re.search(r"^error: cannot add \S+unlike: heads of one bank", result.stderr, re.M)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", [(), ("score",), ("show",), ("convert",)])
def test_help_is_there(command):
    result = acai_jax(*command, "--help")
    assert result.returncode == 0
    assert "acai-jax" in result.stdout


def test_a_missing_braai_is_said_once_and_only_when_it_is_missed(checkpoint, night, tmp_path):
    arguments = ("--model", checkpoint, "--weights", tmp_path, "--workers", 0)
    result = acai_jax("score", night, *arguments, "--out", tmp_path / "with.parquet")
    assert "cannot stand in" not in result.stderr
    for number in range(2):
        raw = avro_bytes(packet_record(number, drb=None))
        (night / f"old{number}.avro").write_bytes(raw)
    result = acai_jax("score", night, *arguments, "--out", tmp_path / "without.parquet")
    assert result.stderr.count("warning: null feature: drb, and braai cannot stand in") == 1
    table = pl.read_parquet(tmp_path / "without.parquet")
    assert table["reason"].str.contains("braai").sum() == 2


def test_score_writes_a_table_and_a_summary(checkpoint, night, tmp_path):
    out = tmp_path / "scores.parquet"
    result = acai_jax("score", night, "--model", checkpoint, "--out", out)
    assert result.returncode == 0, result.stderr
    table = pl.read_parquet(out)
    assert table["candid"].to_list() == [packet_record(n)["candid"] for n in range(5)] + [None]
    assert re.search(r"compiled in, this run[ │]+[\d.]+ s", result.stderr)
    assert re.search(r"rate after that[ │]+[\d,]+ alerts/s", result.stderr)
    assert "rejected, not an Avro container" in result.stderr
    again = acai_jax("score", night, "--model", checkpoint, "--out", out)
    assert again.returncode == 1
    assert "--resume goes on" in again.stderr
    done = acai_jax("score", night, "--model", checkpoint, "--out", out, "--resume")
    assert (done.returncode, "complete already" in done.stderr) == (0, True)


def test_too_many_rejects_exit_with_4_and_the_table_is_written(checkpoint, night, tmp_path):
    out = tmp_path / "scores.parquet"
    arguments = ("score", night, "--model", checkpoint, "--out", out, "--workers", 0)
    result = acai_jax(*arguments, "--max-rejects", 0.1)
    assert (result.returncode, len(pl.read_parquet(out))) == (4, 6), result.stderr
    assert "error: 1 of 6 alerts were rejected (16.67 %)" in result.stderr
    assert acai_jax(*arguments, "--resume").returncode == 0
    result = acai_jax("score", night / "5.avro", *arguments[2:], "--overwrite")
    assert (result.returncode, len(pl.read_parquet(out))) == (4, 1), result.stderr
    assert "error: 1 of 1 alerts were rejected (100.00 %)" in result.stderr


def test_a_killed_run_is_resumed(checkpoint, tmp_path):
    records = [packet_record(n % 50, candid=n) for n in range(600)]
    night, out = tmp_path / "night.avro", tmp_path / "scores.parquet"
    night.write_bytes(avro_bytes(*records))
    arguments = ("score", night, "--model", checkpoint, "--out", out, "--workers", "1")
    # parts are written every 30 s: write one for each chunk here, so that the kill falls between
    program = (
        "import sys; from acai_jax.commands.main import main; from acai_jax.score import parts; "
        "parts._PART_ROWS = 1; sys.argv = ['acai-jax', *sys.argv[1:]]; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stderr=subprocess.DEVNULL,
    )
    folder = tmp_path / "scores.parquet.parts"
    deadline = time.monotonic() + 100
    while len(list(folder.glob("part-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = acai_jax(*arguments, "--resume")
    assert result.returncode == 0, result.stderr
    assert pl.read_parquet(out)["candid"].to_list() == list(range(600))


def test_show_draws_a_png(checkpoint, night, tmp_path):
    out = tmp_path / "alert.png"
    candid = packet_record(3)["candid"]
    result = acai_jax("show", night, "--candid", candid, "--model", checkpoint, "--out", out)
    assert result.returncode == 0, result.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    assert str(candid) in result.stderr


def test_output_in_the_folder_of_alerts_is_not_read_as_alerts(checkpoint, night):
    out = night / "scores.parquet"
    for flag in ((), ("--overwrite",)):
        result = acai_jax("score", night, "--model", checkpoint, "--out", out, *flag)
        assert result.returncode == 0, result.stderr
        assert len(pl.read_parquet(out)) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "no_such_night.tar"), "no such file or directory: no_such_night.tar"),
        (("score", "night[/old].tar"), "no such file or directory: night[/old].tar"),
        (("score", "{night}", "--model", "no_such_model"), "no checkpoint at no_such_model"),
        (("score", "{night}", "--weights", "{night}"), "acai_b.d1_dnn_20201130.h5, and for"),
        (("show", "{night}/5.avro"), "not an Avro container"),
        (("show", "{night}", "--candid", "7"), "no alert with candid 7"),
    ],
)
def test_mistakes_get_one_clear_line(night, arguments, message):
    result = acai_jax(*(str(argument).format(night=night) for argument in arguments))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_places_that_cannot_be_written_get_one_clear_line(real_data, night):
    place = night / "5.avro" / "scores.parquet"  # below a file
    weights = ("--weights", real_data / "acai_h5")
    for arguments in (("score", night, "--out", place), ("convert", place)):
        result = acai_jax(*arguments, *weights)
        assert result.returncode == 1
        assert "5.avro" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: no subcommand: acai-jax --help lists"),
        (("scroe", "night"), "no subcommand 'scroe': did you mean score?"),
        (("labl",), "did you mean label or labels?"),
        (("--wrong",), "no subcommand '--wrong': acai-jax --help"),
        (("--completion", "csh"), "--completion takes bash, zsh, fish"),
        (("score", "night", "--presets", "acai"), "--preset {acai,"),
        (("score", "night", "--preset", "none"), "invalid choice 'none'"),
        (("score", "night", "--workers", "None"), "Error parsing --workers"),
        (("score", "night", "--workers", "-1"), "error: --workers takes 0 or more"),
        (("score", "night", "--max-rejects", "2"), "error: --max-rejects takes a share"),
        (("score", "night", "--out", "scores.csv"), "scores.csv should end in .parquet"),
        (("score", "night", "--resume", "--overwrite"), "exclude each other"),
        (("score",), "error: no paths given"),
        (("fetch-night", "yesterday"), "error: not a date: 'yesterday'"),
        (("filter", "scores.parquet"), "error: give one of --where"),
        (("label",), "Missing from acai-jax label"),
        (("simulate", "--out", "night", "--count", "0"), "error: count is 0"),
        (("train", "--workdir", "run", "--config.balance", "0"), "balance is 0.0"),
        (
            ("stream", "--bootstrap-servers", "x:1", "--out", "night", "--batch-size", "0"),
            "error: --batch-size takes 1 to 10,000",
        ),
    ],
)
def test_a_wrong_command_line_ends_with_2(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = acai_jax(*arguments)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_help_lists_every_subcommand_in_one_line():
    result = acai_jax("--help")
    lines = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(line[14:].strip() and len(line) <= 80 for line in lines)
    assert all(title in result.stdout.splitlines() for title in GROUPS)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("sc",), "score"),
        (("score", "--pre"), "--preset"),
        (("score", "--preset", "kow"), "kowalski"),
        (("train", "--config.max-ep"), "--config.max-epochs"),
    ],
)
def test_a_shell_completes_what_is_typed(completion, words, found):
    typed = " ".join(map(shlex.quote, ("acai-jax", *words)))
    script = (
        f"source {completion}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; "
        f"_tyro_acai_jax acai-jax {words[-1]} {('acai-jax', *words)[-2]}; echo ${{COMPREPLY[*]}}"
    )
    shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert shell.stdout.split() == [found], shell.stderr


def test_a_thread_that_hangs_does_not_outlast_ctrl_c():
    code = """
import threading
from acai_jax.commands.console import clear_errors
threading.Thread(target=threading.Event().wait).start()
with clear_errors():
    raise KeyboardInterrupt
"""
    result = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert result.returncode == 130


def test_ctrl_c_keeps_the_parts_and_says_so(checkpoint, tmp_path):
    night = tmp_path / "night.avro"
    night.write_bytes(avro_bytes(*(packet_record(n % 50, candid=n) for n in range(3000))))
    out = tmp_path / "scores.parquet"
    arguments = ("score", night, "--model", checkpoint, "--out", out, "--workers", "2")
    process = subprocess.Popen(
        [*HEARING_CTRL_C, sys.executable, "-m", "acai_jax", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    folder = tmp_path / "scores.parquet.parts"
    deadline = time.monotonic() + 60
    while not (folder / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(1.0)  # workers are starting
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert f"interrupted\nparts up to here are kept in {folder}; --resume goes on\n" in messages
    assert "Traceback" not in messages
    assert "Warning" not in messages
