"""`python -m mpbench recover`: journals of sessions that were killed become ordinary saved runs.

All of it happens under the storage's lock. A case that is in a saved run already, round by round, is not saved twice:
whoever was killed between saving a run and removing its journal leaves both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpbench.errors import UsageProblem, printable, reason
from mpbench.journal.files import journals, opened, read
from mpbench.journal.lines import Contents, Finished, Statistics, UnreadableJournal, encoded, saved_run
from mpbench.records.runs import load_runs, read_json
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
        raise UsageProblem(f"recover: --storage={options.storage} and {options.folder}: valid is one of them")
    given = options.storage or options.folder
    folder = Path(given or DEFAULT_FOLDER)
    if not folder.is_dir():
        if given:
            raise UsageProblem(f"recover: {folder}: no such folder: valid is one of saved runs")
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
    done = left = 0
    try:
        with locked(storage):
            for path in journals(storage):
                try:
                    with opened(path) as descriptor:
                        if descriptor is None:
                            say(f"{path}: its session is running: left alone")
                            continue
                        _recover_one(storage, path, read(descriptor), say, warn, statistics)
                        done += 1
                except FileNotFoundError:
                    continue  # its session has just ended well
                except (OSError, ValueError) as error:
                    warn(f"left alone: {path}: {printable(reason(error))}")
                    left += 1
    except OSError as error:
        raise UsageProblem(f"recover: {storage}: {reason(error)}: valid is a folder that can be written to") from None
    if not done and not left:
        say(f"nothing to recover in {storage}")
    return LEFT_SOMETHING if left else FINE


def _recover_one(storage: Path, path: Path, contents: Contents, say: Say, warn: Say, statistics: Statistics) -> None:
    for number, problem in contents.damaged.items():
        warn(f"{path}: line {number} is left out: {printable(problem)}")
    header = contents.header
    if header is None or (not contents.cases and not contents.damaged):
        path.unlink()
        say(f"{path}: no case had been finished: removed")
        return
    if not contents.cases:
        raise UnreadableJournal("none of its cases can be read")
    cases = _unsaved(contents, _saved_rounds(storage))
    if cases:
        target = publish_run(storage, header.machine, header.name, encoded(saved_run(header, cases, statistics)))
        total = len({*contents.selected, *contents.cases})
        say(f"{target}: {len(cases)} of {total} cases, begun {header.began[:16].replace('T', ' ')} UTC, from {path}")
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
    missing = {case.group for case in cases if (case.fullname, tuple(case.rounds)) not in saved}
    return [case for case in cases if case.group in missing]


def _saved_rounds(storage: Path) -> SavedRounds:
    """Name and rounds of each case saved below a folder; what cannot be read holds none."""
    rounds: SavedRounds = set()
    for run in load_runs(storage, lambda _: None):
        for benchmark in read_json(run.path)["benchmarks"]:
            stats = benchmark.get("stats")
            data = stats.get("data") if isinstance(stats, dict) else None
            if isinstance(data, list) and all(isinstance(seconds, (float, int)) for seconds in data):
                rounds.add((str(benchmark.get("fullname")), tuple(data)))
    return rounds
