"""Models by name: the keras.applications architectures under the thesis's head, and a user's own factory.

Names are checked without importing TensorFlow; Keras is imported only when a model is built.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpbench.config.model_names import APPLICATIONS
from mpbench.config.profiles import LEARNING_RATE, SEED
from mpbench.engine.keras_settings import check_process_settings, legacy_hint, legacy_keras
from mpbench.errors import CaseFailure, UsageProblem, described

if TYPE_CHECKING:
    import keras

    from mpbench.config.precisions import Precision

HEAD_UNITS = 1024
CLASSES = 2


def load_factory(name: str) -> Callable[[tuple[int, int, int]], Any]:
    """Import a user's `package.module:callable`, looking in the current directory too.

    Raises:
        UsageProblem: it cannot be imported, is missing from its module, or is not callable.
    """
    module_name, _, path = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module_name)
        for part in path.split("."):
            target = getattr(target, part)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise UsageProblem(f"--mp-models: {name!r} cannot be imported: {described(error)}{legacy_hint()}") from error
    if not callable(target):
        raise UsageProblem(f"--mp-models: {name!r} is a {type(target).__name__}: valid is a callable")
    check_process_settings(f"--mp-models: {name!r}")
    return target  # type: ignore[no-any-return]


def check_factory(name: str, image_size_px: int) -> None:
    """Build a user's model once, before anything is measured.

    Raises:
        UsageProblem: the factory raises, changes what Keras has set for the whole process, or returns something else
            than a Keras model with one input, which takes the shape, and one output. A model that has a training step
            and no call of its own, as of two networks, may have neither.
    """
    import keras

    factory = load_factory(name)
    shape = (image_size_px, image_size_px, 3)
    try:
        model = factory(shape)
    except Exception as error:  # whatever a user's factory raises
        reason = f"{described(error)}{legacy_hint()}"
        raise UsageProblem(f"--mp-models: {name!r} failed for shape {shape}: {reason}") from error
    check_process_settings(f"--mp-models: {name!r}")
    if not isinstance(model, keras.Model):
        raise UsageProblem(
            f"--mp-models: {name!r} returned a {type(model).__name__}{legacy_keras(model)}: "
            f"valid is a Keras 3 model for input {shape}"
        )
    if not can_be_called(model):
        return
    try:
        _check_takes(model, shape)
        outputs = keras.tree.flatten(model(keras.Input(shape)))
    except Exception as error:  # whatever a user's layers raise
        what = f"a model that does not take {shape}: {described(error)}"
        raise UsageProblem(f"--mp-models: {name!r} returned {what}") from error
    if len(outputs) != 1 or not isinstance(outputs[0], keras.KerasTensor):
        raise UsageProblem(f"--mp-models: {name!r} returned a model with {len(outputs)} outputs: valid is one")


def can_be_called(model: keras.Model) -> bool:
    """Whether a model has a forward pass; one of several networks may have nothing but its training step."""
    import keras

    return type(model).call is not keras.Model.call or not has_own_step(model)


def has_own_step(model: keras.Model) -> bool:
    """Whether it brings its training step."""
    import keras

    return type(model).train_step is not keras.Model.train_step


def _check_takes(model: keras.Model, shape: tuple[int, int, int]) -> None:
    """Raise ValueError where a model with a graph is of other inputs: called on a symbolic one it may not look."""
    import keras

    inputs = keras.tree.flatten(getattr(model, "inputs", None) or ())
    taken = [tuple(one.shape[1:]) for one in inputs]
    if len(taken) > 1:
        raise ValueError(f"it has {len(taken)} inputs, {taken}")
    for one in taken:
        if len(one) != len(shape) or any(size not in (None, given) for size, given in zip(one, shape, strict=True)):
            raise ValueError(f"its input is {one}")


@contextmanager
def dtype_policy(policy: str) -> Iterator[None]:
    """Keras's global dtype policy, for the models built inside."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_model(name: str, image_size_px: int, precision: Precision) -> keras.Model:
    """The model of that name with random weights (the same in every call), all layers as their maker left them.

    An architecture of keras.applications gets the thesis's head; so does a user's model that ends in a feature
    map of rank 4. A user's model that ends in anything else is taken as it is.

    Args:
        name: canonical name or a user's factory.
        image_size_px: height and width of its input, which has 3 channels.
        precision: gives the dtype policy to build under.

    Returns:
        A built model, compiled only if its factory compiled it.

    Raises:
        CaseFailure: a factory's model does not follow the dtype policy.
    """
    import keras

    shape = (image_size_px, image_size_px, 3)
    with dtype_policy(precision.policy), _seeded_initializers():
        if ":" in name:
            model = load_factory(name)(shape)
            check_process_settings(name)
            callable_itself = can_be_called(model)
            if not model.built and callable_itself:
                model(keras.Input(shape))
            check_follows_policy(model, name, precision)
            taken_as_it_is = model.compiled or not callable_itself or len(output_shape(model, shape)) != 4
            return model if taken_as_it_is else add_head(model, shape)
        return add_head(_application(name)(weights=None, include_top=False, input_shape=shape), shape)


