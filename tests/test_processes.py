"""Signals, sent to real commands at any moment: they are heard, and no worker is left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic import avro_bytes, packet_record

ROOT = Path(__file__).parents[1]
FUZZ = os.environ.get("ACAI_JAX_FUZZ") == "1"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS = 60  # generous: a command that does not hear is one that stays for ever

# what ignores a signal, as the background of a shell does Ctrl-C, hands that on
HEARING = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def start(*arguments: object, **options) -> subprocess.Popen[str]:
    """A Python process in a group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, "-c", HEARING, sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1"},
        start_new_session=True,
        **options,
    )


def program(body: str) -> subprocess.Popen[str]:
    """A process that says "ready" on standard output when `body` does."""
    process = start("-c", f"from acai_jax.processes import *\nimport time, threading\n{body}")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate(timeout=SECONDS)
    return process


def group_is_gone(process: subprocess.Popen[str]) -> bool:
    """Whether nothing is left of the group, in time; the workers of a killed parent look for it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    return False


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "body",
    [
        "with hearing_signals():\n print('ready', flush=True)\n time.sleep(1000)",
        # an exception that a library swallows
        "with hearing_signals():\n"
        " print('ready', flush=True)\n"
        " try: time.sleep(1000)\n"
        " except BaseException: time.sleep(1000)",
        # a main thread that is in C, as in a compiler, and looks at no signal
        "import hashlib\n"
        "with hearing_signals():\n"
        " threading.Timer(0.2, print, ('ready',), {'flush': True}).start()\n"
        " hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
        # threads that never end
        "threading.Thread(target=threading.Event().wait).start()\n"
        "with hearing_signals():\n print('ready', flush=True)\n time.sleep(1000)",
        # a library's handler, which goes back to sleep
        "with hearing_signals():\n"
        " import polars\n"
        " print('ready', flush=True)\n"
        " threading.Event().wait()",
    ],
    ids=["sleep", "swallowed", "in C", "threads", "polars"],
)
def test_a_signal_is_heard(body, number):
    process = program(body)
    process.send_signal(number)
    _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (128 + number, "interrupted\n")


def test_what_is_ignored_stays_ignored():
    code = (
        "import os, signal; from acai_jax.processes import hearing_signals\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with hearing_signals(): os.kill(os.getpid(), signal.SIGINT)\n"
        "print('whole')"
    )
    process = start("-c", code)
    assert process.communicate(timeout=SECONDS) == ("whole\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_who_finishes_is_asked_once_and_ended_at_the_second_signal(number):
    body = (
        "with finishing(lambda text: print(text, flush=True)) as stop:\n"
        " print('ready', flush=True)\n"
        " stop.wait()\n"
        " {rest}\n"
        "print('finished', flush=True)"
    )
    process = program(body.format(rest="pass"))
    process.send_signal(number)
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (0, "")
    assert "finished" in output

    process = program(body.format(rest="time.sleep(1000)"))
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stdout.readline() == (
        f"{number.name}: finishing what is in hand; a second one exits at once\n"
    )
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + number


def test_handlers_are_given_back():
    code = (
        "import signal, threading; from acai_jax.processes import *\n"
        "before = [signal.getsignal(n) for n in (2, 15)]\n"
        "for _ in range(3):\n"
        " with hearing_signals(), hearing_signals(), finishing(print): pass\n"
        "assert before == [signal.getsignal(n) for n in (2, 15)]\n"
        "assert signal.set_wakeup_fd(-1) == -1\n"
        "assert threading.active_count() == 1\n"
    )
    process = start("-c", code)
    assert (*process.communicate(timeout=SECONDS), process.returncode) == ("", "", 0)


def test_a_block_is_not_disturbed_and_its_processes_hear_nothing():
    code = """
import os, signal, subprocess, sys, time
from acai_jax.processes import hearing_signals, undisturbed
with hearing_signals():
    with undisturbed():
        child = subprocess.Popen([sys.executable, "-c", "input(); print('child is whole')"],
            stdin=subprocess.PIPE)
        os.kill(os.getpid(), signal.SIGTERM)
        for number in (signal.SIGINT, signal.SIGTERM):
            child.send_signal(number)
        child.communicate(b"go on")
        print("block is whole", flush=True)
    print("not reached")
"""
    process = start("-c", code)
    output, errors = process.communicate(timeout=SECONDS)
    assert output == "child is whole\nblock is whole\n"
    assert (process.returncode, errors) == (143, "interrupted\n")


# --- commands --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def commands(simulated_dataset, tmp_path_factory):
    """Arguments of Python for each command, given a folder to write to."""
    folder = tmp_path_factory.mktemp("commands")
    night = folder / "night.avro"
    night.write_bytes(avro_bytes(*(packet_record(n % 50, candid=n) for n in range(3000))))
    alerts = simulated_dataset.parent
    heads = folder / "heads"
    _write_heads(heads)
    acai = ("-m", "acai_jax")
    return {
        "score": lambda out: (
            *(*acai, "score", night, "--model", heads),
            *("--out", out / "scores.parquet", "--workers", 2),
        ),
        "package": lambda out: (
            *(*acai, "package", alerts / "alerts"),
            *("--labels", alerts / "labels.csv", "--data-dir", out, "--workers", 2),
        ),
        "train": lambda out: (
            *("-m", "train.main", "--workdir", out / "run", "--config.heads", "h"),
            *("--config.dataset", simulated_dataset),
        ),
        "simulate": lambda out: (
            *(*acai, "simulate", "--out", out / "simulated", "--count", 3000, "--workers", 2),
        ),
    }


def _write_heads(path: Path) -> None:
    import jax

    from acai_jax.network.bank import HeadBank, create_heads
    from acai_jax.network.checkpoints import save_heads
    from acai_jax.network.head_config import HeadConfig

    heads = create_heads(HeadConfig(), 1, jax.random.key(0))
    save_heads(HeadBank(heads, ("h",), {"h": {"version": "test"}}), path)


@pytest.mark.parametrize("name", ["score", "package", "train", "simulate"])
@pytest.mark.parametrize("draw", range(10 if FUZZ else 1))
def test_commands_hear_signals_at_any_moment(commands, tmp_path, name, draw):
    random_numbers = random.Random(f"{name} {draw}")
    number, moment = random_numbers.choice(SIGNALS), random_numbers.uniform(0.2, 8.0)
    process = start(*commands[name](tmp_path))
    time.sleep(moment)
    os.killpg(process.pid, number)  # as a terminal does: to the workers too
    sent = time.monotonic()
    _, said = process.communicate(timeout=SECONDS)
    seconds = time.monotonic() - sent
    print(f"{name} {number.name} after {moment:.1f} s: {process.returncode} in {seconds:.2f} s")
    # before it listens, Python itself ends a process; a run may have been faster than the signal
    assert process.returncode in (128 + number, -number, 0), said
    if process.returncode == 128 + number:
        assert "interrupted" in said
        assert "Traceback" not in said
    if name == "train" and process.returncode == 0:
        assert "the same command goes on" in said
    assert group_is_gone(process)
