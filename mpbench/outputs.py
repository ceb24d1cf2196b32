"""Whether pytest-benchmark will be able to write what it was asked to: it opens its files when all is measured."""

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
        UsageProblem: the folder of --benchmark-json is missing, or a folder that is to be written to cannot be.
    """
    json_file, storage = option("benchmark_json", None), str(option("benchmark_storage", None) or "")
    if json_file:
        folder = Path(json_file).absolute().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UsageProblem(
                f"--benchmark-json: {json_file}: valid is a file in a folder that exists and is writable"
            )
    if option("benchmark_histogram", None) and not (find_spec("pygal") and find_spec("pygaljs")):
        raise UsageProblem("--benchmark-histogram: pygal is missing: pip install 'pytest-benchmark[histogram]'")
    saves = option("benchmark_save", None) or option("benchmark_autosave", None)
    if saves and (storage.startswith("file://") or "://" not in storage):
        folder = Path(storage.removeprefix("file://")).absolute()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise UsageProblem(f"--benchmark-storage: {storage}: {existing} is not a folder that can be written to")
