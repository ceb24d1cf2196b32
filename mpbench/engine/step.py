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

from mpbench.config.profiles import LARGEST_BATCH
from mpbench.engine import device as devices
from mpbench.engine import distribution, memory
from mpbench.engine.batch import IMAGES_ALONE, Targets, built_with_data, synthetic_batch, target_forms
from mpbench.engine.loss_scaling import LossScaling, watched_updates
from mpbench.engine.models import can_be_called, compile_model, has_own_step, optimizers_of
from mpbench.engine.own_data import Batch
from mpbench.engine.plan import StepSpec
from mpbench.engine.products import Calls, check_computes_in, watched_calls, work_by_layer
from mpbench.engine.tracing import named_after, tracing
from mpbench.errors import CaseFailure, described, place_in_own_code


class Step:
    """A built, compiled step with its batch on the device; it has run at least once when the constructor returns.

    With `whole` off it is only built then: `trace`, `start` and `settle` are left to the caller, in this order.

    Args:
        progress: called with the name of each slow part as it begins.
        takes_batches: whether `run_on` shall work. A step that holds its one batch is called in less time, by 20 to
            50 us on a CPU (measured on a model of 0.2 ms a step); one whose batch is still to be found must take it.
        whole: see above.

    Attributes:
        spec: what it was made of; its batch size is that of its factory's own batch, where that gives one.
        model: that it trains or runs.
        batch: that it is given, on the device.
        images: of which kind it is, where it is no batch of the factory's.
        jit: whether XLA compiled it.
        parameters: number of weights, trainable or not.
        trace_seconds: of tracing, in Python.
        first_run_seconds: graph optimisation and compilation, and the first run.
        steps: that it has run.
        peak_memory_bytes: see `settle`.

    Raises:
        CaseFailure: the model does not follow the dtype policy, has nothing to train or a loss that no targets are
            known for, does not scale its loss, or loss scaling accepts no update.
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
        self.steps = 0
        self._takes_batches = takes_batches or spec.batch_size == LARGEST_BATCH
        self._call: Any = None
        self._last: Any = None
        self._scaling = LossScaling()
        with distribution.scope(spec.device, spec.replicas):
            progress("building")
            self.model, self.batch, self.images = built_with_data(spec)
            self._notes = [self.images.note]
            if self.batch.source:
                if self._takes_batches or spec.replicas > 1:
                    raise CaseFailure(f"its factory gives its own batch of {self.batch.samples}: it takes no other")
                self.spec = spec = replace(spec, batch_size=self.batch.samples)
            else:
                self.batch = Batch(self._spread(self.batch.x))
            self._forms: list[Targets] = [IMAGES_ALONE]
            self.jit = bool(spec.jit)
            if spec.jit is None and spec.device.kind == "gpu":
                self.jit = bool(self.model.jit_compile)  # Keras's own answer to "auto"; it looks at the machine's GPUs
            devices.check_tf32_is_apart(spec.precision.tf32, spec.precision.policy, spec.device, self.jit)
            if spec.phase == "training":
                self._prepare_training()
            elif not can_be_called(self.model):
                raise CaseFailure("it has a training step, but no call(): there is no inference to measure")
            self.parameters = sum(math.prod(weight.shape) for weight in self.model.weights)
        if whole:
            progress("tracing and compiling")
            self.trace()
            self.start()
            self.settle(progress)

    def _spread(self, tensor: tf.Tensor | None) -> Any:
        return None if tensor is None else distribution.spread(tensor, self.spec.replicas)

    def trace(self) -> None:
        """Trace it, which is Python and runs nothing on the device; in any thread.

        Raises:
            CaseFailure: a user's step raises, or most of it computes in another dtype than the precision's.
        """
        with distribution.scope(self.spec.device, self.spec.replicas):
            start = time.perf_counter()
            calls = self._trace()
            self.trace_seconds = time.perf_counter() - start
        work = work_by_layer(self.graph, calls)
        self._notes += check_computes_in(self.spec.precision.compute_dtype, work, self.spec.model)

    def start(self) -> None:
        """Run it for the first time: graph optimisation, compilation, the choice of algorithms by trying them.

        Two steps must not do so at once on one GPU: each would try algorithms while the other keeps the GPU busy.
        """
        with distribution.scope(self.spec.device, self.spec.replicas):
            start = time.perf_counter()
            self.run(1)
            self.first_run_seconds = time.perf_counter() - start

    def settle(self, progress: Callable[[str], None]) -> None:
        """Run until loss scaling has accepted an update; then take the peak of memory of one more step.

        On a GPU that is what lies there for it (weights, the optimizer's state, its batch) and what the step adds; on a
        CPU the peak of the whole process.

        Raises:
            CaseFailure: loss scaling accepts no update, or the loss is not scaled.
        """
        for note in filter(None, self._notes):
            progress(note)
        self._notes.clear()
        with distribution.scope(self.spec.device, self.spec.replicas):
            self._scaling.settle(lambda: self.run(1), progress)
            if has_own_step(self.model):
                self._scaling.check_cancels(lambda: self.run(1), self.model, progress)
            in_use = memory.reset_peak(self.spec.device)
            self.run(1)
            peak = memory.peak_bytes(self.spec.device)
        self.peak_memory_bytes = peak - in_use + self._own_bytes() if self.spec.device.kind == "gpu" else peak

    @property
    def graph(self) -> Any:
        """The graph of the step, as it was traced."""
        return self._call.graph

    def run(self, steps: int) -> None:
        """Run steps of its own batch back to back and wait until the device has finished them."""
        if self._takes_batches:
            self.run_on(itertools.repeat(self.batch.x, steps))
            return
        devices.set_tf32(self.spec.precision.tf32)
        call = self._call
        out = None
        for _ in range(steps):
            out = call()
        distribution.wait()
        self._last = out
        self.steps += steps

    def run_on(self, batches: Iterable[tf.Tensor]) -> None:
        """Run a step of each batch back to back and wait until the device has finished them.

        Args:
            batches: on the device, shape (batch_size, height, width, 3), of the dtype that `images` says.
        """
        devices.set_tf32(self.spec.precision.tf32)
        call = self._call
        targets = () if self.batch.y is None else (self.batch.y,)
        out, steps = None, 0
        for batch in batches:
            out = call(batch, *targets)
            steps += 1
        distribution.wait()
        self._last = out
        self.steps += steps

    def set_batch(self, batch_size: int) -> None:
        """Give a step whose batch is free one of so many images; the old one is given back first."""
        self.batch, self._last = Batch(None), None
        with tf.device(self.spec.device.placement):
            images = synthetic_batch(batch_size, self.spec.image_shape, self.images)
            self.batch = Batch(images, self._forms[0].make(batch_size))
        self.spec = replace(self.spec, batch_size=batch_size)

    def _own_bytes(self) -> int:
        """Of all that stays on the device between two steps."""
        optimizers = optimizers_of(self.model) if self.spec.phase == "training" else []
        variables = [*self.model.variables, *(variable for one in optimizers for variable in one.variables)]
        distinct = {id(variable): variable for variable in variables}.values()
        images = math.prod((self.spec.batch_size, *self.spec.image_shape)) * tf.as_dtype(self.images.dtype).size
        batch = self.batch.bytes if self.batch.source else images
        return int(batch + sum(math.prod(one.shape) * tf.as_dtype(one.dtype).size for one in distinct))

    def skipped_steps(self) -> int:
        """Updates that loss scaling has dropped since the step was traced, as Keras's own loss scales tell it.

        A step of the model's own that scales its loss by itself may skip others, which nothing tells.
        """
        return self._scaling.skipped

    def loss_scale(self) -> float | None:
        """The smallest of its loss scales now; None where none takes part."""
        return self._scaling.scale

    def check(self) -> None:
        """Look at what the steps left behind.

        Raises:
            CaseFailure: the loss, an output or a weight is not finite, or training has moved no weight.
        """
        what = "loss" if self.spec.phase == "training" else "output"
        for value in keras.tree.flatten(self._last):
            array = np.asarray(value).astype(np.float64)
            bad = array[~np.isfinite(array)]
            if bad.size:
                raise CaseFailure(f"{what} is not finite ({bad[0]}) after {self.steps} steps")
        trainable, others = _sums(self.model.trainable_weights), _sums(self.model.non_trainable_weights)
        broken = [name for name, value in [*trainable, *others] if not math.isfinite(value)]
        if broken:
            raise CaseFailure(f"weights are not finite after {self.steps} steps, {broken[0]} first of {len(broken)}")
        if self.spec.phase == "training" and trainable == self._sums_before:
            raise CaseFailure(f"training moved none of {len(trainable)} trainable weights in {self.steps} steps")

    def release(self) -> None:
        """Give the model, its batch and its graph back."""
        del self.model, self.batch, self._forms, self._call, self._last, self._scaling
        gc.collect()

    def _prepare_training(self) -> None:
        compile_model(self.model, self.spec.precision, self.jit, self.spec.image_shape, self.batch)
        if self.spec.replicas > 1 and len(self.model.metrics) > 1:  # the loss is one
            raise CaseFailure(
                "its factory compiles metrics, whose variables replicas cannot make while they trace: compile without"
            )
        if not self.model.weights:
            raise CaseFailure(
                "it has no weights yet: its factory must build its networks, by calling each of them once"
            )
        if not self.model.trainable_weights:
            raise CaseFailure("none of its weights is trainable: there is nothing to train, only inference to measure")
        # Built before tracing: otherwise its variables are created inside the first trace, which TensorFlow then
        # repeats, and the initial loss scale is baked into the graph as a constant.
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        self._sums_before = _sums(self.model.trainable_weights)
        self._forms = target_forms(self.model, self.spec.image_shape, self.batch)

    def _trace(self) -> Calls:
        """Trace it, and tell where its layers were called.

        What a training step of the model's own is to be given besides images, trying it tells.
        """
        guessed = len(self._forms) > 1 and not self.model.loss
        first: Exception | None = None
        for form in self._forms:
            try:
                self.batch = replace(self.batch, y=self._spread(form.make(self.spec.batch_size or 1)))
                calls = self._traced()
            except Exception as error:  # whatever a user's step raises
                first = first or error
            else:
                if first or guessed:
                    self._notes.append(f"its training step is given {form.name}")
                self._forms = [form]
                return calls
        assert first is not None
        if memory.is_out_of_memory(first) or ":" not in self.spec.model:
            raise first
        what = f"{described(first)}{place_in_own_code(first)}"
        data = f" with the batch of its factory, {self.batch.shapes}" if self.batch.source else ""
        raise CaseFailure(f"its {self.spec.phase} step cannot be traced{data}: {what}") from first

    def _traced(self) -> Calls:
        training = self.spec.phase == "training"
        step = self.model.train_step if training else self.model.predict_step
        parts = (self.batch.x, self.batch.y, self.batch.sample_weight)
        data = tuple(part for part in parts if part is not None)

        def on_a_batch(*tensors: Any) -> Any:
            return distribution.run(step, keras.utils.pack_x_y_sample_weight(*tensors), self.spec.replicas)

        free, specs = self.spec.batch_size == LARGEST_BATCH, []
        if self._takes_batches:
            specs = [tf.TensorSpec((None if free else t.shape[0], *t.shape[1:]), t.dtype) for t in data]
        function = tf.function(
            on_a_batch if self._takes_batches else lambda: on_a_batch(*data), autograph=False, jit_compile=self.jit
        )
        found = distribution.skip_together if self.spec.replicas > 1 else lambda _: None
        with tracing(), named_after(self.spec.label), watched_calls() as calls, watched_updates(found) as scalers:
            # Keras converts nothing with autograph either (its own functions are marked do_not_convert).
            self._call = function.get_concrete_function(*specs)
        self._scaling = LossScaling(scalers)
        if training and not scalers and self.spec.precision.policy == "mixed_float16":
            self._notes.append(
                "no LossScaleOptimizer takes part in its training step: if it scales its loss, it does so by itself, "
                "and which steps it skips cannot be known"
            )
        return calls


def _sums(variables: list[Any]) -> list[tuple[str, float]]:
    """Path and float64 sum of each variable; the sum is NaN or infinite where a weight is, and moves where one does."""
    return [(v.path, float(np.asarray(v).astype(np.float64).sum())) for v in variables]
