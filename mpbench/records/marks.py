"""The words that stand beside a figure that must not be believed blindly, and what each means.

Which case earns which is decided in `report.marks`; here they are apart from it, for whatever else shows a figure.
"""

from __future__ import annotations

from enum import Enum

from mpbench.stats.intervals import MIN_PAIRS


class Mark(Enum):
    """A word, which is its value, and its meaning, said of the cases so marked; in the order in which they are told."""

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Mark:
        mark = object.__new__(cls)
        mark._value_ = word
        mark.meaning = meaning
        return mark

    NOISY = "NOISY", "the time limit (--mp-max-time) came before the interval was narrow"
    DRIFTING = "DRIFTING", "moved by so much while they were measured: one number does not describe them"
    BROKEN_OFF = "BROKEN OFF", "ended before they were measured as often as they should be"
    WARM_UP = "WARM-UP", "half the time limit was over before it was seen to be stationary"
    FEW_ROUNDS = "FEW ROUNDS", f"below {MIN_PAIRS} there is no interval, and no speedup"
    THROTTLED = (
        "THROTTLED",
        "heat or the power supply slowed the GPU down; such rounds are left out, or, where too few would be left, all "
        "count",
    )
    POWER_LIMIT = (
        "POWER LIMIT",
        "the clock was lowered to stay within the power limit, as a GPU does under full load",
    )
    HOST_BOUND = "HOST-BOUND", "the GPU waits for the host for at least half of the step"
    NO_PROFILE = "NO PROFILE", "where the time of a step goes is not known"
    REPLICAS = "REPLICAS", "on one machine's CPU they share its cores: their scaling efficiency says nothing"
    NO_TF32 = "NO TF32", "this device has no TF32, the figures are plain float32's"
    SKIPPED = "SKIPPED", "loss scaling dropped so many steps in measured rounds; those rounds are left out"
    NOISE_FLOOR = "NOISE FLOOR", "the baseline against itself: smaller differences cannot be told from none"
