"""The journal of a session: each finished case on the disk at once, so that no kill costs more than the case in
progress.

One file per session in the storage's sub-folder `journal`; what stands in it: `journal_lines.py`. A session holds flock
on its journal; the kernel lets go of it whatever ends the process, so a journal that can be locked is a dead one's.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from mpbench.journal.lines import SCHEMA_VERSIONS, Contents, Finished, Header, UnreadableJournal, line, parse
from mpbench.records.runs import MAX_RUN_BYTES
from mpbench.system.cache import flush_entries

FOLDER = "journal"
_NAME = re.compile(r"\d{8}T\d{12}Z-\d{1,10}-[0-9a-f]{8}\.jsonl", re.ASCII)


class Journal:
    """A session's own journal, locked. Made by `create` or `resume`, with the storage's lock held."""

    def __init__(self, path: Path, descriptor: int, header: Header, contents: Contents | None = None) -> None:
        self.path = path
        self.header = header
        self.selected = header.cases
        self.cases: dict[str, Finished] = dict(contents.cases) if contents else {}
        self._descriptor: int | None = descriptor
        self._end_bytes = contents.whole_bytes if contents else 0

    @classmethod
    def create(cls, storage: Path, header: Header) -> Journal:
        """A new journal with its header on the disk.

        Raises:
            OSError: it cannot be written.
        """
        folder = storage / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        began = datetime.fromisoformat(header.began)
        path = folder / f"{began:%Y%m%dT%H%M%S%f}Z-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        journal = cls(path, descriptor, header)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            journal._write([{"kind": "header", "schemas": SCHEMA_VERSIONS, **asdict(header)}])
            for parent in (folder, storage):
                flush_entries(parent)
        except OSError:
            journal.remove()
            raise
        return journal

    @classmethod
    def resume(cls, path: Path, descriptor: int, contents: Contents, selected: list[str]) -> Journal:
        """Go on with a dead session's journal, locked by `opened`.

        Raises:
            OSError: it cannot be written.
        """
        assert contents.header is not None
        journal = cls(path, os.dup(descriptor), contents.header, contents)
        journal.selected = selected
        try:
            journal._write([{"kind": "resumed", "cases": selected}])
        except OSError:
            journal.close()
            raise
        return journal

    def append(self, finished: Sequence[Finished]) -> None:
        """Put cases that were measured together on the disk.

        Raises:
            OSError: the disk is full or gone; the journal is as it was, and the next call tries again.
        """
        # First: an interruption while writing must not make them look unmeasured.
        groups = {case.group for case in finished}
        self.cases = {name: case for name, case in self.cases.items() if case.group not in groups}
        self.cases |= {case.fullname: case for case in finished}
        self._write([{"kind": "case", **asdict(case)} for case in finished])

    def _write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        if self._descriptor is None:
            return
        rest = b"".join(line(entry) for entry in entries)
        end = self._end_bytes + len(rest)
        try:
            os.ftruncate(self._descriptor, self._end_bytes)  # what a torn write has left
            os.lseek(self._descriptor, self._end_bytes, os.SEEK_SET)
            while rest:  # once, unless the disk is nearly full
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end_bytes)
            raise
        self._end_bytes = end

    def remove(self) -> None:
        """Its cases are saved elsewhere, or there are none."""
        with suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of it; what is in it stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def journals(storage: Path) -> list[Path]:
    """The journals of a storage, oldest first, live ones too."""
    try:
        return sorted(path for path in (storage / FOLDER).iterdir() if _NAME.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def opened(path: Path) -> Iterator[int | None]:
    """A journal, open and locked until the block ends; None where a live session holds it.

    Raises:
        OSError: it cannot be opened.
        UnreadableJournal: it is no regular file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnreadableJournal("not a regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        if not os.fstat(descriptor).st_nlink:
            raise FileNotFoundError(2, "removed by its session", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int) -> Contents:
    """What is in a journal.

    Raises:
        UnreadableJournal: it is no journal, or a later version's.
        OSError: it cannot be read.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        content = file.read(MAX_RUN_BYTES + 1)
    if len(content) > MAX_RUN_BYTES:
        raise UnreadableJournal(f"larger than {MAX_RUN_BYTES // 2**20} MiB")
    return parse(content)
