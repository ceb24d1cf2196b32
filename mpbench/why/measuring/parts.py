"""A training step taken apart: forward pass, forward and backward pass, update, casts; all of one model.

The parts are what the whole step (`engine.step.Step`) is made of, through the model's and the optimizer's public
methods, each compiled alone. `forward` is contained in `gradients`; `gradients` and `update` together are the step but
for the metrics, and `casts` is contained in `gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mpbench.config.profiles import SEED
from mpbench.engine import device as devices
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step
from mpbench.engine.tracing import tracing
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import PARTS, PartRecord
from mpbench.why.measuring.costs import cast_bytes, update_bytes
from mpbench.why.measuring.layer_call import as_array
from mpbench.why.measuring.probe import Probe
from mpbench.why.measuring.watch import traced_whole

GRADIENT_SIZE = 1e-3
"""Largest magnitude of the gradients that the update alone is given: finite at any loss scale, and far from zero."""

Progress = Callable[[str], None]


def part_probes(spec: StepSpec, parts: Sequence[str], progress: Progress = lambda _: None) -> dict[str, Probe]:
    """The wanted parts of one precision's training step, by name.

    Args:
        spec: of the whole step; its phase is training.
        parts: some of `records.PARTS`; `casts` only under a mixed policy.
        progress: called with the name of each slow part as it begins.

    Raises: as `Step`.
    """
    assert set(parts) <= set(PARTS)
    step = PartedStep(spec, progress)
    unreleased = set(parts)

    def release(part: str) -> None:
        unreleased.discard(part)
        if not unreleased:
            step.release()

    def probe(part: str) -> Probe:
        progress(f"tracing and compiling: {part}")
        run, minimal_bytes = step.part(part)

        def record(**fields: Any) -> PartRecord:
            return PartRecord(
                **{**fields, "model": spec.model, "phase": spec.phase},
                precision=spec.precision.name,
                jit=step.jit,
                tf32=spec.precision.tf32 and devices.tf32_available(spec.device),
                part=part,
                minimal_bytes=minimal_bytes,
            )

        return Probe(
            run,
            record,
            skipped_steps=step.skipped_steps if part == "step" else lambda: 0,
            before=step.before_update if part == "update" else lambda: None,
            after=step.after_update if part == "update" else lambda: None,
            check=step.check if part == "step" else step.check_weights,
            release=partial(release, part),
        )

    return {part: probe(part) for part in parts}


class PartedStep(Step):
    """A training step whose parts can be run alone, on the same model, optimizer and batch.

    Raises: as `Step`.
    """

    def __init__(self, spec: StepSpec, progress: Progress = lambda _: None) -> None:
        self._updates = 0
        super().__init__(spec, progress)

    def skipped_steps(self) -> int:
        """As of `Step`; updates that ran alone are no steps."""
        skipped = super().skipped_steps()
        return skipped if self._loss_scaler() is None else skipped + self._updates

    def part(self, name: str) -> tuple[Callable[[int], None], float]:
        """What runs a part so many times, having run it once, and its minimal bytes (0 where no one has counted)."""
        if name == "step":
            return self.run, 0.0
        with tf.device(self.spec.device.placement):
            make = {"forward": self._forward, "gradients": self._gradients, "update": self._update}
            body, minimal_bytes = self._casts() if name == "casts" else (make[name](), 0.0)
            if name == "update":
                minimal_bytes = self._update_bytes()
            with tracing():
                call = tf.function(body, autograph=False, jit_compile=self.jit).get_concrete_function()
            run = partial(self._run_part, name, call)
            if name == "update":
                self.before_update()
            run(1)
            if name == "update":
                self.after_update()
        return run, minimal_bytes

    def before_update(self) -> None:
        """Let updates alone not move the weights (learning rate 0, which costs as much), nor raise the loss scale."""
        optimizer = self._inner_optimizer()
        self._learning_rate: float | None = float(np.asarray(optimizer.learning_rate))
        try:
            optimizer.learning_rate = 0.0
        except (TypeError, ValueError):  # Keras refuses where a schedule decides; then they move
            self._learning_rate = None
        scaler = self._loss_scaler()
        self._scale = None if scaler is None else (scaler.dynamic_scale.numpy(), scaler.step_counter.numpy())

    def after_update(self) -> None:
        """Undo `before_update`."""
        if self._learning_rate is not None:
            self._inner_optimizer().learning_rate = self._learning_rate
        if self._scale is not None:
            scaler = self._loss_scaler()
            scaler.dynamic_scale.assign(self._scale[0])
            scaler.step_counter.assign(self._scale[1])

    def check_weights(self) -> None:
        """Raise CaseFailure if a weight is not finite."""
        for weight in self._model.weights:
            if not np.isfinite(np.asarray(weight).astype(np.float64)).all():
                raise CaseFailure(f"the weight {weight.path} is not finite")

    def _run_part(self, name: str, call: Callable[[], Any], times: int) -> None:
        devices.set_tf32(self.spec.precision.tf32)
        for _ in range(times):
            call()
        tf.test.experimental.sync_devices()
        if name == "update":
            self._updates += times

    def _inner_optimizer(self) -> Any:
        optimizer = self._model.optimizer
        return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer

    def _loss(self) -> Any:
        outputs = self._model(self._batch, training=True)
        return self._model.compute_loss(x=self._batch, y=self._labels, y_pred=outputs, training=True)

    def _forward(self) -> Callable[[], Any]:
        return self._loss

    def _gradients(self) -> Callable[[], Any]:
        def gradients() -> Any:
            with tf.GradientTape() as tape:
                loss = self._loss()
                scaled = self._model.optimizer.scale_loss(loss)
            return loss, tape.gradient(scaled, self._model.trainable_weights)

        return gradients

    def _update(self) -> Callable[[], Any]:
        weights = self._model.trainable_weights
        gradients = [
            tf.cast(
                tf.random.stateless_uniform(
                    weight.shape, seed=(SEED, number), minval=-GRADIENT_SIZE, maxval=GRADIENT_SIZE
                ),
                weight.dtype,
            )
            for number, weight in enumerate(weights)
        ]

        def update() -> None:
            self._model.optimizer.apply(gradients, weights)

        return update

    def _update_bytes(self) -> float:
        weights = [as_array(weight) for weight in self._model.trainable_weights]
        # Besides its slots an optimizer has counters and rates: single values.
        slots = [as_array(variable) for variable in self._inner_optimizer().variables if len(variable.shape)]
        return update_bytes(weights, weights, slots)

    def _casts(self) -> tuple[Callable[[], Any], float]:
        casts = cast_weights(self._model, self._batch)
        trained = {id(weight) for weight in self._model.trainable_weights}
        gradients = [
            (tf.zeros(weight.shape, dtype), tf.as_dtype(weight.dtype))
            for weight, dtype in casts
            if id(weight) in trained
        ]
        moved = sum(cast_bytes(_size(w), tf.as_dtype(w.dtype).size, dtype.size) for w, dtype in casts)
        moved += sum(cast_bytes(_size(g), g.dtype.size, dtype.size) for g, dtype in gradients)

        def cast_all() -> list[tf.Tensor]:
            forward = [tf.cast(weight.value, dtype) for weight, dtype in casts]
            return [*forward, *(tf.cast(gradient, dtype) for gradient, dtype in gradients)]

        return cast_all, moved


def cast_weights(model: keras.Model, batch: tf.Tensor) -> list[tuple[Any, tf.DType]]:
    """Every weight that a training step's forward pass casts as it reads it, and to what; once for each cast."""
    concrete = traced_whole(lambda image: model(image, training=True), tf.TensorSpec(batch.shape, batch.dtype))
    captured = concrete.inputs[len(concrete.inputs) - len(concrete.captured_inputs) :]
    by_handle = {id(weight.value.handle): weight for weight in model.weights}
    inside = {
        tensor.name: by_handle[id(handle)]
        for handle, tensor in zip(concrete.captured_inputs, captured, strict=True)
        if id(handle) in by_handle
    }
    casts = []
    for operation in concrete.graph.get_operations():
        if operation.type == "Cast" and operation.inputs[0].op.type == "ReadVariableOp":
            handle = operation.inputs[0].op.inputs[0].name
            if handle in inside:
                casts.append((inside[handle], operation.outputs[0].dtype))
    return casts


def _size(value: Any) -> int:
    return int(np.prod(value.shape, dtype=np.int64))
