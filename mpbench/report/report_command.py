"""`python -m mpbench report`, and the report of a session: saved runs in, files out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem
from mpbench.history import SavedRun, UnreadableRun, read_run
from mpbench.summary import Ending

DEFAULT_OUTPUT = "report.html"
FINE = 0


def add_report(subparsers: Any) -> None:
    """Add the sub-command's parser."""
    about = "A page to look at, of saved runs: what mixed precision buys here, and all figures behind it."
    parser = subparsers.add_parser("report", help=about, description=about, allow_abbrev=False)
    add = parser.add_argument
    add(
        "runs",
        type=Path,
        metavar="RUN.json",
        nargs="+",
        help="saved runs: of the newest; a second one is compared with it, several are its history",
    )
    add(
        "-o", dest="output", type=Path, metavar="FILE", help=f"the page ({DEFAULT_OUTPUT}, unless another is asked for)"
    )
    add("--markdown", type=Path, metavar="FILE", help="the same as Markdown, for a pull request")
    add("--png", type=Path, metavar="DIR", help="the figures, each as PNG, PDF and SVG")
    add("--latex", type=Path, metavar="FILE", help="the thesis's tables as measured, as LaTeX")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Read the runs and write what was asked for, before which all that can be wrong with it is found.

    Raises:
        UsageProblem: a run that cannot be read, a file that cannot be written or that would overwrite a run.
    """
    paths = list(dict.fromkeys(path.resolve() for path in args.runs))
    others = {"--markdown": args.markdown, "--latex": args.latex}
    page = args.output or (None if args.png or any(others.values()) else Path(DEFAULT_OUTPUT))
    targets = {option: path for option, path in {"-o": page, **others}.items() if path}
    for option, path in targets.items():
        if path.resolve() in paths:
            raise UsageProblem(f"{option}: {path} is one of the runs: valid is another file")
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise UsageProblem(f"{option}: {path}: valid is a file in a folder that exists")
    if len({path.resolve() for path in targets.values()}) < len(targets):
        raise UsageProblem(f"{', '.join(targets)}: the same file: valid are different ones")
    if args.png and args.png.exists() and not args.png.is_dir():
        raise UsageProblem(f"--png: {args.png}: valid is a folder, which is made where it is missing")
    try:
        runs = [read_run(path) for path in paths]
    except UnreadableRun as problem:
        raise UsageProblem(f"report: {problem}") from None
    for option, path in targets.items():
        _write(option, path, _written(option, runs))
        print(f"{path}: written")
    if args.png:
        _save_drawings(args.png, runs)
    return FINE


def write_page(runs: Sequence[SavedRun], path: Path, ending: Ending) -> None:
    """Write the page of a session that ended so; raises OSError where that cannot be."""
    path.write_text(_page(runs, ending), encoding="utf-8")


def _written(option: str, runs: Sequence[SavedRun]) -> str:
    # Here: what draws takes a moment to load, which no other sub-command needs.
    from mpbench.report.latex import latex
    from mpbench.report.markdown import markdown
    from mpbench.report.sections import report
    from mpbench.report.thesis_tables import thesis_tables

    if option == "-o":
        return _page(runs)
    if option == "--markdown":
        return markdown(report(runs))
    newest = max(runs, key=lambda run: (run.time, run.path))
    tables = thesis_tables(newest)
    if not tables:
        raise UsageProblem(f"--latex: {newest.path} holds nothing of the thesis's tables: valid are speed or accuracy")
    return latex(tables)


def _page(runs: Sequence[SavedRun], ending: Ending | None = None) -> str:
    from mpbench.report.page import page
    from mpbench.report.sections import report

    return page(report(runs, ending))


def _save_drawings(folder: Path, runs: Sequence[SavedRun]) -> None:
    from mpbench.report.content import Drawing
    from mpbench.report.figures import save
    from mpbench.report.sections import report

    drawings = [block for part in report(runs).sections for block in part.blocks if isinstance(block, Drawing)]
    if not drawings:
        raise UsageProblem("--png: these runs hold nothing that is drawn")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [file for drawing in drawings for file in save(drawing, folder)]
    except OSError as error:
        raise UsageProblem(f"--png: {folder}: {error.strerror}: valid is a folder that can be written to") from None
    print(f"{folder}: {len(files)} files of {len(drawings)} figures")


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"{option}: {path}: {error.strerror}: valid is a file that can be written") from None