def build_pooled_base(name: str, image_size_px: int, precision: Precision, weights: str | None = None) -> keras.Model:
    """The model without a head, frozen, its feature map averaged over height and width.

    Args:
        name: canonical name or a user's factory, which gives its model whatever weights it likes.
        image_size_px: height and width of its input, which has 3 channels.
        precision: gives the dtype policy to build under.
        weights: as keras.applications take it: `imagenet`, or None for random ones (the same in every call).

    Returns:
        A built model from images to features of shape (batch, channels) in the precision's compute dtype. To be
        called with `training=False`.

    Raises:
        CaseFailure: a factory's model does not follow the dtype policy or does not end in a feature map.
    """
    import keras

    shape = (image_size_px, image_size_px, 3)

    def build() -> keras.Model:
        if ":" in name:
            base = load_factory(name)(shape)
            if len(output_shape(base, shape)) != 4:
                raise CaseFailure(
                    f"{name} does not end in a feature map (batch, height, width, channels): there is no base to freeze"
                )
        else:
            base = _application(name)(weights=weights, include_top=False, input_shape=shape)
        base.trainable = False
        image = keras.Input(shape)
        return keras.Model(image, keras.layers.GlobalAveragePooling2D()(base(image, training=False)), name=base.name)

    model = build_under(precision.policy, build)
    if ":" in name:
        check_follows_policy(model, name, precision)
    return model


def build_under(policy: str, build: Callable[[], keras.Model]) -> keras.Model:
    """Build a model under a dtype policy, with the initial weights that it has under float32.

    An initializer draws other numbers for another dtype; two precisions are compared from the same start only if one
    takes the other's, rounded.
    """
    with dtype_policy(policy), _seeded_initializers():
        model = build()
    if any(weight.dtype != "float32" for weight in model.weights if "float" in weight.dtype):
        with dtype_policy("float32"), _seeded_initializers():
            model.set_weights(build().get_weights())
    return model


def preprocessing(name: str) -> Callable[[Any], Any]:
    """The architecture's own scaling of RGB images from 0..255, a float array to another; 1/255 for a factory's."""
    if ":" in name:
        return scale_to_one
    return sys.modules[_application(name).__module__].preprocess_input  # type: ignore[no-any-return]


def scale_to_one(images: Any) -> Any:
    """RGB from 0..255 to 0..1: what the thesis did for every model."""
    return images / 255


def _application(name: str) -> Any:
    import keras

    return getattr(keras.applications, APPLICATIONS[name])


@contextmanager
def _seeded_initializers() -> Iterator[None]:
    """Keras's initializers draw their seeds from Python's generator.

    `keras.utils.set_random_seed` would seed TensorFlow as well, which drops its cache of instantiated functions: the
    steps already built would be optimised anew, for up to 15 s, at their next call.
    """
    before = random.getstate()
    random.seed(SEED)
    try:
        yield
    finally:
        random.setstate(before)


def check_follows_policy(model: keras.Model, name: str, precision: Precision) -> None:
    """Raise CaseFailure unless the layers that hold most of a factory's weights follow the precision's dtype policy."""
    import keras

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


def _ends(model: keras.Model, image_shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """A model's symbolic input and output; the output as it is where it stands in a list or dict alone."""
    import keras

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


def output_shape(model: keras.Model, image_shape: tuple[int, int, int]) -> tuple[int | None, ...]:
    """Shape of the model's output for a batch of any size."""
    return tuple(_ends(model, image_shape)[1].shape)


def _ends_in_softmax(model: keras.Model) -> bool:
    import keras

    last = _leaf_layers(model)[-1]
    return isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax


def add_head(base: keras.Model, image_shape: tuple[int, int, int]) -> keras.Model:
    """The thesis's classifier on a base: pooling, Dense(1024, relu), Dense(2), softmax in float32 in any policy."""
    import keras

    image, x = _ends(base, image_shape)
    return keras.Model(image, classify(keras.layers.GlobalAveragePooling2D()(x), CLASSES), name=base.name)


def classify(features: Any, classes: int) -> Any:
    """The thesis's layers on pooled features: Dense(1024, relu), Dense, softmax in float32 in any policy."""
    import keras

    x = keras.layers.Dense(HEAD_UNITS, activation="relu")(features)
    return keras.layers.Activation("softmax", dtype="float32")(keras.layers.Dense(classes)(x))


def compile_model(model: keras.Model, precision: Precision, jit: bool, image_shape: tuple[int, int, int]) -> None:
    """Give a model the thesis's optimizer and loss, unless its factory has compiled it; XLA on or off either way.

    The loss is cross-entropy between classes; an output that does not come from a softmax is taken for logits.

    Under mixed_float16 Keras wraps the optimizer in a LossScaleOptimizer by itself.

    Raises:
        CaseFailure: no loss can be guessed for the model's output, or it has a compile() of its own.
    """
    import keras

    if model.compiled:
        model.jit_compile = jit
        return
    if type(model).compile is not keras.Model.compile or not can_be_called(model):
        raise CaseFailure("it has a compile() or a training step of its own: let its factory compile it (Keras's too)")
    shape = output_shape(model, image_shape)
    if len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise CaseFailure(
            f"no loss is known for the output shape {shape}: let the factory compile its model, "
            "or return one that ends in (batch, classes) or in a feature map (batch, height, width, channels)"
        )
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE, epsilon=precision.adam_epsilon),
        keras.losses.SparseCategoricalCrossentropy(from_logits=not _ends_in_softmax(model)),
        jit_compile=jit,
    )
