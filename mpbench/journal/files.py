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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mpbench.errors import printable, reason
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
        self._descriptor = descriptor
        self._end_bytes = contents.whole_bytes if contents else 0
        self._unwritten: dict[str, Finished] = {}

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
        journal = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), header)
        try:
            fcntl.flock(journal._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            journal._write([{"kind": "header", "schemas": SCHEMA_VERSIONS, **asdict(header)}])
            for parent in (folder, storage):
                flush_entries(parent)
        except OSError:
            journal.remove()
            raise
        return journal

    @classmethod
    def resume(cls, dead: DeadJournal, selected: list[str]) -> Journal:
        """Go on with a dead session's journal, which has a header.

        Args:
            selected: full names of the cases of this session.
        """
        assert dead.contents.header is not None
        journal = cls(dead.path, os.dup(dead.descriptor), dead.contents.header, dead.contents)
        journal.selected = selected
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
        for cases in (self.cases, self._unwritten):
            for name in [name for name, case in cases.items() if case.group in groups]:
                del cases[name]
            cases.update({case.fullname: case for case in finished})
        removed = self._is_removed()
        if removed:
            self._unwritten = dict(self.cases)
            self._go_on_in_new_file()
        else:
            self._write(_entries(self._unwritten.values()))
        self._unwritten = {}
        return removed

    def _is_removed(self) -> bool:
        """Whether its file is no longer where it was, or another one is there."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return True

    def _go_on_in_new_file(self) -> None:
        """With all cases, since what is written to a file that was removed is lost when it is closed."""
        storage = self.path.parent.parent
        with locked(storage):
            new = Journal.create(storage, self.header)
            try:
                new._write(_entries(self.cases.values()))
            except OSError:
                new.remove()
                raise
        self.close()
        self.path, self._descriptor, self._end_bytes = new.path, new._descriptor, new._end_bytes

    @property
    def lacks_some(self) -> bool:
        """Whether there are cases that could not be written."""
        return bool(self._unwritten)

    def _write(self, entries: Sequence[Mapping[str, Any]]) -> None:
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
        """Let go of it, once; what is in it stays."""
        os.close(self._descriptor)


def _entries(cases: Iterable[Finished]) -> list[dict[str, Any]]:
    return [{"kind": "case", **asdict(case)} for case in cases]


@dataclass(frozen=True)
class DeadJournal:
    """What a session has left that was killed.

    Attributes:
        path: its file.
        descriptor: of it, open and locked.
        contents: what could be read of it.
    """

    path: Path
    descriptor: int
    contents: Contents

    @property
    def damaged_lines(self) -> list[str]:
        """A message for each line that was left out."""
        damaged = self.contents.damaged.items()
        return [f"line {number} is left out: {printable(problem)}" for number, problem in damaged]


def examined(storage: Path, held: ExitStack) -> tuple[list[DeadJournal], list[Path], dict[Path, str]]:
    """The journals of a storage, oldest first.

    Args:
        held: what dead sessions have left is locked until it ends.

    Returns:
        What dead sessions have left; journals of live ones; those that cannot be used, with the reason.
    """
    dead, live, unusable = list[DeadJournal](), list[Path](), dict[Path, str]()
    for path in journals(storage):
        try:
            if (descriptor := held.enter_context(opened(path))) is None:
                live.append(path)
            else:
                dead.append(DeadJournal(path, descriptor, read(descriptor)))
        except FileNotFoundError:
            continue  # its session has just ended well
        except (OSError, UnreadableJournal) as error:
            unusable[path] = printable(reason(error))
    return dead, live, unusable


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
        UnreadableJournal: it is not a regular file.
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
        UnreadableJournal: it is not a journal, or a later version's.
        OSError: it cannot be read.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        content = file.read(MAX_RUN_BYTES + 1)
    if len(content) > MAX_RUN_BYTES:
        raise UnreadableJournal(f"larger than {MAX_RUN_BYTES // 2**20} MiB")
    return parse(content)
