"""`python -m mpbench report`, and the report of a session: saved runs in, files out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, reason
from mpbench.records.runs import SavedRun, UnreadableRun, read_run
from mpbench.report.content import Drawing, SessionStatus
from mpbench.system.storage import real_path, write_file
from mpbench.terminal import show, warn

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
    """Read the runs and write what was asked for; all that can be wrong is found before anything is written.

    Raises:
        UsageProblem: a run that cannot be read, a file that cannot be written or that would overwrite a run.
    """
    paths = list(dict.fromkeys(_real(path, "report") for path in args.runs))
    others = {"--markdown": args.markdown, "--latex": args.latex}
    page = args.output or (None if args.png or any(others.values()) else Path(DEFAULT_OUTPUT))
    targets = {option: path for option, path in {"-o": page, **others}.items() if path}
    for option, path in targets.items():
        if _real(path, option) in paths:
            raise UsageProblem(f"{option}: {path} is one of the runs: name another file")
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise UsageProblem(f"{option}: {path}: must be a file in a folder that exists")
    if len({_real(path, option) for option, path in targets.items()}) < len(targets):
        raise UsageProblem(f"{', '.join(targets)}: the same file: must be different ones")
    if args.png and args.png.exists() and not args.png.is_dir():
        raise UsageProblem(f"--png: {args.png}: must be a folder; a missing one is made")
    try:
        runs = [read_run(path) for path in paths]
    except UnreadableRun as problem:
        raise UsageProblem(f"report: {problem}") from None
    for run in runs:
        for line in run.denied:
            warn(f"{run.path}: {line}")
    _write_all(targets, args.png, runs)
    return FINE


def _real(path: Path, option: str) -> Path:
    try:
        return real_path(path)
    except OSError as error:
        raise UsageProblem(f"{option}: {path}: {reason(error)}: must be a file") from None


def write_page(run: SavedRun, path: Path, status: SessionStatus) -> None:
    """Write the page of a session's run; raises OSError where that cannot be."""
    from mpbench.report.page import page
    from mpbench.report.sections import report

    write_file(path, page(report([run], status)).encode())


def _write_all(targets: Mapping[str, Path], pictures: Path | None, runs: Sequence[SavedRun]) -> None:
    # Here: what draws takes a moment to load, which no other sub-command needs.
    from mpbench.report.latex import latex
    from mpbench.report.markdown import markdown
    from mpbench.report.page import page
    from mpbench.report.sections import report
    from mpbench.report.thesis_tables import thesis_tables

    texts = {}
    if "--latex" in targets:
        newest = max(runs, key=lambda run: (run.time, run.path))
        if not (tables := thesis_tables(newest)):
            what = "holds neither speed nor accuracy, which the thesis's tables are of"
            raise UsageProblem(f"--latex: {newest.path} {what}")
        texts["--latex"] = latex(tables)
    drawings = []
    if pictures or set(targets) - {"--latex"}:
        whole = report(runs)
        texts |= {"-o": page(whole)} if "-o" in targets else {}
        texts |= {"--markdown": markdown(whole)} if "--markdown" in targets else {}
        drawings = [block for part in whole.sections for block in part.blocks if isinstance(block, Drawing)]
    if pictures and not drawings:
        raise UsageProblem("--png: these runs hold nothing that is drawn")
    for option, path in targets.items():
        try:
            write_file(path, texts[option].encode())
        except OSError as error:
            raise UsageProblem(f"{option}: {path}: {reason(error)}: must be a file that can be written") from None
    lines = [f"{path}: written" for path in targets.values()]
    show([*lines, _save(drawings, pictures)] if pictures else lines)


def _save(drawings: Sequence[Drawing], folder: Path) -> str:
    from mpbench.report.svg import save

    try:
        files = [file for drawing in drawings for file in save(drawing, folder)]
    except OSError as error:
        raise UsageProblem(f"--png: {folder}: {reason(error)}: must be a folder that can be written to") from None
    return f"{folder}: {len(files)} files of {len(drawings)} figures"
