"""The end of a session: the gate's verdicts, the tables after pytest-benchmark's own, the files that are written last.

A plugin module beside `plugin.py`, which registers it.
"""

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
from mpbench.plugin.console import benchmark_session, write_line
from mpbench.plugin.refusals import JUDGING, NOTHING_MEASURED, given, is_worker
from mpbench.plugin.session_files import this_run, write_report, write_summary
from mpbench.plugin.stash import (
    BASELINE,
    BROKE_OFF,
    COMPARED,
    COMPLETE,
    CONFIRM,
    DIAGNOSED,
    GATE,
    NEIGHBOURS,
    REPORTED,
    RUN,
    SAVER,
    SESSION,
    VERDICTS,
)
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.diagnostics import DiagnosticRecord
from mpbench.records.measured import Measured
from mpbench.records.speed import SpeedCase
from mpbench.report import tables
from mpbench.report.accuracy_tables import accuracy_summary
from mpbench.report.summary import Ending, Failure
from mpbench.terminal import terminal_line
from mpbench.why.reading.command import session_lines


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    try:
        _judge(session)
    except KeyboardInterrupt:  # the tables follow
        session.config.stash[BROKE_OFF] = "--mp-gate: not judged: Ctrl-C"
        session.exitstatus = pytest.ExitCode.INTERRUPTED
        _say_at_end(session.config)


def _judge(session: pytest.Session) -> None:
    config = session.config
    config.stash[COMPLETE] = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if SAVER in config.stash and config.stash[SAVER].problems and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    measured: dict[str, SpeedCase] = config.stash[REPORTED]
    compared: dict[str, AccuracyRecord] = config.stash[COMPARED]
    if not (measured or compared):
        _nothing_measured(session)
    if GATE not in config.stash or not (measured or compared):
        return
    verdicts = config.stash[VERDICTS] = _judged(session)
    if is_red(verdicts) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _nothing_measured(session: pytest.Session) -> None:
    """Who asked for a verdict and gets none must not be green."""
    config = session.config
    # --benchmark-compare-fail may be about other people's benchmarks.
    judging = given(config, *(JUDGING if SAVER in config.stash else ["mp_gate"]))
    if (
        judging
        and session.exitstatus == pytest.ExitCode.OK
        and not (config.getoption("collectonly") or is_worker(config))
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        config.stash[BROKE_OFF] = f"{judging[0]}: {NOTHING_MEASURED}"
        _say_at_end(config)


def _say_at_end(config: pytest.Config) -> None:
    """Now: --no-summary would leave it out later. The line of the last test's dot has not ended yet."""
    write_line(config, "")
    write_line(config, config.stash[BROKE_OFF])


def _judged(session: pytest.Session) -> list[Verdict]:
    """The gate's verdicts; what is suspected has been measured again by then, if that was asked for."""
    config, run = session.config, this_run(session.config)
    gate = config.stash[GATE]
    verdicts, suspects = gate.assess(run)
    processes = config.stash[CONFIRM]
    if processes is None:
        processes = ON_GPU if any(case.record.device == "gpu" for case in run.cases.values()) else ON_CPU
    if not suspects or not processes or not config.stash[COMPLETE]:
        return verdicts
    try:
        again = measure_again(config, run.id, suspects, processes, config.stash[RUN].progress)
    except KeyboardInterrupt:
        config.stash[RUN].progress("interrupted while cases were measured again: judged without")
        session.exitstatus = pytest.ExitCode.INTERRUPTED
        return verdicts
    return gate.assess(run, again)[0]


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # pytest-benchmark raises over a regression
        config.stash[BROKE_OFF] = described(error)
        raise
    finally:
        reported, compared = list(config.stash[REPORTED].values()), list(config.stash[COMPARED].values())
        verdicts: list[Verdict] | None = config.stash.get(VERDICTS, None)
        if reported or compared:
            terminalreporter.section("mpbench")
            records = {id: measured.record for id, measured in config.stash[REPORTED].items()}
            lines = [*tables.summary(reported), *config.stash[BASELINE].lines(records)] if reported else []
            lines += accuracy_summary(compared) if compared else []
            lines += gate_lines(verdicts, config.stash[GATE].rules) if verdicts is not None else []
            lines += filter(None, [config.stash[NEIGHBOURS].look_again(), time_spent(config.stash[RUN].spent)])
            for line in lines:
                terminalreporter.write_line(terminal_line(line))
        diagnosed: dict[str, Measured[DiagnosticRecord]] = config.stash[DIAGNOSED]
        profiled = any(measured.record.step_profile for measured in reported)
        if (diagnosed or profiled) and (lines := session_lines(this_run(config))):
            terminalreporter.section("why")
            for line in (*lines, _how_to_explain(config)):
                terminalreporter.write_line(terminal_line(line))
        for line in _close_journal(config):
            terminalreporter.write_line(terminal_line(line))


def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(SESSION, None)
    try:
        for line in _close_journal(config):  # an internal error, or no terminal
            write_line(config, line)
        # Not at the session's end: there saving may fail, and --no-summary skips the terminal's.
        if session is not None:
            _write_files(session)
    except KeyboardInterrupt:
        write_line(config, "Ctrl-C while the report or the summary was written")
        if session is not None:
            session.exitstatus = pytest.ExitCode.INTERRUPTED


def _write_files(session: pytest.Session) -> None:
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [*reporter.stats.get("error", []), *reporter.stats.get("failed", [])] if reporter else []
    failures = [Failure(report.nodeid, _reason(report)) for report in reports]
    broke_off = config.stash.get(BROKE_OFF, "")
    if not broke_off and session.exitstatus in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        broke_off = f"exit status {int(session.exitstatus)}: the log says why"
    ending = Ending(failures, session.exitstatus == pytest.ExitCode.INTERRUPTED, broke_off)
    write_summary(config, ending)
    write_report(config, ending)


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


def _how_to_explain(config: pytest.Config) -> str:
    file = config.stash[SAVER].file if SAVER in config.stash else None
    what = shown(file) if file else "FILE, after a run with --benchmark-json=FILE"
    return f"All of it, or as JSON: python -m mpbench explain {what}"


def _close_journal(config: pytest.Config) -> list[str]:
    """Lines about what was saved and what was not."""
    if SAVER not in config.stash:
        return []
    shown = {*config.stash[REPORTED], *config.stash[COMPARED], *config.stash[DIAGNOSED]}
    asked = adapter.asked_for(benchmark_session(config))
    return config.stash[SAVER].end(asked, shown, config.stash.get(COMPLETE, False))
