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
from mpbench.engine import distribution as replicas
from mpbench.engine.batch import Targets, images_of, synthetic_batch, target_forms
from mpbench.engine.loss_scaling import (
    DOUBTFUL_RATIO,
    LOWER_SCALE,
    MAX_SETTLING_STEPS,
    UNSCALED_RATIO,
    LossScaling,
    watched_updates,
)
from mpbench.engine.models import build_model, can_be_called, compile_model, has_own_step
from mpbench.engine.plan import StepSpec
from mpbench.engine.products import Calls, Work, described_work, watched_calls, work_by_layer
from mpbench.engine.tracing import named_after, tracing
from mpbench.errors import CaseFailure, described, place_in_own_code

MOST = 0.5
"""Share of a step's FLOPs in another dtype than the layers say, from which on the arm is not what its name says."""

NEGLIGIBLE = 0.01
"""Share of its FLOPs that layers may compute in a dtype of their own without a word, such as a last layer's."""


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
        images: what the model takes.
        peak_memory_bytes: see `device.peak_memory_bytes`; on a GPU without what was there before.

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
        self._takes_batches = takes_batches or spec.batch_size == LARGEST_BATCH
        with replicas.scope(spec.device, spec.replicas):
            progress("building")
            self._model = build_model(spec.model, spec.image_size_px, spec.precision)
            self.images = images_of(self._model, spec.image_shape)
            batch = synthetic_batch(spec.batch_size or 1, spec.image_shape, self.images)
            self._batch = replicas.spread(batch, spec.replicas)
            self._forms: list[Targets] = []
            self._labels: Any = None
            self.jit = resolved_jit(spec, self._model)
            devices.check_tf32_is_apart(spec.precision.tf32, spec.precision.policy, spec.device, self.jit)
            if spec.phase == "training":
                self._prepare_training()
            elif not can_be_called(self._model):
                raise CaseFailure("it has a training step, but no call(): there is no inference to measure")
            self.parameters = sum(math.prod(weight.shape) for weight in self._model.weights)
        self._call: Any = None
        self._last: Any = None
        self._scaling = LossScaling()
        self._notes = [self.images.guessed]
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
            self._call, calls = self._trace()
            self.trace_seconds = time.perf_counter() - start
        self._check_computes_as_named(work_by_layer(self._call.graph, calls))

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
            batches: on the device, shape (batch_size, height, width, 3), of the dtype that `images` says.
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
            self._batch = synthetic_batch(batch_size, self.spec.image_shape, self.images)
            if self._forms:
                self._labels = self._forms[0].make(batch_size)
        self.spec = replace(self.spec, batch_size=batch_size)

    def settle(self, progress: Callable[[str], None]) -> None:
        """Run until loss scaling has accepted an update; then take the peak of memory of one more step.

        On a GPU that is what lies there for it (weights, the optimizer's state, its batch) and what the step adds.

        Raises:
            CaseFailure: loss scaling accepts no update, or the loss is not scaled.
        """
        for note in filter(None, self._notes):
            progress(note)
        self._notes.clear()
        with replicas.scope(self.spec.device, self.spec.replicas):
            self.settling_steps = self._settle_loss_scale(progress)
            self._check_scale_cancels(progress)
            in_use = devices.reset_peak_memory(self.spec.device)
            self.run(1)
            peak = devices.peak_memory_bytes(self.spec.device)
        self.peak_memory_bytes = peak - in_use + self._own_bytes() if self.spec.device.kind == "gpu" else peak

    def _own_bytes(self) -> int:
        """Of all that stays on the device between two steps."""
        optimizer = self._model.optimizer if self.spec.phase == "training" else None
        variables = [*self._model.variables, *(optimizer.variables if optimizer else ())]
        distinct = {id(variable): variable for variable in variables}.values()
        batch = math.prod((self.spec.batch_size, *self.spec.image_shape)) * tf.as_dtype(self.images.dtype).size
        return int(batch + sum(math.prod(one.shape) * tf.as_dtype(one.dtype).size for one in distinct))

    def skipped_steps(self) -> int:
        """Updates that loss scaling has dropped since the step was traced, as Keras's own loss scales tell it.

        A step of the model's own that scales its loss by itself may skip others, which nothing tells.
        """
        return self._scaling.skipped

    def loss_scale(self) -> float | None:
        """Current loss scale, the smallest of several; None where none takes part."""
        return self._scaling.scale

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
        del self._model, self._batch, self._labels, self._call, self._last, self._scaling
        gc.collect()

    def _prepare_training(self) -> None:
        compile_model(self._model, self.spec.precision, self.jit, self.spec.image_shape)
        if self.spec.replicas > 1 and len(self._model.metrics) > 1:  # the loss is one
            raise CaseFailure(
                "its factory compiles metrics, whose variables replicas cannot make while they trace: compile without"
            )
        if not self._model.trainable_weights:
            raise CaseFailure("none of its weights is trainable: there is nothing to train, only inference to measure")
        # Built before tracing: otherwise its variables are created inside the first trace, which TensorFlow then
        # repeats, and the initial loss scale is baked into the graph as a constant.
        optimizer = self._model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self._model.trainable_variables)
        self._sums_before = _sums(self._model.trainable_weights)
        self._forms = target_forms(self._model, self.spec.image_shape)

    def _trace(self) -> tuple[Any, Calls]:
        """Its function, and where its layers were called.

        What a training step of the model's own is to be given besides images, trying it tells.
        """
        failed: list[Exception] = []
        guessed = len(self._forms) > 1 and not self._model.loss
        while True:
            if self._forms:
                targets = self._forms[0].make(self.spec.batch_size or 1)
                self._labels = None if targets is None else replicas.spread(targets, self.spec.replicas)
            try:
                traced = self._traced()
                break
            except Exception as error:  # whatever a user's step raises
                failed.append(error)
                self._forms = self._forms[1:]
                if self._forms:
                    continue
                if is_out_of_memory(failed[0]) or ":" not in self.spec.model:
                    raise failed[0] from None
                what = f"{described(failed[0])}{place_in_own_code(failed[0])}"
                raise CaseFailure(f"its {self.spec.phase} step cannot be traced: {what}") from failed[0]
        if failed or guessed:
            self._notes.append(f"its training step is given {self._forms[0].name}")
        return traced

    def _traced(self) -> tuple[Any, Calls]:
        training = self.spec.phase == "training"
        step = self._model.train_step if training else self._model.predict_step
        data = (self._batch,) if self._labels is None else (self._batch, self._labels)

        def on_a_batch(*tensors: Any) -> Any:
            return replicas.run(step, tensors[0] if training and len(data) == 1 else tensors, self.spec.replicas)

        free, specs = self.spec.batch_size == LARGEST_BATCH, []
        if self._takes_batches:
            specs = [tf.TensorSpec((None if free else t.shape[0], *t.shape[1:]), t.dtype) for t in data]
        function = tf.function(
            on_a_batch if self._takes_batches else lambda: on_a_batch(*data), autograph=False, jit_compile=self.jit
        )
        with tracing(), named_after(self.spec.label), watched_calls() as calls, watched_updates(self._found) as scalers:
            # Keras converts nothing with autograph either (its own functions are marked do_not_convert).
            call = function.get_concrete_function(*specs)
        self._scaling = LossScaling(scalers)
        if training and not scalers and self.spec.precision.policy == "mixed_float16":
            self._notes.append(
                "no LossScaleOptimizer takes part in its training step: if it scales its loss, it does so by itself, "
                "and which steps it skips cannot be known"
            )
        return call, calls

    def _found(self, optimizer: keras.optimizers.LossScaleOptimizer) -> None:
        """Of a loss scale that takes part."""
        if self.spec.replicas > 1:
            replicas.skip_together(optimizer)

    def _check_computes_as_named(self, work: list[Work]) -> None:
        """Look at the dtypes of matrix products and convolutions.

        Raises:
            CaseFailure: most of them are computed in another dtype than the precision's, and than their layers say.
        """
        others = [one for one in work if one.dtype != self.spec.precision.compute_dtype]
        declared = [one for one in others if one.dtype == one.declared]
        against = [one for one in others if one.dtype != one.declared]
        if sum(one.share for one in against) > MOST:
            raise CaseFailure(f"{self.spec.model} computes {described_work(against)}, whatever its dtype policy says")
        if against:
            self._notes.append(f"it computes {described_work(against)}, whatever its dtype policy says")
        if sum(one.share for one in declared) > NEGLIGIBLE:
            self._notes.append(f"it computes {described_work(declared)}, as these layers declare")

    def _settle_loss_scale(self, progress: Callable[[str], None]) -> int:
        if self._scaling.settled:
            return 0
        progress("settling the loss scale")
        for count in range(1, MAX_SETTLING_STEPS + 1):
            self.run(1)
            if self._scaling.settled:
                return count
        raise CaseFailure(
            f"loss scaling skipped each of the first {self._scaling.skipped} updates (scale now "
            f"{self.loss_scale():g}): the gradients are never finite"
        )

    def _check_scale_cancels(self, progress: Callable[[str], None]) -> None:
        """Of a training step of the model's own: whether what its gradients are divided by was multiplied before.

        Raises:
            CaseFailure: it was not.
        """
        if not self._scaling or not has_own_step(self._model):
            return
        progress("trying a lower loss scale")
        excess = self._scaling.excess_at_lower_scale(lambda: self.run(1), self._model)
        what = (
            f"at a loss scale {LOWER_SCALE} times lower than {self.loss_scale():g} an update is {excess:.3g} times as "
            "large, and should be the same"
        )
        if excess >= UNSCALED_RATIO:
            raise CaseFailure(
                f"its training step does not train under loss scaling: {what}. It must scale its loss "
                "(optimizer.scale_loss) and leave clipping gradients to the optimizer, which divides them"
            )
        if excess >= DOUBTFUL_RATIO:
            progress(f"is its loss scaled (optimizer.scale_loss)? {what}")


def resolved_jit(spec: StepSpec, model: keras.Model) -> bool:
    """Whether XLA compiles a model's step."""
    if spec.jit is not None:
        return spec.jit
    # Keras's own answer to "auto"; it looks at the machine's GPUs, not at the device that the step runs on.
    return spec.device.kind == "gpu" and bool(model.jit_compile)


def _sums(variables: list[Any]) -> list[tuple[str, float]]:
    """Path and float64 sum of each variable; the sum is NaN or infinite where a weight is, and moves where one does."""
    return [(v.path, float(np.asarray(v).astype(np.float64).sum())) for v in variables]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the host, had no memory left."""
    if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
        return True
    # CUDA's libraries report a failed allocation of their own as an internal error.
    return isinstance(error, (tf.errors.InternalError, tf.errors.UnknownError)) and "ALLOC_FAILED" in str(error)


def _first_bad(array: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(array[~np.isfinite(array)].ravel()[0])
