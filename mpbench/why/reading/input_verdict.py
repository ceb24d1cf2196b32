"""Is it the input pipeline? Pure functions of three times: a step whose batch stays on the device, a batch of the
pipeline alone, and a step that takes its batches from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class InputVerdict(str, Enum):
    """What a step waits for, as JSON has it too."""

    INPUT_BOUND = "input-bound"
    COMPUTE_BOUND = "compute-bound"


WAITING_SHARE = 0.1
"""A step that takes longer end to end by this share waits for its input. Asked only if the pipeline was not measured
alone."""


@dataclass(frozen=True)
class InputTimes:
    """Median seconds of one precision of a model and phase.

    Attributes:
        device: of a step on a batch that stays on the device.
        pipeline: of a batch of the pipeline alone, running all the time; None where it was not measured.
        end_to_end: of a step on batches from the pipeline; None where it was not measured. One of the two is there.
        batch_size: images.
    """

    device: float
    pipeline: float | None
    end_to_end: float | None
    batch_size: int

    @property
    def verdict(self) -> InputVerdict:
        """Input-bound where a batch takes the pipeline longer than the step takes for it.

        On cores of its own, an end-to-end step takes about the longer of the two times; on shared ones up to their sum,
        and this names its larger part. The end-to-end step is asked only where the pipeline was not measured: it is
        longer than the device's step however little the input takes.
        """
        if self.pipeline is not None:
            waits = self.pipeline > self.device
        else:
            waits = self.end_to_end is not None and self.end_to_end > (1 + WAITING_SHARE) * self.device
        return InputVerdict.INPUT_BOUND if waits else InputVerdict.COMPUTE_BOUND


@dataclass(frozen=True)
class InputFinding:
    """The verdict, and the same in words."""

    verdict: InputVerdict
    sentence: str


def input_finding(name: str, times: InputTimes, base: InputTimes | None = None) -> InputFinding:
    """A precision's verdict. Given a baseline, the sentence says what becomes of the speedup over it."""
    verdict = times.verdict
    if times.pipeline is None:
        whole = 1000 * (times.end_to_end or 0.0)
        reasons = [f"an end-to-end step takes {whole:.3g} ms, the step alone {1000 * times.device:.3g} ms"]
    else:
        rates = [_rate(times.batch_size / seconds) for seconds in (times.pipeline, times.device)]
        reasons = [f"the pipeline delivers {rates[0]} images/s and the step could take {rates[1]}"]
    opening = f"{name} is {verdict.value}"
    if times.pipeline is not None and times.end_to_end is not None:
        added = times.end_to_end - times.device
        adds = f"the input adds {1000 * added:.3g} ms to a step ({100 * added / times.device:.0f} %)"
        if base is not None and base.end_to_end is not None:
            speedup, seen = base.device / times.device, base.end_to_end / times.end_to_end
            change = f"{speedup:.1f}x faster" if speedup >= 1 else f"{1 / speedup:.1f}x slower"
            opening = f"{name} makes the step {change}, you see {seen:.1f}x"
            reasons += [adds] if verdict is InputVerdict.COMPUTE_BOUND else []
        else:
            reasons.append(adds)
    return InputFinding(verdict, f"{opening}: {'; '.join(reasons)}")


def _rate(images_per_second: float) -> str:
    """Three figures: more would be noise."""
    digits = 2 - math.floor(math.log10(images_per_second))
    return f"{round(images_per_second, digits):,.{max(0, digits)}f}"
