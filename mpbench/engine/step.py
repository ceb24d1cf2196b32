"""One compiled step on the device: what it does, how it is synchronised, and the checks that it did it.

A step is what Keras's own fit or predict does with one mini-batch, through the model's public `train_step` and
`predict_step`, compiled once as a tf.function and called without Keras's loop around it.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mpbench.config.profiles import LARGEST_BATCH, SEED
from mpbench.engine import device as devices
from mpbench.engine import distribution as replicas
from mpbench.engine.models import build_model, compile_model, output_shape
from mpbench.engine.plan import StepSpec
from mpbench.engine.tracing import named_after, tracing
from mpbench.errors import CaseFailure

MAX_SETTLING_STEPS = 48
"""From 2**15 a loss scale has reached float16's smallest number well before this many halvings."""


class Step:
    """A built, compiled step with its batch on the device; it has run at least once when the constructor returns.

    With `whole` off it is only built then: `trace`, `start` and `settle` are left to the caller, in this order.

    Args:
        spec: what to build.
        progress: called with the name of each slow part as it begins.
        takes_batches: whether `run_on` shall work. A step that holds its one batch is called in less time, by 20 to
            50 us on a CPU (measured on a model of 0.2 ms a step); one whose batch is still to be found must take it.
        whole: see above.

    Attributes:
        jit: whether XLA compiled it.
        trace_seconds: of tracing, in Python.
        first_run_seconds: graph optimisation and compilation, and the first run.
        settling_steps: steps that it took until loss scaling accepted an update (0 without loss scaling).
        parameters: number of weights, trainable or not.
        peak_memory_bytes: see `device.peak_memory_bytes`; on a GPU without what was there before.

    Raises:
        CaseFailure: the model does not follow the dtype policy, or loss scaling accepts no update.
        tf.errors.ResourceExhaustedError: out of memory.
    """

    def __init__(
        self,
        spec: StepSpec,
        progress: Callable[[str], None] = lambda _: None,
        takes_batches: bool = False,
        whole: bool = True,
    ) -> None:
        self.spec = spec
        self._takes_batches = takes_batches or spec.batch_size == LARGEST_BATCH
        with replicas.scope(spec.device, spec.replicas):
            progress("building")
            self._batch = replicas.spread(synthetic_batch(spec.batch_size or 1, spec.image_shape), spec.replicas)
            self._labels: Any = None
            self._model = build_model(spec.model, spec.image_size_px, spec.precision)
            self.jit = resolved_jit(spec, self._model)
            devices.check_tf32_is_apart(spec.precision.tf32, spec.precision.policy, spec.device, self.jit)
            if spec.phase == "training":
                self._prepare_training()
            self.parameters = int(self._model.count_params())
        self._call: Any = None
        self._last: Any = None
        self.steps = 0
        if whole:
            progress("tracing and compiling")
            self.trace()
            self.start()
            self.settle(progress)

    def trace(self) -> None:
        """Trace it, which is Python and runs nothing on the device; in any thread."""
        with replicas.scope(self.spec.device, self.spec.replicas):
            start = time.perf_counter()
            self._call = self._trace()
            self.trace_seconds = time.perf_counter() - start

    def start(self) -> None:
        """Run it for the first time: graph optimisation, compilation, the choice of algorithms by trying them.

        Two steps must not do so at once on one GPU: each would try algorithms while the other keeps the GPU busy.
        """
        with replicas.scope(self.spec.device, self.spec.replicas):
            start = time.perf_counter()
            self.run(1)
            self.first_run_seconds = time.perf_counter() - start

    @property
    def model(self) -> keras.Model:
        """The model that it trains or runs."""
        return self._model

    @property
    def graph(self) -> Any:
        """The graph of the step, as it was traced."""
        return self._call.graph

    @property
    def first_step_seconds(self) -> float:
        """Tracing, graph optimisation and compilation, and the first run."""
        return self.trace_seconds + self.first_run_seconds

    def run(self, steps: int) -> None:
        """Run steps of its own batch back to back and wait until the device has finished them."""
        if self._takes_batches:
            self.run_on(itertools.repeat(self._batch, steps))
            return
        devices.set_tf32(self.spec.precision.tf32)
        call = self._call
        out = None
        for _ in range(steps):
            out = call()
        replicas.wait()
        self._last = out
        self.steps += steps

    def run_on(self, batches: Iterable[tf.Tensor]) -> None:
        """Run a step of each batch back to back and wait until the device has finished them.

        Args:
            batches: on the device, shape (batch_size, height, width, 3), float32.
        """
        devices.set_tf32(self.spec.precision.tf32)
        call = self._call
        targets = () if self._labels is None else (self._labels,)
        out, steps = None, 0
        for batch in batches:
            out = call(batch, *targets)
            steps += 1
        replicas.wait()
        self._last = out
        self.steps += steps

    def set_batch(self, batch_size: int) -> None:
        """Give a step whose batch is free one of so many images; the old one is given back first."""
        self._batch = self._labels = self._last = None
        with tf.device(self.spec.device.placement):
            self._batch = synthetic_batch(batch_size, self.spec.image_shape)
            if self.spec.phase == "training":
                self._labels = labels(self._model, batch_size, self.spec.image_shape)
        self.spec = replace(self.spec, batch_size=batch_size)

    def settle(self, progress: Callable[[str], None]) -> None:
        """Run until loss scaling has accepted an update; then take the peak of memory of one more step.

        On a GPU that is what lies there for it (weights, the optimizer's state, its batch) and what the step adds.
        """
        with replicas.scope(self.spec.device, self.spec.replicas):
            self.settling_steps = self._settle_loss_scale(progress)
            in_use = devices.reset_peak_memory(self.spec.device)
            self.run(1)
            peak = devices.peak_memory_bytes(self.spec.device)
        self.peak_memory_bytes = peak - in_use + self._own_bytes() if self.spec.device.kind == "gpu" else peak

    def _own_bytes(self) -> int:
        """Of all that stays on the device between two steps."""
        optimizer = self._model.optimizer if self.spec.phase == "training" else None
        variables = [*self._model.variables, *(optimizer.variables if optimizer else ())]
        distinct = {id(variable): variable for variable in variables}.values()
        batch = math.prod((self.spec.batch_size, *self.spec.image_shape)) * tf.float32.size
        return int(batch + sum(math.prod(one.shape) * tf.as_dtype(one.dtype).size for one in distinct))

    def skipped_steps(self) -> int:
        """Updates that loss scaling has dropped since the step was built."""
        scaler = self._loss_scaler()
        return 0 if scaler is None else self.steps - int(scaler.iterations.numpy()) + self._updates_before

    def loss_scale(self) -> float | None:
        """Current loss scale; None where there is none."""
        scaler = self._loss_scaler()
        return None if scaler is None else float(scaler.dynamic_scale.numpy())

    def check(self) -> None:
        """Look at what the steps left behind.

        Raises:
            CaseFailure: the loss, an output or a weight is not finite, or training has moved no weight.
        """
        what = "loss" if self.spec.phase == "training" else "output"
        for value in keras.tree.flatten(self._last):
            array = np.asarray(value).astype(np.float64)
            if not np.isfinite(array).all():
                raise CaseFailure(f"{what} is not finite ({_first_bad(array)}) after {self.steps} steps")
        trainable, others = _sums(self._model.trainable_weights), _sums(self._model.non_trainable_weights)
        bad = [name for name, value in [*trainable, *others] if not math.isfinite(value)]
        if bad:
            raise CaseFailure(f"weights are not finite after {self.steps} steps, {bad[0]} first of {len(bad)}")
        if self.spec.phase == "training" and trainable == self._sums_before:
            raise CaseFailure(f"training moved none of {len(trainable)} trainable weights in {self.steps} steps")

    def check_is_apart_from(self, other: Step) -> None:
        """Raise CaseFailure if two arms train the same weights: then neither of them is measured alone."""
        mine = {id(weight) for weight in self._model.weights}
        if any(id(weight) in mine for weight in other._model.weights):
            raise CaseFailure(
                f"{self.spec.model}: its factory returned the same weights twice: build new ones each time"
            )

    def release(self) -> None:
        """Give the model, its batch and its graph back."""
        del self._model, self._batch, self._labels, self._call, self._last
        gc.collect()

    def _prepare_training(self) -> None:
        compile_model(self._model, self.spec.precision, self.jit, self.spec.image_shape)
        if self.spec.replicas > 1 and len(self._model.metrics) > 1:  # the loss is one
            raise CaseFailure(
                "its factory compiles metrics, whose variables replicas cannot make while they trace: compile without"
            )
        # Built before tracing: otherwise its variables are created inside the first trace, which TensorFlow then
        # repeats, and the initial loss scale is baked into the graph as a constant.
        optimizer = self._model.optimizer
        if not optimizer.built:
            optimizer.build(self._model.trainable_variables)
        self._updates_before = int(optimizer.iterations.numpy())
        if self._loss_scaler() is not None and optimizer.inner_optimizer.gradient_accumulation_steps:
            raise CaseFailure(
                "gradient_accumulation_steps under loss scaling: skipped steps cannot be told from accumulated ones"
            )
        if self._loss_scaler() is not None and self.spec.replicas > 1:
            replicas.skip_together(optimizer)
        self._sums_before = _sums(self._model.trainable_weights)
        targets = labels(self._model, self.spec.batch_size or 1, self.spec.image_shape)
        self._labels = replicas.spread(targets, self.spec.replicas)

    def _trace(self) -> Callable[..., Any]:
        step = self._model.train_step if self.spec.phase == "training" else self._model.predict_step
        data = (self._batch,) if self._labels is None else (self._batch, self._labels)

        def on_its_batch() -> Any:
            return replicas.run(step, data, self.spec.replicas)

        def on_a_batch(*tensors: Any) -> Any:
            return step(tensors)

        free, specs = self.spec.batch_size == LARGEST_BATCH, []
        if self._takes_batches:
            specs = [tf.TensorSpec((None if free else t.shape[0], *t.shape[1:]), t.dtype) for t in data]
        function = tf.function(
            on_a_batch if self._takes_batches else on_its_batch, autograph=False, jit_compile=self.jit
        )
        with tracing(), named_after(self.spec.label):
            # Keras converts nothing with autograph either (its own functions are marked do_not_convert).
            return function.get_concrete_function(*specs)  # type: ignore[no-any-return]

    def _settle_loss_scale(self, progress: Callable[[str], None]) -> int:
        if self._loss_scaler() is None or self.skipped_steps() < self.steps:
            return 0
        progress("settling the loss scale")
        for count in range(1, MAX_SETTLING_STEPS + 1):
            self.run(1)
            if self.skipped_steps() < self.steps:
                return count
        raise CaseFailure(
            f"loss scaling skipped each of the first {self.steps} steps (scale now {self.loss_scale():g}): "
            "the gradients are never finite"
        )

    def _loss_scaler(self) -> Any:
        if self.spec.phase != "training":
            return None
        optimizer = self._model.optimizer
        return optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else None


