"""`python -m mpbench gate`: judge a saved run outside pytest, by the same code."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mpbench.config.options import MISSING_CHOICES
from mpbench.errors import UsageProblem
from mpbench.gate.judge import judge
from mpbench.gate.lines import gate_lines
from mpbench.gate.rules import read_rules
from mpbench.gate.session import default_rules
from mpbench.gate.verdict import is_red
from mpbench.records.runs import UnreadableRun, load_runs, read_run
from mpbench.system.storage import DEFAULT_FOLDER
from mpbench.terminal import show, warn

PASSED, FAILED = 0, 1


def add_gate(subparsers: Any) -> None:
    """Add the sub-command's parser."""
    parser = subparsers.add_parser(
        "gate",
        help="judge a saved run against earlier ones",
        description="Judge a saved run. Exit status: 0 passed, 1 failed, 4 bad usage. The rules: docs/gate.md.",
    )
    parser.add_argument("new", type=Path, metavar="NEW.json", help="the run to judge")
    against = parser.add_mutually_exclusive_group()
    against.add_argument("--against", type=Path, metavar="BASE.json", help="one run to compare with")
    against.add_argument("--last", type=int, metavar="K", help="compare with the last K comparable runs (5)")
    parser.add_argument("--storage", type=Path, metavar="FOLDER", help="of earlier runs, at any depth (.benchmarks)")
    parser.add_argument("--rules", type=Path, metavar="FILE", help="thresholds (./pyproject.toml, if it has some)")
    parser.add_argument("--missing", choices=MISSING_CHOICES, help="whether a vanished case fails (report)")
    parser.set_defaults(run=run_gate)


def run_gate(args: argparse.Namespace) -> int:
    """Print the verdicts; returns the exit status.

    Raises:
        UsageProblem: a run cannot be read, or a rule is malformed.
    """
    rules = read_rules(args.rules) if args.rules else default_rules(Path())
    if args.last is not None:
        if args.last < 1:
            raise UsageProblem(f"--last: {args.last}: must be a whole number of runs, 1 or more")
        rules = replace(rules, last=args.last)
    rules = rules.with_missing(args.missing)
    if args.storage is not None and not args.storage.is_dir():
        raise UsageProblem(f"--storage: {args.storage}: no such folder: must be one of saved runs")
    try:
        new = read_run(args.new)
        for line in new.denied:
            warn(f"{new.path}: {line}")
        against = read_run(args.against) if args.against else None
        # With --against only what confirms the run is looked for.
        stored = load_runs(args.storage or Path(DEFAULT_FOLDER), (lambda _: None) if against else warn)
        earlier = [run for run in stored if run.path.resolve() != new.path.resolve()]
        if against:
            confirming = [run for run in earlier if new.id and run.confirms == new.id]
            # Whatever their times: the user has said which is the earlier one.
            earlier = [replace(against, time=new.time - timedelta(microseconds=1)), *confirming]
    except UnreadableRun as problem:
        raise UsageProblem(str(problem)) from None
    verdicts = judge(new, earlier, rules)
    status = FAILED if is_red(verdicts) else PASSED
    lines = gate_lines(verdicts, rules)
    if later := sum(run.time >= new.time and not run.confirms for run in earlier):
        lines.append(f"  {later} of {len(earlier)} other runs are later than this one: they do not count")
    show(lines)
    return status
