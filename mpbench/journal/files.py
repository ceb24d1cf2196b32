"""The journal of a session: each finished case on the disk at once, so that no kill costs more than the case in
progress.

One file per session in the storage's sub-folder `journal`; what stands in it: `lines.py`. A session holds flock
on its journal; the kernel lets go of it whatever ends the process, so a journal that can be locked is a dead one's.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from mpbench.journal.lines import SCHEMA_VERSIONS, Contents, Finished, Header, UnreadableJournal, line, parse
from mpbench.records.runs import MAX_RUN_BYTES
from mpbench.system.cache import flush_entries
from mpbench.system.storage import locked

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
        self._unwritten: dict[str, Finished] = {}

    @classmethod
    def create(cls, storage: Path, header: Header) -> Journal:
        """A new journal with its header on the disk.

        Raises:
            OSError: it cannot be written.
        """
        journal = cls(*_new_file(storage, header), header)
        try:
            journal._begin()
        except OSError:
            journal.remove()
            raise
        return journal

    def _begin(self) -> None:
        """Lock a new file and put the header on the disk."""
        assert self._descriptor is not None
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._end_bytes = 0
        self._write([{"kind": "header", "schemas": SCHEMA_VERSIONS, **asdict(self.header)}])
        for parent in (self.path.parent, self.path.parent.parent):
            flush_entries(parent)

    def _begin_anew(self) -> None:
        """In a new file with all cases, as whoever removed the storage has removed the journal with it: what is written
        to a file without a name is lost when it is closed."""
        storage, old = self.path.parent.parent, (self.path, self._descriptor, self._end_bytes)
        with locked(storage):
            self.path, self._descriptor = _new_file(storage, self.header)
            try:
                self._begin()
                self._write([{"kind": "resumed", "cases": self.selected}, *_entries(self.cases.values())])
            except OSError:
                self.remove()
                self.path, self._descriptor, self._end_bytes = old
                raise
        os.close(old[1])  # type: ignore[arg-type]  # whoever writes has one

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

    def append(self, finished: Sequence[Finished]) -> bool:
        """Put cases that were measured together on the disk, with those that could not be written before.

        Returns:
            Whether the journal had been removed, and now is another file.

        Raises:
            OSError: the disk is full or gone; the journal is as it was, and the next call tries again.
        """
        # First: an interruption while writing must not make them look unmeasured.
        groups = {case.group for case in finished}
        self.cases = {name: case for name, case in self.cases.items() if case.group not in groups}
        self.cases |= {case.fullname: case for case in finished}
        self._unwritten = {name: case for name, case in self._unwritten.items() if case.group not in groups}
        self._unwritten |= {case.fullname: case for case in finished}
        removed = self._is_removed()
        if removed:
            self._unwritten = dict(self.cases)
            self._begin_anew()
        else:
            self._write(_entries(self._unwritten.values()))
        self._unwritten = {}
        return removed

    def _is_removed(self) -> bool:
        """Whether its file is no longer where it was, or another one is there."""
        if self._descriptor is None:
            return False
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return True

    @property
    def lacks_some(self) -> bool:
        """Whether there are cases that could not be written."""
        return bool(self._unwritten)

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


def _new_file(storage: Path, header: Header) -> tuple[Path, int]:
    """An empty journal, open."""
    folder = storage / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    began = datetime.fromisoformat(header.began)
    path = folder / f"{began:%Y%m%dT%H%M%S%f}Z-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
    return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _entries(cases: Iterable[Finished]) -> list[dict[str, Any]]:
    return [{"kind": "case", **asdict(case)} for case in cases]


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
