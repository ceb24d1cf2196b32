"""The end of a session: the gate's verdicts, the tables after pytest-benchmark's, the files that are written last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mpbench.errors import described
from mpbench.gate.lines import gate_lines
from mpbench.gate.verdict import Verdict, is_red
from mpbench.journal.saving import shown
from mpbench.plugin import benchmark_adapter as adapter
from mpbench.plugin.confirming import ON_CPU, ON_GPU, measure_again
from mpbench.plugin.console import benchmark_session, is_worker
from mpbench.plugin.refusals import JUDGING, NOTHING_MEASURED, given
from mpbench.plugin.session import Session
from mpbench.plugin.session_files import this_run, write_report, write_summary
from mpbench.report.answers import answers
from mpbench.report.content import Failure, SessionStatus
from mpbench.terminal import terminal_line
from mpbench.why.reading.command import session_lines


def judge(session: Session, of_pytest: pytest.Session) -> None:
    """Let the gate judge what was measured, where it was asked to, and set pytest's exit status."""
    try:
        _judge(session, of_pytest)
    except KeyboardInterrupt:  # the tables follow
        session.problem = "--mp-gate: not judged: Ctrl-C"
        of_pytest.exitstatus = pytest.ExitCode.INTERRUPTED
        _show_problem(session)


def _judge(session: Session, of_pytest: pytest.Session) -> None:
    session.is_complete = of_pytest.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if session.saver and session.saver.problems and of_pytest.exitstatus == pytest.ExitCode.OK:
        of_pytest.exitstatus = pytest.ExitCode.TESTS_FAILED
    if not (session.speed_cases or session.accuracy_cases):
        _nothing_measured(session, of_pytest)
    elif session.gate is not None:
        session.verdicts = _verdicts(session, of_pytest)
        if is_red(session.verdicts) and of_pytest.exitstatus == pytest.ExitCode.OK:
            of_pytest.exitstatus = pytest.ExitCode.TESTS_FAILED


def _nothing_measured(session: Session, of_pytest: pytest.Session) -> None:
    """Who asked for a verdict and gets none must not be green."""
    config = session.config
    # --benchmark-compare-fail may be about other people's benchmarks.
    judging = given(config, *(JUDGING if session.saver else ["mp_gate"]))
    is_run = of_pytest.exitstatus == pytest.ExitCode.OK and not (config.getoption("collectonly") or is_worker(config))
    if judging and is_run:
        of_pytest.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.problem = f"{judging[0]}: {NOTHING_MEASURED}"
        _show_problem(session)


def _show_problem(session: Session) -> None:
    """Now: --no-summary would leave it out later. The line of the last test's dot has not ended yet."""
    session.say("")
    session.say(session.problem)


def _verdicts(session: Session, of_pytest: pytest.Session) -> list[Verdict]:
    """The gate's verdicts; what is suspected has been measured again by then, if that was asked for."""
    run, progress = this_run(session), session.run.progress
    assert session.gate is not None
    verdicts, suspects = session.gate.assess(run)
    processes = session.settings.gate_confirm
    if processes is None:
        processes = ON_GPU if any(case.record.device == "gpu" for case in run.speed.values()) else ON_CPU
    if not suspects or not processes or not session.is_complete:
        return verdicts
    try:
        again = measure_again(session.config, run.id, suspects, processes, progress)
    except KeyboardInterrupt:
        progress("interrupted while cases were measured again: judged without")
        of_pytest.exitstatus = pytest.ExitCode.INTERRUPTED
        return verdicts
    return session.gate.assess(run, again)[0]


def show_tables(session: Session, reporter: pytest.TerminalReporter) -> Iterator[None]:
    """After pytest-benchmark's tables ours, whatever became of those."""
    try:
        yield
    except BaseException as error:  # pytest-benchmark raises over a regression
        session.problem = described(error)
        raise
    finally:
        lines = [line for kind in session.kinds for line in kind.tables()]
        if lines:
            if session.gate is not None and session.verdicts is not None:
                lines += gate_lines(session.verdicts, session.gate.rules)
            lines += filter(None, [session.neighbours.look_again(), time_spent(session.run.spent)])
            _section(reporter, "mpbench", lines)
        profiled = any(case.record.step_profile for case in session.speed_cases)
        if (session.diagnostics.reported or profiled) and (why := session_lines(this_run(session))):
            _section(reporter, "why", [*why, _how_to_explain(session)])
        if session.speed.reported or session.numerics.reported:
            _section(reporter, "the answer", answers(this_run(session)))
        for line in close_journal(session):
            reporter.write_line(terminal_line(line))


def _section(reporter: pytest.TerminalReporter, title: str, lines: list[str]) -> None:
    reporter.section(title)
    for line in lines:
        reporter.write_line(terminal_line(line))


def write_files(session: Session) -> None:
    """The journal's last lines, the summary and the report: not in the terminal's summary, which may be left out."""
    try:
        for line in close_journal(session):  # an internal error, or no terminal
            session.say(line)
        if session.pytest is not None:
            end = _end_of(session, session.pytest)
            write_summary(session, end)
            write_report(session, end)
    except KeyboardInterrupt:
        session.say("Ctrl-C while the report or the summary was written")
        if session.pytest is not None:
            session.pytest.exitstatus = pytest.ExitCode.INTERRUPTED


def _end_of(session: Session, of_pytest: pytest.Session) -> SessionStatus:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reports = [*reporter.stats.get("error", []), *reporter.stats.get("failed", [])] if reporter else []
    failures = [Failure(report.nodeid, _reason(report)) for report in reports]
    status, problem = of_pytest.exitstatus, session.problem
    if not problem and status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        problem = f"exit status {int(status)}: the log says why"
    return SessionStatus(failures, status == pytest.ExitCode.INTERRUPTED, problem)


def _reason(report: Any) -> str:
    """Why a test failed, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).strip().partition("\n")[0].removeprefix("Failed: ")


def time_spent(seconds: Mapping[str, float]) -> str:
    """What a session's time went into, in a line; empty where nothing was built."""
    if not seconds.get("arms"):
        return ""
    parts = [
        f"{words} {minutes(seconds[what])}"
        for what, words in (
            ("built", "built in"),
            ("measured", "measured in"),
            ("energy", "energy"),
            ("profiled", "profiles"),
        )
        if seconds.get(what, 0.0) >= 0.5
    ]
    return f"{seconds['arms']:.0f} arms: {', '.join(parts)}" if parts else ""


def minutes(seconds: float) -> str:
    """For people: `2 min 10 s`."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def _how_to_explain(session: Session) -> str:
    file = session.saver.file if session.saver else None
    what = shown(file) if file else "FILE, after a run with --benchmark-json=FILE"
    return f"All of it, or as JSON: python -m mpbench explain {what}"


def close_journal(session: Session) -> list[str]:
    """Lines about what was saved and what was not."""
    if session.saver is None:
        return []
    asked = adapter.asked_for(benchmark_session(session.config))
    return session.saver.end(asked, session.reported, session.is_complete)