def resolved_jit(spec: StepSpec, model: keras.Model) -> bool:
    """Whether XLA compiles a model's step."""
    if spec.jit is not None:
        return spec.jit
    # Keras's own answer to "auto"; it looks at the machine's GPUs, not at the device that the step runs on.
    return spec.device.kind == "gpu" and bool(model.jit_compile)


def _sums(variables: list[Any]) -> list[tuple[str, float]]:
    """Path and float64 sum of each variable; the sum is NaN or infinite where a weight is, and moves where one does."""
    return [(v.path, float(np.asarray(v).astype(np.float64).sum())) for v in variables]


def synthetic_batch(batch_size: int, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Random images in [-1, 1) on the device, float32 as a step takes them."""
    return tf.random.stateless_uniform((batch_size, *image_shape), seed=(SEED, 0), minval=-1.0, maxval=1.0)


def labels(model: keras.Model, batch_size: int, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Random targets of the form that the model's loss takes: class numbers for a sparse loss, else its output's."""
    shape = (batch_size, *output_shape(model, image_shape)[1:])
    name = getattr(model.loss, "name", None) or getattr(model.loss, "__name__", None) or str(model.loss)
    if name.startswith("sparse") or type(model.loss).__name__.startswith("Sparse"):
        return tf.random.stateless_uniform(
            (batch_size, *shape[1:-1]), seed=(SEED, 1), minval=0, maxval=shape[-1], dtype=tf.int32
        )
    return tf.random.stateless_uniform(shape, seed=(SEED, 1))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the host, had no memory left."""
    if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
        return True
    # CUDA's libraries report a failed allocation of their own as an internal error.
    return isinstance(error, (tf.errors.InternalError, tf.errors.UnknownError)) and "ALLOC_FAILED" in str(error)


def _first_bad(array: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(array[~np.isfinite(array)].ravel()[0])
