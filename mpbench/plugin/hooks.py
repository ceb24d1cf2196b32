"""pytest's hooks and pytest-benchmark's: when something happens. What happens stands in the modules named here.

How a case reports through its own `benchmark` fixture although its group is measured together: each case gets a
`ReplayClock` as its `timer=` mark; the first case of a group that runs measures all that were selected, and each
case then lets its fixture time an empty function with that clock, which replays the rounds. pytest-benchmark sees
nothing before a case has succeeded, so an interrupted or failed one leaves no partial figures behind.

Collecting imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mpbench.config.options import add_options
from mpbench.errors import UsageProblem
from mpbench.plugin.collection import leave_out, parametrize, take_selection
from mpbench.plugin.kinds import DIAGNOSTIC_MARK, MARK
from mpbench.plugin.session import SESSION, new_session, session_of
from mpbench.plugin.session_end import judge, show_tables, write_files
from mpbench.plugin.session_files import beside_benchmarks, write_summary
from mpbench.records.kinds import kind_of
from mpbench.report.content import SessionStatus
from mpbench.system import machine


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    try:
        session = config.stash[SESSION] = new_session(config)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    for mark, argument, what in ((MARK, "phase", "a case"), (DIAGNOSTIC_MARK, "kind", "a case that looks for causes")):
        values = ", ".join(value for kind in session.kinds if kind.mark == mark for value in kind.values)
        config.addinivalue_line(
            "markers",
            f"{mark}({argument}, models=None): {what}; {argument} is one of {values}; models replaces --mp-models.",
        )


def pytest_sessionstart(session: pytest.Session) -> None:
    session_of(session.config).pytest = session


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(session_of(metafunc.config), metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out(session_of(config), items)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        session = session_of(item.config)
        if session.kind_of(item) in (session.speed, session.accuracy):
            session.deselected.append(item.nodeid)


@pytest.hookimpl(tryfirst=True)  # before a worker of pytest-xdist tells what it has collected
def pytest_collection_finish(session: pytest.Session) -> None:
    take_selection(session_of(session.config), session)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    ours = session_of(session.config)
    if not ours.clocks or ours.measures_nothing or session.testsfailed:
        return
    try:
        ours.check_outputs()
        write_summary(ours, SessionStatus(running=True))
        ours.begin()
    except UsageProblem as problem:
        ours.problem = str(problem)
        raise pytest.UsageError(str(problem)) from None


@pytest.hookimpl(tryfirst=True, specname="pytest_sessionfinish")  # after pytest-benchmark's wrapper has saved the run
def pytest_sessionfinish_judging(session: pytest.Session) -> None:
    judge(session_of(session.config), session)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        # pytest expects none here, and would end with a traceback: this is its way to end early with a line.
        pytest.exit("Ctrl-C while the session was ending", returncode=pytest.ExitCode.INTERRUPTED)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    yield from show_tables(session_of(config), terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    if SESSION in config.stash:
        write_files(session_of(config))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    session = session_of(config)
    if session.pytest is not None and session.saver is None:
        return  # what is saved holds no case of ours; before the session began nobody can know
    for field in machine.JITTERING_CPU_FIELDS:
        machine_info.get("cpu", {}).pop(field, None)
    machine_info["mpbench"] = machine.machine_facts()


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    # The hook's one public view of the run that --benchmark-compare has loaded.
    session_of(config).compared_run.loaded(compared_benchmark, machine_info)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    session = session_of(config)
    if session.saver is None:
        return
    # --benchmark-autosave leaves the raw rounds out unless --benchmark-save-data is given too.
    rounds = {bench.fullname: list(bench.stats.data) for bench in benchmarks if kind_of(bench.extra_info)}
    for saved in output_json["benchmarks"]:
        if saved["fullname"] in rounds:
            saved["stats"].setdefault("data", rounds[saved["fullname"]])
    # Not in machine_info: that must not change from run to run.
    session.neighbours.look_again()
    output_json.setdefault("mpbench", {}).update(beside_benchmarks(session), **session.neighbours.as_json())
