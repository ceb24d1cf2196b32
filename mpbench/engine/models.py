"""Models by name: the keras.applications architectures under the thesis's head, and a user's own factory's."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from mpbench.config.model_names import APPLICATIONS
from mpbench.config.precisions import Precision
from mpbench.config.profiles import LEARNING_RATE, SEED
from mpbench.engine.factories import load_factory
from mpbench.engine.keras_settings import check_process_settings
from mpbench.engine.own_data import Batch, own_batch, split
from mpbench.errors import CaseFailure, described, place_in_own_code

HEAD_UNITS = 1024
CLASSES = 2

Shape = tuple[int, int, int]
"""Height, width and channels of an image."""


def can_be_called(model: keras.Model) -> bool:
    """Whether a model has a forward pass; one of several networks may have nothing but its training step."""
    return type(model).call is not keras.Model.call or not has_own_step(model)


def has_own_step(model: keras.Model) -> bool:
    """Whether it brings its training step."""
    return type(model).train_step is not keras.Model.train_step


@contextmanager
def dtype_policy(policy: str) -> Iterator[None]:
    """Keras's global dtype policy, and the same random weights each time, for the models built inside.

    Initializers draw their seeds from Python's generator, and factories often draw from NumPy's.
    `keras.utils.set_random_seed` would seed TensorFlow as well, which drops its cache of instantiated functions: the
    steps already built would be optimised anew, for up to 15 s, at their next call.
    """
    policy_before, states_before = keras.config.dtype_policy(), (random.getstate(), np.random.get_state())
    keras.config.set_dtype_policy(policy)
    random.seed(SEED)
    np.random.seed(SEED)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy_before)
        random.setstate(states_before[0])
        np.random.set_state(states_before[1])


def build_model(name: str, image_size_px: int, precision: Precision) -> keras.Model:
    """The model of `build_with_data`, for images."""
    return build_with_data(name, image_size_px, precision)[0]


def build_with_data(name: str, image_size_px: int, precision: Precision) -> tuple[keras.Model, Batch | None]:
    """The model of that name with random weights (the same in every call), all layers as their maker left them.

    An architecture of keras.applications gets the thesis's head; so does a user's model that ends in a feature
    map of rank 4, unless its factory gives data. A user's model that ends in anything else is taken as it is.

    Args:
        name: canonical name or a user's factory.
        image_size_px: height and width of its input, which has 3 channels.
        precision: gives the dtype policy to build under.

    Returns:
        A built model, compiled only if its factory compiled it; the batch of its factory's own data, on the device,
        None where it gives none.

    Raises:
        CaseFailure: a factory's model does not follow the dtype policy, or does not take its data.
    """
    shape = (image_size_px, image_size_px, 3)
    with dtype_policy(precision.policy):
        if ":" not in name:
            return add_head(application(name)(weights=None, include_top=False, input_shape=shape), shape), None
        model, data = split(load_factory(name)(shape))
        check_process_settings(name)
        batch = None if data is None else own_batch(data)
        callable_itself = can_be_called(model)
        if batch and not model.built:
            call_on(model, batch)
        elif not model.built and callable_itself:
            model(keras.Input(shape))
        check_follows_policy(model, name, precision)
        taken_as_it_is = batch or model.compiled or not callable_itself or len(output_shape(model, shape)) != 4
        return model if taken_as_it_is else add_head(model, shape), batch


def call_on(model: keras.Model, batch: Batch) -> Any:
    """The symbolic outputs of a model for a batch of its factory, which builds it where it is not built yet.

    Returns:
        None where it cannot be called, and need not be: its training step, which may take the batch apart otherwise, is
        its own, and its weights are there.

    Raises:
        CaseFailure: it does not take the batch.
    """
    if not can_be_called(model):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's advice in many lines, before it raises what is wrong
            return model(batch.symbolic_x())
    except Exception as error:  # whatever a user's layers raise
        if has_own_step(model) and model.weights:
            return None
        what = f"{described(error)}{place_in_own_code(error)}"
        raise CaseFailure(f"its model does not take the batch of its factory, {batch.shapes}: {what}") from error


def build_under(policy: str, build: Callable[[], keras.Model]) -> keras.Model:
    """Build a model under a dtype policy, with the initial weights that it has under float32.

    An initializer draws other numbers for another dtype; two precisions are compared from the same start only if one
    takes the other's, rounded.
    """
    with dtype_policy(policy):
        model = build()
    if any(weight.dtype != "float32" for weight in model.weights if "float" in weight.dtype):
        with dtype_policy("float32"):
            model.set_weights(build().get_weights())
    return model


def application(name: str) -> Any:
    """What makes an architecture of keras.applications, by our name for it."""
    return getattr(keras.applications, APPLICATIONS[name])


def check_follows_policy(model: keras.Model, name: str, precision: Precision) -> None:
    """Raise CaseFailure unless the layers that hold most of a factory's weights follow the precision's dtype policy."""
    policy = keras.DTypePolicy(precision.policy)
    layers = [layer for layer in _leaf_layers(model) if layer.weights]
    most = sum(layer.count_params() for layer in layers) / 2
    for what, dtypes in (("compute", "compute_dtype"), ("keep its weights", "variable_dtype")):
        dtype = getattr(policy, dtypes)
        if layers and sum(layer.count_params() for layer in layers if getattr(layer, dtypes) == dtype) < most:
            raise CaseFailure(
                f"{name} does not {what} in {dtype} under the dtype policy {precision.policy}: "
                "its factory must build its layers under Keras's global policy"
            )


def _leaf_layers(layer: Any) -> list[Any]:
    """The layers of a model that are not models themselves, each once."""
    parts = getattr(layer, "layers", None)
    if parts is None:
        return [layer]
    return list({id(leaf): leaf for part in parts for leaf in _leaf_layers(part)}.values())


def _ends(model: keras.Model, image_shape: Shape) -> tuple[Any, Any]:
    """A model's symbolic input and output; the output as it is where it stands in a list or dict alone."""
    try:
        image, out = model.input, model.output
    except AttributeError:  # a subclassed model has no graph of its own, a Sequential one none before its first call
        image = keras.Input(image_shape)
        out = model(image)
    (out,) = keras.tree.flatten(out)
    if None in out.shape[1:]:  # of images of any size
        image = keras.Input(image_shape)
        (out,) = keras.tree.flatten(model(image))
    return image, out


