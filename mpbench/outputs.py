"""Whether what was asked for can be written: pytest-benchmark opens its files when all is measured, and so do we."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem


def check_outputs(option: Callable[..., Any]) -> None:
    """Find out before anything is measured.

    Args:
        option: a pytest option's value by its name and a default, as `config.getoption`.

    Raises:
        UsageProblem: the folder of --benchmark-json or --mp-summary is missing, or what is to be written to cannot be.
    """
    storage = str(option("benchmark_storage", None) or "")
    for name in ("benchmark_json", "mp_summary"):
        if not (given := option(name, None)):
            continue
        file = Path(given).absolute()
        if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise UsageProblem(
                f"--{name.replace('_', '-')}: {given}: valid is a file in a folder that exists and is writable"
            )
    if option("benchmark_histogram", None) and not (find_spec("pygal") and find_spec("pygaljs")):
        raise UsageProblem("--benchmark-histogram: pygal is missing: pip install 'pytest-benchmark[histogram]'")
    saves = option("benchmark_save", None) or option("benchmark_autosave", None)
    if saves and (storage.startswith("file://") or "://" not in storage):
        folder = Path(storage.removeprefix("file://")).absolute()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise UsageProblem(f"--benchmark-storage: {storage}: {existing} is not a folder that can be written to")
