"""The lines of a journal: what stands in them, how they are checked, and the saved run that they make.

Each line is an object with the CRC of its entry: a journal is read after an accident, and half a line may still be
JSON. Pure functions between bytes and cases.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from mpbench.records.kinds import KINDS
from mpbench.records.older import with_current_names
from mpbench.records.runs import checked_run
from mpbench.system.storage import is_plain_name

SCHEMA_VERSIONS = {"journal": 1, **{kind.schema_key: kind.schema for kind in KINDS}}
"""Of the lines and of the records in them: a journal with a later one of any is left alone."""

BENCHMARK_TYPES: Mapping[str, tuple[type, ...]] = {
    "group": (str, type(None)),
    "name": (str,),
    "fullname": (str,),
    "params": (dict, type(None)),
    "param": (str, type(None)),
    "extra_info": (dict,),
    "options": (dict,),
}
"""Keys of one of pytest-benchmark's entries, but for its statistics."""

_LINE = re.compile(rb'\{"crc32":(\d{1,10}),"entry":(\{.*\})\}')


Statistics = Callable[[Sequence[float]], Mapping[str, Any]]


class UnreadableJournal(ValueError):
    """Not a journal that this version can use; the message says why, without its name."""


@dataclass(frozen=True)
class Header:
    """What all cases of a session share.

    Attributes:
        began: ISO 8601, UTC.
        name: of the run to be, after its number.
        machine: pytest-benchmark's name for this kind of machine, a folder of the storage.
        version: pytest-benchmark's.
        machine_info, commit_info: as in a saved run.
        settings: `asdict` of Settings.
        cases: full names of the selected cases.
    """

    began: str
    name: str
    machine: str
    version: str
    machine_info: dict[str, Any]
    commit_info: dict[str, Any]
    settings: dict[str, Any]
    cases: list[str]


@dataclass(frozen=True)
class Finished:
    """One finished case.

    Attributes:
        benchmark: pytest-benchmark's entry but for `stats`.
        rounds: seconds per step, or of an evaluation pass.
        group: equal for the cases that are measured together.
        measurement: equal for those that were; a later one of a group takes the place of an earlier.
        time: ISO 8601, UTC.
        code: SHA-256 of each file of the program that measured it, as `system.code` has it; empty in old journals.
    """

    benchmark: dict[str, Any]
    rounds: list[float]
    group: str
    measurement: str
    time: str
    code: dict[str, str] = field(default_factory=dict)

    @property
    def fullname(self) -> str:
        return str(self.benchmark["fullname"])


@dataclass(frozen=True)
class Contents:
    """What could be read of a journal.

    Attributes:
        header: None where not even that had been written.
        cases: by full name, in the order measured.
        damaged: what is wrong with each line that was left out, by its number; a torn last one is not among them.
        whole_bytes: up to the end of the last whole line.
    """

    header: Header | None
    cases: dict[str, Finished]
    damaged: dict[int, str]
    whole_bytes: int

    @property
    def began(self) -> str:
        """When its session began, for people."""
        return f"{self.header.began[:16].replace('T', ' ')} UTC" if self.header else "?"

    @property
    def total(self) -> int:
        """How many cases there are, measured or not."""
        return len({*(self.header.cases if self.header else ()), *self.cases})


def parse(content: bytes) -> Contents:
    """What is in a journal.

    Raises:
        UnreadableJournal: it is not a journal, or a later version's.
    """
    *lines, torn = content.split(b"\n")
    whole_bytes = len(content) - len(torn)
    if not lines:
        return Contents(None, {}, {}, 0)
    try:
        header = _header(_entry(lines[0]))
    except ValueError as error:
        raise UnreadableJournal(f"no header: {error}") from None
    measured: dict[str, dict[str, Finished]] = {}
    damaged: dict[int, str] = {}
    for number, text in enumerate(lines[1:], 2):
        try:
            entry = _entry(text)
            if entry.get("kind") == "resumed":
                continue  # in journals of earlier versions
            case = _finished(entry, header)
        except ValueError as error:
            damaged[number] = str(error)
            continue
        earlier = measured.pop(case.group, {})  # to the end: in the order measured
        if any(other.measurement != case.measurement for other in earlier.values()):
            earlier = {}
        measured[case.group] = earlier | {case.fullname: case}
    cases = {name: case for group in measured.values() for name, case in group.items()}
    return Contents(header, cases, damaged, whole_bytes)


