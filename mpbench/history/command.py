"""`python -m mpbench history`: times and speedups over saved runs, as tables, JSON or a picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, reason
from mpbench.history.series import (
    ASCII_BLOCKS,
    BLOCKS,
    PICTURE_FORMATS,
    all_series,
    as_data,
    lines,
    matching,
    picture,
)
from mpbench.records.runs import load_runs
from mpbench.system.storage import DEFAULT_FOLDER, write_file
from mpbench.terminal import show, show_data, warn


def add_history(subparsers: Any) -> None:
    """The sub-command `history`."""
    about = "Median times and speedups over the saved runs, and since which commit they have changed."
    parser = subparsers.add_parser("history", help=about, description=about, allow_abbrev=False)
    add = parser.add_argument
    add(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default=DEFAULT_FOLDER,
        help=f"of saved runs, at any depth ({DEFAULT_FOLDER})",
    )
    add("--case", metavar="PATTERN", help="only cases with PATTERN in their full name, or fitting it as a glob")
    add("--since", metavar="DATE", help="only runs from DATE on, such as 2026-05-01 or 2026-05-01T12:00 (UTC)")
    add("--json", action="store_true", help="print JSON instead of tables")
    add("-o", dest="output", metavar="FILE", help="also draw them: FILE.svg or FILE.png")
    parser.set_defaults(run=_history)


def _history(options: argparse.Namespace) -> int:
    since = _since(options.since) if options.since is not None else None
    output = _output(options.output) if options.output is not None else None
    folder = Path(options.folder)
    if not folder.is_dir():
        raise UsageProblem(
            f"history: {folder}: no such folder: must be one of saved runs; --benchmark-autosave makes {DEFAULT_FOLDER}"
        )
    runs = load_runs(folder, warn)
    if options.case is not None and runs and not matching(every := all_series(runs), options.case):
        names = list(dict.fromkeys(s.case for s in every))
        raise UsageProblem(f"--case: {options.case}: no case is like that: must be a part of {_some(names)}")
    series = all_series(run for run in runs if since is None or run.time >= since)
    if options.case is not None:
        series = matching(series, options.case)
    if output is not None and not series:
        raise UsageProblem(f"-o: {output}: there is nothing to draw in {folder}")
    if output is not None:
        try:
            write_file(output, picture(series, output.suffix[1:].lower()))
        except OSError as error:
            raise UsageProblem(f"-o: {output}: {reason(error)}: must be a file that can be written") from None
    if options.json:
        show_data(json.dumps(as_data(series), indent=1))
    elif series:
        show(lines(series, _blocks()))
    else:
        show([f"No saved speed case in {folder}{'' if since is None else f' since {options.since}'}."])
    return 0


def _since(given: str) -> datetime:
    try:
        time = datetime.fromisoformat(given)
        return time.astimezone(timezone.utc) if time.tzinfo else time.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise UsageProblem(f"--since: {given}: must be a date such as 2026-05-01 or 2026-05-01T12:00") from None


def _output(given: str) -> Path:
    path = Path(given)
    if path.suffix[1:].lower() not in PICTURE_FORMATS:
        raise UsageProblem(f"-o: {given}: must be a file that ends in .{' or .'.join(PICTURE_FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise UsageProblem(f"-o: {given}: must be a file in a folder that exists")
    return path


def _blocks() -> str:
    """What the terminal can show."""
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII_BLOCKS
    return BLOCKS


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or "a speed case's name; there is none"
