"""The command `acai-jax`, run in this process: what it prints and how it ends."""

import contextlib
import io
import os
import subprocess
import sys
from unittest import mock

from acai_jax.commands.main import main


def acai_jax(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command, as `subprocess.run` would. Its warnings and tracebacks are the test's."""
    command = ["acai-jax", *map(str, arguments)]
    output, errors = io.StringIO(), io.StringIO()
    status: object = 0
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.dict(os.environ, COLUMNS="200", NO_COLOR="1"),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code
    assert status is None or isinstance(status, int)
    return subprocess.CompletedProcess(command, status or 0, output.getvalue(), errors.getvalue())
