"""Saved runs: pytest-benchmark's JSON files with this suite's records in them, loaded and checked, and which of their
cases may be compared.

A file that cannot be believed is refused as a whole, in one line; what reads runs need not check anything again.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from mpbench.errors import harmless, printable
from mpbench.records.accuracy import ACCURACY, AccuracyRecord
from mpbench.records.comparable import COMPARABLE_FACTS
from mpbench.records.diagnostics import DIAGNOSTICS, DiagnosticRecord
from mpbench.records.fields import as_object, bounded, fields_of, must_be, quoted
from mpbench.records.kinds import KINDS, kind_of
from mpbench.records.limits import MAX_NUMBER
from mpbench.records.measured import CaseKind, Measured, R
from mpbench.records.older import with_current_names
from mpbench.records.speed import SPEED, SpeedRecord

MAX_RUN_BYTES = 64 * 2**20
"""A default run takes some 100 KiB: what is larger than this is no run of ours."""

NO_COMMIT = ("unversioned", "unknown")
NO_BRANCH = "(unknown)"
"""What pytest-benchmark writes where there is no repository, or git does not answer."""

MAX_CASES = 10_000
"""Of a run: all models of keras.applications in all precisions, with a sweep of some 20 points."""

MAX_COMMAND_CHARACTERS = 10_000
"""A longer one is cut: it may name thousands of files, and nothing follows from it."""

MAX_FACTS = 100
FIRST_YEAR, LAST_YEAR = 1970, 2199
"""A clock that was never set stands at the first."""


class UnreadableRun(ValueError):
    """A file that is not a run: one line that names it, the field and the reason."""


@dataclass(frozen=True)
class SavedRun:
    """One saved run.

    Attributes:
        path: its file.
        time: when it was written, in UTC.
        commit: id; empty where unknown.
        dirty: whether there were uncommitted changes.
        branch: empty where unknown.
        facts: `device.machine_facts` as saved, with `node` and `cpu`, the machine's name and its processor's.
        cases: of all kinds, by full name; see `of`, `speed`, `accuracy` and `diagnostics`.
        command: what was typed; empty where unknown.
        denied: a line for each ratio that a record claims and its rounds deny: the cases hold what the rounds say.
        id: what runs that confirm it name it by; empty where it has none.
        confirms: the id of the run of which this one has measured some cases again; empty for an ordinary run.
        paths: what pytest was asked to run, as beginnings of full names; None where unknown.
        deselected: full names of the cases there that were left out on purpose, as by -k.
    """

    path: Path
    time: datetime
    commit: str
    dirty: bool
    branch: str
    facts: Mapping[str, Any]
    cases: Mapping[str, Measured[Any]]
    command: str = ""
    denied: tuple[str, ...] = ()
    id: str = ""
    confirms: str = ""
    paths: tuple[str, ...] | None = None
    deselected: frozenset[str] = frozenset()

    def of(self, kind: CaseKind[R]) -> dict[str, Measured[R]]:
        """The cases of one kind, by full name."""
        return {name: case for name, case in self.cases.items() if case.record.kind is kind}

    @cached_property
    def speed(self) -> dict[str, Measured[SpeedRecord]]:
        return self.of(SPEED)

    @cached_property
    def accuracy(self) -> dict[str, Measured[AccuracyRecord]]:
        return self.of(ACCURACY)

    @cached_property
    def diagnostics(self) -> dict[str, Measured[DiagnosticRecord]]:
        return self.of(DIAGNOSTICS)

    def was_asked_for(self, fullname: str) -> bool:
        """Whether a case would have been measured, had it been there; so it is where that is unknown."""
        if fullname in self.deselected:
            return False
        return self.paths is None or any(
            path in ("", ".") or fullname == path or fullname.startswith((f"{path}/", f"{path}::", f"{path}["))
            for path in self.paths
        )


def unsaved_run(
    machine_info: Mapping[str, Any], cases: Mapping[str, Measured[Any]], own: Mapping[str, Any] | None = None
) -> SavedRun:
    """What a session has measured, as if it had been saved and read back now.

    Args:
        cases: of all kinds, by full name.
        own: what is saved beside the benchmarks.
    """
    return SavedRun(
        path=Path("this run"),
        time=datetime.now(timezone.utc),
        commit="",
        dirty=False,
        branch="",
        facts=facts_of(machine_info),
        cases={(name := harmless(id)): _as_read(case, name) for id, case in cases.items()},
        **_own(own),
    )


def _as_read(case: Measured[Any], fullname: str) -> Measured[Any]:
    """A case as it will be read back."""
    texts = {name: getattr(case.record, name) for name, one in fields_of(case.record.__class__).items() if one.is_short}
    changed = {name: harmless(text) for name, text in texts.items() if isinstance(text, str) and not text.isprintable()}
    return Measured(replace(case.record, **changed) if changed else case.record, tuple(case.rounds), fullname)


def load_runs(folder: Path, warn: Callable[[str], None]) -> list[SavedRun]:
    """Every run saved below a folder, at any depth, oldest first; none where there is no such folder.

    Args:
        folder: usually `.benchmarks`.
        warn: takes one line for each *.json file that is no readable run; these are left out.
    """
    runs = []
    for path in sorted(folder.rglob("*.json")):
        try:
            runs.append(run := read_run(path))
        except UnreadableRun as problem:
            warn(f"left out: {problem}")
            continue
        for line in run.denied:
            warn(f"{path}: {line}")
    return sorted(runs, key=lambda run: (run.time, run.path))


def read_run(path: Path) -> SavedRun:
    """The run in a file that pytest-benchmark wrote; benchmarks in it that are not ours are ignored.

    Raises:
        UnreadableRun: no such run: unreadable, no JSON, nothing of ours in it, a later version's, or with a field that
            is missing, of the wrong type or impossible.
    """
    try:
        return checked_run(path, as_object(read_json(path), "the file"))
    except ValueError as error:
        # The file's name and what is quoted of its content may hold line ends and worse.
        raise UnreadableRun(printable(f"{path}: {error}")) from None


def read_json(path: Path) -> Any:
    """What is in a file; raises ValueError, in one line, where it is no JSON of a size that a run may have."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for ever
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_RUN_BYTES + 1)
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from None
    if len(content) > MAX_RUN_BYTES:
        raise ValueError(f"larger than {MAX_RUN_BYTES // 2**20} MiB")
    if not content.strip():
        raise ValueError("empty")
    try:
        return json.loads(content.decode("utf-8"))  # as pytest-benchmark writes and reads it
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"truncated or not JSON: {error}") from None


