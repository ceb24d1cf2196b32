"""Where files that can be made again are kept, and how they get there: whole or not at all."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import platformdirs

PARTIAL = ".mpbench-partial-"
ABANDONED_AFTER_S = 24 * 3600
"""From this age on, what a killed process left behind is removed."""

CHUNK_BYTES = 1 << 20


def folder(*parts: str) -> Path:
    """A sub-folder of the user's cache, created; of a temporary folder of this process where the cache is read-only.

    Args:
        parts: names of the sub-folder and of folders above it.

    Raises:
        OSError: there is no room for temporary files either.
    """
    with suppress(OSError, RuntimeError):  # RuntimeError: no home, as in containers
        wanted = platformdirs.user_cache_path("mpbench", appauthor=False).joinpath(*parts)
        # Some versions then give a relative path, that would end up in the working directory.
        if wanted.is_absolute():
            wanted.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=wanted):
                return wanted
    substitute = _temporary().joinpath(*parts)
    substitute.mkdir(parents=True, exist_ok=True)
    return substitute


def expanded(path: str) -> Path:
    """A path with the home in place of `~`; as it is where there is no home, or nobody of that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """A temporary path beside the target, which becomes the target if all goes well and is removed if not.

    A file replaces one that is there already. A folder does not: where another process was faster, ours is discarded.

    Args:
        target: in an existing folder.

    Yields:
        A path at which nothing exists yet, for a file or a folder.
    """
    with suppress(OSError):
        for abandoned in target.parent.glob(f"{PARTIAL}*"):
            if time.time() - abandoned.lstat().st_mtime > ABANDONED_AFTER_S:
                _remove(abandoned)
    partial = target.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    try:
        yield partial
        # Bytes to the disk before the name, or a power failure leaves a whole name for half the bytes.
        if partial.is_dir():
            os.sync()  # one by one, the thousands of files of an archive take minutes
        else:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        try:
            partial.replace(target)
        except OSError:
            if not (partial.is_dir() and target.is_dir()):
                raise
        flush_entries(target.parent)
    finally:
        _remove(partial)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return sha256_of_stream(file)


def sha256_of_stream(stream: IO[bytes]) -> str:
    """SHA-256 of what is left of a stream, in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


@functools.cache
def _temporary() -> Path:
    path = Path(tempfile.mkdtemp(prefix="mpbench-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def flush_entries(path: Path) -> None:
    """A folder's new names to the disk, or a power failure takes them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # a file
        path.unlink()
