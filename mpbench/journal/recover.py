"""`python -m mpbench recover`: journals of sessions that were killed become ordinary saved runs.

All of it happens under the storage's lock. A case that is in a saved run already, round by round, is not saved twice:
whoever was killed between saving a run and removing its journal leaves both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, harmless, printable, reason
from mpbench.journal.files import DeadJournal, examined, journals
from mpbench.journal.lines import Contents, Finished, Statistics, encoded, saved_run
from mpbench.records.runs import load_runs
from mpbench.system.storage import DEFAULT_FOLDER, locked, publish_run
from mpbench.terminal import show, warn

FINE, LEFT_SOMETHING = 0, 1
DAMAGED = ".damaged"
"""Put behind the name of a journal whose readable cases are saved and that holds lines which nobody can read."""

Say = Callable[[str], None]
SavedRounds = set[tuple[str, tuple[float, ...]]]


def add_recover(subparsers: Any, statistics: Statistics) -> None:
    """Add the sub-command's parser; `statistics` as in `recover`."""
    about = "Turn what killed runs have left into saved runs."
    parser = subparsers.add_parser(
        "recover",
        help=about,
        description=f"{about} Exit status: 0 nothing is left, 1 a journal cannot be read or saved, 4 bad usage.",
        allow_abbrev=False,
    )
    parser.add_argument("--storage", metavar="FOLDER", help=f"of saved runs ({DEFAULT_FOLDER})")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="the same")
    parser.set_defaults(run=lambda options: run_recover(options, statistics))


def run_recover(options: argparse.Namespace, statistics: Statistics) -> int:
    """Recover what there is; returns the exit status.

    Raises:
        UsageProblem: there is no such folder, or it cannot be written to.
    """
    if options.folder and options.storage:
        raise UsageProblem(f"recover: --storage={options.storage} and {options.folder}: use one of them")
    given = options.storage or options.folder
    folder = Path(given or DEFAULT_FOLDER)
    if not folder.is_dir():
        if given:
            raise UsageProblem(f"recover: {folder}: no such folder: must be one of saved runs")
        show([f"nothing to recover: there is no {folder} here"])
        return FINE
    if not journals(folder):  # needs no lock, hence no folder that can be written to
        show([f"nothing to recover in {folder}"])
        return FINE
    lines: list[str] = []
    status = recover(folder, lines.append, warn, statistics)
    show(lines)
    return status


def recover(storage: Path, say: Say, warn: Say, statistics: Statistics) -> int:
    """Turn each dead journal of a storage into a saved run.

    Args:
        storage: the folder of saved runs.
        say: takes one line for each journal that was dealt with.
        warn: takes one line for each that was not, and for each damaged line.
        statistics: pytest-benchmark's, of a case's rounds.

    Raises:
        UsageProblem: the storage cannot be locked.
    """
    try:
        with locked(storage), ExitStack() as held:
            dead, live, unusable = examined(storage, held)
            for path in live:
                say(f"{path}: its session is running: left alone")
            for journal in dead:
                for line in journal.damaged_lines:
                    warn(f"{journal.path}: {line}")
                try:
                    _recover_one(storage, journal, say, warn, statistics)
                except (OSError, ValueError) as error:
                    unusable[journal.path] = printable(reason(error))
            for path, problem in unusable.items():
                warn(f"left alone: {path}: {problem}")
    except OSError as error:
        raise UsageProblem(f"recover: {storage}: {reason(error)}: must be a folder that can be written to") from None
    if not dead and not unusable:
        say(f"nothing to recover in {storage}")
    return LEFT_SOMETHING if unusable else FINE


def _recover_one(storage: Path, journal: DeadJournal, say: Say, warn: Say, statistics: Statistics) -> None:
    path, contents, header = journal.path, journal.contents, journal.contents.header
    if header is None or (not contents.cases and not contents.damaged):
        path.unlink()
        say(f"{path}: no case had been finished: removed")
        return
    if not contents.cases:
        raise ValueError("none of its cases can be read")
    cases = _unsaved(contents, _saved_rounds(storage))
    if cases:
        target = publish_run(storage, header.machine, header.name, encoded(saved_run(header, cases, statistics)))
        say(f"{target}: {len(cases)} of {contents.total} cases, begun {contents.began}, from {path}")
    else:
        say(f"{path}: all of its cases are saved already: removed")
    if contents.damaged:
        kept = path.rename(path.with_name(path.name + DAMAGED))
        warn(f"{kept}: kept for its damaged lines")
    else:
        path.unlink()


def _unsaved(contents: Contents, saved: SavedRounds) -> list[Finished]:
    """The cases of each group that no saved run holds whole: paired rounds stay together."""
    cases = contents.cases.values()
    missing = {case.group for case in cases if (harmless(case.fullname), tuple(case.rounds)) not in saved}
    return [case for case in cases if case.group in missing]


def _saved_rounds(storage: Path) -> SavedRounds:
    """Name and rounds of each case saved below a folder; what cannot be read holds none."""
    runs = load_runs(storage, lambda _: None)
    return {(name, tuple(case.rounds)) for run in runs for name, case in run.cases.items()}
