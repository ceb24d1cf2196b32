"""`python -m mpbench explain`: why a saved run's speedups are what they are; the same at the end of a session."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, printable
from mpbench.records.diagnostics import InputRecord, Probed
from mpbench.records.runs import SavedRun, UnreadableRun, read_run
from mpbench.why.reading.findings import matched, merged
from mpbench.why.reading.page import page_lines
from mpbench.why.reading.page_json import as_data

FINE = 0


def session_lines(run: SavedRun) -> list[str]:
    """What a session has found out, before it is saved."""
    findings, left_out = matched([run])
    return [*_pipelines(run.probes.values()), *(page_lines(findings, left_out) if findings else [])]


def _pipelines(probed: Iterable[Probed]) -> list[str]:
    return [
        printable(
            f"Input pipeline: {r.batch_size / one.median_seconds:,.0f} images/s: {r.images} {r.data} to "
            f"{r.image_size}x{r.image_size} px, {r.workers} threads, cache {r.cache}"
        )
        for one in probed
        if isinstance(r := one.record, InputRecord)
    ]


def add_explain(subparsers: Any) -> None:
    """Add the sub-command's parser."""
    parser = subparsers.add_parser(
        "explain",
        help="why a saved run's speedups are what they are",
        description="Where the time of a step goes, and why a speedup is what it is. How it is told: docs/why.md.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        type=Path,
        metavar="RUN.json",
        nargs="+",
        help="saved runs of one machine that hold parts, layers, input or profiles; of what two hold the later counts",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--model", metavar="NAME", help="only this model")
    parser.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> int:
    """Print the answer; returns the exit status.

    Raises:
        UsageProblem: a run cannot be read, or there is nothing to explain.
    """
    try:
        runs, notes = merged([read_run(path) for path in args.runs])
    except UnreadableRun as problem:
        raise UsageProblem(f"explain: {problem}") from None
    findings, left_out = matched(runs)
    if not findings:
        raise UsageProblem(
            printable(f"explain: {', '.join(str(run.path) for run in runs)}: ")
            + "no case in it looks for causes: valid is a run of `make why`, or of bench/test_layers.py and the like"
        )
    if args.model is not None:
        names = list(dict.fromkeys(found.setting.model for found in findings))
        if args.model not in names:
            raise UsageProblem(printable(f"--model: {args.model}: valid are {', '.join(names)}"))
        findings = [found for found in findings if found.setting.model == args.model]
    if args.json:
        print(json.dumps(as_data(findings, [*notes, *left_out]), indent=1))
    else:
        print("\n".join(page_lines(findings, [*notes, *left_out])))
    return FINE
