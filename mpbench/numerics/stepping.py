"""A model's own step on a batch, traced so that it is seen. It updates nothing and leaves all as it was.

Steps run without XLA, which would keep what it fuses in float32; but with it where TF32 is looked at, which TensorFlow
tells apart no other way (`engine.device.check_tf32_is_apart`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mpbench.engine.tracing import tracing
from mpbench.errors import CaseFailure
from mpbench.numerics.watching import Recording, watched
from mpbench.system.device import Device


@dataclass(frozen=True)
class Batch:
    """What a step is given.

    Attributes:
        inputs, targets: any nested structure of arrays; targets are None where the inputs stand alone.
        sample_weight: as Keras's `fit` takes it; None where all samples count alike.
    """

    inputs: Any
    targets: Any = None
    sample_weight: Any = None

    def on(self, device: Device) -> Batch:
        """The same as tensors there; floats as float32, as Keras's `fit` has them."""
        with tf.device(device.placement):
            parts = (self.inputs, self.targets, self.sample_weight)
            return Batch(*(keras.tree.map_structure(_as_tensor, one) for one in parts))


def _as_tensor(array: Any) -> tf.Tensor:
    if array is None or isinstance(array, tf.Tensor):
        return array
    array = np.asarray(array)
    return tf.convert_to_tensor(array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array)


@dataclass(frozen=True)
class Kind:
    """Which step of a model, and how it is run.

    Attributes:
        batch: on the device.
        training: its `train_step`, or its `predict_step`.
        forward_only: of a training step, only the forward pass.
        device: where it runs.
        jit: whether XLA compiles it.
        inlined: whether functions of its own (tf.function) are traced as a part of it.
    """

    batch: Batch
    training: bool
    forward_only: bool
    device: Device
    jit: bool
    inlined: bool = False


class Stepping:
    """A model with the step that is watched.

    Args:
        model: built, and compiled where it is to be trained.
        kind: of the step.

    Attributes:
        recording: what was seen when it was traced last.
        state: variables of the model that are not trained.
    """

    def __init__(self, model: keras.Model, kind: Kind) -> None:
        self.recording = Recording()
        self._model, self._kind = model, kind
        trained = {id(one) for one in model.trainable_variables}
        state = {id(one): one for one in (*model.variables, *model.metrics_variables) if id(one) not in trained}
        self.state = list(state.values())
        self._values = [tf.identity(one.value) for one in self.state]

    def trace(self, body: Callable[..., Any], *specs: Any, flows: bool = False) -> Any:
        """A function of a loss scale and of more that takes the step.

        Args:
            body: is given the recording of the step, the scale and the rest, symbolic; what it returns, the function
                does.
            specs: of the rest.
            flows: see `watched`.

        Raises:
            Exception: whatever a user's step raises.
        """

        def traced(scale: Any, *given: Any) -> Any:
            with watched(self._model, scale, flows) as recording:
                self._take()
            self.recording = recording
            return body(recording, scale, *given)

        function = tf.function(traced, autograph=False, jit_compile=self._kind.jit)
        with self.placed(), tracing(), _functions_inlined() if self._kind.inlined else contextlib.nullcontext():
            return function.get_concrete_function(tf.TensorSpec((), tf.float32), *specs)

    def run(self, function: Any, scale: float, *given: Any) -> Any:
        """Run what was traced; what it changes is left, see `restore`."""
        with self.placed():
            return function(tf.constant(scale), *given)

    def restore(self) -> None:
        """Put back all variables but the trainable ones, which no step here moves."""
        for variable, value in zip(self.state, self._values, strict=True):
            variable.assign(value)

    def placed(self) -> Any:
        return tf.device(self._kind.device.placement)

    def _take(self) -> None:
        batch = self._kind.batch
        inputs, *others = (
            keras.tree.map_structure(lambda array: None if array is None else tf.identity(array), one)
            for one in (batch.inputs, batch.targets, batch.sample_weight)
        )
        if not self._kind.training:
            self._model.predict_step(keras.utils.pack_x_y_sample_weight(inputs))
        elif self._kind.forward_only:
            self._model(inputs, training=True)
        else:
            self._model.train_step(keras.utils.pack_x_y_sample_weight(inputs, *others))


@contextmanager
def _functions_inlined() -> Iterator[None]:
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def copy_variables(source: keras.Model, target: keras.Model) -> None:
    """Give a model another one's weights, and the state of its random numbers, which then draw alike.

    Raises:
        CaseFailure: they have other weights.
    """
    shapes = [[tuple(one.shape) for one in model.weights] for model in (source, target)]
    if shapes[0] != shapes[1]:
        raise CaseFailure("it has other weights than in float32: there is nothing to compare")
    pairs = list(zip(source.weights, target.weights, strict=True))
    weights = {id(one) for pair in pairs for one in pair}
    others = [[one for one in model.variables if id(one) not in weights] for model in (source, target)]
    if [tuple(one.shape) for one in others[0]] == [tuple(one.shape) for one in others[1]]:
        pairs += zip(*others, strict=True)
    for one, other in pairs:
        other.assign(tf.cast(one.value, other.value.dtype))


def gradients_of(recording: Recording) -> list[tuple[Any, Any]]:
    """Each variable with its gradient, symbolic, in the order of the updates; those without a gradient are left out."""
    return [
        (variable, gradient)
        for update in recording.updates
        if update.visible
        for variable, gradient in zip(update.variables, update.gradients, strict=True)
        if gradient is not None
    ]


def after_update(recording: Recording, gradients: Sequence[Any], scale: float) -> list[tuple[Any, Any]]:
    """For each gradient its weight before and after the optimizers' updates, which are taken back.

    Args:
        recording: of the step.
        gradients: that it gave, as `gradients_of` has them.
        scale: that they are multiplied by.
    """
    given = iter(gradients)
    calls = [
        (one.optimizer, [None if gradient is None else next(given) for gradient in one.gradients], list(one.variables))
        for one in recording.updates
        if one.visible
    ]
    weights = [variable for variable, _ in gradients_of(recording)]
    changed = list({id(one): one for _, _, variables in calls for one in variables}.values())
    for optimizer, _, variables in calls:
        if not optimizer.built:
            optimizer.build(variables)
        changed += optimizer.variables
    values = [tf.identity(one.value) for one in changed]
    before = [tf.identity(one.value) for one in weights]
    for optimizer, of, variables in calls:
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer.dynamic_scale.assign(scale)
        optimizer.apply(of, variables)
    after = [tf.identity(one.value) for one in weights]
    for variable, value in zip(changed, values, strict=True):
        variable.assign(value)
    return list(zip(before, after, strict=True))
