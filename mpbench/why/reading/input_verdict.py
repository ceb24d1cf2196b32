"""Is it the input pipeline? Pure functions of three times: a step whose batch stays on the device, a batch of the
pipeline alone, and a step that takes its batches from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

INPUT_BOUND = "input-bound"
COMPUTE_BOUND = "compute-bound"

WAITING_SHARE = 0.1
"""Of the device's step: one that takes so much longer end to end waits for its input. Only where the pipeline was
not measured alone."""


@dataclass(frozen=True)
class EndToEnd:
    """Median seconds of one precision of a model and phase.

    Attributes:
        device_seconds: of a step on a batch that stays on the device.
        input_seconds: of a batch of the pipeline alone, running all the time.
        end_to_end_seconds: of a step on batches from the pipeline.
        batch_size: images.

    Raises:
        ValueError: a time that is none.
    """

    device_seconds: float
    input_seconds: float
    end_to_end_seconds: float
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("device_seconds", "input_seconds", "end_to_end_seconds", "batch_size"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: {value!r}: valid is a number above 0")

    @property
    def verdict(self) -> str:
        """`input-bound` where a batch takes the pipeline longer than the step takes for it, else `compute-bound`.

        On cores of its own, an end-to-end step takes about the longer of the two times; on shared ones up to their sum,
        and this names its larger part. The end-to-end step is left out of the rule: there it would be longer than the
        device's step however little the input takes.
        """
        return INPUT_BOUND if self.input_seconds > self.device_seconds else COMPUTE_BOUND

    @property
    def added_seconds(self) -> float:
        """What the input adds to a step; below 0 by noise only."""
        return self.end_to_end_seconds - self.device_seconds

    @property
    def delivered(self) -> float:
        """Images/s of the pipeline alone."""
        return self.batch_size / self.input_seconds

    @property
    def eaten(self) -> float:
        """Images/s that the step could take."""
        return self.batch_size / self.device_seconds


@dataclass(frozen=True)
class Judged:
    """INPUT_BOUND or COMPUTE_BOUND, and the same in words."""

    verdict: str
    sentence: str


def judged(name: str, one: EndToEnd, base: EndToEnd | None = None) -> Judged:
    """A precision's verdict, in a sentence that compares it with the baseline where one is given."""
    return Judged(one.verdict, comparison(name, one, base) if base else explanation(name, one))


def judged_without_pipeline(name: str, device_seconds: float, end_to_end_seconds: float) -> Judged:
    """A verdict from the end-to-end step alone, where the pipeline was not measured."""
    verdict = INPUT_BOUND if end_to_end_seconds > (1 + WAITING_SHARE) * device_seconds else COMPUTE_BOUND
    times = (
        f"an end-to-end step takes {1000 * end_to_end_seconds:.3g} ms, the step alone {1000 * device_seconds:.3g} ms"
    )
    return Judged(verdict, f"{name} is {verdict}: {times}")


def judged_without_feeding(name: str, device_seconds: float, input_seconds: float, batch_size: int) -> Judged:
    """A verdict from the pipeline alone, where no step was end_to_end: by the rule of `EndToEnd.verdict`."""
    rates = EndToEnd(device_seconds, input_seconds, device_seconds, batch_size)
    return Judged(rates.verdict, f"{name} is {rates.verdict}: {_rates(rates)}")


def explanation(name: str, one: EndToEnd) -> str:
    """One precision in a sentence."""
    return f"{name} is {one.verdict}: {_rates(one)}; {_added(one)}"


def comparison(name: str, one: EndToEnd, base: EndToEnd) -> str:
    """In a sentence what becomes of a precision's speedup over the baseline when the pipeline end_to_end the step."""
    speedup, end_to_end = base.device_seconds / one.device_seconds, base.end_to_end_seconds / one.end_to_end_seconds
    change = f"{speedup:.1f}x faster" if speedup >= 1 else f"{1 / speedup:.1f}x slower"
    added = "" if one.verdict == INPUT_BOUND else f"; {_added(one)}"
    return f"{name} makes the step {change}, you see {end_to_end:.1f}x: {_rates(one)}{added}"


def _rates(one: EndToEnd) -> str:
    return f"the pipeline delivers {_rate(one.delivered)} images/s and the step could eat {_rate(one.eaten)}"


def _added(one: EndToEnd) -> str:
    share = one.added_seconds / one.device_seconds
    return f"the input adds {1000 * one.added_seconds:.3g} ms to a step ({100 * share:.0f} %)"


def _rate(images_per_second: float) -> str:
    """Three figures: more would be noise."""
    digits = 2 - math.floor(math.log10(images_per_second))
    return f"{round(images_per_second, digits):,.{max(0, digits)}f}"
