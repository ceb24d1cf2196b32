"""The fields of a record in a benchmark's `extra_info`: which must be there, of which type, and how they are quoted."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_args, get_type_hints

from mpbench.errors import harmless, printable
from mpbench.records.limits import MAX_NUMBER, MAX_TEXT_CHARACTERS

QUOTED_CHARACTERS = 60
"""Of a value in an error message."""

MAX_CHARACTERS = "max_characters"
"""Key of a field's metadata: it may hold so many characters, and is read as it stands, since it has its own check."""


@dataclass(frozen=True)
class _Field:
    types: frozenset[type]
    is_optional: bool
    max_characters: int | None

    @property
    def is_short(self) -> bool:
        """Whether a text in it is for people: a name, and no list of numbers."""
        return self.max_characters is None


def read_fields(record: type, extra_info: Mapping[str, Any]) -> dict[str, Any]:
    """A record's fields by name: each has its annotated type, numbers are finite, texts are harmless.

    Raises:
        ValueError: a field is missing, unless older files need not have it, or is not such a value.
    """
    found = {}
    for name, field in fields_of(record).items():
        if name not in extra_info:
            continue
        value = found[name] = extra_info[name]
        # type() and not isinstance: true is not a number of images.
        if type(value) not in field.types:
            valid = " or ".join(sorted(t.__name__.replace("NoneType", "null") for t in field.types))
            raise ValueError(f"{name}: {quoted(value)}: valid is {valid}")
        if isinstance(value, (float, int)) and not abs(value) < MAX_NUMBER:
            raise ValueError(f"{name}: {quoted(value)}: must be finite")
        if isinstance(value, str):
            bounded(value, name, field.max_characters or MAX_TEXT_CHARACTERS)
            found[name] = value if field.max_characters else harmless(value)
    if missing := [name for name, field in fields_of(record).items() if not field.is_optional and name not in found]:
        raise ValueError(f"extra_info lacks {', '.join(missing)}")
    return found


@functools.cache
def fields_of(record: type) -> dict[str, _Field]:
    """What JSON may give for each field of a record."""
    annotations, found = get_type_hints(record), {}
    for one in fields(record):
        types = set(get_args(annotations[one.name])) or {annotations[one.name]}
        valid = frozenset(types | {int}) if float in types else frozenset(types)
        found[one.name] = _Field(valid, one.default is not MISSING, one.metadata.get(MAX_CHARACTERS))
    return found


def bounded(text: str, where: str, most: int = MAX_TEXT_CHARACTERS) -> str:
    """A text; raises ValueError where it is too long."""
    if len(text) > most:
        raise ValueError(f"{printable(where[:QUOTED_CHARACTERS])}: {len(text)} characters: valid are {most} at most")
    return text


def must_be(what: str, where: str, value: Any) -> ValueError:
    """The error for a value that is not `what`, such as `a list`."""
    return ValueError(f"{where}: must be {what}, not {quoted(value)}")


def as_object(value: Any, where: str) -> dict[str, Any]:
    """A JSON object; raises ValueError for anything else."""
    if not isinstance(value, dict):
        raise must_be("an object", where, value)
    return value


def quoted(value: Any) -> str:
    """A value as JSON has it, cut short."""
    # A whole file may have to be quoted, and a number of thousands of digits cannot be.
    if isinstance(value, (dict, list)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= MAX_NUMBER:
        return "a huge number"
    text = json.dumps(value)
    return text if len(text) <= QUOTED_CHARACTERS else f"{text[:QUOTED_CHARACTERS]}..."
