"""The folder of saved runs: its lock, whether there is room in it, and how a file gets into it: whole or not at all.

Knows file names and bytes, not what is in them.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from mpbench.system import cache

DEFAULT_FOLDER = ".benchmarks"
"""pytest-benchmark's, unless --benchmark-storage says otherwise."""

LOCK_NAME = ".mpbench.lock"
LOCK_SECONDS = 60.0
"""A save takes milliseconds: whoever waits longer waits for a process that hangs."""

RESERVE_BYTES = 2**20
"""What must fit at the start: a run and its journal take some 100 KiB each."""

IN_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENAMETOOLONG)
"""Where no file can be put beside another or over it, as in a folder that lets nobody make files, or where the file is
a mount of its own: then it is written in place."""

_NUMBERED = re.compile(r"(\d{4,9})_.*\.json", re.ASCII | re.DOTALL)
_PLAIN_NAME = re.compile(r"[^/\0]{1,200}")


@contextmanager
def locked(storage: Path) -> Iterator[None]:
    """Hold the storage's lock: whoever gives a run its number or takes a journal over does. A dead holder's is free.

    Raises:
        OSError: the folder cannot be made or written to, or another process does not let go.
    """
    storage.mkdir(parents=True, exist_ok=True)
    with FileLock(storage / LOCK_NAME, timeout=LOCK_SECONDS):
        yield


def check_room(folder: Path) -> None:
    """Find out whether a run will fit: by writing, since neither permission bits nor free blocks tell of quotas.

    Args:
        folder: exists.

    Raises:
        OSError: it will not.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(RESERVE_BYTES))  # random, lest a file system that compresses finds room for it
        file.flush()
        os.fsync(file.fileno())


def check_target(path: Path) -> None:
    """Find out whether a file can be written, new or over an earlier one, without changing what is in it.

    Raises:
        OSError: it cannot.
    """
    real = real_path(path)
    if real.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if real.is_char_device():
        with real.open("wb", buffering=0) as device:
            device.write(b"\n")  # white space before JSON or Markdown means nothing
    elif not real.exists():
        check_room(real.parent)
    elif real.is_file():  # no pipe: opening it would wait for its reader
        with real.open("ab"):
            pass
        with suppress(PermissionError):  # of the folder: the file itself will do
            check_room(real.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, where it is a file or a link to one; devices and pipes are written through.

    Raises:
        OSError: it cannot be written.
    """
    path = real_path(path)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    try:
        with cache.publish(path) as partial:
            partial.write_bytes(content)
            if path.exists():
                shutil.copymode(path, partial)
    except OSError as error:
        if error.errno not in IN_PLACE:
            raise
        path.write_bytes(content)


def real_path(path: Path) -> Path:
    """Where a path leads, absolute.

    Raises:
        OSError: a loop of links, of which `Path.resolve` makes another exception in some versions and none in others.
    """
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return real


def publish_run(storage: Path, machine: str, name: str, content: bytes) -> Path:
    """Give a run the next free number and write it, whole or not at all, over nothing. The lock must be held.

    Args:
        storage: the folder of saved runs.
        machine: name of pytest-benchmark's sub-folder for this kind of machine.
        name: what follows the number.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.
    """
    if not is_plain_name(machine) or not is_plain_name(name):
        raise OSError(errno.EINVAL, "cannot be a file's name", f"{machine}/{name}")
    folder = storage / machine
    folder.mkdir(parents=True, exist_ok=True)
    # As pytest-benchmark counts: over this machine's runs and those in no machine's folder.
    names = [path.name for path in (*storage.iterdir(), *folder.iterdir())]
    number = max((int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))), default=0) + 1
    while (target := folder / f"{number:04}_{name}.json").exists():
        number += 1
    with cache.publish(target) as partial:
        partial.write_bytes(content)
    return target


def is_plain_name(name: str) -> bool:
    """Whether a name stays in the folder that it is put into."""
    return _PLAIN_NAME.fullmatch(name) is not None and name not in (".", "..")
