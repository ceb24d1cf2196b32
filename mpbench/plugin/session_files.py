"""Files that a session writes by itself, beside pytest-benchmark's: the summary and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpbench.errors import reason
from mpbench.plugin.console import is_worker, typed
from mpbench.plugin.session import Session
from mpbench.records.runs import SavedRun, unsaved_run
from mpbench.report.command import write_page
from mpbench.report.content import SessionStatus
from mpbench.report.summary import summary
from mpbench.system.storage import write_file


def this_run(session: Session) -> SavedRun:
    """What has been measured so far."""
    return unsaved_run(session.machine_info, session.reported, beside_benchmarks(session))


def beside_benchmarks(session: Session) -> dict[str, Any]:
    """What is saved of a session beside the benchmarks: what it was asked for, and what tells its run from others."""
    config = session.config
    beside: dict[str, Any] = {
        "command": typed(config),
        "id": session.id,
        "paths": [_beginning(config, str(argument)) for argument in config.args],
        "deselected": [*session.deselected],
    }
    if session.task is not None:
        beside["confirms"] = session.task.confirms
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


def write_summary(session: Session, status: SessionStatus) -> None:
    """The summary as Markdown, so far."""
    config = session.config
    path = config.getoption("mp_summary")
    if not path or config.getoption("collectonly") or is_worker(config):
        return
    verdicts = session.verdicts if session.verdicts is not None or not config.getoption("mp_gate") else []
    compared = [case.record for case in session.accuracy_cases]
    try:
        write_file(Path(path), summary(session.speed_cases, compared, verdicts, status).encode())
    except OSError as error:  # the disk is full: the tables in the terminal are not lost
        if not status.problem:  # there what was wrong has been shown
            session.say(f"--mp-summary: {path}: not written: {reason(error)}")


def write_report(session: Session, status: SessionStatus) -> None:
    """The page of what was measured, after failures and Ctrl-C too, which it says; nothing where nothing was."""
    report = session.config.getoption("mp_report")
    if not report or not session.reported:
        return
    try:
        write_page(this_run(session), Path(report), status)
    except OSError as error:
        session.say(f"--mp-report: {report}: not written: {reason(error)}")
    else:
        session.say(f"Report: {report}")
