"""Which saved runs `--benchmark-compare` may load, found out before pytest-benchmark opens them, and what of their
machine differs from this one.

pytest-benchmark opens whatever the storage holds: it would wait for ever for a named pipe, and end with a traceback,
after all the measuring, over a figure that is missing. Knows the layout of its files and nothing else of it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, printable
from mpbench.plugin.benchmark_stats import benchmark_statistics
from mpbench.records.comparable import configuration, differences, not_comparable
from mpbench.records.kinds import is_of_later_version, kind_of
from mpbench.records.limits import MAX_NUMBER
from mpbench.records.runs import SavedRun, UnreadableRun, checked_run, facts_of, read_json
from mpbench.records.speed import SPEED, SpeedRecord
from mpbench.system.machine import JITTERING_CPU_FIELDS

TIMES = ("min", "max", "mean", "stddev", "median", "iqr")
COUNTS = ("rounds", "iterations")
"""What pytest-benchmark's table shows of an earlier run, besides `outliers` and `ops`."""

FACTS = "mpbench"
"""Key of our facts in machine_info."""

SHOWN_CHARACTERS = 60
"""Of a value in a message."""


@dataclass(frozen=True)
class Choice:
    """What `--benchmark-compare` comes to.

    Attributes:
        value: the option's new value; empty where there is nothing to compare with.
        messages: a line for each file that was left out, and what that led to.
        nothing: why there is nothing to compare with; empty where there is something.
    """

    value: bool | str
    messages: tuple[str, ...] = ()
    nothing: str = ""


class ComparedRun:
    """What a session compares with: what was chosen, then what pytest-benchmark has loaded.

    Args:
        choice: None where nothing was asked for, or where the storage is a server.
    """

    def __init__(self, choice: Choice | None) -> None:
        self._choice = choice
        self._records: dict[str, SpeedRecord] = {}
        self._other_machine: list[str] = []
        self.messages = [] if choice is None else list(choice.messages)
        if choice is not None and choice.nothing:
            self.messages.append(f"nothing to compare with: {choice.nothing}")

    def loaded(self, run: dict[str, Any], machine_info: dict[str, Any]) -> None:
        """Take in a run that was loaded, and leave in it what pytest-benchmark can go on with.

        pytest-benchmark's own comparison of machines ends with a traceback where the run does not say, or where it
        differs and the storage is outside the working directory; elsewhere it prints both in full. Ours names what
        differs, and the run is then given this machine.

        Args:
            run: the file's JSON, changed in place.
            machine_info: of this session.
        """
        kept = run["benchmarks"] = [
            bench for bench in run["benchmarks"] if not is_of_later_version(bench.get("extra_info", {}))
        ]
        for bench in kept:
            with suppress(ValueError):  # not ours
                self._records[bench["fullname"]] = SPEED.read(bench.get("extra_info", {}))
                bench["stats"].update(benchmark_statistics(bench["stats"]["data"]))  # whatever the file gives
        then = run.get("machine_info", {})
        if facts := differing_facts(then, machine_info):
            self._other_machine.append(f"NOT COMPARABLE: another machine: {', '.join(facts)}")
        if fields := differing_fields(then, machine_info):
            self.messages.append(f"the machine of the run that is compared with differs: {', '.join(fields)}")
        run["machine_info"] = machine_info

    def lines(self, reported: Mapping[str, SpeedRecord]) -> list[str]:
        """What pytest-benchmark's table does not say: that settings or machines differ, or that there was nothing to
        compare with; none where nothing was asked for."""
        if self._choice is None and not self._records:
            return []
        shared = [name for name in reported if name in self._records]
        if not shared:
            return ["Nothing to compare with: no earlier run holds one of these cases."]
        settings = [not_comparable(reported[name], self._records[name]) for name in shared]
        return [*self._other_machine, *(line for line in settings if line)]


def choose_from_storage(option: Callable[..., Any]) -> Choice | None:
    """What the option --benchmark-compare comes to; None where it is not given, or the storage is a server.

    Args:
        option: a pytest option's value by its name and a default, as `config.getoption`.

    Raises:
        UsageProblem: as `choose`.
    """
    given, storage = option("benchmark_compare", None), option("benchmark_storage", None) or ""
    if not given or ("://" in storage and not storage.startswith("file://")):
        return None
    from pytest_benchmark.utils import get_machine_id, load_storage

    files = load_storage(storage, logger=None, default_machine_id=get_machine_id(), netrc=None)
    return choose(given, bool(option("benchmark_compare_fail", None)), files.query, shown(files.path))


