"""Which loss scales serve a step: where dynamic scaling settles, and the window between too small and too large.

Pure: the step is a function of the scale's exponent. Scales are powers of two, as Keras's LossScaleOptimizer has them
where its initial scale is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LOWEST_LOG2 = -24
"""Keras halves without end. What overflows even at this scale is not a matter of the scale."""

WINDOW_LOG2 = (0, 24)
"""Scales that the window is looked for in: from no scaling to one that brings float16's smallest number up to 1."""

ENOUGH_LOG2 = 3
"""Powers of two by which scales may still fall. A window that ends so near above no scaling is looked into below it."""

LOST_GRADIENT = 0.05
"""Share of a weight's gradient that may become 0. Micikevicius et al. 2017 (3.2) lose about 5 % of a network's values
and train it well; their SSD detector lost 31 % and diverged."""


@dataclass(frozen=True)
class AtScale:
    """What the gradients are at a loss scale.

    Attributes:
        overflows: whether one is not finite: dynamic scaling then skips the update.
        lost_share: of the weight whose gradient loses most; see `statistics.Comparison`.
        headroom_log2: of the largest value of the backward pass, negative or infinite where something overflows.
    """

    overflows: bool
    lost_share: float
    headroom_log2: float


@dataclass(frozen=True)
class LossScales:
    """As exponents of two.

    Attributes:
        initial: that scaling begins with, rounded down to a power of two; None without dynamic scaling.
        settled: the largest that is not above the initial one and does not overflow on this batch: dynamic scaling
            halves its scale at each overflow, and takes thousands of steps to double it (2,000 in Keras). None where
            all overflow.
        low, high: the window: the smallest and the largest scale within WINDOW_LOG2 at which no gradient overflows and
            no weight loses more than LOST_GRADIENT of its gradient; see ENOUGH_LOG2.
            None where there is no such scale.
    """

    initial: int | None
    settled: int | None
    low: int | None
    high: int | None

    @property
    def width_log2(self) -> int:
        """Powers of two from one end of the window to the other; -1 where it is empty."""
        return -1 if self.low is None or self.high is None else self.high - self.low

    @property
    def halvings(self) -> int:
        """Updates that are skipped until the scale has settled."""
        return 0 if self.initial is None or self.settled is None else self.initial - self.settled


def find_loss_scales(measure: Callable[[int], AtScale], initial: float | None) -> LossScales:
    """Find the scales that serve a step, with as few runs of it as may be.

    A run without scaling says how far the gradients are from overflow, so the next one is near the edge. An overflow at
    a scale is taken to overflow at all larger ones, and what is not lost at a scale not to be lost at larger ones.

    Args:
        measure: runs the step at 2**exponent; called once for each exponent.
        initial: loss scale that dynamic scaling begins with; None where there is none.
    """
    runs: dict[int, AtScale] = {}

    def at(exponent: int) -> AtScale:
        if exponent not in runs:
            runs[exponent] = measure(exponent)
        return runs[exponent]

    def fits(exponent: int) -> bool:
        return not at(exponent).overflows

    least, most = WINDOW_LOG2
    room = at(least).headroom_log2
    guess = (math.floor(room) if math.isfinite(room) else most) if fits(least) else least - 1
    first = settled = None
    if initial is None:
        settled = least if fits(least) else None
        high = largest_that_holds(fits, LOWEST_LOG2, most, guess)
    else:
        first = math.floor(math.log2(initial))
        settled = high = largest_that_holds(fits, min(LOWEST_LOG2, first), first, guess)
        if settled == first:
            high = largest_that_holds(fits, first, max(most, first), guess)
    if high is None:
        return LossScales(first, None, None, None)

    def loses(exponent: int) -> bool:
        return at(exponent).lost_share > LOST_GRADIENT

    least = min(least, high - ENOUGH_LOG2)
    last_losing = largest_that_holds(loses, least, high, least)
    low = least if last_losing is None else last_losing + 1
    return LossScales(first, settled, low, high) if low <= high else LossScales(first, settled, None, None)


def largest_that_holds(holds: Callable[[int], bool], low: int, high: int, guess: int) -> int | None:
    """The largest number from `low` to `high` for which something holds that holds up to some number and not beyond.

    Args:
        holds: asked for numbers near the guess first, then farther away by doubling and between by halving.
        guess: of the answer; a right one takes two questions.

    Returns:
        None where it does not even hold for `low`.
    """
    guess = min(max(guess, low), high)
    good, bad = low - 1, high + 1
    step = 1
    if holds(guess):
        good = guess
        while good < high and bad > high:
            next_one = min(good + step, high)
            if holds(next_one):
                good, step = next_one, 2 * step
            else:
                bad = next_one
    else:
        bad = guess
        while bad > low and good < low:
            next_one = max(bad - step, low)
            if holds(next_one):
                good = next_one
            else:
                bad, step = next_one, 2 * step
    while bad - good > 1:
        middle = (good + bad) // 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good if good >= low else None
