"""The largest batch that fits: what a step is tried with, and what an attempt may cost the next one.

The search itself is in `sweep.py`. An attempt that runs out of memory leaves nothing behind: its batch is given back
before the next is made, and what a failed step had allocated goes back to TensorFlow's allocator by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping

from mpbench.config.sweep import SEARCH_SHARE, largest_batch
from mpbench.engine import memory
from mpbench.engine.interleave import Progress
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure
from mpbench.system import machine

ROOM_SHARE = 0.9
"""Of a host's memory: beyond it the system begins to swap or to kill, and it is never tried."""

NONE_FITS = "batch=max: not even one image fits"


def fit(step: Step, progress: Progress) -> None:
    """Give a step whose batch is free the largest one that fits beside what is in memory now.

    On a GPU an attempt that does not fit fails and is over. On a host it could take the whole machine down, so a batch
    is tried only where the peaks of the smaller ones say that it fits.

    Raises:
        CaseFailure: not even one image fits, or nothing says how much memory the host has.
    """
    on_host = step.spec.device.kind == "cpu"
    room = machine.room_bytes() if on_host else None
    if on_host and room is None:
        raise CaseFailure("batch=max: nothing says how much memory this machine has: give the batches by number")
    peaks: dict[int, int] = {}

    def fits(batch: int) -> bool:
        if room is not None and expected_peak(peaks, batch) > ROOM_SHARE * room:
            return False
        progress(f"trying a batch of {batch}")
        memory.reset_peak(step.spec.device)
        if ran := _runs(step, batch):
            peaks[batch] = memory.peak_bytes(step.spec.device)
        return ran

    found = largest_batch(fits)
    if not found:
        raise CaseFailure(NONE_FITS)
    step.set_batch(found)
    step.settle(progress)


def confirm(step: Step, progress: Progress) -> None:
    """Make a batch that was found smaller for as long as it does not fit: what was found later is in memory now too.

    Raises: as `fit`.
    """
    while not _runs(step, batch := step.spec.batch_size):
        smaller = batch - max(1, int(batch * SEARCH_SHARE))
        if not smaller:
            raise CaseFailure(NONE_FITS)
        progress(f"a batch of {batch} no longer fits: {smaller}")
        step.set_batch(smaller)


def _runs(step: Step, batch: int) -> bool:
    """Whether there is memory for a step of so many images."""
    try:
        if batch != step.spec.batch_size:
            step.set_batch(batch)
        step.run(1)
        return True
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
    gc.collect()  # outside the handler: the error's frames hold its tensors
    return False


def expected_peak(peaks: Mapping[int, int], batch: int) -> float:
    """Bytes that a batch will take at its peak, on the line through the last two that were measured.

    Args:
        peaks: bytes by batch, in the order measured; with fewer than two nothing is known, and 0 is returned.
    """
    if len(peaks) < 2:
        return 0.0
    (one, other) = sorted(peaks)[-2:]
    slope = max(0.0, (peaks[other] - peaks[one]) / (other - one))
    return peaks[other] + slope * (batch - other)
