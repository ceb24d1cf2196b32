"""Whether what was asked for can be written: pytest-benchmark opens its files when all is measured, and so do we."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, reason
from mpbench.system.storage import check_room, check_target, real_path

FILES = ("benchmark_json", "mp_report", "mp_summary")
"""Options that name a file to write."""


def check_outputs(option: Callable[..., Any], machine_folder: Path | None) -> None:
    """Find out before anything is measured, by writing: permission bits say nothing to root, nor of a full disk.

    Args:
        option: a pytest option's value by its name and a default, as `config.getoption`.
        machine_folder: where --benchmark-save and --benchmark-autosave put a run; None where that is a server.

    Raises:
        UsageProblem: the folder of --benchmark-json, --mp-report or --mp-summary is missing, or what is to be written
            to cannot be.
    """
    for name in FILES:
        if not (file := option(name, None)):
            continue
        try:
            check_target(Path(file))
        except OSError as error:
            raise UsageProblem(
                f"--{name.replace('_', '-')}: {file}: valid is a file in a folder that exists and is writable "
                f"({reason(error)})"
            ) from None
    targets = {name: real_path(Path(file)) for name in FILES if (file := option(name, None))}
    for name, target in targets.items():
        if twins := [other for other, its in targets.items() if its == target and other != name]:
            raise UsageProblem(
                f"--{name.replace('_', '-')}: {target.name}: given to --{twins[0].replace('_', '-')} too: valid are "
                "different files"
            )
    if option("benchmark_histogram", None) and not (find_spec("pygal") and find_spec("pygaljs")):
        raise UsageProblem("--benchmark-histogram: pygal is missing: pip install 'pytest-benchmark[histogram]'")
    saves = option("benchmark_save", None) or option("benchmark_autosave", None)
    if saves and machine_folder is not None:
        try:
            machine_folder.mkdir(parents=True, exist_ok=True)
            check_room(machine_folder)
        except OSError as error:
            raise UsageProblem(
                f"--benchmark-storage: {machine_folder}: {reason(error)}: valid is a folder that can be written to, "
                "with room"
            ) from None
