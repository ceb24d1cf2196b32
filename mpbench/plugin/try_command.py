"""`python -m mpbench try MODEL`: one model's whole answer in one command, without a bench/ folder.

It is a pytest session of the cases in `mpbench.try_cases`, with the options of any other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mpbench.try_cases
from mpbench.errors import UsageProblem

DEFAULTS = {
    "--mp-report": "report.html",
    "--benchmark-columns": "median,iqr,rounds",
    "--mp-max-time": "15",
}
"""Given unless the user gives them. The whole answer is to take 2 minutes on a GPU, 3 on 2 CPU cores."""

ON = ("-q", "--benchmark-autosave", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""The page is made of a saved run, which `explain` and `--benchmark-compare` take too."""


def add_try(subparsers: Any) -> None:
    """Add the sub-command's parser."""
    parser = subparsers.add_parser(
        "try",
        help="does it pay for one model, why, and is it safe: measures, and writes report.html",
        description="Measure one model's training and inference in float32 and mixed precision, look at its numerics, "
        "print a verdict and write report.html. Options of `pytest bench/` may follow: docs/options.md.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="of keras.applications by name, or package.module:factory")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...", help="such as --mp-image-size=96")
    parser.set_defaults(run=_try)


def _try(options: argparse.Namespace) -> int:
    import pytest

    if options.model.startswith("-"):
        raise UsageProblem(f"try: {options.model}: the model comes first: mpbench try MODEL [options]")
    return int(pytest.main(arguments(options.model, options.options)))


def arguments(model: str, options: list[str]) -> list[str]:
    """pytest's arguments.

    Args:
        model: to measure.
        options: as typed after it; they take the place of DEFAULTS.
    """
    cases = Path(mpbench.try_cases.__file__).parent
    defaults = [f"{name}={value}" for name, value in DEFAULTS.items() if not _is_given(name, options)]
    fixed = ["-c", str(cases / "pytest.ini"), "-p", "mpbench.plugin", *ON]
    return [str(cases / "test_model.py"), f"--mp-models={model}", *fixed, *defaults, *options]


def _is_given(name: str, options: list[str]) -> bool:
    return any(one == name or one.startswith(f"{name}=") for one in options)
