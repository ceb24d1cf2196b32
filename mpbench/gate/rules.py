"""The gate's thresholds: defaults, and the user's in `[tool.mpbench.gate]` of pyproject.toml or in a TOML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mpbench.config.options import MISSING_CHOICES
from mpbench.config.pyproject import FILE, GATE, GATE_KEYS, GATE_TABLE, own_table, read_toml
from mpbench.config.values import unknown_key
from mpbench.errors import UsageProblem, printable

DEFAULT_SLOWER = 0.03
"""Where figures are good to 1 %, a true change of 5 % is nearly always beyond it and one of 1 % nearly never."""

DEFAULT_LAST_RUNS = 5
CASE_KEYS = ("slower", "faster")


@dataclass(frozen=True)
class Rules:
    """What the gate goes by.

    Attributes:
        slower: fraction of the time, or of the speedup, from which a change counts (0.03 is 3 %).
        faster: the same for a change to the better that is to fail as well; None: none does.
        last: how many earlier runs make the baseline.
        missing_fails: whether a vanished case fails.
        cases: (pattern, slower, faster) in the order of the file; the first that fits a case's full name decides.
    """

    slower: float = DEFAULT_SLOWER
    faster: float | None = None
    last: int = DEFAULT_LAST_RUNS
    missing_fails: bool = False
    cases: tuple[tuple[str, float, float | None], ...] = field(default=())

    def with_missing(self, choice: str | None) -> Rules:
        """The same with one of MISSING_CHOICES in place of its own; None leaves it."""
        return self if choice is None else replace(self, missing_fails=choice == "fail")

    def thresholds(self, fullname: str) -> tuple[float, float | None]:
        """Slower and faster for one case."""
        for pattern, slower, faster in self.cases:
            if _fits(pattern, fullname):
                return slower, faster
        return self.slower, self.faster


def unused_patterns(rules: Rules, fullnames: Iterable[str]) -> list[str]:
    """The patterns of `cases` that fit none of some cases, as one line each."""
    names = list(fullnames)
    return [
        f"the rules' cases.{printable(pattern)!r} fits no case: must be a part of a full name, or a glob"
        for pattern, _, _ in rules.cases
        if not any(_fits(pattern, name) for name in names)
    ]


def _fits(pattern: str, fullname: str) -> bool:
    return fnmatchcase(fullname, f"*{pattern.replace('[', '[[]')}*")


def looser(rules: Rules) -> str:
    """In what rules let more pass than the defaults, in words; empty where in nothing."""
    found = []
    if rules.slower > DEFAULT_SLOWER:
        found.append(f"slower {100 * rules.slower:g} %")
    if rules.last < DEFAULT_LAST_RUNS:
        found.append(f"last {rules.last}")
    found += [
        f"slower {100 * slower:g} % for {printable(pattern)!r}"
        for pattern, slower, _ in rules.cases
        if slower > DEFAULT_SLOWER
    ]
    return ", ".join(found)


def read_rules(path: Path) -> Rules:
    """The rules in a TOML file: in `[tool.mpbench.gate]` of a pyproject.toml, at the top of any other.

    Raises:
        UsageProblem: the file cannot be read, a key is unknown or a value malformed; it names the key.
    """
    content = read_toml(path)
    if path.name == FILE:
        return _rules(own_table(content, path).get(GATE, {}), f"{path}: {GATE_TABLE}")
    return _rules(content, str(path))


def _rules(table: Mapping[str, Any], where: str) -> Rules:
    _check_keys(table, GATE_KEYS, where)
    last = table.get("last", DEFAULT_LAST_RUNS)
    if not isinstance(last, int) or isinstance(last, bool) or last < 1:
        raise UsageProblem(f"{where}: last = {last!r}: must be a whole number of runs, 1 or more")
    missing = table.get("missing", MISSING_CHOICES[0])
    if missing not in MISSING_CHOICES:
        raise UsageProblem(f"{where}: missing = {missing!r}: must be one of {', '.join(MISSING_CHOICES)}")
    slower = _percentage(table, "slower", where, DEFAULT_SLOWER)
    assert slower is not None
    faster = _percentage(table, "faster", where, None)
    cases = table.get("cases", {})
    if not isinstance(cases, Mapping):
        raise UsageProblem(f"{where}: cases = {cases!r}: must be a table of patterns")
    patterns = []
    for pattern, values in cases.items():
        inside = f"{where}: cases.{pattern!r}"
        if not isinstance(values, Mapping):
            raise UsageProblem(f"{inside} = {values!r}: must be a table of {', '.join(CASE_KEYS)}")
        _check_keys(values, CASE_KEYS, inside)
        own = _percentage(values, "slower", inside, slower)
        assert own is not None
        patterns.append((pattern, own, _percentage(values, "faster", inside, faster)))
    return Rules(slower, faster, last, cases=tuple(patterns)).with_missing(missing)


def _check_keys(table: Mapping[str, Any], valid: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in valid:
            raise unknown_key(where, key, valid)


def _percentage(table: Mapping[str, Any], key: str, where: str, default: float | None) -> float | None:
    """A fraction from per cent: a number, or text such as "2.5 %"."""
    if key not in table:
        return default
    value = table[key]
    try:
        number = float(value.removesuffix("%")) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if isinstance(value, bool) or not 0 < number < 100:
        raise UsageProblem(f"{where}: {key} = {value!r}: must be a percentage between 0 and 100, such as 2.5")
    return number / 100
