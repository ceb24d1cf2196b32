"""What a step is given, and what a user's factory gives for it beside its model: a batch of its own, or a dataset.

What belongs here: which batch is taken, how it gets onto the device, and what is wrong with it. What a model takes
whose factory gives none is made in `batch.py`.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mpbench.errors import CaseFailure, described, place_in_own_code

OWN_BATCH, OWN_DATASET = "own batch", "own dataset"

LABEL_CHARACTERS = 300
"""Of a label: it stands in each record. What is cut off counts by its checksum."""

VALID = "valid is x, (x, y) or (x, y, sample_weight), each an array or a list or dict of arrays"


@dataclass(frozen=True)
class Batch:
    """What a step is given, as Keras's fit takes a batch: tensors on the device, alone or in tuples and dicts.

    Attributes:
        x: what the model is called with.
        y: targets; None where there are none.
        sample_weight: of each sample, or of each of its targets; None where all count alike.
        source: OWN_BATCH or OWN_DATASET; empty for synthetic images.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    source: str = ""

    @functools.cached_property
    def tensors(self) -> dict[str, list[tf.Tensor]]:
        """Its tensors by the name of the part that they stand in."""
        parts = {"x": self.x, "y": self.y, "sample_weight": self.sample_weight}
        found = {name: [one for one in keras.tree.flatten(part) if one is not None] for name, part in parts.items()}
        return {name: tensors for name, tensors in found.items() if tensors}

    @property
    def samples(self) -> int:
        return int(self.tensors["x"][0].shape[0])

    @property
    def bytes(self) -> int:
        """That it holds on the device; a text counts as nothing."""
        return sum(int(one.shape.num_elements()) * one.dtype.size for of in self.tensors.values() for one in of)

    @property
    def shapes(self) -> str:
        """Such as `x int32 32x128, y int32 32`."""
        return ", ".join(f"{name} {_shapes(tensors)}" for name, tensors in self.tensors.items())

    @property
    def label(self) -> str:
        """For records: where it comes from, its dtypes and shapes; empty for synthetic images."""
        text = f"{self.source}: {self.shapes}" if self.source else ""
        if len(text) <= LABEL_CHARACTERS:
            return text
        return f"{text[:LABEL_CHARACTERS]}... {zlib.crc32(text.encode()):08x}"

    @functools.cached_property
    def digest(self) -> int:
        """A checksum of its dtypes, shapes and values."""
        found = zlib.crc32(self.shapes.encode())
        for tensors in self.tensors.values():
            for tensor in tensors:
                values = tensor.numpy()
                text = repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
                found = zlib.crc32(text, found)
        return found

    def symbolic_x(self) -> Any:
        """What the model is called with, without values."""
        return keras.tree.map_structure(
            lambda one: None if one is None else keras.Input(batch_shape=one.shape, dtype=one.dtype.name), self.x
        )


def split(made: Any) -> tuple[Any, Any]:
    """The model and the data that a factory returned; None in the place of data where it returned none."""
    if isinstance(made, (tuple, list)) and len(made) == 2 and isinstance(made[0], keras.Model):
        return made[0], made[1]
    return made, None


def own_batch(data: Any) -> Batch:
    """The batch that steps take of a factory's data, on the device: the first one of a dataset.

    Args:
        data: a batch as Keras's fit takes one, or an iterable of such batches: a tf.data.Dataset, a
            keras.utils.PyDataset, a generator. A list, a tuple or a dict is one batch.

    Raises:
        CaseFailure: it is neither, the dataset gives no batch, or the batch holds something else than arrays with the
            same number of samples.
    """
    if isinstance(data, (dict, list, tuple)) or _is_array(data):
        return _batch(data, OWN_BATCH)
    return _batch(_first(data), OWN_DATASET)


def _is_array(value: Any) -> bool:
    """NumPy's, TensorFlow's, pandas's or another library's."""
    return bool(tf.is_tensor(value)) or hasattr(value, "__array__")


def _first(dataset: Any) -> Any:
    indexed, none = isinstance(dataset, keras.utils.PyDataset), object()
    if not indexed and not hasattr(dataset, "__iter__"):
        kind = type(dataset).__name__
        raise CaseFailure(f"the data of its factory are of type {kind}: {VALID}, or a dataset of such batches")
    try:
        with tf.device("/CPU:0"):  # where input pipelines run
            batches = ([dataset[0]] if dataset.num_batches != 0 else []) if indexed else dataset
            first = next(iter(batches), none)
    except Exception as error:  # whatever a user's dataset raises
        what = f"{described(error)}{place_in_own_code(error)}"
        raise CaseFailure(f"the dataset of its factory gives no batch: {what}") from error
    if first is none:
        raise CaseFailure("the dataset of its factory is empty: it must give one batch or more")
    return first


def _batch(given: Any, source: str) -> Batch:
    try:
        parts = keras.utils.unpack_x_y_sample_weight(given)
    except ValueError:
        what = f"the batch of its factory is a {type(given).__name__} of {len(given)}: {VALID}"
        raise CaseFailure(f"{what}; of a list of batches give an iterator, iter(batches)") from None
    tensors = (keras.tree.map_structure(functools.partial(_tensor, source=source), part) for part in parts)
    x, y, sample_weight = map(keras.tree.lists_to_tuples, tensors)
    batch = Batch(x, y, sample_weight, source)
    if "x" not in batch.tensors:
        raise CaseFailure(f"the batch of its factory has no x: {VALID}")
    if batch.y is None and batch.sample_weight is not None:
        raise CaseFailure(f"the batch of its factory has a sample_weight and no y: {VALID}")
    samples = {tuple(one.shape[:1]) for of in batch.tensors.values() for one in of}
    if len(samples) > 1 or () in samples:
        raise CaseFailure(
            f"the batch of its factory is {batch.shapes}: all must have the same first dimension, the samples"
            + (" (is its dataset batched?)" if source == OWN_DATASET else "")
        )
    if not batch.samples:
        raise CaseFailure(f"the batch of its factory is empty: {batch.shapes}")
    return batch


def _tensor(value: Any, source: str) -> Any:
    """A part of a batch on the device, of the dtype that fit would give it: arrays of floats become Keras's floatx."""
    if value is None:
        return None
    kind = type(value).__name__
    if not _is_array(value):
        raise CaseFailure(f"the batch of its factory holds a value of type {kind}: {VALID}")
    try:
        tensor = tf.identity(value if isinstance(value, tf.Tensor) else np.asarray(value))
    except Exception as error:  # ragged, sparse, of Python objects
        raise CaseFailure(f"the batch of its factory holds a {kind} that is not dense: {described(error)}") from error
    return tf.cast(tensor, keras.config.floatx()) if source == OWN_BATCH and tensor.dtype.is_floating else tensor


def _shapes(tensors: list[tf.Tensor]) -> str:
    return " and ".join(f"{one.dtype.name} {'x'.join(map(str, one.shape)) or 'without a dimension'}" for one in tensors)
