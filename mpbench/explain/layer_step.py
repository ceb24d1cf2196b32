"""One layer of a model as something to be timed: a few calls of it in one compiled function, one after the other.

Calling a compiled function costs 50 to 150 us on a CPU, which a layer inside a step does not pay. So one function holds
several calls where they are short, on inputs of their own, so that none can be left out as a repetition, each waiting
for the one before it, so that none runs beside another. The time of a function that does nothing with as many inputs
and outputs is measured beside it and taken off.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from mpbench import device as devices
from mpbench.errors import CaseFailure
from mpbench.explain.costs import known_size
from mpbench.explain.layer_call import CallFunction, call_costs
from mpbench.explain.layers import DistinctLayer
from mpbench.explain.probe import Probe
from mpbench.explain.records import LayerRecord
from mpbench.explain.watch import no_collecting
from mpbench.models import SEED
from mpbench.steps import StepSpec

CHAIN_SECONDS = 2e-3
"""A layer is called so often in one function that it takes this long; against it what is left of the call's own cost
after it has been taken off is little."""

MAX_CHAIN_CALLS = 128
MAX_CHAIN_KERNELS = 600
"""Tracing takes about a millisecond for each."""

MAX_CHAIN_BYTES = {"cpu": 2**28, "gpu": 2**31}
"""Of inputs, outputs and gradients of all calls together; a single call is timed whatever it needs."""

EMPTY_CALLS = 10
"""Calls of the empty function before each round."""


def layer_probe(distinct: DistinctLayer, spec: StepSpec) -> Probe:
    """A layer to be timed in the spec's phase: the model's own object, on random inputs of its shapes and dtypes.

    Raises:
        CaseFailure: the two states of TF32 cannot be told apart here.
        tf.errors.ResourceExhaustedError: out of memory.
    """
    with tf.device(spec.device.placement):
        step = LayerStep(distinct, spec)
    costs = call_costs(distinct.call, spec.phase)

    def record(**fields: Any) -> LayerRecord:
        return LayerRecord(
            **{**fields, "model": spec.model, "phase": spec.phase},
            precision=spec.precision.name,
            jit=step.jit,
            tf32=spec.precision.tf32,
            layer=distinct.id,
            layer_type=distinct.layer_type,
            count=distinct.count,
            config=distinct.config,
            input_shape=distinct.input_shape,
            output_shape=distinct.output_shape,
            compute_dtype=distinct.compute_dtype,
            parameters=distinct.parameters,
            flops=costs.flops,
            minimal_bytes=costs.minimal_bytes,
            kernels=costs.kernels,
            cast_bytes=costs.cast_bytes,
        )

    return Probe(
        step.run, record, before=step.time_empty, seconds=step.seconds, check=step.check, release=step.release
    )


class LayerStep:
    """Some calls of a layer in one compiled function; it has run when the constructor returns.

    Attributes:
        calls: of the layer in one run.
        jit: whether XLA compiles it.
    """

    def __init__(self, distinct: DistinctLayer, spec: StepSpec) -> None:
        self.spec = spec
        self._layer = distinct
        self._function = CallFunction(distinct.call, spec.phase)
        supports = bool(getattr(distinct.layer, "supports_jit", True))
        self.jit = spec.jit if spec.jit is not None else spec.device.kind == "gpu" and supports
        devices.check_tf32_is_apart(spec.precision.tf32, spec.precision.policy, spec.device, self.jit)
        self._build(1)
        kernels = max(1, call_costs(distinct.call, spec.phase).kernels)
        if (calls := self._wanted_calls(kernels)) > 1:
            self._build(calls)

    def run(self, times: int) -> None:
        """Run all calls so many times back to back and wait until the device has finished them."""
        devices.set_tf32(self.spec.precision.tf32)
        call, last = self._call, None
        for _ in range(times):
            last = call()
        tf.test.experimental.sync_devices()
        self._last = last

    def time_empty(self) -> None:
        """Measure the call of a function that does nothing."""
        self._empty_seconds.append(_seconds_of(self._empty, EMPTY_CALLS))

    def seconds(self, measured: float) -> float:
        """Seconds of one call of the layer, of the seconds of a run."""
        return (measured - statistics.median(self._empty_seconds)) / self.calls

    def check(self) -> None:
        """Raise CaseFailure if what came out differs in shape or dtype from what the layer gives in the model."""
        expected = [(tuple(spec.shape), spec.dtype) for spec in self._layer.call.outputs]
        for outputs, _, _ in self._last:
            got = [(tuple(value.shape), value.dtype) for value in outputs]
            if got != expected:
                raise CaseFailure(f"{self._layer.id} gave {got} alone, in the model {expected}")

    def release(self) -> None:
        """Give inputs, outputs and graphs back."""
        del self._call, self._empty, self._last
        gc.collect()

    def _build(self, calls: int) -> None:
        self.calls = calls
        call, phase = self._layer.call, self.spec.phase
        inputs = [[_random(spec, 2 * n) for spec in call.inputs] for n in range(calls)]
        gradients = [[_random(spec, 2 * n + 1) for spec in call.outputs] for n in range(calls)]
        if phase != "training":
            gradients = [[] for _ in range(calls)]

        def all_calls() -> list[Any]:
            results: list[Any] = []
            for own_inputs, own_gradients in zip(inputs, gradients, strict=True):
                with tf.control_dependencies(_flat(results[-1:])):
                    results.append(self._function(own_inputs, own_gradients))
            return results

        with no_collecting():
            self._call = tf.function(all_calls, autograph=False, jit_compile=self.jit).get_concrete_function()
        self.run(1)
        given = [*_flat([inputs, gradients])]
        self._empty = _empty_function(given, len(_flat(self._last)), self.jit)
        self._empty_seconds: list[float] = []
        self.time_empty()

    def _wanted_calls(self, kernels: int) -> int:
        self.run(1)
        one = max(self.seconds(min(_seconds_of(lambda: self.run(1), 1) for _ in range(3))), 1e-7)
        held = [*self._layer.call.inputs, *_flat(self._last)]
        held += self._layer.call.outputs if self.spec.phase == "training" else []
        size = sum(known_size(tuple(value.shape)) * value.dtype.size for value in held)
        limits = (
            math.ceil(CHAIN_SECONDS / one),
            MAX_CHAIN_CALLS,
            MAX_CHAIN_KERNELS // kernels,
            MAX_CHAIN_BYTES[self.spec.device.kind] // max(1, size),
        )
        return max(1, min(limits))


def _empty_function(given: Sequence[tf.Tensor], outputs: int, jit: bool) -> Callable[[], Any]:
    """A compiled function with these captured inputs that gives some of them back, so many times."""
    small = tf.zeros(())

    def nothing() -> list[tf.Tensor]:
        taken = [tf.identity(value) for value in given]
        return [*(tf.identity(small) for _ in range(outputs)), *taken[:0]]

    return tf.function(nothing, autograph=False, jit_compile=jit).get_concrete_function()  # type: ignore[no-any-return]


def _seconds_of(function: Callable[[], Any], times: int) -> float:
    function()
    start = time.perf_counter()
    for _ in range(times):
        function()
    tf.test.experimental.sync_devices()
    return (time.perf_counter() - start) / times


def _random(spec: tf.TensorSpec, seed: int) -> tf.Tensor:
    """In [-1, 1); of whole numbers 0 or 1, which any table of an embedding has."""
    if spec.dtype.is_floating:
        values = tf.random.stateless_uniform(spec.shape, seed=(SEED, seed), minval=-1.0, maxval=1.0)
    else:
        values = tf.random.stateless_uniform(spec.shape, seed=(SEED, seed), minval=0, maxval=2, dtype=tf.int32)
    return tf.cast(values, spec.dtype)


def _flat(values: Any) -> list[tf.Tensor]:
    return [value for value in tf.nest.flatten(values) if tf.is_tensor(value)]
