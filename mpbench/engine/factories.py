"""Users' models: the factory of a name `package.module:callable`, found and checked before anything is measured.

Names are looked up without Keras, which is imported when a factory is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpbench.config.settings import Settings
from mpbench.engine.keras_settings import check_process_settings
from mpbench.errors import CaseFailure, UsageProblem, described

if TYPE_CHECKING:
    import keras

    from mpbench.engine.own_data import Batch


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


def check_factories(
    models: Sequence[str], sizes_px: Sequence[int], progress: Callable[[str], None]
) -> dict[str, list[int]]:
    """Check the factories among some models, each for images of these sizes; raises as `check_factory`.

    Returns:
        For each that gives data of its own the samples in its batch at each size.
    """
    samples: dict[str, list[int]] = {}
    for name in models:
        if ":" not in name:
            continue
        progress(f"{name}: checking the factory")
        batches = [batch for size_px in sizes_px if (batch := check_factory(name, size_px))]
        for note in dict.fromkeys(_note(batch) for batch in batches):
            progress(f"{name}: {note}")
        if batches:
            samples[name] = [batch.samples for batch in batches]
    return samples


def _note(batch: Batch) -> str:
    """Which data a model's steps take, for people."""
    from mpbench.engine.own_data import OWN_DATASET

    what = "its steps take the batch of its factory"
    if batch.source == OWN_DATASET:
        what = f"its steps take the first batch of its dataset, {batch.samples} samples, over and over"
    return f"{what}: {batch.shapes}"


def check_options(samples: Mapping[str, Sequence[int]], settings: Settings) -> None:
    """Raise UsageProblem for the first option that data of a factory's own leaves no meaning.

    Args:
        samples: as `check_factories` returns them.
    """
    for name, sizes in samples.items():
        whose = f"given together with {name}, whose factory gives its own batch of {sizes[0]}"
        if settings.batch_size is not None and {settings.batch_size} != set(sizes):
            valid = f"leave it out, or use {sizes[0]}" if len(set(sizes)) == 1 else "leave it out"
            raise UsageProblem(f"--mp-batch-size: {settings.batch_size} {whose}: {valid}")
        if swept := [str(point) for point in settings.sweep if point.axis == "batch"]:
            raise UsageProblem(f"--mp-sweep: {swept[0]} {whose}: leave it out, or sweep the image size")
        if settings.replicas > 1:
            raise UsageProblem(f"--mp-replicas: {settings.replicas} {whose}: leave it out, or use 1")


def check_takes_images(samples: Collection[str], cases: str) -> None:
    """Raise UsageProblem where the factory of a model gives its own data and its cases must be given images."""
    for name in samples:
        raise UsageProblem(
            f"--mp-models: {name!r} gives its own data: {cases} take images, "
            "leave it out or let its factory return the model alone"
        )


def check_factory(name: str, image_size_px: int) -> Batch | None:
    """Build a user's model once, before anything is measured.

    Returns:
        The batch of the factory's own data; None where it gives none.

    Raises:
        UsageProblem: the factory raises, changes what Keras has set for the whole process, or returns something else
            than a Keras model, alone or with its own data. The model must take the data; without data it must have one
            input, which takes the shape, and one output. A model that has a training step and no call of its own, as of
            two networks, may have neither.
    """
    import keras

    from mpbench.engine.models import call_on, can_be_called
    from mpbench.engine.own_data import own_batch, split

    factory = load_factory(name)
    shape = (image_size_px, image_size_px, 3)
    try:
        model, data = split(factory(shape))
    except Exception as error:  # whatever a user's factory raises
        raise UsageProblem(f"--mp-models: {name!r} failed for shape {shape}: {described(error)}") from error
    check_process_settings(f"--mp-models: {name!r}")
    if not isinstance(model, keras.Model):
        kind, package = type(model), type(model).__module__.partition(".")[0]
        of = "" if package == "builtins" else f" of {package}"  # such as tf_keras, whose models are not Keras's
        raise UsageProblem(
            f"--mp-models: {name!r} returned a {kind.__name__}{of}: "
            f"valid is a Keras 3 model for input {shape}, or (model, batch) or (model, dataset)"
        )
    if data is not None:
        try:
            batch = own_batch(data)
            call_on(model, batch)
        except CaseFailure as failure:
            raise UsageProblem(f"--mp-models: {name!r}: {failure}") from failure
        return batch
    if not can_be_called(model):
        return None
    try:
        _check_takes(model, shape)
        outputs = keras.tree.flatten(model(keras.Input(shape)))
    except Exception as error:  # whatever a user's layers raise
        what = f"a model that does not take {shape}: {described(error)}"
        raise UsageProblem(f"--mp-models: {name!r} returned {what}") from error
    if len(outputs) != 1 or not isinstance(outputs[0], keras.KerasTensor):
        raise UsageProblem(f"--mp-models: {name!r} returned a model with {len(outputs)} outputs: valid is one")
    return None


def _check_takes(model: keras.Model, shape: tuple[int, int, int]) -> None:
    """Raise ValueError where a model with a graph is of other inputs: called on a symbolic one it may not look."""
    import keras

    taken = [tuple(one.shape[1:]) for one in keras.tree.flatten(getattr(model, "inputs", None) or ())]
    if len(taken) > 1:
        raise ValueError(f"it has {len(taken)} inputs, {taken}")
    for one in taken:
        if len(one) != len(shape) or any(size not in (None, given) for size, given in zip(one, shape, strict=True)):
            raise ValueError(f"its input is {one}")
