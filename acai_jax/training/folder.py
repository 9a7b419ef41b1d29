"""The folder of a run: whose it is."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from acai_jax.errors import OutputError
from acai_jax.files import lock_folder, put_in_place
from acai_jax.training.inputs import DatasetFacts


@contextmanager
def own_folder(workdir: Path) -> Iterator[None]:
    """Makes the folder, and keeps other processes out of it.

    Raises:
        OutputError: another run is writing to it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(workdir)
    try:
        yield
    finally:
        os.close(lock)


def claim_folder(workdir: Path, settings: dict[str, Any], facts: DatasetFacts) -> None:
    """Makes the folder this run's, by `config.json`.

    Args:
        workdir: the folder.
        settings: all that decides what the run comes to, JSON-ready.
        facts: of the dataset.

    Raises:
        OutputError: it holds another run, or something else; the message names what differs.
    """
    run = {
        **settings,
        "dataset": facts.as_json(),
        "acai_jax_version": metadata.version("acai_jax"),
    }
    path = workdir / "config.json"
    if not path.exists():
        temporary = workdir / ".config.json.tmp"
        temporary.unlink(missing_ok=True)
        if any(workdir.iterdir()):
            raise OutputError(f"{workdir} is not empty, and no training run's folder")
        temporary.write_text(json.dumps(run, indent=1))
        put_in_place(temporary, path)
    if changed := sorted(_differences(json.loads(path.read_text()), run)):
        raise OutputError(f"{workdir} belongs to another run: {', '.join(changed)} differ")


def _differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from _differences(one.get(key), other.get(key), f"{name}.{key}".lstrip("."))
    elif one != other:
        yield name