def checked_run(path: Path, saved: Mapping[str, Any]) -> SavedRun:
    """The run that a file's content is, or is about to be; raises ValueError as `read_run` raises UnreadableRun."""
    benchmarks = saved.get("benchmarks")
    if not isinstance(benchmarks, list):
        raise must_be("a list", "benchmarks", benchmarks)
    found: dict[CaseKind[Any], dict[str, Measured[Any]]] = {kind: {} for kind in KINDS}
    names: set[str] = set()
    ours, not_read = 0, ""
    for i, benchmark in enumerate(benchmarks):
        benchmark = as_object(benchmark, where := f"benchmarks[{i}]")
        if (kind := kind_of(benchmark.get("extra_info"))) is None:
            continue
        extra_info = with_current_names(benchmark["extra_info"])
        ours += 1
        if type(version := extra_info[kind.schema_key]) is not int:
            raise must_be("a version", f"{where}: {kind.schema_key}", version)
        if version > kind.schema:
            not_read = f"{kind.schema_key} is {quoted(version)}, of a later version: this one reads {kind.schema}"
            continue
        if ours > MAX_CASES:
            raise ValueError(f"benchmarks: more than {MAX_CASES} cases of mpbench")
        fullname = benchmark.get("fullname")
        if not isinstance(fullname, str) or not fullname:
            raise must_be("a name", f"{where}.fullname", fullname)
        fullname = harmless(bounded(fullname, f"{where}.fullname"))
        if fullname in names:
            raise ValueError(f"{fullname}: two cases of this name")
        try:
            if kind.record_type(extra_info) is None:
                not_read = not_read or f"{fullname} is of an earlier version, which is no longer read"
                continue
            found[kind][fullname] = kind.read_case(benchmark, fullname)
        except ValueError as error:
            raise ValueError(f"{fullname}: {error}") from None
        names.add(fullname)
        if kind.max_cases is not None and len(found[kind]) > kind.max_cases:
            raise ValueError(f"benchmarks: more than {kind.max_cases} cases with {kind.schema_key}")
    if not ours:
        raise ValueError("benchmarks: none is a case of mpbench")
    if not names:
        raise ValueError(not_read)
    cases: dict[str, Measured[Any]] = {}
    denied: list[str] = []
    for kind, of_kind in found.items():
        corrected, lines = kind.checked_together(of_kind)
        cases.update(corrected)
        denied += lines
    commit = as_object(saved.get("commit_info", {}), "commit_info")
    commit_id = _text(commit, "id", "commit_info")
    branch = _text(commit, "branch", "commit_info")
    return SavedRun(
        path=path,
        time=_time(saved.get("datetime")),
        commit="" if commit_id in NO_COMMIT else commit_id,
        dirty=commit.get("dirty") is True,
        branch="" if branch == NO_BRANCH else branch,
        facts=facts_of(as_object(saved.get("machine_info", {}), "machine_info")),
        cases=cases,
        denied=tuple(denied),
        **_own(saved.get("mpbench")),
    )


