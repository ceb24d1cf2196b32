"""What is kept of one session, its journal from the first case on and then the saved run, and the messages about both.

Knows records and files, not pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, described, printable, reason
from mpbench.journal.files import DeadJournal, Journal, examined
from mpbench.journal.lines import Finished, Header, encoded
from mpbench.journal.resuming import whole_groups, why_not_resumed
from mpbench.system.storage import DEFAULT_FOLDER, locked, publish_run, write_file

NAMED_JOURNALS = 3
"""Of those that dead sessions have left: more lines would hide the rest of the start."""


class RunSaver:
    """The journal and the saved run of one session.

    Args:
        storage: the folder of saved runs.
        say: shows one line at once.
        root: the files of a program are named relative to it; the working directory if None.
    """

    def __init__(self, storage: Path, say: Callable[[str], None], root: Path | None = None) -> None:
        self.storage = storage
        self._root = root or Path.cwd()
        self.journal: Journal | None = None
        self.problems: list[str] = []
        self._say = say
        self._saved: dict[str, set[str]] = {}
        self._append_failed = False
        self.file: Path | None = None
        """Where the session's run was saved."""

    def begin(self, header: Header, resume: bool, groups: Mapping[str, str]) -> dict[str, Finished]:
        """Tell what dead sessions have left, and open this session's journal.

        Args:
            header: of this session.
            resume: go on with the newest journal that fits.
            groups: for each selected case its group.

        Returns:
            Selected cases that need not be measured again: those whose whole group was measured together.

        Raises:
            UsageProblem: there is something to resume, but it was measured otherwise.
        """
        restored: dict[str, Finished] = {}
        try:
            with locked(self.storage), ExitStack() as held:
                left = self._left_behind(held)
                if resume and left:
                    journal = self._fitting(left, header)
                    left.remove(journal)
                    self.journal = Journal.resume(journal, header.cases)
                    restored = whole_groups(journal.contents.cases, groups)
                    self._say(
                        f"--mp-resume: {len(restored)} of {len(groups)} cases are taken from {shown(journal.path)}, "
                        f"begun {journal.contents.began}"
                    )
                else:
                    if resume:
                        self._say(f"--mp-resume: no interrupted run in {shown(self.storage)}: everything is measured")
                    self.journal = Journal.create(self.storage, header)
        except OSError as error:
            self._say(f"no journal: {shown(self.storage)}: {reason(error)}: a run that is killed will be lost")
            return restored
        for journal in left[-NAMED_JOURNALS:]:
            contents = journal.contents
            self._say(
                f"an interrupted run, begun {contents.began}, has left {len(contents.cases)} of {contents.total} cases "
                f"in {shown(journal.path)}: `{self._recover}` saves them, --mp-resume measures the rest"
            )
        if len(left) > NAMED_JOURNALS:
            self._say(f"and {len(left) - NAMED_JOURNALS} older ones")
        return restored

    def _left_behind(self, held: ExitStack) -> list[DeadJournal]:
        """Dead sessions' journals that hold something, oldest first, locked; empty ones are removed."""
        dead, _, unusable = examined(self.storage, held)
        for path, problem in unusable.items():
            self._say(f"left alone: {shown(path)}: {problem}")
        for journal in dead:
            for line in journal.damaged_lines:
                self._say(f"{shown(journal.path)}: {line}")
            if not journal.contents.cases and not journal.contents.damaged:
                journal.path.unlink()
        return [journal for journal in dead if journal.contents.cases]

    def _fitting(self, left: Sequence[DeadJournal], header: Header) -> DeadJournal:
        """The newest journal that this session can go on with; raises UsageProblem, about the newest, without one."""
        for journal in reversed(left):
            if not why_not_resumed(journal.contents, header, self._root):
                return journal
        reasons = ", ".join(why_not_resumed(left[-1].contents, header, self._root))
        raise UsageProblem(
            f"--mp-resume: {shown(left[-1].path)} was measured otherwise: {reasons}: "
            f"use the same again; `{self._recover}` saves what it holds"
        )

    def finished(self, cases: Sequence[Finished]) -> None:
        """Put cases on the disk; where that fails, say so once, go on, and try again with the next ones."""
        if self.journal is None or not cases:
            return
        old = self.journal.path
        try:
            removed = self.journal.append(cases)
        except OSError as error:
            if not self._append_failed:
                self._say(f"the journal cannot be written: {reason(error)}: a run that is killed now loses more")
            self._append_failed = True
            return
        if removed:
            self._say(f"{shown(old)} has been removed: the journal goes on in {shown(self.journal.path)}")
        if self._append_failed:
            self._say("the journal is written again, with all that it lacked")
        self._append_failed = False

    def save_run(self, machine: str, name: str, run: Mapping[str, Any]) -> Path | None:
        """Save a run under the next number; None where that failed, which `problems` then tells."""
        try:
            with locked(self.storage):
                path = publish_run(self.storage, machine, name, encoded(run))
        except OSError as error:
            self.problems.append(f"NOT SAVED: {shown(self.storage)}: {reason(error)}")
            return None
        self._saved["storage"] = _names(run)
        self.file = Path(path)
        return path

    def save_json(self, path: Path, run: Mapping[str, Any]) -> bool:
        """Write --benchmark-json; whether it went well."""
        try:
            write_file(path, encoded(run))
        except OSError as error:
            self.problems.append(f"NOT SAVED: --benchmark-json: {path}: {reason(error)}")
            return False
        self._saved["json"] = _names(run)
        self.file = Path(path)
        return True

    def watch_server(self, server: Any) -> None:
        """Let a storage that is no folder save as it does, without raising."""
        save = server.save

        def saved(run: Mapping[str, Any], name: str) -> None:
            try:
                save(run, name)
            except Exception as error:  # whatever its client raises
                self.problems.append(f"NOT SAVED: {printable(described(error))}")
            else:
                self._saved["storage"] = _names(run)

        server.save = saved

    def end(self, asked: Collection[str], in_tables: Iterable[str], complete: bool) -> list[str]:
        """Remove the journal if all that is in it is saved, or was shown to a user who wants nothing saved.

        Args:
            asked: of `storage` and `json`, where the run was to be saved.
            in_tables: full names of the cases there.
            complete: the session came to its end, cases that failed or not.

        Returns:
            Lines for the end of the session.
        """
        lines, journal = list(self.problems), self.journal
        self.problems, self.journal = [], None
        if journal is None:
            return lines + (["there is no journal of this session to recover it from"] if lines else [])
        kept, missing = set(journal.cases), set(journal.selected) - set(journal.cases)
        where = next((name for name in ("storage", "json") if name in asked), None)
        safe = self._saved.get(where, set()) if where else set(in_tables) if complete else set()
        left = kept - safe
        if not left and (complete or not kept or not missing):
            journal.remove()
            return lines
        with suppress(OSError):
            journal.append([])  # what could not be written before; all, where the storage has been removed
        journal.close()
        if journal.lacks_some:
            lines.append(f"{shown(journal.path)} lacks some of this session's cases")
        if left:
            lines.append(f"{_cases(len(left))} not saved: `{self._recover}` saves what is in {shown(journal.path)}")
        if not complete and missing:
            part = "" if left else f"The saved run holds {len(kept)} of {len(journal.selected)} cases: "
            lines.append(f"{part}--mp-resume measures the {len(missing)} missing")
        return lines

    @property
    def _recover(self) -> str:
        default = Path(DEFAULT_FOLDER).absolute() == self.storage
        return "python -m mpbench recover" + ("" if default else f" {shown(self.storage)}")


def _names(run: Mapping[str, Any]) -> set[str]:
    return {str(benchmark["fullname"]) for benchmark in run["benchmarks"]}


def _cases(number: int) -> str:
    return f"{number} measured case{' is' if number == 1 else 's are'}"


def shown(path: Path) -> str:
    """As the user would type it."""
    path = path.absolute()
    return printable(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
