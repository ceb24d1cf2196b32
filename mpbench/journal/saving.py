"""What is kept of one session: its journal from the first case on, then the saved run; and what is said about both.

Knows records and files, not pytest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from mpbench.config.options import OPTIONS
from mpbench.errors import UsageProblem, described, printable, reason
from mpbench.journal.files import Journal, journals, opened, read
from mpbench.journal.lines import Contents, Finished, Header, UnreadableJournal, encoded
from mpbench.records.runs import NO_COMMIT, facts_of
from mpbench.records.speed import BROKEN_OFF
from mpbench.system.code import digest_of
from mpbench.system.storage import DEFAULT_FOLDER, locked, publish_run, write_file

FREE_SETTINGS = {
    "given_precisions",
    *(option.setting for option in OPTIONS if option.free_on_resume or option.chief_only),
}
"""They pick the cases and do not change how one is measured: a session that resumes may have others."""

NAMED_FILES = 5
"""Of those that have changed."""

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
        """Say what dead sessions have left, and open this session's journal.

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
                    path, descriptor, contents = self._fitting(left, header)
                    self.journal = Journal.resume(path, descriptor, contents, header.cases)
                    restored = _whole_groups(contents.cases, groups)
                    left = [entry for entry in left if entry[0] != path]
                    self._say(
                        f"--mp-resume: {len(restored)} of {len(groups)} cases are taken from {shown(path)}, "
                        f"begun {_shown_time(contents)}"
                    )
                else:
                    if resume:
                        self._say(f"--mp-resume: no interrupted run in {shown(self.storage)}: everything is measured")
                    self.journal = Journal.create(self.storage, header)
        except OSError as error:
            self._say(f"no journal: {shown(self.storage)}: {reason(error)}: a run that is killed will be lost")
            return restored
        for path, _, contents in left[-NAMED_JOURNALS:]:
            total = len({*contents.selected, *contents.cases})
            self._say(
                f"an interrupted run, begun {_shown_time(contents)}, has left {len(contents.cases)} of {total} cases "
                f"in {shown(path)}: `{self._recover}` saves them, --mp-resume measures the rest"
            )
        if len(left) > NAMED_JOURNALS:
            self._say(f"and {len(left) - NAMED_JOURNALS} older ones")
        return restored

    def _left_behind(self, held: ExitStack) -> list[tuple[Path, int, Contents]]:
        """Dead sessions' journals that hold something, oldest first, locked; empty ones are removed."""
        left = []
        for path in journals(self.storage):
            try:
                descriptor = held.enter_context(opened(path))
                if descriptor is None:
                    continue
                contents = read(descriptor)
            except FileNotFoundError:
                continue
            except (OSError, UnreadableJournal) as error:
                self._say(f"left alone: {shown(path)}: {printable(reason(error))}")
                continue
            for number, problem in contents.damaged.items():
                self._say(f"{shown(path)}: line {number} is left out: {printable(problem)}")
            if contents.cases:
                left.append((path, descriptor, contents))
            elif not contents.damaged:
                path.unlink()
        return left

    def _fitting(self, left: Sequence[tuple[Path, int, Contents]], header: Header) -> tuple[Path, int, Contents]:
        for entry in reversed(left):
            old = entry[2].header
            if old is not None and not differences(old, header) and not changed_code(entry[2], self._root):
                return entry
        path, _, contents = left[-1]
        assert contents.header is not None
        fields = ", ".join([*differences(contents.header, header), *changed_code(contents, self._root)])
        raise UsageProblem(
            f"--mp-resume: {shown(path)} was measured otherwise: {fields}: valid is the same again; "
            f"`{self._recover}` saves what it holds"
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


def differences(old: Header, new: Header) -> list[str]:
    """What must agree before a session may go on with another's journal and does not, as `field old -> new`."""
    before, now = _conditions(old), _conditions(new)
    names = [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]
    return [f"{name} {printable(str(before.get(name)))} -> {printable(str(now.get(name)))}" for name in names]


def changed_code(contents: Contents, root: Path) -> list[str]:
    """Which files of the program that measured a journal's cases are others now: a commit's id does not tell."""
    noted = {(key, digest) for case in contents.cases.values() for key, digest in case.code.items()}
    now = {key: digest_of(key, root) for key, _ in noted}
    changed = sorted({key for key, digest in noted if not digest or digest != now[key]})
    more = f" and {len(changed) - NAMED_FILES} more" if len(changed) > NAMED_FILES else ""
    found = [f"changed since then: {printable(', '.join(changed[:NAMED_FILES]))}{more}"] if changed else []
    commit = contents.header.commit_info if contents.header else {}
    unknown = commit.get("dirty") or commit.get("id") in NO_COMMIT
    if unknown and not all(case.code for case in contents.cases.values()):
        found.append("without a commit, by a version that did not note its files")
    return found


def _conditions(header: Header) -> dict[str, Any]:
    settings = json.loads(json.dumps(header.settings))  # a journal has lists where a session has tuples
    try:
        facts = facts_of(header.machine_info)
    except ValueError as problem:
        facts = {"machine_info": str(problem)}
    return {
        **facts,
        "python": header.machine_info.get("python_version"),
        "commit": header.commit_info.get("id"),
        "uncommitted changes": header.commit_info.get("dirty"),
        **{name: value for name, value in settings.items() if name not in FREE_SETTINGS},
    }


def _whole_groups(cases: Mapping[str, Finished], groups: Mapping[str, str]) -> dict[str, Finished]:
    """The selected cases whose group's selected cases were all measured together, and to the end.

    Speedups are of paired rounds, and a group is measured in several visits.
    """
    whole = {}
    for group in set(groups.values()):
        wanted = [name for name, of_group in groups.items() if of_group == group]
        found = [cases[name] for name in wanted if name in cases and not _broken_off(cases[name])]
        together = {(case.group, case.measurement) for case in found}
        if len(found) == len(wanted) and together == {(group, found[0].measurement)}:
            whole.update({case.fullname: case for case in found})
    return whole


def _broken_off(case: Finished) -> bool:
    return bool(case.benchmark["extra_info"].get("noisy_because") == BROKEN_OFF)


def _names(run: Mapping[str, Any]) -> set[str]:
    return {str(benchmark["fullname"]) for benchmark in run["benchmarks"]}


def _cases(number: int) -> str:
    return f"{number} measured case{' is' if number == 1 else 's are'}"


def _shown_time(contents: Contents) -> str:
    return contents.header.began[:16].replace("T", " ") + " UTC" if contents.header else "?"


def shown(path: Path) -> str:
    """As the user would type it."""
    path = path.absolute()
    return printable(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