def _shown_command(command: str) -> str:
    """Harmless, but for line ends, which an argument may hold."""
    cut = command if len(command) <= MAX_COMMAND_CHARACTERS else f"{command[:MAX_COMMAND_CHARACTERS]}..."
    return "\n".join(map(harmless, cut.split("\n")))


def _own(saved: Any) -> dict[str, Any]:
    """The fields of SavedRun that we have put beside the benchmarks; what is missing or no such thing is left out."""
    own = saved if isinstance(saved, Mapping) else {}
    found: dict[str, Any] = {name: harmless(own[name]) for name in ("id", "confirms") if isinstance(own.get(name), str)}
    if isinstance(own.get("command"), str):
        found["command"] = _shown_command(own["command"])
    if _is_texts(own.get("paths")):
        found["paths"] = tuple(map(harmless, own["paths"]))
    if _is_texts(own.get("deselected")):
        found["deselected"] = frozenset(map(harmless, own["deselected"]))
    return found


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def facts_of(machine: Mapping[str, Any]) -> dict[str, Any]:
    cpu = as_object(machine.get("cpu", {}), "machine_info.cpu")
    count = cpu.get("count")
    facts = {
        **as_object(machine.get("mpbench", {}), "machine_info.mpbench"),
        "node": machine.get("node"),
        "cpu": cpu.get("brand_raw"),
        "cores": str(count) if isinstance(count, int) and abs(count) < MAX_NUMBER else count,
    }
    if len(facts) > MAX_FACTS:
        raise ValueError(f"machine_info: {len(facts)} facts: valid are {MAX_FACTS} at most")
    for name in ("node", *COMPARABLE_FACTS):
        if not isinstance(facts.get(name), (str, type(None))):
            raise must_be("a text", f"machine_info: {name}", facts[name])
    return {
        harmless(bounded(name, "machine_info")): harmless(bounded(value, f"machine_info: {name}"))
        if isinstance(value, str)
        else value
        for name, value in facts.items()
        if isinstance(value, (str, type(None))) or (isinstance(value, (int, float)) and abs(value) < MAX_NUMBER)
    }


def _time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value)
        # pytest-benchmark wrote UTC without saying so before 4.0.
        time = time.astimezone(timezone.utc) if time.tzinfo else time.replace(tzinfo=timezone.utc)
    except (TypeError, ValueError, OverflowError):
        raise must_be("a time such as 2026-05-01T12:00:00+00:00", "datetime", value) from None
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise ValueError(f"datetime: {quoted(value)}: valid are the years {FIRST_YEAR} to {LAST_YEAR}")
    return time


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if not isinstance(text, (str, type(None))):
        raise must_be("a text", f"{where}.{key}", text)
    return harmless(bounded(text or "", f"{where}.{key}"))
