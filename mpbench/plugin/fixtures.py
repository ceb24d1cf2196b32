"""The fixtures that cases use. Each hands its case's measurement to the case's own `benchmark` fixture."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from mpbench.accuracy.experiment import Experiment
from mpbench.engine.interrupts import held_interrupts
from mpbench.errors import CaseFailure, UsageProblem
from mpbench.plugin.kinds import Cases, parameters_of
from mpbench.plugin.session import session_of
from mpbench.plugin.speed_cases import MODE, POINT
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.measured import Measured, R
from mpbench.records.numerics import NumericsRecord
from mpbench.system.device import Device

Result = TypeVar("Result")


@pytest.fixture(name=POINT)
def sweep_point() -> str:
    """The point of a sweep, as its label; a sweep parametrizes it."""
    return ""


@pytest.fixture(name=MODE)
def mode() -> str:
    """How the precision is run, as the mode's label; a run with several modes parametrizes it."""
    return ""


@pytest.fixture
def measure(request: pytest.FixtureRequest, mpbench_point: str, mpbench_mode: str) -> Callable[[Any, str, str], None]:
    """Measure this case together with the selected ones of its group: `measure(benchmark, model, precision)`."""
    cases = session_of(request.config).speed
    _check_marked(request, cases, "mpbench(phase=...)")

    def measure_case(benchmark: Any, model: str, precision: str) -> None:
        params = parameters_of(request.node)
        if (model, precision) != (params["model"], params["precision"]):
            valid = f"{params['model']}, {params['precision']}"
            raise ValueError(f"measure was given {model}, {precision}: valid are this case's {valid}")
        report(request, benchmark, cases)

    return measure_case


@pytest.fixture
def diagnose(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Measure this diagnostic case together with the selected ones of its group: `diagnose(benchmark)`."""
    cases = session_of(request.config).diagnostics
    _check_marked(request, cases, "mpbench_diagnostic(...)")

    def diagnose_case(benchmark: Any) -> None:
        report(request, benchmark, cases)

    return diagnose_case


@pytest.fixture
def accuracy(request: pytest.FixtureRequest, experiment: Experiment) -> Callable[[Any, str, str], AccuracyRecord]:
    """Train both precisions and pair their answers: `accuracy(benchmark, model, precision)` gives the record."""
    cases = session_of(request.config).accuracy
    _check_marked(request, cases, "mpbench(phase='accuracy')")

    def compare(benchmark: Any, model: str, precision: str) -> AccuracyRecord:
        case = report(request, benchmark, cases)
        assert case is not None
        return case.record

    return compare


@pytest.fixture
def numerics(request: pytest.FixtureRequest) -> Callable[[Any], NumericsRecord]:
    """Look at one step of this case's model beside the same in float32: `numerics(benchmark)` gives the record."""
    cases = session_of(request.config).numerics
    _check_marked(request, cases, "mpbench(phase='numerics')")

    def look(benchmark: Any) -> NumericsRecord:
        case = report(request, benchmark, cases)
        assert case is not None
        return case.record

    return look


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> Experiment:
    """The session's accuracy experiment, for a test that looks deeper than `accuracy` does."""
    return session_of(request.config).accuracy.experiment


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Device:
    """The GPU that the cases run on; a test that asks for it is skipped where they run on a CPU."""
    try:
        device = session_of(request.config).run.activate()
    except UsageProblem as problem:
        pytest.fail(str(problem), pytrace=False)
    if device.kind != "gpu":
        pytest.skip("no GPU: --mp-require-gpu makes that an error")
    return device


def _check_marked(request: pytest.FixtureRequest, cases: Cases[Any], mark: str) -> None:
    if request.node.nodeid not in cases.selected:
        pytest.fail(f"the fixture `{cases.fixture}` needs the mark {mark}", pytrace=False)


def report(request: pytest.FixtureRequest, benchmark: Any, cases: Cases[R]) -> Measured[R] | None:
    """Let a case's own `benchmark` fixture report its rounds, in seconds; fails the test where there are none.

    Returns:
        What was measured; where pytest-benchmark measures nothing, what came of running the case once.
    """
    # A case that ends early leaves its fixture unused: its failure, or who pressed Ctrl-C, says why.
    warnings.filterwarnings("ignore", "Benchmark fixture was not used at all")
    # After Ctrl-C the fixture is torn down without this filter; after any other ending pytest-benchmark sets this anew.
    benchmark.skipped = True
    id = request.node.nodeid
    if benchmark.disabled:
        once = _or_fail(lambda: cases.run_once(id))
        benchmark.pedantic(lambda: None)
        if once is not None:
            cases.reported[id] = once
        return once
    case = _or_fail(lambda: cases.result(id))
    with held_interrupts():  # all of its rounds or none
        session_of(request.config).clocks[id].load(case.rounds)
        benchmark.extra_info.update(case.record.as_extra_info())
        benchmark.pedantic(lambda: None, rounds=len(case.rounds))
        cases.reported[id] = case
    return case


def _or_fail(function: Callable[[], Result]) -> Result:
    """Call it; a failure whose reason is known becomes the test's, in one line."""
    try:
        return function()
    except (CaseFailure, UsageProblem) as failure:
        reason = str(failure)
    # Outside the handler: pytest would print the chain of exceptions.
    pytest.fail(reason, pytrace=False)