def output_shape(model: keras.Model, image_shape: Shape) -> tuple[int | None, ...]:
    """Shape of the model's output for a batch of any size."""
    return tuple(_ends(model, image_shape)[1].shape)


def add_head(base: keras.Model, image_shape: Shape) -> keras.Model:
    """The thesis's classifier on a base: pooling, and `classify`."""
    image, x = _ends(base, image_shape)
    return keras.Model(image, classify(keras.layers.GlobalAveragePooling2D()(x), CLASSES), name=base.name)


def classify(features: Any, classes: int) -> Any:
    """The thesis's layers on pooled features: Dense(1024, relu), Dense, softmax in float32 in any policy."""
    x = keras.layers.Dense(HEAD_UNITS, activation="relu")(features)
    return keras.layers.Activation("softmax", dtype="float32")(keras.layers.Dense(classes)(x))


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Those of its compile(), Keras's or its own, each once: what it has as attributes, alone or in lists and dicts."""
    held: list[Any] = [getattr(model, "optimizer", None)]  # a model that was not compiled has none
    for value in vars(model).values():
        held.extend(
            value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        )
    return list({id(one): one for one in held if isinstance(one, keras.optimizers.Optimizer)}.values())


def compile_model(
    model: keras.Model, precision: Precision, jit: bool, image_shape: Shape, batch: Batch | None = None
) -> None:
    """Give a model the thesis's optimizer and loss, unless its factory has compiled it; XLA on or off either way.

    The loss is cross-entropy between classes; an output that does not come from a softmax is taken for logits.

    Under mixed_float16 Keras wraps the optimizer in a LossScaleOptimizer by itself.

    Args:
        image_shape: that it takes, unless its factory gives a batch.

    Raises:
        CaseFailure: no loss can be guessed for the model's output, or it has a compile() of its own.
    """
    if model.compiled:
        model.jit_compile = jit
        return
    if type(model).compile is not keras.Model.compile or not can_be_called(model):
        raise CaseFailure("it has a compile() or a training step of its own: let its factory compile it (Keras's too)")
    own = batch and batch.source
    if batch and own:
        outputs = keras.tree.flatten(call_on(model, batch))
        if len(outputs) != 1:
            raise CaseFailure(f"no loss is known for {len(outputs)} outputs: let the factory compile its model")
        shape = tuple(outputs[0].shape)
    else:
        shape = output_shape(model, image_shape)
    if len(shape) != 2 or shape[1] is None or shape[1] < 2:
        others = "" if own else " or in a feature map (batch, height, width, channels)"
        raise CaseFailure(
            f"no loss is known for the output shape {shape}: let the factory compile its model, "
            f"or return one that ends in (batch, classes){others}"
        )
    last = _leaf_layers(model)[-1]
    softmax = keras.activations.softmax
    probabilities = isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is softmax
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE, epsilon=precision.adam_epsilon),
        keras.losses.SparseCategoricalCrossentropy(from_logits=not probabilities),
        jit_compile=jit,
    )
