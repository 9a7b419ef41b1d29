"""Files that are whole or not there, whatever ends a process or a machine; folders of one run."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from acai_jax.errors import OutputError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make a file that is whole, or not there: beside `path` first, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Writes a file that is whole, or not there."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def put_in_place(finished: Path, path: Path) -> None:
    """Renames a finished file of the same disk; not even a power cut takes it back."""
    sync(finished)
    finished.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file's bytes, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise  # some network disks know no such thing as syncing a folder
    finally:
        os.close(descriptor)


def lock_folder(folder: Path) -> int:
    """Locks a folder for this process; the lock goes when its descriptor is closed, or we die."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise OutputError(f"another run is writing to {folder}") from None
    return descriptor
