"""Which cases a session has: parametrisation, what is left out unless named, and the selection that is measured."""

from __future__ import annotations

import pytest

from mpbench.errors import UsageProblem
from mpbench.journal.saving import RunSaver
from mpbench.plugin import benchmark_adapter as adapter
from mpbench.plugin.console import benchmark_session
from mpbench.plugin.kinds import argument_of, check_mark, mark_of, models_of
from mpbench.plugin.refusals import problem_of_options, refuse
from mpbench.plugin.replay_clock import ReplayClock
from mpbench.plugin.session import Session

LAST = 2


def parametrize(session: Session, metafunc: pytest.Metafunc) -> None:
    """Make a marked test the cases of the models and precisions that were asked for.

    A problem is kept: raised here it would be an error of collecting the file, exit status 2, with a traceback.
    """
    test = metafunc.definition
    if (mark := mark_of(test)) is None:
        return
    values = [value for kind in session.kinds if kind.mark == mark.name for value in kind.values]
    try:
        check_mark(mark, values)
        models = models_of(mark, session.settings)
        kind, value = session.kind_of(test), argument_of(mark)
        assert kind is not None
        names, cases, fixture = kind.parameters(value), kind.parametrized(value, models), kind.fixture
    except UsageProblem as problem:
        session.problems.append(f"{test.nodeid}: {problem}")
        return
    if missing := [name for name in names if name not in metafunc.fixturenames]:
        session.problems.append(
            f"{test.nodeid}: mark {mark.name}: the test does not take {', '.join(missing)}: valid is one that takes "
            f"{', '.join(names)}, benchmark and {fixture}"
        )
    elif names:
        metafunc.parametrize(names, cases, ids=["-".join(case) for case in cases])


def leave_out(session: Session, items: list[pytest.Item]) -> None:
    """Drop the cases that nobody has asked for, and put the others in the order in which they can be measured."""
    config = session.config
    if unasked := [item for item in items if (kind := session.kind_of(item)) and not kind.is_wanted(item)]:
        items[:] = [item for item in items if item not in unasked]
        config.hook.pytest_deselected(items=unasked)
        files = dict.fromkeys(item.nodeid.partition("::")[0] for item in unasked)
        session.run.progress(f"not measured unless named: {', '.join(files)}")
    if session.task is not None:
        wanted = set(session.task.cases)
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
        items[:] = [item for item in items if item.nodeid in wanted]
    timed = [item for item in items if item in session.speed]
    if hasattr(config.option, "timeout_method"):  # pytest-timeout's
        for item in timed:
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(0))
    if timed:
        items.sort(key=lambda item: _order(session, item))


def _order(session: Session, item: pytest.Item) -> int:
    if "experiment" in getattr(item, "fixturenames", ()):
        return LAST  # accuracy cases make a GPU deterministic, hence slow, for the rest of the process
    kind = session.kind_of(item)
    return kind.order if kind else 0


def take_selection(session: Session, of_pytest: pytest.Session) -> None:
    """Take the cases that -k, -m, --lf and --deselect have left; ends the session where they cannot be measured."""
    if problem := next(iter([*session.problems, *filter(None, map(session.misplaced, of_pytest.items))]), None):
        refuse(of_pytest, problem)
        return
    for line in session.compared_run.messages:
        session.run.progress(line)
    for kind in session.kinds:
        kind.select([item for item in of_pytest.items if isinstance(item, pytest.Function) and item in kind])
        for id, item in kind.selected.items():
            clock = session.clocks[id] = ReplayClock()
            own = item.get_closest_marker("benchmark")
            options = {"group": kind.label(id), **(own.kwargs if own else {}), "timer": clock}
            item.add_marker(pytest.mark.benchmark(**options), append=False)
    if not session.clocks:
        return  # other people's tests: the plugin is there wherever mpbench is installed, and leaves them alone
    if problem := problem_of_options(session.config):
        refuse(of_pytest, problem)
        return
    benchmarks = benchmark_session(session.config)
    session.saver = RunSaver(adapter.journal_folder(benchmarks), session.run.progress, session.config.rootpath)

    def interrupted() -> None:
        of_pytest.exitstatus = pytest.ExitCode.INTERRUPTED

    adapter.guard_saving(benchmarks, session.saver, interrupted)
