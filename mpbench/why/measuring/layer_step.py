"""One layer of a model as something to be timed: a few calls of it in one compiled function, one after the other.

Calling a compiled function costs 50 to 150 us on a CPU, which a layer inside a step does not pay; so one function holds
several calls where they are short, each waiting for the one before it. Nothing can be left out as a repetition.

In a step a layer finds its input where the layer before it has just put it: in a cache if it fits, in memory that it
may overwrite; and what it gives is soon freed and its memory taken again. On a CPU that is most of the time of an
elementwise layer. So there each call works on a fresh copy of its inputs, and of what it gives one value is read. The
time of a function that makes the same copies and calls no layer is measured beside it and taken off. XLA would fuse
such copies into the layer, and on a GPU they would cost as much as the layer: there every call has inputs of its own
in memory and everything it gives is kept.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from mpbench.config.profiles import SEED
from mpbench.engine import device as devices
from mpbench.engine.plan import StepSpec
from mpbench.engine.tracing import tracing
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import LayerRecord
from mpbench.why.measuring.layer_call import CallFunction, call_costs
from mpbench.why.measuring.layers import DistinctLayer
from mpbench.why.measuring.probe import LEAST_SECONDS, Probe

CHAIN_SECONDS = 1e-3
"""A layer is called so often in one function that it takes this long; against it what is left of the call's own cost
after it has been taken off is little."""

MAX_CHAIN_CALLS = 32
MAX_CHAIN_KERNELS = 200
"""Tracing takes about a millisecond for each."""

MAX_CHAIN_BYTES = {"cpu": 2**28, "gpu": 2**31}
"""Of inputs, outputs and gradients of all calls together; a single call is timed whatever it needs."""

MIN_CALL_SECONDS = LEAST_SECONDS
"""One floor for all probes: what is at it is marked there."""

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
    costs = step.costs

    def record(**fields: Any) -> LayerRecord:
        return LayerRecord(
            **{**fields, "model": spec.model, "phase": spec.phase},
            precision=spec.precision.name,
            jit=step.jit,
            tf32=spec.precision.tf32 and devices.tf32_available(spec.device),
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

    return Probe(step.run, record, before=step.time_empty, seconds=step.seconds, check=step.check, release=step.release)


class LayerStep:
    """Some calls of a layer in one compiled function; it has run when the constructor returns.

    Attributes:
        calls: of the layer in one run.
        jit: whether XLA compiles it.
        costs: of one call.
    """

    def __init__(self, distinct: DistinctLayer, spec: StepSpec) -> None:
        self.spec = spec
        self._layer = distinct
        self._function = CallFunction(distinct.call, spec.phase)
        supports = bool(getattr(distinct.layer, "supports_jit", True))
        self.jit = spec.jit if spec.jit is not None else spec.device.kind == "gpu" and supports
        devices.check_tf32_is_apart(spec.precision.tf32, spec.precision.policy, spec.device, self.jit)
        self._copies = spec.device.kind == "cpu" and not self.jit
        self._build(1)
        self.costs = call_costs(distinct.call, spec.phase)
        if (calls := self._wanted_calls(max(1, self.costs.kernels))) > 1:
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
        return max((measured - statistics.median(self._empty_seconds)) / self.calls, MIN_CALL_SECONDS)

    def check(self) -> None:
        """Raise CaseFailure if what came out differs in shape or dtype from what the layer gives in the model."""
        expected = [(tuple(spec.shape), spec.dtype) for spec in self._layer.call.outputs]
        if self._came != expected:
            raise CaseFailure(f"{self._layer.id} gives {self._came} alone, in the model {expected}")

    def release(self) -> None:
        """Give inputs, outputs and graphs back."""
        del self._call, self._empty, self._last
        gc.collect()

    def _build(self, calls: int) -> None:
        self.calls = calls
        call, training = self._layer.call, self.spec.phase == "training"
        own = 1 if self._copies else calls
        inputs = [[_random(spec, 2 * n) for spec in call.inputs] for n in range(own)]
        gradients = [[_random(spec, 2 * n + 1) for spec in call.outputs if training] for n in range(own)]
        given = [inputs[n % own] + gradients[n % own] for n in range(calls)]

        def one_call(values: list[tf.Tensor]) -> list[tf.Tensor]:
            outputs, *of = self._function(values[: len(call.inputs)], values[len(call.inputs) :])
            self._came = [(tuple(value.shape), value.dtype) for value in outputs]
            results = _flat([outputs, of])
            self._results = [tf.TensorSpec(value.shape, value.dtype) for value in results]
            return results

        def no_call(values: list[tf.Tensor]) -> list[tf.Tensor]:
            # As many results as a call has: of the copies as far as there are any, else of anything small.
            small = [values[-1]] if self._copies and values else [nothing]
            return [(values + small * len(self._results))[n] for n in range(max(len(self._results), len(values)))]

        nothing = tf.zeros(())
        with tracing():
            self._call = self._chained(given, one_call)
            self._empty = self._chained(given, no_call)
        self._held_bytes = sum(map(_bytes, [*self._results, *given[0]]))
        self.run(1)
        self._empty_seconds: list[float] = []
        self.time_empty()

    def _chained(
        self, given: Sequence[list[tf.Tensor]], one: Callable[[list[tf.Tensor]], list[tf.Tensor]]
    ) -> Callable[[], Any]:
        """A compiled function that does `one` to each list of tensors, one after the other."""

        def all_of_them() -> list[list[tf.Tensor]]:
            kept: list[list[tf.Tensor]] = []
            results: list[tf.Tensor] = []
            for values in given:
                with tf.control_dependencies(results):
                    own = [tf.raw_ops.DeepCopy(x=value) for value in values] if self._copies else values
                with tf.control_dependencies(own if self._copies else results):
                    results = one(own)
                    results = [_first(value) for value in results] if self._copies else results
                kept.append(results)
            return kept

        compiled = tf.function(all_of_them, autograph=False, jit_compile=self.jit)
        return compiled.get_concrete_function()  # type: ignore[no-any-return]

    def _wanted_calls(self, kernels: int) -> int:
        self.run(1)
        one = max(self.seconds(min(_seconds_of(lambda: self.run(1), 1) for _ in range(3))), 1e-7)
        limits = (
            math.ceil(CHAIN_SECONDS / one),
            MAX_CHAIN_CALLS,
            MAX_CHAIN_KERNELS // kernels,
            MAX_CHAIN_CALLS if self._copies else MAX_CHAIN_BYTES[self.spec.device.kind] // max(1, self._held_bytes),
        )
        return max(1, min(limits))


def _first(value: tf.Tensor) -> tf.Tensor:
    """One value of it: needs all of it to be computed (but for XLA, which computes just that), and lets it go."""
    return tf.reshape(value, [-1])[:1]


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


def _bytes(value: Any) -> int:
    return (value.shape.num_elements() or 0) * int(value.dtype.size)


def _flat(values: Any) -> list[tf.Tensor]:
    return [value for value in tf.nest.flatten(values) if tf.is_tensor(value)]
