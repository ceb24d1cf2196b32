"""Whether a step waits for its input: a verdict from three times, and a sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass

INPUT_BOUND, COMPUTE_BOUND = "input-bound", "compute-bound"

WAITING = 0.1
"""Of the device step: a fed step that takes so much longer waits for its input, where the pipeline was not measured."""


@dataclass(frozen=True)
class FeedVerdict:
    """Attributes:
    verdict: INPUT_BOUND or COMPUTE_BOUND.
    sentence: the same in words.
    """

    verdict: str
    sentence: str


def feed_verdict(device_s: float, batch_s: float | None, fed_s: float) -> FeedVerdict:
    """Whether a fed step waits for its input.

    Args:
        device_s: seconds of the step alone.
        batch_s: seconds of the pipeline alone, per batch; None where it was not measured.
        fed_s: seconds of the step with its input.
    """
    waits = batch_s > device_s if batch_s is not None else fed_s > (1 + WAITING) * device_s
    more = f"the fed step takes {1000 * fed_s:.3g} ms, the step alone {1000 * device_s:.3g} ms"
    pipeline = "" if batch_s is None else f", the pipeline delivers a batch every {1000 * batch_s:.3g} ms"
    verdict = INPUT_BOUND if waits else COMPUTE_BOUND
    return FeedVerdict(verdict, f"{verdict}: {more}{pipeline}")
