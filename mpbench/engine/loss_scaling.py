"""The loss scales that take part in a training step: what they say of skipped updates, settling them, and their check.

Which they are is seen while the step is traced; what became of an update is asked of the scale itself, whose counters
tell it whatever the step does: two optimizers, several updates a step, one every few steps, or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.optimizers import LossScaleOptimizer

from mpbench.engine.models import optimizers_of
from mpbench.engine.tracing import replaced
from mpbench.errors import CaseFailure

MAX_SETTLING_STEPS = 48
"""From 2**15 a loss scale has reached float16's smallest number well before this many halvings."""

LOWER_SCALE = 256
"""An update is taken at the settled scale and at one so many times lower: in a sound step they are the same."""

UNSCALED_RATIO = 16
"""The update at the lower scale over the other, from which on the loss is taken for unscaled: without scaling it is
LOWER_SCALE for SGD, and between that and 1 where the optimizer divides by the gradients' own size."""

DOUBTFUL_RATIO = 2
"""From which on it is said. In a sound step only what is drawn at random anew makes a difference."""


@dataclass(frozen=True)
class ScaleState:
    """A loss scale's own counters at some time.

    Attributes:
        scale: that the loss is multiplied by.
        in_a_row: accepted updates since the scale last changed.
        accepted: updates in all.
    """

    scale: float
    in_a_row: int
    accepted: int


def skipped_between(before: ScaleState, after: ScaleState, growth_steps: int) -> int:
    """Updates that dynamic loss scaling has skipped between two states.

    A skipped update halves the scale and begins a new row; `growth_steps` accepted ones in a row double it. So 0 is
    exact: only without a skip is the scale doubled as often as all accepted updates together allow, with the row left
    that this leaves. Otherwise it is the smallest number that explains both states, and exact where fewer than
    `growth_steps` updates lie between them, or `growth_steps` is 1.
    """
    if not (0 < before.scale < math.inf and 0 < after.scale < math.inf):
        return int(before.scale != after.scale)
    doublings = round(math.log2(after.scale / before.scale))  # less halvings
    in_a_row = before.in_a_row + after.accepted - before.accepted
    if (doublings, after.in_a_row) == divmod(in_a_row, growth_steps):
        return 0
    # With s skips, g = doublings + s were doubled; each row that a skip ended wasted growth_steps - 1 updates at most:
    # 0 <= in_a_row - after.in_a_row - growth_steps * g <= s * (growth_steps - 1), and g >= 0.
    wasted = in_a_row - after.in_a_row - growth_steps * doublings
    return max(1, -doublings, math.ceil(wasted / (2 * growth_steps - 1)))


class _Scale:
    """One loss scale since this was made."""

    def __init__(self, optimizer: LossScaleOptimizer) -> None:
        self._optimizer = optimizer
        inner = optimizer.inner_optimizer
        # Counts updates; `iterations` is a fraction of it where the inner optimizer accumulates gradients.
        self._updates = next((v for v in inner.variables if v.name == "iteration"), inner.iterations)
        self._first = self._last = self._state()
        self._skipped = 0

    def _state(self) -> ScaleState:
        scale, in_a_row = self._optimizer.dynamic_scale, self._optimizer.step_counter
        return ScaleState(float(scale.numpy()), int(in_a_row.numpy()), int(self._updates.numpy()))

    @property
    def skipped(self) -> int:
        state = self._state()
        self._skipped += skipped_between(self._last, state, self._optimizer.dynamic_growth_steps)
        self._last = state
        return self._skipped

    @property
    def accepted(self) -> int:
        return self._state().accepted - self._first.accepted


