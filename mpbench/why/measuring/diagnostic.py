"""Things to time other than a whole step: what they have in common, and how a group of them is measured interleaved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol

from mpbench.engine.interleave import Arm, Progress, measure
from mpbench.engine.memory import explained
from mpbench.engine.stopping import Plan, Series
from mpbench.engine.telemetry import OthersOnCpu
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import DiagnosticRecord
from mpbench.records.measured import Measured
from mpbench.records.rounds import kept_rounds
from mpbench.stats.intervals import MIN_PAIRS, time_interval
from mpbench.system.device import Device

Outcome = Measured[DiagnosticRecord] | Exception


class MakeRecord(Protocol):
    """Makes a diagnostic's record from what is known after measuring."""

    def __call__(
        self, *, rounds: int, steps_per_round: int, unpaired_blocks: str, noisy: bool, others_cpu_share: float | None
    ) -> DiagnosticRecord: ...


@dataclass(frozen=True)
class Diagnostic:
    """Something to be timed beside others.

    Attributes:
        run: runs it so many times back to back and returns when the device has finished; has run at least once.
        record: makes its record.
        skipped_steps, before, after: as in `interleave.Arm`.
        operations: in one run; its rounds are seconds of one.
        check: raises CaseFailure where what it computed cannot be right.
    """

    run: Callable[[int], None]
    record: MakeRecord
    skipped_steps: Callable[[], int] = lambda: 0
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    operations: int = 1
    check: Callable[[], None] = lambda: None


Built = AbstractContextManager[Mapping[str, Diagnostic]]
"""Builds diagnostics that share a model, by name, where it is entered; gives back what they hold where it is left."""


def measure_diagnostics(
    to_build: Sequence[tuple[Sequence[str], Built]], plan: Plan, device: Device, size: str, progress: Progress
) -> dict[str, Outcome]:
    """Build the diagnostics of a group, measure them interleaved and check them.

    Args:
        to_build: names of diagnostics that are wanted, with what builds at least these; what it raises ends them.
        plan: when to stop.
        device, size: for the message where memory runs out, as `explained` takes them.
        progress: takes one line.

    Returns:
        For each diagnostic its record with its rounds, or what ended it.
    """
    outcomes: dict[str, Outcome] = {}
    diagnostics: dict[str, Diagnostic] = {}
    with ExitStack() as stack:
        for names, building in to_build:
            try:
                built = stack.enter_context(building)
                diagnostics |= {name: built[name] for name in names}
            except Exception as error:  # one precision's failure must not cost the others their measurement
                outcomes |= dict.fromkeys(names, explained(error, device, size))
        others = OthersOnCpu()
        arms = [Arm(name, d.run, d.skipped_steps, before=d.before, after=d.after) for name, d in diagnostics.items()]
        with others.watched():
            series = measure(arms, plan, progress=progress)
        for name, diagnostic in diagnostics.items():
            try:
                outcomes[name] = _result(diagnostic, series[name], others.share, plan.tolerance)
            except Exception as error:
                outcomes[name] = explained(error, device, size)
    return outcomes


def _result(
    diagnostic: Diagnostic, series: Series, others_cpu_share: float | None, tolerance: float
) -> Measured[DiagnosticRecord]:
    if series.error is not None:
        raise series.error
    diagnostic.check()
    if not series.rounds:
        raise CaseFailure("loss scaling skipped a step in each round: a skipped step is not a training step")
    rounds = kept_rounds(seconds / diagnostic.operations for seconds in series.rounds)
    # Fewer rounds give no interval.
    wide = len(rounds) < MIN_PAIRS or time_interval(rounds).relative_half_width > tolerance
    record = diagnostic.record(
        rounds=len(rounds),
        steps_per_round=series.steps_per_round,
        unpaired_blocks=series.unpaired_blocks,
        noisy=series.noisy or wide,
        others_cpu_share=others_cpu_share,
    )
    return Measured(record, rounds)
