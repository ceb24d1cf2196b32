"""Where files that can be made again are kept, and how they get there: whole or not at all."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import platformdirs

PARTIAL = ".partial-"
ABANDONED_AFTER_S = 24 * 3600
"""An untouched partial of this age is nobody's: process ids are used again, and those of other hosts say nothing."""

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
    _remove_abandoned(target)
    partial = target.with_name(f"{PARTIAL}{_host()}-{os.getpid()}-{secrets.token_hex(4)}-{target.name}")
    try:
        yield partial
        _flush(partial)
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


@functools.cache
def _host() -> str:
    """A home may be shared by hosts: a process id belongs to one of them."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _remove_abandoned(target: Path) -> None:
    pattern = re.compile(rf"{re.escape(PARTIAL)}([0-9a-f]{{8}})-(\d+)-[0-9a-f]{{8}}-{re.escape(target.name)}")
    with suppress(OSError):
        for path in target.parent.iterdir():
            match = pattern.fullmatch(path.name)
            if match is None:
                continue
            ended = match[1] == _host() and not _is_alive(int(match[2]))
            if ended or time.time() - path.lstat().st_mtime > ABANDONED_AFTER_S:
                _remove(path)


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # signal 0 would end the process there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _flush(path: Path) -> None:
    """Bytes to the disk before the name, or a power failure leaves a whole name for half the bytes."""
    if path.is_dir() and hasattr(os, "sync"):
        os.sync()  # one by one, the thousands of files of an archive take minutes
        return
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())


def flush_entries(path: Path) -> None:
    """A folder's new names to the disk, or a power failure takes them."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems cannot
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
