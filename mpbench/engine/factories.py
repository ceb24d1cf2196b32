"""Users' models: the factory of a name `package.module:callable`, found and checked before anything is measured.

Names are looked up without Keras, which is imported when a factory is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpbench.engine.keras_settings import check_process_settings
from mpbench.errors import UsageProblem, described

if TYPE_CHECKING:
    import keras


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
        raise UsageProblem(f"--mp-models: {name!r} cannot be imported: {described(error)}") from error
    if not callable(target):
        raise UsageProblem(f"--mp-models: {name!r} is a {type(target).__name__}: valid is a callable")
    check_process_settings(f"--mp-models: {name!r}")
    return target  # type: ignore[no-any-return]


def check_factories(models: Sequence[str], sizes_px: Sequence[int], progress: Callable[[str], None]) -> None:
    """Check the factories among some models, each for images of these sizes; raises as `check_factory`."""
    for name in models:
        if ":" in name:
            progress(f"{name}: checking the factory")
            for size_px in sizes_px:
                check_factory(name, size_px)


def check_factory(name: str, image_size_px: int) -> None:
    """Build a user's model once, before anything is measured.

    Raises:
        UsageProblem: the factory raises, changes what Keras has set for the whole process, or returns something else
            than a Keras model with one input, which takes the shape, and one output. A model that has a training step
            and no call of its own, as of two networks, may have neither.
    """
    import keras

    from mpbench.engine.models import can_be_called

    factory = load_factory(name)
    shape = (image_size_px, image_size_px, 3)
    try:
        model = factory(shape)
    except Exception as error:  # whatever a user's factory raises
        raise UsageProblem(f"--mp-models: {name!r} failed for shape {shape}: {described(error)}") from error
    check_process_settings(f"--mp-models: {name!r}")
    if not isinstance(model, keras.Model):
        kind = type(model)
        raise UsageProblem(
            f"--mp-models: {name!r} returned a {kind.__name__} of {kind.__module__.partition('.')[0]}: "
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


def _check_takes(model: keras.Model, shape: tuple[int, int, int]) -> None:
    """Raise ValueError where a model with a graph is of other inputs: called on a symbolic one it may not look."""
    import keras

    taken = [tuple(one.shape[1:]) for one in keras.tree.flatten(getattr(model, "inputs", None) or ())]
    if len(taken) > 1:
        raise ValueError(f"it has {len(taken)} inputs, {taken}")
    for one in taken:
        if len(one) != len(shape) or any(size not in (None, given) for size, given in zip(one, shape, strict=True)):
            raise ValueError(f"its input is {one}")
