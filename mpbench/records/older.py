"""What earlier versions called the fields of a case, and what stands for them now. Everything that reads a case's
`extra_info` goes through here first, so that nothing else has to know what anything was called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED_KEYS = {
    "way": "mode",
    "mpbench_probe_schema": "mpbench_diagnostic_schema",
    "mpbench_probe": "mpbench_diagnostic",
    "feed": "input",
}
RENAMED_VALUES = {("mpbench_probe", "feed"): "end_to_end", ("feed", "fed"): "pipeline"}
"""By the old key and the old value."""


def with_current_names(extra_info: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's extra_info as this version writes it; a new name wins where both are there."""
    renamed = {
        RENAMED_KEYS[key]: RENAMED_VALUES.get((key, value), value) if isinstance(value, str) else value
        for key, value in extra_info.items()
        if key in RENAMED_KEYS
    }
    return renamed | {key: value for key, value in extra_info.items() if key not in RENAMED_KEYS}
