"""Saved runs: pytest-benchmark's JSON files with this suite's records in them, loaded and checked, and which of their
cases may be compared.

A file that cannot be believed is refused as a whole, in one line; what reads runs need not check anything again.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from mpbench.errors import harmless, printable
from mpbench.records.accuracy import ACCURACY_SCHEMA, ACCURACY_SCHEMA_KEY, AccuracyRecord, read_accuracy
from mpbench.records.arms import by_the_rounds
from mpbench.records.comparable import COMPARABLE_FACTS
from mpbench.records.diagnostics import (
    DIAGNOSTIC_SCHEMA,
    DIAGNOSTIC_SCHEMA_KEY,
    KIND,
    RECORDS,
    RETIRED_KINDS,
    DiagnosticCaseResult,
    DiagnosticRecord,
    read_diagnostic,
)
from mpbench.records.older import with_current_names
from mpbench.records.plausible import MAX_ROUND_S, MAX_ROUNDS, MIN_ROUND_S, check_accuracy, check_case, check_diagnostic
from mpbench.records.profile import MAX_BYTES as MAX_PROFILE_BYTES
from mpbench.records.speed import SCHEMA, SCHEMA_KEY, CaseRecord, Measured, OfRounds, read_case
from mpbench.records.thumbnails import MAX_TEXT_CHARACTERS as MAX_THUMBNAILS_CHARACTERS

MAX_RUN_BYTES = 64 * 2**20
"""A default run takes some 100 KiB: what is larger than this is no run of ours."""

NO_COMMIT = ("unversioned", "unknown")
NO_BRANCH = "(unknown)"
"""What pytest-benchmark writes where there is no repository, or git does not answer."""

UNPAIRED_BLOCKS = re.compile(r"(\d{1,9}(,\d{1,9})*)?", re.ASCII)
MAX_NUMBER = 1e300
"""No field comes near it; beyond it sums and squares would overflow."""

Record = TypeVar("Record", CaseRecord, AccuracyRecord, DiagnosticRecord)

SCHEMAS = {SCHEMA_KEY: SCHEMA, ACCURACY_SCHEMA_KEY: ACCURACY_SCHEMA, DIAGNOSTIC_SCHEMA_KEY: DIAGNOSTIC_SCHEMA}
"""What this version reads, by the key in extra_info."""

QUOTED_CHARACTERS = 60
"""Of a value in an error message."""

MAX_CASES = 10_000
"""Of a run: all models of keras.applications in all precisions, with a sweep of some 20 points. A run is told in
seconds then."""

MAX_COMPARISONS = 1000
"""Of accuracy, of a run. Checking one takes some milliseconds."""

MAX_TEXT_CHARACTERS = 1000
"""Of a name, a fact or another text of a record."""

MAX_LONG_TEXT_CHARACTERS = {
    "step_profile": 4 * MAX_PROFILE_BYTES,
    "discordant": MAX_THUMBNAILS_CHARACTERS,
    **dict.fromkeys(("unpaired_blocks", "throttled_blocks"), 7 * MAX_ROUNDS),
}
"""Of texts that hold more than words; the first two have checks of their own."""

MAX_COMMAND_CHARACTERS = 10_000
"""A longer one is cut: it may name thousands of files, and nothing follows from it."""

MAX_FACTS = 100
FIRST_YEAR, LAST_YEAR = 1970, 2199
"""A clock that was never set stands at the first."""


class UnreadableRun(ValueError):
    """A file that is not a run: one line that names it, the field and the reason."""


@dataclass(frozen=True)
class SavedCase(OfRounds):
    """One speed case of a saved run.

    Attributes:
        fullname: pytest's node id, such as `bench/test_training.py::test_training[vgg16-float32]`.
        record: as written.
        rounds: seconds per step, in the order measured; positive, finite, as many as the record says, at least one.
    """

    fullname: str
    record: CaseRecord
    rounds: tuple[float, ...]


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
        cases: speed cases by fullname.
        accuracy: accuracy comparisons by fullname.
        diagnostics: by fullname, what the diagnostic cases have found; no figure of speed.
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
    cases: Mapping[str, SavedCase]
    accuracy: Mapping[str, AccuracyRecord]
    diagnostics: Mapping[str, DiagnosticCaseResult] = field(default_factory=dict)
    command: str = ""
    denied: tuple[str, ...] = ()
    id: str = ""
    confirms: str = ""
    paths: tuple[str, ...] | None = None
    deselected: frozenset[str] = frozenset()

    def was_asked_for(self, fullname: str) -> bool:
        """Whether a case would have been measured, had it been there; so it is where that is unknown."""
        if fullname in self.deselected:
            return False
        return self.paths is None or any(
            path in ("", ".") or fullname == path or fullname.startswith((f"{path}/", f"{path}::", f"{path}["))
            for path in self.paths
        )


def unsaved_run(
    machine_info: Mapping[str, Any],
    measured: Mapping[str, Measured],
    compared: Mapping[str, AccuracyRecord],
    diagnosed: Mapping[str, DiagnosticCaseResult],
    own: Mapping[str, Any] | None = None,
) -> SavedRun:
    """What a session has measured, by full names, as if saved now; `own` is what is saved beside the benchmarks."""
    return SavedRun(
        path=Path("this run"),
        time=datetime.now(timezone.utc),
        commit="",
        dirty=False,
        branch="",
        facts=facts_of(machine_info),
        cases={
            (name := harmless(id)): SavedCase(name, _harmless(case.record), tuple(case.rounds))
            for id, case in measured.items()
        },
        accuracy={harmless(id): _harmless(record) for id, record in compared.items()},
        diagnostics={
            harmless(id): DiagnosticCaseResult(_harmless(one.record), one.rounds) for id, one in diagnosed.items()
        },
        **_own(own),
    )


def _harmless(record: Record) -> Record:
    """As it will be read back."""
    texts = {name: getattr(record, name) for name in _TYPES[type(record)] if name not in MAX_LONG_TEXT_CHARACTERS}
    changed: dict[str, Any] = {
        name: harmless(text) for name, text in texts.items() if isinstance(text, str) and not text.isprintable()
    }
    return replace(record, **changed) if changed else record


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
        return checked_run(path, _object(read_json(path), "the file"))
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
        raise ValueError(f"truncated or no JSON: {error}") from None


def checked_run(path: Path, saved: Mapping[str, Any]) -> SavedRun:
    """The run that a file's content is, or is about to be; raises ValueError as `read_run` raises UnreadableRun."""
    benchmarks = saved.get("benchmarks")
    if not isinstance(benchmarks, list):
        raise ValueError(f"benchmarks: {_quoted(benchmarks)} is no list")
    cases: dict[str, SavedCase] = {}
    accuracy: dict[str, AccuracyRecord] = {}
    diagnostics: dict[str, DiagnosticCaseResult] = {}
    ours, later = 0, ""
    for i, benchmark in enumerate(benchmarks):
        benchmark = _object(benchmark, f"benchmarks[{i}]")
        if not isinstance(benchmark.get("extra_info"), dict):
            continue
        extra_info = with_current_names(benchmark["extra_info"])
        if (key := _schema(extra_info)) is None:
            continue
        benchmark = {**benchmark, "extra_info": extra_info}
        ours += 1
        known = SCHEMAS[key]
        if type(extra_info[key]) is not int:
            raise ValueError(f"benchmarks[{i}]: {key}: {_quoted(extra_info[key])} is no version")
        if extra_info[key] > known:
            later = f"{key} is {_quoted(extra_info[key])}, of a later version: this one reads {known}"
            continue
        if key == DIAGNOSTIC_SCHEMA_KEY and extra_info.get(KIND) in RETIRED_KINDS:
            later = later or f"{KIND} is {_quoted(extra_info[KIND])}, of an earlier version, which is no longer read"
            continue
        if ours > MAX_CASES:
            raise ValueError(f"benchmarks: more than {MAX_CASES} cases of mpbench")
        if len(accuracy) > MAX_COMPARISONS:
            raise ValueError(f"benchmarks: more than {MAX_COMPARISONS} comparisons of accuracy")
        fullname = benchmark.get("fullname")
        if not isinstance(fullname, str) or not fullname:
            raise ValueError(f"benchmarks[{i}].fullname: {_quoted(fullname)} is no name")
        fullname = harmless(_bounded(fullname, f"benchmarks[{i}].fullname"))
        if fullname in cases or fullname in accuracy or fullname in diagnostics:
            raise ValueError(f"{fullname}: two cases of this name")
        try:
            if key == SCHEMA_KEY:
                cases[fullname] = _case(fullname, benchmark)
            elif key == DIAGNOSTIC_SCHEMA_KEY:
                diagnostics[fullname] = _probe(benchmark)
            else:
                accuracy[fullname] = read_accuracy(_checked(AccuracyRecord, extra_info))
                check_accuracy(accuracy[fullname])
        except ValueError as error:
            raise ValueError(f"{fullname}: {error}") from None
    if not ours:
        raise ValueError("benchmarks: none is a case of mpbench")
    if not cases and not accuracy and not diagnostics:
        raise ValueError(later)
    changed, denied = by_the_rounds(cases)
    cases |= {name: replace(cases[name], record=record) for name, record in changed.items()}
    commit = _object(saved.get("commit_info", {}), "commit_info")
    commit_id = _text(commit, "id", "commit_info")
    branch = _text(commit, "branch", "commit_info")
    return SavedRun(
        path=path,
        time=_time(saved.get("datetime")),
        commit="" if commit_id in NO_COMMIT else commit_id,
        dirty=commit.get("dirty") is True,
        branch="" if branch == NO_BRANCH else branch,
        facts=facts_of(_object(saved.get("machine_info", {}), "machine_info")),
        cases=cases,
        accuracy=accuracy,
        diagnostics=diagnostics,
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


def _schema(extra_info: Mapping[str, Any]) -> str | None:
    """Which of SCHEMAS it was written by; None where it is not ours."""
    return next((key for key in SCHEMAS if key in extra_info), None)


def _case(fullname: str, benchmark: Mapping[str, Any]) -> SavedCase:
    record = read_case(_checked(CaseRecord, benchmark["extra_info"]))
    check_case(record)
    if not UNPAIRED_BLOCKS.fullmatch(record.throttled_blocks):
        raise ValueError(f"throttled_blocks: {_quoted(record.throttled_blocks)}: valid are numbers between commas")
    case = SavedCase(fullname, record, _rounds(benchmark, record))
    if not case.judged.rounds:
        raise ValueError("throttled_blocks: names the block of every round")
    rate = record.replicas * record.batch_size / case.median_seconds
    return replace(case, record=replace(record, images_per_second=rate))


def _probe(benchmark: dict[str, Any]) -> DiagnosticCaseResult:
    extra_info = benchmark["extra_info"]
    kind = extra_info.get(KIND)
    if not isinstance(kind, str) or kind not in RECORDS:
        raise ValueError(f"{KIND}: {_quoted(kind)}: valid are {', '.join(RECORDS)}")
    record = read_diagnostic(_checked(RECORDS[kind], extra_info))
    check_diagnostic(record)
    return DiagnosticCaseResult(record, _rounds(benchmark, record))


def _rounds(benchmark: Mapping[str, Any], record: CaseRecord | DiagnosticRecord) -> tuple[float, ...]:
    """A benchmark's rounds in seconds, checked against its record."""
    if not UNPAIRED_BLOCKS.fullmatch(record.unpaired_blocks):
        raise ValueError(f"unpaired_blocks: {_quoted(record.unpaired_blocks)}: valid are numbers between commas")
    data = _object(benchmark.get("stats"), "stats").get("data")
    if not isinstance(data, list) or not 0 < len(data) <= MAX_ROUNDS:
        raise ValueError(f"stats.data: {_quoted(data)}: valid is the list of rounds, {MAX_ROUNDS} at most")
    # numpy would also take "0.1" and true for numbers.
    if not set(map(type, data)) <= {float, int}:
        raise ValueError("stats.data: holds something else than numbers")
    try:
        rounds = np.array(data, dtype=float)
    except OverflowError:
        rounds = np.array([math.inf])
    shortest, longest = rounds.min(), rounds.max()  # either is nan where a round is
    if not 0 < shortest <= longest < math.inf:
        raise ValueError("stats.data: a round is not positive and finite")
    if not MIN_ROUND_S <= shortest <= longest <= MAX_ROUND_S:
        raise ValueError(f"stats.data: a round is not between {MIN_ROUND_S:g} and {MAX_ROUND_S:g} s")
    if rounds.size != record.rounds:
        raise ValueError(f"stats.data: {rounds.size} rounds where the record says {record.rounds}")
    return tuple(rounds.tolist())


def _checked(record: type, extra_info: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that are there, if each has its annotated type; numbers are finite, texts harmless."""
    checked = dict(extra_info)
    for name, types in _TYPES[record].items():
        value = extra_info.get(name)
        # type() and not isinstance: true is no number of images.
        if type(value) not in types and name in extra_info:
            valid = " or ".join(sorted(t.__name__.replace("NoneType", "null") for t in types))
            raise ValueError(f"{name}: {_quoted(value)}: valid is {valid}")
        if isinstance(value, (float, int)) and not abs(value) < MAX_NUMBER:
            raise ValueError(f"{name}: {_quoted(value)} is no finite number")
        if isinstance(value, str):
            text = _bounded(value, name, MAX_LONG_TEXT_CHARACTERS.get(name, MAX_TEXT_CHARACTERS))
            checked[name] = text if name in MAX_LONG_TEXT_CHARACTERS else harmless(text)
    return checked


def _types(record: type) -> dict[str, frozenset[type]]:
    """What json may give for each field of a record."""
    valid = {}
    annotations = get_type_hints(record)
    for name in (one.name for one in fields(record)):
        types = set(get_args(annotations[name])) or {annotations[name]}
        valid[name] = frozenset(types | {int}) if float in types else frozenset(types)
    return valid


_TYPES: dict[type, dict[str, frozenset[type]]] = {
    record: _types(record) for record in (CaseRecord, AccuracyRecord, *RECORDS.values())
}


def facts_of(machine: Mapping[str, Any]) -> dict[str, Any]:
    cpu = _object(machine.get("cpu", {}), "machine_info.cpu")
    count = cpu.get("count")
    facts = {
        **_object(machine.get("mpbench", {}), "machine_info.mpbench"),
        "node": machine.get("node"),
        "cpu": cpu.get("brand_raw"),
        "cores": str(count) if isinstance(count, int) and abs(count) < MAX_NUMBER else count,
    }
    if len(facts) > MAX_FACTS:
        raise ValueError(f"machine_info: {len(facts)} facts: valid are {MAX_FACTS} at most")
    for name in ("node", *COMPARABLE_FACTS):
        if not isinstance(facts.get(name), (str, type(None))):
            raise ValueError(f"machine_info: {name}: {_quoted(facts[name])} is no text")
    return {
        harmless(_bounded(name, "machine_info")): harmless(_bounded(value, f"machine_info: {name}"))
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
        raise ValueError(f"datetime: {_quoted(value)} is no time such as 2026-05-01T12:00:00+00:00") from None
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise ValueError(f"datetime: {_quoted(value)}: valid are the years {FIRST_YEAR} to {LAST_YEAR}")
    return time


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {_quoted(value)} is no object")
    return value


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if not isinstance(text, (str, type(None))):
        raise ValueError(f"{where}.{key}: {_quoted(text)} is no text")
    return harmless(_bounded(text or "", f"{where}.{key}"))


def _bounded(text: str, where: str, most: int = MAX_TEXT_CHARACTERS) -> str:
    if len(text) > most:
        raise ValueError(f"{printable(where[:QUOTED_CHARACTERS])}: {len(text)} characters: valid are {most} at most")
    return text


def _quoted(value: Any) -> str:
    """A value as JSON has it, cut short."""
    # A whole file may have to be quoted, and a number of thousands of digits cannot be.
    if isinstance(value, (dict, list)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= MAX_NUMBER:
        return "a huge number"
    text = json.dumps(value)
    return text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}..."
