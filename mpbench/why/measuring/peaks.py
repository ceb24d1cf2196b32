"""What the device can do at most, measured on the spot: a large product, a large copy, a chain of tiny operations."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from mpbench.config.precisions import Precision
from mpbench.config.profiles import SEED
from mpbench.engine import device as devices
from mpbench.engine.tracing import tracing
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import PeakRecord
from mpbench.system.device import Device
from mpbench.why.measuring.diagnostic import Diagnostic

MATMUL_SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384)
MATMUL_SECONDS = 0.02
"""The first size whose product takes this long is large enough; one is at most eight times as long."""

COPY_VALUES = {"cpu": 2**25, "gpu": 2**28}
"""Of float32, in each of two arrays: far beyond any cache."""

CHAIN_OPERATIONS = 1000


def peak(what: str, precision: Precision, device: Device, jit: bool | None = None) -> Diagnostic:
    """A peak, where it depends on it in a precision's compute dtype; it has run when this returns.

    Args:
        what: `matmul`, a square product, as large as takes long enough; `copy`, an array far beyond the
            caches added to another, in float32 whatever the precision: bytes are bytes; `latency`, one of a thousand
            operations on a single value, each waiting for the one before it.
        precision: TF32 on or off is its.
        device: where it runs.
        jit: XLA on, off, or (None) on for a GPU, as layers have it. XLA would make one kernel of the
            thousand, so it compiles only products, and is recorded for all.
    """
    with tf.device(device.placement):
        compiled = jit if jit is not None else device.kind == "gpu"
        return {"matmul": _matmul, "copy": _copy, "latency": _latency}[what](what, precision, device, compiled)


def _matmul(what: str, precision: Precision, device: Device, jit: bool) -> Diagnostic:
    dtype = tf.as_dtype(precision.compute_dtype)
    devices.check_tf32_is_apart(precision.tf32, precision.policy, device, jit)
    devices.set_tf32(precision.tf32)
    for size in MATMUL_SIZES:
        a, b = (_random((size, size), n, dtype) for n in (0, 1))
        call = _compiled(partial(tf.matmul, a, b), jit)
        if _seconds_of(call) >= MATMUL_SECONDS:
            break
    text = "x".join([str(size)] * 3)
    # Each of the size**2 values of the product is a sum of size products.
    return _probe(call, what, precision, device, jit, size=text, flops=2.0 * size**3)


def _copy(what: str, precision: Precision, device: Device, jit: bool) -> Diagnostic:
    number = COPY_VALUES[device.kind]
    source = _random((number,), 0, tf.float32)
    # Into memory that is there: a copy into new memory on a CPU measures how fast the system clears pages.
    target = tf.Variable(tf.zeros_like(source))

    def add() -> None:
        target.assign_add(source)

    size = f"{number * source.dtype.size / 2**20:.0f} MiB"
    # Both are read, one is written.
    return _probe(
        _compiled(add, False), what, precision, device, jit, size=size, bytes=3.0 * number * source.dtype.size
    )


def _latency(what: str, precision: Precision, device: Device, jit: bool) -> Diagnostic:
    dtype = tf.as_dtype(precision.compute_dtype)
    first, other = _random((1,), 0, dtype), _random((1,), 1, dtype)

    def chain() -> tf.Tensor:
        value = first
        for _ in range(CHAIN_OPERATIONS):
            value = other - value  # sums would be drawn together into one when the graph is optimised
        return value

    call = _compiled(chain, False)
    return _probe(call, what, precision, device, jit, lambda measured: measured / CHAIN_OPERATIONS, size="one value")


def _probe(
    call: Callable[[], Any],
    what: str,
    precision: Precision,
    device: Device,
    jit: bool,
    seconds: Callable[[float], float] = lambda measured: measured,
    *,
    size: str,
    flops: float = 0.0,
    bytes: float = 0.0,
) -> Diagnostic:
    state: dict[str, Any] = {"call": call}

    def run(times: int) -> None:
        devices.set_tf32(precision.tf32)
        with tf.device(device.placement):
            for _ in range(times):
                state["last"] = state["call"]()
            tf.test.experimental.sync_devices()

    def record(**fields: Any) -> PeakRecord:
        return PeakRecord(
            **{**fields, "model": "", "phase": ""},
            precision=precision.name,
            jit=jit,
            tf32=precision.tf32 and devices.tf32_available(device),
            what=what,
            size=size,
            flops=flops,
            bytes=bytes,
        )

    def check() -> None:
        last = state.get("last")
        if last is not None and not np.isfinite(np.asarray(last).astype(np.float64)).all():
            raise CaseFailure(f"the {what} gave a value that is not finite")

    def release() -> None:
        state.clear()
        gc.collect()

    run(1)
    return Diagnostic(run, record, seconds=seconds, check=check, release=release)


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
