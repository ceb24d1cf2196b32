"""What the device can do at most, measured on the spot: a large product, a large copy, a chain of tiny operations."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from mpbench.config.precisions import Precision
from mpbench.config.profiles import SEED
from mpbench.engine import device as devices
from mpbench.engine.tracing import tracing
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import Peak, PeakRecord
from mpbench.system.device import Device
from mpbench.why.measuring.diagnostic import Diagnostic

MATMUL_SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384)
MATMUL_SECONDS = 0.02
"""The first size whose product takes this long is large enough; one is at most eight times as long."""

COPY_VALUES = {"cpu": 2**25, "gpu": 2**28}
"""Of float32, in each of two arrays: far beyond any cache."""

CHAIN_OPERATIONS = 1000


@dataclass(frozen=True)
class _Work:
    """What is timed; `size`, `flops` and `bytes` as in PeakRecord."""

    call: Callable[[], Any]
    size: str
    flops: float = 0.0
    bytes: float = 0.0
    operations: int = 1


@contextmanager
def peak(what: Peak, precision: Precision, device: Device, jit: bool | None, profile: str) -> Iterator[Diagnostic]:
    """One peak; a product and a chain are computed in the precision's compute dtype.

    Args:
        what: `matmul`, a square product, as large as takes long enough; `copy`, an array far beyond the
            caches added to another, in float32 whatever the precision: bytes are bytes; `latency`, one of a thousand
            operations on a single value, each waiting for the one before it.
        precision: TF32 on or off is its.
        device: where it runs.
        jit: XLA on, off, or (None) on for a GPU, as layers have it. XLA would make one kernel of the
            thousand, so it compiles only products, and is recorded for all.
        profile: of the session, by name.
    """
    compiled = jit if jit is not None else device.kind == "gpu"
    with tf.device(device.placement):
        if what is Peak.MATMUL:
            work = _matmul(precision, device, compiled)
        else:
            work = _copy(device) if what is Peak.COPY else _latency(precision)
    state: dict[str, Any] = {"call": work.call}
    record = partial(
        PeakRecord,
        model="",
        precision=precision.name,
        phase="",
        device=device.kind,
        device_name=devices.device_name(device),
        profile=profile,
        batch_size=0,
        image_size=0,
        jit=compiled,
        tf32=precision.tf32 and devices.tf32_available(device),
        what=what.value,
        size=work.size,
        flops=work.flops,
        bytes=work.bytes,
    )
    operations = work.operations
    del work

    def run(times: int) -> None:
        devices.set_tf32(precision.tf32)
        with tf.device(device.placement):
            for _ in range(times):
                state["last"] = state["call"]()
            tf.test.experimental.sync_devices()

    def check() -> None:
        last = state["last"]
        if last is not None and not np.isfinite(np.asarray(last).astype(np.float64)).all():
            raise CaseFailure(f"the {what.value} gave a value that is not finite")

    run(1)
    try:
        yield Diagnostic(run, record, operations=operations, check=check)
    finally:
        state.clear()
        gc.collect()


def _matmul(precision: Precision, device: Device, jit: bool) -> _Work:
    dtype = tf.as_dtype(precision.compute_dtype)
    devices.check_tf32_is_apart(precision.tf32, precision.policy, device, jit)
    devices.set_tf32(precision.tf32)
    for size in MATMUL_SIZES:
        a, b = (_random((size, size), n, dtype) for n in (0, 1))
        call = _compiled(partial(tf.matmul, a, b), jit)
        if _seconds_of(call) >= MATMUL_SECONDS:
            break
    # Each of the size**2 values of the product is a sum of size products.
    return _Work(call, "x".join([str(size)] * 3), flops=2.0 * size**3)


def _copy(device: Device) -> _Work:
    number = COPY_VALUES[device.kind]
    source = _random((number,), 0, tf.float32)
    # Into memory that is there: a copy into new memory on a CPU measures how fast the system clears pages.
    target = tf.Variable(tf.zeros_like(source))

    def add() -> None:
        target.assign_add(source)

    array_bytes = number * source.dtype.size
    # Both are read, one is written.
    return _Work(_compiled(add, False), f"{array_bytes / 2**20:.0f} MiB", bytes=3.0 * array_bytes)


def _latency(precision: Precision) -> _Work:
    dtype = tf.as_dtype(precision.compute_dtype)
    first, other = _random((1,), 0, dtype), _random((1,), 1, dtype)

    def chain() -> tf.Tensor:
        value = first
        for _ in range(CHAIN_OPERATIONS):
            value = other - value  # sums would be drawn together into one when the graph is optimised
        return value

    return _Work(_compiled(chain, False), "one value", operations=CHAIN_OPERATIONS)


def _compiled(body: Callable[[], Any], jit: bool) -> Callable[[], Any]:
    with tracing():
        return tf.function(body, autograph=False, jit_compile=jit).get_concrete_function()  # type: ignore[no-any-return]


def _seconds_of(call: Callable[[], Any]) -> float:
    call()
    tf.test.experimental.sync_devices()
    start = time.perf_counter()
    call()
    tf.test.experimental.sync_devices()
    return time.perf_counter() - start


def _random(shape: tuple[int, ...], seed: int, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(tf.random.stateless_uniform(shape, seed=(SEED, seed), minval=-1.0, maxval=1.0), dtype)
