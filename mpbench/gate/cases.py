"""What the gate asks of a case: whether its rounds can be judged, its group, which runs it is comparable with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpbench.records.arms import Arms, function_of
from mpbench.records.comparable import configuration
from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase
from mpbench.stats.change_test import MIN_ROUNDS

BUSY_SHARE = 0.05
"""Share of all cores' time that others used while a case was measured on a CPU, above which its figures say nothing."""


def no_figure(case: SpeedCase) -> str:
    """Why a case's rounds can neither be judged nor be a baseline; empty where they can."""
    if case.record.throttled:
        return "measured while the GPU was throttled"
    if len(case.judged.rounds) < MIN_ROUNDS:
        return f"fewer than {MIN_ROUNDS} rounds"
    others = case.record.others_cpu_share
    if case.record.device == "cpu" and others is not None and others > BUSY_SHARE:
        return f"measured while other processes used {others:.0%} of this machine's CPU"
    return ""


def baseline_of(arms: Mapping[str, Arms], case: SpeedCase) -> str | None:
    """Name of the case of the same group that the case's speedup refers to.

    Args:
        arms: of its run, by test.
    """
    if case.record.speedup is None:
        return None
    others = arms[function_of(case.fullname)].referred_to(case, "speedup")
    return others[0].fullname if others else None


def group_of(case: SpeedCase) -> tuple[str, str, str]:
    """Equal for the precisions of which one's speedup refers to another."""
    r = case.record
    return function_of(case.fullname), r.name, r.phase


def comparable(
    new: SavedRun, case: SpeedCase, before: Sequence[SavedRun]
) -> tuple[list[SavedRun], dict[str, tuple[object, object]]]:
    """The runs with this case in this configuration; without any, the fields in which the last one differs."""
    wanted = configuration(new, case)
    name = case.fullname
    rounds = {case.rounds}  # no two measurements are alike: a resumed run holds what an interrupted one has saved
    having = []
    for run in before:
        if name in run.speed and not no_figure(run.speed[name]) and run.speed[name].rounds not in rounds:
            rounds.add(run.speed[name].rounds)
            having.append(run)
    fitting = [run for run in having if configuration(run, run.speed[name]) == wanted]
    if fitting or not having:
        return fitting, {}
    last = configuration(having[-1], having[-1].cases[name])
    return [], {field: (last[field], wanted[field]) for field in wanted if last[field] != wanted[field]}
