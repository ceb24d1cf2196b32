"""The kinds of case that a run may hold. A new one is added here and in `mpbench.plugin.session`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpbench.records.accuracy import ACCURACY
from mpbench.records.diagnostics import DIAGNOSTICS
from mpbench.records.measured import CaseKind
from mpbench.records.numerics import NUMERICS
from mpbench.records.older import with_current_names
from mpbench.records.speed import SPEED

KINDS: tuple[CaseKind[Any], ...] = (SPEED, ACCURACY, DIAGNOSTICS, NUMERICS)


def kind_of(extra_info: object) -> CaseKind[Any] | None:
    """The kind of a benchmark, by its extra_info; None where it is not a case of mpbench."""
    if not isinstance(extra_info, Mapping):
        return None
    keys = with_current_names(extra_info)
    return next((kind for kind in KINDS if kind.schema_key in keys), None)


def is_of_later_version(extra_info: Mapping[str, Any]) -> bool:
    """Whether a later version of mpbench wrote it."""
    kind = kind_of(extra_info)
    return kind is not None and with_current_names(extra_info)[kind.schema_key] > kind.schema
