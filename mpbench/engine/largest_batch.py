"""The largest batch that fits: what a step is tried with, and what an attempt may cost the next one.

The search itself is in `sweep.py`. An attempt that runs out of memory leaves nothing behind: its batch is given back
before the next is made, and what a failed step had allocated goes back to TensorFlow's allocator by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from mpbench.config.sweep import SEARCH_SHARE, largest_batch
from mpbench.engine import device as devices
from mpbench.engine.step import Step, is_out_of_memory
from mpbench.errors import CaseFailure
from mpbench.system import machine

ROOM_SHARE = 0.9
"""Of a host's memory: beyond it the system begins to swap or to kill, and it is never tried."""

NONE_FITS = "batch=max: not even one image fits"


def fit(step: Step, progress: Callable[[str], None], room_bytes: Callable[[], int | None] = machine.room_bytes) -> None:
    """Give a step whose batch is free the largest one that fits beside what is in memory now.

    On a GPU an attempt that does not fit fails and is over. On a host it could take the whole machine down, so a batch
    is tried only where the peaks of the smaller ones say that it fits.

    Raises:
        CaseFailure: not even one image fits, or nothing says how much memory the host has.
    """
    on_host = step.spec.device.kind == "cpu"
    room = room_bytes() if on_host else None
    if on_host and room is None:
        raise CaseFailure("batch=max: nothing says how much memory this machine has: valid is a batch of your choice")
    peaks: dict[int, int] = {}

    def fits(batch: int) -> bool:
        if room is not None and expected_peak(peaks, batch) > ROOM_SHARE * room:
            return False
        progress(f"trying a batch of {batch}")
        devices.reset_peak_memory(step.spec.device)
        try:
            step.set_batch(batch)
            step.run(1)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            peaks[batch] = devices.peak_memory_bytes(step.spec.device)
            return True
        # Outside the handler: the error's frames hold its tensors.
        gc.collect()
        return False

    found = largest_batch(fits)
    if not found:
        raise CaseFailure(NONE_FITS)
    step.set_batch(found)
    step.settle(progress)


def confirm(step: Step, progress: Callable[[str], None]) -> None:
    """Make a batch that was found smaller for as long as it does not fit: what was found later is in memory now too.

    Raises: as `fit`.
    """
    while True:
        try:
            step.run(1)
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        gc.collect()
        smaller = step.spec.batch_size - max(1, int(step.spec.batch_size * SEARCH_SHARE))
        if not smaller:
            raise CaseFailure(NONE_FITS)
        progress(f"a batch of {step.spec.batch_size} no longer fits: {smaller}")
        step.set_batch(smaller)


def expected_peak(peaks: dict[int, int], batch: int) -> float:
    """Bytes that a batch will take at its peak, on the line through the last two that were measured.

    Args:
        peaks: bytes by batch, in the order measured; with fewer than two nothing is known, and 0 is returned.
    """
    if len(peaks) < 2:
        return 0.0
    (one, other) = sorted(peaks)[-2:]
    slope = max(0.0, (peaks[other] - peaks[one]) / (other - one))
    return peaks[other] + slope * (batch - other)