def saved_run(header: Header, cases: Sequence[Finished], statistics: Statistics) -> dict[str, Any]:
    """What pytest-benchmark would have saved of these cases, at least one.

    Args:
        statistics: pytest-benchmark's, of a case's rounds.

    Raises:
        ValueError: nobody could believe it.
    """
    benchmarks = []
    for case in cases:
        numbers = {**statistics(case.rounds), "data": list(case.rounds), "iterations": 1}
        benchmarks.append({key: case.benchmark[key] for key in BENCHMARK_TYPES} | {"stats": numbers})
    run = {
        "machine_info": header.machine_info,
        "commit_info": header.commit_info,
        "benchmarks": benchmarks,
        "datetime": max(case.time for case in cases),
        "version": header.version,
    }
    checked_run(Path(), run)
    try:
        encoded(run, strictly=True)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return run


def encoded(run: Mapping[str, Any], *, strictly: bool = False) -> bytes:
    """A run's bytes on the disk: as pytest-benchmark's, but for the width of its margin, half of a file of rounds.

    Raises:
        ValueError: strictly, and a number in it is not one that every reader of JSON takes.
    """
    return json.dumps(run, indent=1, default=_unserializable, allow_nan=not strictly).encode()


def _unserializable(value: object) -> str:
    """A case's parameters are whatever its author gave; in pytest-benchmark's words."""
    return f"UNSERIALIZABLE[{value!r}]"


def line(entry: Mapping[str, Any]) -> bytes:
    """An entry as it stands in a journal."""
    text = json.dumps(entry, separators=(",", ":"), default=_unserializable).encode()
    return b'{"crc32":%d,"entry":%s}\n' % (zlib.crc32(text), text)


def _entry(text: bytes) -> dict[str, Any]:
    match = _LINE.fullmatch(text)
    if match is None or zlib.crc32(match[2]) != int(match[1]):
        raise ValueError("damaged")
    try:
        entry = json.loads(match[2])
    except RecursionError:
        raise ValueError("nested too deeply") from None
    assert isinstance(entry, dict)
    return entry


def _header(entry: Mapping[str, Any]) -> Header:
    schemas = entry.get("schemas")
    if entry.get("kind") != "header" or not isinstance(schemas, dict):
        raise ValueError("the first line is something else")
    schemas = with_current_names(schemas)
    for name, known in SCHEMA_VERSIONS.items():
        if name not in schemas and name != "journal":
            continue  # of a kind of case that came later
        version = schemas.get(name)
        if type(version) is not int:
            raise ValueError(f"the {name} version is missing")
        if version > known:
            raise ValueError(f"of a later version of mpbench ({name} {version}; this one reads {known})")
    header = Header(**_typed(entry, _types_of(Header)))
    if not all(isinstance(name, str) for name in header.cases):
        raise ValueError("cases must be names")
    _check_time(header.began)
    if not is_plain_name(header.name) or not is_plain_name(header.machine):
        raise ValueError("name and machine must be names of files")
    return header


def _finished(entry: Mapping[str, Any], header: Header) -> Finished:
    if entry.get("kind") != "case":
        raise ValueError("not a case")
    case = Finished(**_typed({"code": {}, **entry}, _types_of(Finished)))
    _typed(case.benchmark, BENCHMARK_TYPES)
    _check_time(case.time)
    if not all(isinstance(digest, str) for digest in case.code.values()):
        raise ValueError("code must hold texts")
    saved_run(header, [case], lambda rounds: {})  # raises where it cannot be believed
    return case


def _types_of(fields_of: type) -> dict[str, tuple[type, ...]]:
    return {name: (get_origin(hint) or hint,) for name, hint in get_type_hints(fields_of).items()}


def _typed(found: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """The fields by name; raises ValueError for one that is missing or of the wrong type."""
    for name, valid in types.items():
        if name not in found or not isinstance(found[name], valid):
            raise ValueError(f"{name} is missing or of the wrong type")
    return {name: found[name] for name in types}


def _check_time(text: str) -> None:
    if datetime.fromisoformat(text).utcoffset() != timezone.utc.utcoffset(None):
        raise ValueError(f"{text} must be a time in UTC")
