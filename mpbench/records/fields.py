"""A record's fields in a benchmark's `extra_info`: which must be there, and which older files lack."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from mpbench.records.older import with_current_names


def read_fields(record: type, extra_info: Mapping[str, Any], key: str, schema: int) -> dict[str, Any]:
    """The fields of a record in a benchmark's extra_info, by name; raises ValueError as `read_case` does."""
    extra_info = with_current_names(extra_info)
    if key not in extra_info:
        raise ValueError(f"extra_info has no {key}: not a case of mpbench")
    if extra_info[key] not in range(1, schema + 1):
        raise ValueError(f"{key} is {extra_info[key]}: this version reads {schema}")
    missing = [name for name, optional in _names(record) if not optional and name not in extra_info]
    if missing:
        raise ValueError(f"extra_info lacks {', '.join(missing)}")
    return {name: extra_info[name] for name, _ in _names(record) if name in extra_info}


@functools.cache
def _names(record: type) -> tuple[tuple[str, bool], ...]:
    """Its fields, and which of them older files need not have."""
    return tuple((f.name, f.default is not MISSING) for f in fields(record))
