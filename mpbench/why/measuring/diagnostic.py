"""Things to time that are no whole step: what they have in common, and how a group of them is measured interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpbench.engine.interleave import Arm, measure
from mpbench.engine.memory import explained
from mpbench.engine.stopping import Plan, Series
from mpbench.engine.telemetry import OthersOnCpu
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import DiagnosticRecord
from mpbench.records.measured import Measured
from mpbench.records.rounds import kept_rounds
from mpbench.stats.intervals import MIN_PAIRS, time_interval
from mpbench.system.device import Device

Progress = Callable[[str], None]

LEAST_SECONDS = 1e-7
"""In place of what is less: no operation is launched in less, so what is left when the call's own time is taken off is
noise of that. Such a figure is NOISY."""


@dataclass(frozen=True)
class Diagnostic:
    """Something to be timed beside others.

    Attributes:
        run: runs it so many times back to back and returns when the device has finished; has run at least once.
        record: makes its record from the fields that `measure_diagnostics` knows (see there), given by keyword.
        skipped_steps, before, after: as in `interleave.Arm`.
        seconds: what the record's rounds are, made of the seconds per run that were measured: where a run holds many
            calls, or the call of the function that holds them is no part of what is timed.
        check: raises CaseFailure where what it computed cannot be right.
        release: gives back what it holds.
    """

    run: Callable[[int], None]
    record: Callable[..., DiagnosticRecord]
    skipped_steps: Callable[[], int] = lambda: 0
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    seconds: Callable[[float], float] = lambda measured: measured
    check: Callable[[], None] = lambda: None
    release: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Builder:
    """What builds some diagnostics of a group at once, because they share a model.

    Attributes:
        names: of the diagnostics that are wanted.
        build: takes a function that shows progress; returns at least these diagnostics by name. What it raises
            ends them.
    """

    names: Sequence[str]
    build: Callable[[Progress], Mapping[str, Diagnostic]]


def measure_diagnostics(
    builders: Sequence[Builder],
    plan: Plan,
    common: Mapping[str, Any],
    device: Device,
    size: str,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Measured[DiagnosticRecord] | Exception]:
    """Build the diagnostics of a group, measure them interleaved and check them.

    Args:
        builders: of the group.
        plan: when to stop.
        common: fields of DiagnosticRecord that are the same for the whole group.
        device, size: for the message where memory runs out, as `memory.explained` takes them.
        progress: takes one line.

    Returns:
        For each diagnostic its record with its rounds, or what ended it. `record` of a diagnostic is called with
        `common` and with `rounds`, `steps_per_round`, `unpaired_blocks`, `noisy` and `others_cpu_share`.
    """
    outcomes: dict[str, Measured[DiagnosticRecord] | Exception] = {}
    diagnostics: dict[str, Diagnostic] = {}
    for builder in builders:
        try:
            built = builder.build(progress)
            diagnostics.update({name: built[name] for name in builder.names})
        except Exception as error:  # one precision's failure must not cost the others their measurement
            outcomes.update(dict.fromkeys(builder.names, explained(error, device, size)))
    others = OthersOnCpu()
    arms = [Arm(name, p.run, p.skipped_steps, before=p.before, after=p.after) for name, p in diagnostics.items()]
    with others.watched():
        series = measure(arms, plan, clock=clock, progress=progress)
    for name, diagnostic in diagnostics.items():
        try:
            outcomes[name] = _result(
                diagnostic, series[name], {**common, "others_cpu_share": others.share}, plan.tolerance
            )
        except Exception as error:
            outcomes[name] = explained(error, device, size)
        diagnostic.release()
    return outcomes


def _result(
    diagnostic: Diagnostic, series: Series, common: Mapping[str, Any], tolerance: float
) -> Measured[DiagnosticRecord]:
    if series.error is not None:
        raise series.error
    diagnostic.check()
    if not series.rounds:
        raise CaseFailure("loss scaling skipped a step in each round: a skipped step is not a training step")
    rounds = kept_rounds(max(diagnostic.seconds(measured), LEAST_SECONDS) for measured in series.rounds)
    # What was taken off has noise of its own; of fewer rounds nothing can be said.
    unsure = len(rounds) < MIN_PAIRS or min(rounds) <= LEAST_SECONDS
    wide = unsure or time_interval(rounds).relative_half_width > tolerance
    record = diagnostic.record(
        **common,
        rounds=len(rounds),
        steps_per_round=series.steps_per_round,
        unpaired_blocks=series.unpaired_blocks,
        noisy=series.noisy or wide,
    )
    return Measured(record, rounds)
