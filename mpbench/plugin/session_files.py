"""Files that a session writes by itself, beside pytest-benchmark's: the summary and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpbench.errors import reason
from mpbench.plugin.console import typed, write_line
from mpbench.plugin.refusals import is_worker
from mpbench.plugin.stash import COMPARED, DESELECTED, DIAGNOSED, MACHINE_INFO, REPORTED, RUN_ID, TASK, VERDICTS
from mpbench.records.measured import Measured
from mpbench.records.runs import SavedRun, unsaved_run
from mpbench.report.command import write_page
from mpbench.report.summary import Ending, markdown
from mpbench.system.storage import write_file


def this_run(config: pytest.Config) -> SavedRun:
    """What has been measured so far."""
    if MACHINE_INFO not in config.stash:  # asking takes a moment, and it does not change
        asked = config.stash[MACHINE_INFO] = config.hook.pytest_benchmark_generate_machine_info(config=config)
        config.hook.pytest_benchmark_update_machine_info(config=config, machine_info=asked)
    machine_info = config.stash[MACHINE_INFO]
    compared = {id: Measured(record, ()) for id, record in config.stash[COMPARED].items()}
    cases: dict[str, Measured[Any]] = {**compared}
    for measured in (config.stash[REPORTED], config.stash[DIAGNOSED]):
        cases.update(measured)
    return unsaved_run(machine_info, cases, beside_benchmarks(config))


def beside_benchmarks(config: pytest.Config) -> dict[str, Any]:
    """What is saved of a session beside the benchmarks: what it was asked for, and what tells its run from others."""
    beside: dict[str, Any] = {
        "command": typed(config),
        "id": config.stash[RUN_ID],
        "paths": [_beginning(config, str(argument)) for argument in config.args],
        "deselected": [*config.stash[DESELECTED]],
    }
    if TASK in config.stash:
        beside["confirms"] = config.stash[TASK].confirms
    return beside


def _beginning(config: pytest.Config, argument: str) -> str:
    """Of full names, from an argument such as `bench/` or `bench/test_training.py::test_training`."""
    file, *names = argument.split("::")
    path = Path(config.invocation_params.dir, file).resolve()
    try:
        node = path.relative_to(config.rootpath.resolve()).as_posix()
    except ValueError:
        node = path.as_posix()
    return "::".join(["" if node == "." else node, *names])


def write_summary(config: pytest.Config, ending: Ending) -> None:
    summary = config.getoption("mp_summary")
    if not summary or config.getoption("collectonly") or is_worker(config):
        return
    cases, compared = list(config.stash[REPORTED].values()), list(config.stash[COMPARED].values())
    verdicts = config.stash.get(VERDICTS, [] if config.getoption("mp_gate") else None)
    try:
        write_file(Path(summary), markdown(cases, compared, verdicts, ending).encode())
    except OSError as error:  # the disk is full: the tables in the terminal are not lost
        if not ending.problem:  # there what was wrong has been said
            write_line(config, f"--mp-summary: {summary}: not written: {reason(error)}")


def write_report(config: pytest.Config, ending: Ending) -> None:
    """The page of what was measured, after failures and Ctrl-C too, which it says; nothing where nothing was."""
    report = config.getoption("mp_report")
    measured = bool(config.stash[REPORTED]) or bool(config.stash[COMPARED]) or bool(config.stash[DIAGNOSED])
    if not report or not measured:
        return
    try:
        write_page([this_run(config)], Path(report), ending)
    except OSError as error:
        write_line(config, f"--mp-report: {report}: not written: {reason(error)}")
    else:
        write_line(config, f"Report: {report}")
