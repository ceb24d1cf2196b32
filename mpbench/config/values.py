"""Kinds of values that options take: what is valid, in words, and how a value is read from what was typed.

Pure. A refusal is one line that names where the value stands, what was given and what is valid.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from mpbench.errors import UsageProblem


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        valid: in words, to follow "must be".
        parse: takes where the value stands, such as `--mp-device`, and the text; raises UsageProblem.
        choices: all that is valid, where that is a few words.
        toml_types: what pyproject.toml may hold besides text.
    """

    valid: str
    parse: Callable[[str, str], Any]
    choices: tuple[str, ...] = ()
    toml_types: tuple[type, ...] = ()


def _no_value(where: str, text: str) -> bool:
    raise UsageProblem(f"{where}: {text!r}: must be without a value")


FLAG = Kind("true or false", _no_value, toml_types=(bool,))
"""An option without a value: on where it is given."""


def one_of(*choices: str) -> Kind:
    """One of some words."""

    def parse(where: str, text: str) -> str:
        if text not in choices:
            raise UsageProblem(f"{where}: unknown {text!r}: valid are {', '.join(choices)}")
        return text

    return Kind(f"one of {', '.join(choices)}", parse, choices, (bool,) if {"on", "off"} <= {*choices} else ())


def on_or_off() -> Kind:
    """A switch that is typed as `on` or `off`; read as True or False."""
    words = one_of("on", "off")
    return replace(words, parse=lambda where, text: words.parse(where, text) == "on")


def whole_number(unit: str, least: int = 1, most: int | None = None) -> Kind:
    """A whole number of some unit."""
    valid = f"a whole number of {unit}, {least} {'or more' if most is None else f'to {most}'}"

    def parse(where: str, text: str) -> int:
        value = integer(text)
        if value is None or value < least or (most is not None and value > most):
            raise UsageProblem(f"{where}: {text!r}: must be {valid}")
        return value

    return Kind(valid, parse, toml_types=(int,))


def integer(text: str) -> int | None:
    """A whole number from text; None where it is not one, or has more digits than Python reads."""
    try:
        return int(text)
    except ValueError:
        return None


def number(what: str = "a number", below: float = math.inf, divisor: float = 1.0) -> Kind:
    """A number above 0.

    Args:
        what: it is, in words, such as "a number of seconds".
        below: it must be smaller.
        divisor: of the number as typed, 100 for a fraction from per cent.
    """
    valid = f"{what} {'above 0' if below == math.inf else f'between 0 and {below:g}'}"

    def parse(where: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < below:
            raise UsageProblem(f"{where}: {text!r}: must be {valid}")
        return value / divisor

    return Kind(valid, parse, toml_types=(int, float))


def text(valid: str) -> Kind:
    """Any text but none."""

    def parse(where: str, given: str) -> str:
        if not given.strip():
            raise UsageProblem(f"{where}: {given!r}: must be {valid}")
        return given

    return Kind(valid, parse)


def names(of_what: str, parse_one: Callable[[str, str], str]) -> Kind:
    """Names separated by commas, each once; read as a tuple."""

    def parse(where: str, given: str) -> tuple[str, ...]:
        parts = [part.strip() for part in given.split(",")]
        if not all(parts):
            raise UsageProblem(f"{where}: {given!r} has an empty name: must be {of_what}, separated by commas")
        found = tuple(parse_one(where, part) for part in parts)
        check_each_once(where, found)
        return found

    return Kind(f"{of_what}, separated by commas", parse, toml_types=(list,))


def check_each_once(where: str, given: Iterable[str]) -> None:
    """Raise UsageProblem if a name is given twice."""
    seen = list(given)
    if twice := next((name for name in seen if seen.count(name) > 1), None):
        raise UsageProblem(f"{where}: {','.join(seen)} names {twice} twice: name each once")


def unknown_key(where: str, key: str, valid: Iterable[str]) -> UsageProblem:
    """The refusal of a key in a TOML file."""
    known = list(valid)
    close = difflib.get_close_matches(key, known, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    return UsageProblem(f"{where}: unknown key {key!r}{meant}: valid are {', '.join(known)}")
