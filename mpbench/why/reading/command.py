"""`python -m mpbench explain`: why a saved run's speedups are what they are; the same at the end of a session."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, printable
from mpbench.records.diagnostics import InputRecord
from mpbench.records.runs import SavedRun, UnreadableRun, read_run
from mpbench.terminal import show, show_data
from mpbench.why.reading.matched import matched
from mpbench.why.reading.page import SCHEMA, SCHEMA_KEY, as_data, page_lines, prose, trace_answer, verdict_lines

FINE = 0
MAX_TRACE_STEPS = 1_000_000
"""The most steps of a trace: the profiler drops events long before."""


def session_lines(run: SavedRun) -> list[str]:
    """The verdicts on a session's run, without the tables."""
    lines = [
        printable(
            f"Input pipeline: {r.batch_size / one.median_seconds:,.0f} images/s: {r.images} {r.data} to "
            f"{r.image_size}x{r.image_size} px, {r.workers} threads, cache {r.cache}"
        )
        for one in run.diagnostics.values()
        if isinstance(r := one.record, InputRecord)
    ]
    for step in matched([run]).steps:
        lines += [*verdict_lines(step), *(prose(f"- {found.sentence}." for found in step.inputs.values())), ""]
    return lines


def add_explain(subparsers: Any) -> None:
    """Add the sub-command's parser."""
    parser = subparsers.add_parser(
        "explain",
        help="why a saved run's speedups are what they are",
        description="Where the time of a step goes, and why a speedup is what it is. How it is told: docs/why.md.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    runs = "saved runs of one machine; of what two hold the later counts"
    add("runs", type=Path, metavar="RUN.json", nargs="*", help=runs)
    add("--json", action="store_true", help="print JSON instead of text")
    add("--model", metavar="NAME", help="only this model")
    add("--trace", type=Path, metavar="FILE", help="a trace that was taken elsewhere (*.xplane.pb), in place of runs")
    add("--steps", type=int, metavar="N", help="how many steps the trace holds, where it does not tell")
    parser.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> int:
    """Print the answer; returns the exit status.

    Raises:
        UsageProblem: a run or trace cannot be read, or there is nothing to explain.
    """
    if bool(args.runs) == bool(args.trace):
        raise UsageProblem("explain: give RUN.json, one or several, or --trace FILE, not both")
    if args.steps is not None and (args.trace is None or not 1 <= args.steps <= MAX_TRACE_STEPS):
        raise UsageProblem(
            f"--steps: {args.steps}: must be a whole number from 1 to {MAX_TRACE_STEPS}, together with --trace"
        )
    lines, data = _of_trace(args) if args.trace else _of_runs(args)
    if args.json:
        show_data(json.dumps(data, indent=1, allow_nan=False))
    else:
        show(lines)
    return FINE


def _of_trace(args: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    if args.model is not None:
        raise UsageProblem("--model: a trace is of one model: use it together with RUN.json")
    from mpbench.why.reading.trace import UnreadableTrace

    try:
        lines, data = trace_answer(args.trace, args.steps)
    except UnreadableTrace as problem:
        raise UsageProblem(f"explain: {problem}") from None
    return lines, {SCHEMA_KEY: SCHEMA, **data}


def _of_runs(args: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    try:
        runs = [read_run(path) for path in args.runs]
    except UnreadableRun as problem:
        raise UsageProblem(f"explain: {problem}") from None
    found = matched(runs)
    steps, remarks = found.steps, [*found.remarks, *(f"{run.path}: {line}" for run in runs for line in run.denied)]
    if not steps:
        paths = printable(", ".join(str(path) for path in args.runs))
        reasons = dict.fromkeys(
            why for run in runs for case in run.speed.values() if (why := case.record.no_step_profile)
        )
        because = printable(f" ({'; '.join(reasons)})") if reasons else ""
        raise UsageProblem(
            f"explain: {paths}: no profile of a step in it: on a CPU --mp-why takes them (make why), on a GPU they are "
            f"always taken unless --mp-profile-steps is 0{because}"
        )
    if args.model is not None:
        models = list(dict.fromkeys(step.setting.model for step in steps))
        if args.model not in models:
            raise UsageProblem(printable(f"--model: unknown {args.model!r}: valid are {', '.join(models)}"))
        steps = [step for step in steps if step.setting.model == args.model]
    found = replace(found, steps=steps, remarks=remarks)
    return page_lines(found), as_data(found)