def choose(given: bool | str, fails: bool, query: Callable[..., Iterable[Path]], where: str) -> Choice:
    """The runs that a value of --benchmark-compare selects, less those that cannot be used.

    Args:
        given: True for the newest run, else a number, a file or a glob.
        fails: whether --benchmark-compare-fail hangs on it.
        query: lists the storage's files that a glob matches, oldest first.
        where: names the storage.

    Raises:
        UsageProblem: the value is no number, file or glob; or what it names cannot be used and --benchmark-compare-fail
            hangs on it.
    """
    newest = given is True
    try:
        candidates = list(query("[0-9][0-9][0-9][0-9]_" if newest else given))
    except (ValueError, NotImplementedError, OSError) as error:
        raise UsageProblem(
            f"--benchmark-compare: {given}: valid is a run's number, a glob, or a file that exists ({error})"
        ) from None
    usable: list[Path] = []
    messages: list[str] = []
    for path in candidates:
        try:
            run = check_baseline(path)
            if newest and run and run.confirms:
                continue  # some cases of another run, measured again: no run of its own
            usable.append(path)
        except UnreadableRun as problem:
            messages.append(f"left out: {problem}")
    if usable:
        if not newest and len(usable) == len(candidates):
            return Choice(given)
        if not newest:
            messages.append(f"--benchmark-compare: {given}: compared with {printable(str(usable[-1]))} alone")
        return Choice(str(usable[-1]), tuple(messages))
    nothing = f"no saved run{'' if newest else f' like {given}'}{' that can be used' if candidates else ''} in {where}"
    if not fails:
        return Choice("", tuple(messages), nothing)
    if newest:  # a first run must not fail over having no predecessor
        return Choice("", tuple(messages), f"{nothing}: --benchmark-compare-fail fails nothing in this run")
    raise UsageProblem("; ".join([f"--benchmark-compare: {nothing}: give a run that is there", *messages]))


def check_baseline(path: Path) -> SavedRun | None:
    """Whether pytest-benchmark can compare with a file, and this suite's cases in it can be believed.

    Returns:
        The run with this suite's cases; None where it has none.

    Raises:
        UnreadableRun: it cannot.
    """
    try:
        saved = read_json(path)
        benchmarks = saved.get("benchmarks") if isinstance(saved, dict) else None
        if not isinstance(benchmarks, list):
            raise ValueError("benchmarks: must be a list: not a run of pytest-benchmark")
        for i, benchmark in enumerate(benchmarks):
            _check_benchmark(benchmark, f"benchmarks[{i}]")
        machine = saved.get("machine_info", {})
        if not isinstance(machine, dict):
            raise ValueError("machine_info: must be an object")
        facts_of(machine)
        if any(kind_of(benchmark.get("extra_info")) for benchmark in benchmarks):
            run = checked_run(path, saved)
            if not run.speed and not run.accuracy:
                raise ValueError("holds only diagnostic cases, which are not compared")
            return run
    except ValueError as error:
        # Relative where it can be: the storage's own paths are absolute.
        raise UnreadableRun(printable(f"{shown(path)}: {error}")) from None
    return None


def shown(path: Path) -> str:
    """A path as short as it is clear."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def differing_facts(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Of two machine_info: the facts that must agree and do not, as `driver 550 -> 580`."""
    return list(map(str, differences(configuration(facts_of(then)), configuration(facts_of(now)))))


def differing_fields(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Of two machine_info: all that differs, one level deep: `cpu.count 4 -> 8`; of long values the name alone."""
    found: list[str] = []
    for name in dict.fromkeys([*then, *now]):
        before, after = then.get(name), now.get(name)
        if name == FACTS and before is None:
            continue  # of other people's benchmarks
        if name == "cpu" and isinstance(before, dict):
            before = {field: value for field, value in before.items() if field not in JITTERING_CPU_FIELDS}
        if isinstance(before, dict) and isinstance(after, dict):
            found += [f"{name}.{change}" for change in _changes(before, after)]
        else:
            found += _changes({name: before}, {name: after})
    return found


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    # As JSON has it: there is no difference between a tuple and a list.
    texts = {
        name: [json.dumps(side.get(name), sort_keys=True, default=str) for side in (before, after)]
        for name in dict.fromkeys([*before, *after])
    }
    return [
        f"{name} {' -> '.join('none' if text == 'null' else printable(text.strip(chr(34))) for text in two)}"
        if all(len(text) <= SHOWN_CHARACTERS for text in two)
        else name
        for name, two in texts.items()
        if two[0] != two[1]
    ]


def _check_benchmark(benchmark: Any, where: str) -> None:
    if not isinstance(benchmark, dict):
        raise ValueError(f"{where}: must be an object")
    fullname, stats = benchmark.get("fullname"), benchmark.get("stats")
    if not isinstance(fullname, str) or not fullname:
        raise ValueError(f"{where}.fullname: must be a name")
    if not isinstance(benchmark.get("extra_info", {}), dict):
        raise ValueError(f"{fullname}: extra_info: must be an object")
    if not isinstance(stats, dict):
        raise ValueError(f"{fullname}: stats: must be an object")
    # ops came with pytest-benchmark 3.1, which works it out where it is missing.
    for name in (*TIMES, *COUNTS, *({"ops"} & set(stats))):
        value: Any = stats.get(name)
        if type(value) not in ((int,) if name in COUNTS else (int, float)):
            raise ValueError(f"{fullname}: stats.{name}: missing, or not a number")
        if not 0 <= value < MAX_NUMBER or not math.isfinite(value):
            raise ValueError(f"{fullname}: stats.{name}: must be finite and not negative")
    if not isinstance(stats.get("outliers"), str):
        raise ValueError(f"{fullname}: stats.outliers: missing, or not a text")
    if "ops" not in stats and not stats["mean"]:
        raise ValueError(f"{fullname}: stats.mean: 0")