class LossScaling:
    """The loss scales that a step's updates go through, since this was made; its optimizers are built."""

    def __init__(self, optimizers: Sequence[LossScaleOptimizer] = ()) -> None:
        self.optimizers = list(optimizers)
        self._scales = [_Scale(one) for one in optimizers]

    @property
    def scale(self) -> float | None:
        """The smallest now; None where there is none."""
        return min((float(one.dynamic_scale.numpy()) for one in self.optimizers), default=None)

    @property
    def skipped(self) -> int:
        """Updates skipped, by all together; to be asked more often than the scales grow."""
        return sum(one.skipped for one in self._scales)

    @property
    def accepted(self) -> int:
        """Updates made, by all together."""
        return sum(one.accepted for one in self._scales)

    @property
    def settled(self) -> bool:
        """Whether each scale that has skipped an update has also accepted one."""
        return all(one.accepted or not one.skipped for one in self._scales)

    def settle(self, run: Callable[[], None], progress: Callable[[str], None]) -> None:
        """Take steps with `run` until each scale has accepted an update; raises CaseFailure where one accepts none."""
        if self.settled:
            return
        progress("settling the loss scale")
        for _ in range(MAX_SETTLING_STEPS):
            run()
            if self.settled:
                return
        raise CaseFailure(
            f"loss scaling skipped each of the first {self.skipped} updates (scale now {self.scale:g}): "
            "the gradients are never finite"
        )

    def check_cancels(self, run: Callable[[], None], model: keras.Model, progress: Callable[[str], None]) -> None:
        """Whether what gradients are divided by was multiplied before; afterwards the model is as it was before.

        Raises:
            CaseFailure: it was not.
        """
        if not self.optimizers:
            return
        progress("trying a lower loss scale")
        excess = self._excess_at_lower_scale(run, model)
        what = (
            f"at a loss scale {LOWER_SCALE} times lower than {self.scale:g} an update is {excess:.3g} times as "
            "large, and should be the same"
        )
        if excess >= UNSCALED_RATIO:
            raise CaseFailure(
                f"its training step does not train under loss scaling: {what}. It must scale its loss "
                "(optimizer.scale_loss) and leave clipping gradients to the optimizer, which divides them"
            )
        if excess >= DOUBTFUL_RATIO:
            progress(f"is its loss scaled (optimizer.scale_loss)? {what}")

    def _excess_at_lower_scale(self, run: Callable[[], None], model: keras.Model) -> float:
        """Euclidean norm of an update at a fraction of the loss scale over that of one at the scale itself.

        1 or less in a sound step: a scale that the loss is multiplied by and its gradients are divided by cancels. One
        that gradients are only divided by, or that they were clipped before, does not. 1 where no update is made.
        """
        optimizers = [*self.optimizers, *optimizers_of(model)]
        variables = [*model.variables, *model.metrics_variables, *(v for one in optimizers for v in one.variables)]
        before = {id(variable): (variable, variable.numpy()) for variable in variables}
        weights = model.trainable_weights

        def moved(part: float) -> float:
            for one in self.optimizers:
                one.dynamic_scale.assign(one.dynamic_scale * part)
            start, accepted = [weight.numpy().astype(np.float64) for weight in weights], self.accepted
            for _ in range(MAX_SETTLING_STEPS):
                run()
                if self.accepted > accepted:
                    break
            ends = (weight.numpy().astype(np.float64) for weight in weights)
            distance = math.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in zip(ends, start, strict=True)))
            for variable, value in before.values():
                variable.assign(value)
            return distance

        here, lower = moved(1), moved(1 / LOWER_SCALE)
        if not lower > here:  # NaN too: what is not finite is told elsewhere
            return 1.0
        return lower / here if here else math.inf


@contextmanager
def watched_updates(found: Callable[[LossScaleOptimizer], None]) -> Iterator[list[LossScaleOptimizer]]:
    """While a step is traced: the LossScaleOptimizers that make its updates, each once, and `found` called with each
    before its first update is traced."""
    own = LossScaleOptimizer.apply
    seen: list[LossScaleOptimizer] = []

    def apply(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(self is one for one in seen):
            seen.append(self)
            found(self)
        return own(self, *args, **kwargs)

    with replaced(LossScaleOptimizer, "apply", apply):
        yield seen
