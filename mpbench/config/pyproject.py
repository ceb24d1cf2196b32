"""`[tool.mpbench]` of a project's pyproject.toml: options that are set for good, and the table of the gate's rules.

Every refusal is one line that names the file, the key and what is valid. The rules themselves: `gate/rules.py`.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpbench.config.options import OPTIONS, Option
from mpbench.config.values import unknown_key
from mpbench.errors import UsageProblem, printable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "pyproject.toml"
TABLE = "[tool.mpbench]"
GATE = "gate"
GATE_TABLE = "[tool.mpbench.gate]"
GATE_KEYS = ("slower", "faster", "last", "missing", "cases")
OWN_NAME = b"mpbench"
"""Without it a file sets nothing of ours, whatever else is wrong with it."""


def options_of_project(folder: Path) -> dict[str, str | bool]:
    """What a folder's pyproject.toml sets, checked, as it would be typed, by `Option.dest`.

    A file that does not name mpbench is not looked into: the plugin is loaded in other people's projects too.

    Raises:
        UsageProblem: a key is unknown, in the wrong place, or has a value that is not valid.
    """
    path = folder / FILE
    try:
        if OWN_NAME not in path.read_bytes():
            return {}
    except OSError:  # there is none, or pytest cannot read it either
        return {}
    table = own_table(read_toml(path), path)
    return {
        option.dest: _as_typed(option, table[option.name], f"{path}: {TABLE} {option.name}")
        for option in OPTIONS
        if option.name in table and not option.not_in_pyproject
    }


def read_toml(path: Path) -> Mapping[str, Any]:
    """The content of a TOML file; raises UsageProblem."""
    try:
        content: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageProblem(f"{path}: {error.strerror}: must be a TOML file") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, malformed, or a number with too many digits
        raise UsageProblem(f"{path}: not TOML: {error}") from None
    return content


def own_table(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """`[tool.mpbench]` of a pyproject.toml, its keys checked and its values not; empty where there is none.

    Raises:
        UsageProblem: a key, or a table, is unknown or in the wrong place.
    """
    tools = content.get("tool", {})
    table = tools.get("mpbench", {}) if isinstance(tools, Mapping) else {}
    if not isinstance(table, Mapping):
        raise UsageProblem(f"{path}: {TABLE} = {_shown(table)}: must be a table")
    for key, value in table.items():
        _check_key(key, value, path)
    rules = table.get(GATE, {})
    for key in rules:
        if key in _settable() and key not in GATE_KEYS:
            raise UsageProblem(f"{path}: {GATE_TABLE}: {key!r} is an option, not a rule of the gate: put it in {TABLE}")
    return table


def _check_key(key: str, value: Any, path: Path) -> None:
    where = f"{path}: {TABLE}"
    elsewhere = {option.name: option.not_in_pyproject for option in OPTIONS if option.not_in_pyproject}
    if key == GATE:
        if not isinstance(value, Mapping):
            raise UsageProblem(
                f"{where}: gate = {_shown(value)}: must be {GATE_TABLE}, the table of its rules; "
                "use --mp-gate on the command line to have a run judged"
            )
    elif key in elsewhere:
        raise UsageProblem(f"{where}: {key!r} is for the command line: use {elsewhere[key]}")
    elif key in GATE_KEYS:
        raise UsageProblem(f"{where}: {key!r} is a rule of the gate: put it in {GATE_TABLE}")
    elif key not in _settable():
        if isinstance(value, Mapping):
            raise UsageProblem(f"{path}: unknown table [tool.mpbench.{printable(key)}]: valid is {GATE_TABLE}")
        raise unknown_key(where, key, [*_settable(), GATE])


def _settable() -> list[str]:
    return [option.name for option in OPTIONS if not option.not_in_pyproject]


def _as_typed(option: Option, value: Any, where: str) -> str | bool:
    """A value as it would be typed, checked."""
    if option.is_flag and isinstance(value, bool):
        return value
    if isinstance(value, bool) and bool in option.kind.toml_types:
        text = "on" if value else "off"
    elif isinstance(value, str):
        text = value
    elif type(value) is list and list in option.kind.toml_types and all(isinstance(one, str) for one in value):
        text = ",".join(value)
    elif type(value) in (int, float) and type(value) in option.kind.toml_types:
        text = str(value)
    else:
        text = ""
    if option.is_flag or not text:
        or_list = ", or a list" if list in option.kind.toml_types else ""
        raise UsageProblem(f"{where} = {_shown(value)}: must be {option.kind.valid}{or_list}")
    option.value(text, where)
    return text


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)
