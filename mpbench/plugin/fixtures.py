"""The fixtures that cases use. Each hands its case's measurement to the case's own `benchmark` fixture."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mpbench.accuracy.experiment import Comparison, Experiment
from mpbench.engine.interrupts import held_interrupts
from mpbench.engine.run import Case, Run
from mpbench.errors import CaseFailure, NotBesideOthers, UsageProblem
from mpbench.plugin.items import ACCURACY, DIAGNOSTIC_MARK, MODE, POINT, phase_of
from mpbench.plugin.stash import (
    CLOCKS,
    COMPARED,
    DIAGNOSED,
    DIAGNOSTICS,
    EXPERIMENT,
    JOURNAL_WRITER,
    REPORTED,
    RESTORED,
    RUN,
)
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.diagnostics import DiagnosticRecord
from mpbench.records.speed import CaseRecord, SpeedCase
from mpbench.system.device import Device


@pytest.fixture(name=POINT)
def sweep_point() -> str:
    """The point of a sweep, as its label; a sweep parametrizes it."""
    return ""


@pytest.fixture(name=MODE)
def mode() -> str:
    """The mode to run a precision, as its label; a run with several parametrizes it."""
    return ""


@pytest.fixture
def measure(request: pytest.FixtureRequest, mpbench_point: str, mpbench_mode: str) -> Callable[[Any, str, str], None]:
    """Measure this case together with the selected ones of its group: `measure(benchmark, model, precision)`."""
    stash = request.config.stash
    case = stash[RUN].cases.get(request.node.nodeid)
    if case is None:
        pytest.fail("the fixture `measure` needs the mark mpbench(phase=...)", pytrace=False)

    def measure_case(benchmark: Any, model: str, precision: str) -> None:
        _may_leave_unused(benchmark)
        if (model, precision) != (case.model, case.precision):
            valid = f"{case.model}, {case.precision}"
            raise ValueError(f"measure was given {model}, {precision}: valid are this case's {valid}")
        if benchmark.disabled:
            _or_fail(lambda: stash[RUN].take_first_steps(case))
            benchmark.pedantic(lambda: None)
            return
        measured = _or_fail(lambda: _result(stash[RUN], case))
        _hand_over(request, benchmark, measured.record, measured.rounds)
        stash[REPORTED][case.id] = measured

    return measure_case


@pytest.fixture
def diagnose(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Measure this diagnostic case together with the selected ones of its group: `diagnose(benchmark)`."""
    stash = request.config.stash
    case = stash[DIAGNOSTICS].cases.get(request.node.nodeid)
    if case is None:
        pytest.fail(f"the fixture `diagnose` needs the mark {DIAGNOSTIC_MARK}(kind)", pytrace=False)

    def diagnose_case(benchmark: Any) -> None:
        _may_leave_unused(benchmark)
        if benchmark.disabled:
            _or_fail(lambda: stash[DIAGNOSTICS].run_once(case))
            benchmark.pedantic(lambda: None)
            return
        diagnosed = _or_fail(lambda: stash[DIAGNOSTICS].result(case))
        _hand_over(request, benchmark, diagnosed.record, diagnosed.rounds)
        stash[DIAGNOSED][case.id] = diagnosed

    return diagnose_case


@pytest.fixture
def accuracy(request: pytest.FixtureRequest, experiment: Experiment) -> Callable[[Any, str, str], AccuracyRecord]:
    """Train both precisions and pair their answers: `accuracy(benchmark, model, precision)` gives the record."""
    config = request.config
    if phase_of(request.node) != ACCURACY:
        pytest.fail("the fixture `accuracy` needs the mark mpbench(phase='accuracy')", pytrace=False)

    def compare(benchmark: Any, model: str, precision: str) -> AccuracyRecord:
        _may_leave_unused(benchmark)
        comparison: Comparison | None = config.stash[RESTORED].get(request.node.nodeid)
        if comparison is None:
            comparison = _or_fail(lambda: experiment.compare(model, precision))
            if JOURNAL_WRITER in config.stash:
                config.stash[JOURNAL_WRITER].finished({request.node.nodeid: comparison})
        config.stash[COMPARED][request.node.nodeid] = comparison.record
        _hand_over(request, benchmark, comparison.record, comparison.pass_seconds)
        return comparison.record

    return compare


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> Experiment:
    """The session's accuracy experiment, for a test that looks deeper than `accuracy` does."""
    return request.config.stash[EXPERIMENT]


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Device:
    """The GPU that the cases run on; a test that asks for it is skipped where they run on a CPU."""
    try:
        device = request.config.stash[RUN].activate()
    except UsageProblem as problem:
        pytest.fail(str(problem), pytrace=False)
    if device.kind != "gpu":
        pytest.skip("no GPU: --mp-require-gpu makes that an error")
    return device


def _result(run: Run, case: Case) -> SpeedCase:
    """A case's measurement; one that nobody has asked for by name and that cannot be had here is skipped."""
    try:
        return run.result(case)
    except NotBesideOthers as problem:
        if run.settings.given_precisions:
            raise
        reason = str(problem)
    pytest.skip(reason)


def _hand_over(
    request: pytest.FixtureRequest,
    benchmark: Any,
    record: CaseRecord | DiagnosticRecord | AccuracyRecord,
    rounds: Sequence[float],
) -> None:
    """Let a case's own `benchmark` fixture report rounds, in seconds, that have been measured: all of them or none."""
    with held_interrupts():
        request.config.stash[CLOCKS][request.node.nodeid].load(rounds)
        benchmark.extra_info.update(record.as_extra_info())
        benchmark.pedantic(lambda: None, rounds=len(rounds))


def _or_fail(function: Callable[[], Any]) -> Any:
    """Call it; a failure whose reason is known becomes the test's, in one line."""
    try:
        return function()
    except (CaseFailure, UsageProblem) as failure:
        reason = str(failure)
    # Outside the handler: pytest would print the chain of exceptions.
    pytest.fail(reason, pytrace=False)


def _may_leave_unused(benchmark: Any) -> None:
    """A case that ends early leaves its fixture unused: its failure, or who pressed Ctrl-C, says why."""
    warnings.filterwarnings("ignore", "Benchmark fixture was not used at all")
    # After Ctrl-C the fixture is torn down without this filter; after any other ending pytest-benchmark sets this anew.
    benchmark.skipped = True
