"""The groups of a session: as many are built at a time as memory holds, and measured in visits spread over them.

What wanders within minutes (clocks, neighbours, temperature) is then seen by each of them, between its visits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from mpbench.config.profiles import LARGEST_BATCH, SEED
from mpbench.engine import memory
from mpbench.engine.group import Group, Outcome, Profiler
from mpbench.engine.interleave import Progress
from mpbench.engine.plan import GroupPlan
from mpbench.records.speed import SpeedCase

Keep = Callable[[int, Mapping[str, SpeedCase]], None]

ROOM_FACTOR = 2.0
"""Another group is built beside those that are there while this many times what the largest of them takes is free."""


def measure_groups(
    plans: Sequence[GroupPlan], progress: Progress, keep: Keep, profile: Profiler | None
) -> Iterator[tuple[int, dict[str, Outcome]]]:
    """Measure groups, built in this order, each in visits between which the others have theirs.

    Args:
        keep: called with the number of a plan and its arms that are measured so far, see `Group`.
        profile: see `Group`.

    Yields:
        The number of a plan whose group is finished, and what became of its arms.
    """
    order = np.random.default_rng(SEED)
    waiting = list(range(len(plans)))
    room = _Room()
    while waiting:
        with ExitStack() as stack:
            together: dict[int, Group] = {}
            while waiting:
                number = waiting[0]
                room.before_group(plans[number])
                try:
                    group = Group(plans[number], progress, functools.partial(keep, number), profile, room.held_bytes)
                except Exception as error:  # an arm's own is its outcome: this is of the group as a whole
                    waiting.pop(0)
                    yield number, dict.fromkeys(plans[number].members, error)
                    continue
                stack.callback(group.release)
                if group.out_of_memory and together:
                    group.release()  # built again when it has the memory for itself
                    break
                together[waiting.pop(0)] = group
                if not room.for_another_beside(group) or not all(_may_share(plans[n]) for n in (number, *waiting[:1])):
                    break
            if len(together) > 1:
                progress(f"{len(together)} groups are built: measuring them in turns")
            for number in _measured_in_turns(together, order):
                yield number, together[number].outcomes


def _measured_in_turns(groups: Mapping[int, Group], order: np.random.Generator) -> Iterator[int]:
    """Visit each group until it is done, all of them in a random order before any one is visited again."""
    left, last = list(groups), None
    while left:
        for number in [left[i] for i in order.permutation(len(left))]:
            group = groups[number]
            try:
                if not group.done:
                    group.visit(after_others=last is not group)
                    last = group
                if group.done:
                    group.finish()
            except Exception as error:  # one group's, whatever it is, must not cost the others theirs
                group.fail(error)
            if group.done:
                left.remove(number)
                yield number


def _may_share(plan: GroupPlan) -> bool:
    """Whether a group may be built beside others: not one that takes all memory, nor where workers must agree."""
    largest = any(member.spec.batch_size == LARGEST_BATCH for member in plan.members.values())
    return not largest and plan.cluster.workers == 1


class _Room:
    """What groups take of the device's memory, and what they leave; of the host's where that is a CPU.

    Attributes:
        held_bytes: of a CPU's process, what other groups hold: its peak is that of the whole process.
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        self._largest = 0
        self._first: int | None = None
        self._before = 0

    def before_group(self, plan: GroupPlan) -> None:
        self._before = memory.in_use_bytes(plan.device)
        if self._first is None:
            self._first = self._before
        self.held_bytes = max(self._before - self._first, 0) if plan.device.kind == "cpu" else 0

    def for_another_beside(self, group: Group) -> bool:
        """Whether there is room for one more group like the largest so far."""
        device = group.plan.device
        used, free = memory.in_use_bytes(device), memory.free_bytes(device)
        step = group.peak_memory_bytes if device.kind == "gpu" else group.peak_memory_bytes - used
        self._largest = max(self._largest, used - self._before + max(step, 0))
        return free is not None and free >= ROOM_FACTOR * self._largest
