"""The distinct layers of a model: all its calls of layers (`watch.py`), like ones together.

What a layer costs is in `costs.py`, how one is timed in `layer_step.py`.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from mpbench.config.precisions import PRECISIONS, Precision
from mpbench.engine.models import build_model
from mpbench.errors import CaseFailure
from mpbench.why.measuring.watch import LayerCall, watch_calls

IDS_BATCH_SIZE = 2
"""Which layers are alike does not depend on the batch."""

_UNLIKE_IN_NAME_ONLY = frozenset({"name", "seed", "dtype", "build_config", "compile_config"})


@dataclass(frozen=True)
class DistinctLayer:
    """Layers of a model that differ in nothing that costs time.

    Attributes:
        id: unique in its model, fit for a pytest id; the first layer's name. Names that Keras has counted over the
            whole process are counted over the model instead, so that it is the same in every run.
        layer_type: name of the class.
        count: calls of such layers in one step.
        config: what matters of its configuration, for people, such as `64 filters 3x3, relu`.
        input_shape, output_shape: with the batch, such as `64x224x224x3`; several joined with `, `.
        compute_dtype: see LayerCall.
        kept_float32: whether it computes in float32 though the model's policy says otherwise.
        parameters: weights, trainable or not.
        call: the first of them.
        calls: their numbers in the order of all calls of the model, from 0.
    """

    id: str
    layer_type: str
    count: int
    config: str
    input_shape: str
    output_shape: str
    compute_dtype: str
    kept_float32: bool
    parameters: int
    call: LayerCall
    calls: tuple[int, ...]

    @property
    def layer(self) -> Any:
        """The first such layer itself."""
        return self.call.layer


def distinct_layers(
    model: keras.Model,
    image_shape: tuple[int, int, int],
    batch_size: int,
    policy: str = "float32",
    apart: Sequence[object] | None = None,
) -> list[DistinctLayer]:
    """The distinct layers of a model in the order of their first calls, without those that launch nothing.

    Two calls are alike if type, configuration (without name, seeds and initial values), shapes of weights and inputs,
    compute dtype and the inputs that need a gradient agree.

    Args:
        model: built.
        image_shape: height, width, channels.
        batch_size: images.
        policy: the Keras dtype policy that it was built under.
        apart: one value per call that must agree too for two calls to be alike; see `same_layers`.
    """
    return _grouped(watch_calls(model, image_shape, batch_size), policy, apart)


def same_layers(
    models: Mapping[Precision, keras.Model], image_shape: tuple[int, int, int], batch_size: int
) -> dict[str, list[DistinctLayer]]:
    """The distinct layers of one model in several precisions, paired: the same ids in the same order in each.

    Calls are alike only if they are in every precision: where one layer of two is kept in float32 by the model's
    maker, only the mixed policy tells them apart.

    Args:
        models: the same architecture under each precision's policy.
        image_shape: height, width, channels.
        batch_size: images.

    Returns:
        By the precision's name.

    Raises:
        CaseFailure: the precisions' models call different layers.
    """
    calls = {precision: watch_calls(model, image_shape, batch_size) for precision, model in models.items()}
    counts = {precision.name: [type(call.layer).__name__ for call in those] for precision, those in calls.items()}
    if len({tuple(names) for names in counts.values()}) > 1:
        found = ", ".join(f"{len(names)} in {name}" for name, names in counts.items())
        raise CaseFailure(f"its layers differ between the precisions: {found}")
    keys = list(zip(*([_key(call) for call in those] for those in calls.values()), strict=True))
    return {precision.name: _grouped(those, precision.policy, keys) for precision, those in calls.items()}


@functools.lru_cache(maxsize=64)
def _groups_of(model_name: str, image_size_px: int) -> tuple[tuple[object, ...], tuple[str, ...]]:
    """Of the model under mixed_float16 (float32 where it cannot be built): key of every call, ids of its layers."""
    shape = (image_size_px, image_size_px, 3)
    try:
        calls = watch_calls(build_model(model_name, image_size_px, PRECISIONS["mixed_float16"]), shape, IDS_BATCH_SIZE)
    except Exception:  # whatever a factory raises; under float32 it raises it again
        calls = watch_calls(build_model(model_name, image_size_px, PRECISIONS["float32"]), shape, IDS_BATCH_SIZE)
    layers = _grouped(calls, "mixed_float16")
    group = {number: layer.id for layer in layers for number in layer.calls}
    return tuple(group.get(number) for number in range(len(calls))), tuple(layer.id for layer in layers)


def layer_ids(model_name: str, image_size_px: int) -> list[str]:
    """Ids of the distinct layers of a model by its name, in order; the same in every precision.

    Built under mixed_float16, where a layer that is kept in float32 is told from an equal one that is not.
    """
    return list(_groups_of(model_name, image_size_px)[1])


def named_layers(
    model: keras.Model, model_name: str, image_size_px: int, batch_size: int, precision: Precision
) -> list[DistinctLayer]:
    """The distinct layers of a model that was built under that name, with exactly the ids of `layer_ids`.

    Raises:
        CaseFailure: the model does not call the layers that it calls under mixed_float16.
    """
    shape = (image_size_px, image_size_px, 3)
    groups, ids = _groups_of(model_name, image_size_px)
    calls = watch_calls(model, shape, batch_size)
    if len(calls) != len(groups):
        raise CaseFailure(
            f"its layers differ between the precisions: {len(calls)} in {precision.name}, "
            f"{len(groups)} in mixed_float16"
        )
    first: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        if group is not None:
            first.setdefault(str(group), []).append(number)
    return [_distinct(name, [calls[n] for n in first[name]], first[name], precision.policy) for name in ids]


def _grouped(calls: Sequence[LayerCall], policy: str, apart: Sequence[object] | None = None) -> list[DistinctLayer]:
    names = _stable_names(calls)
    groups: dict[object, list[int]] = {}
    for number, call in enumerate(calls):
        if call.launches:
            groups.setdefault((_key(call), apart and apart[number]), []).append(number)
    taken: Counter[str] = Counter()
    layers = []
    for numbers in groups.values():
        name = names[numbers[0]]
        taken[name] += 1
        # Two parts of a model may have layers of the same name, and one layer may be called with two shapes.
        unique = name if taken[name] == 1 else f"{name}-{taken[name]}"
        layers.append(_distinct(unique, [calls[number] for number in numbers], numbers, policy))
    return layers


def _distinct(unique: str, calls: Sequence[LayerCall], numbers: Sequence[int], policy: str) -> DistinctLayer:
    call = calls[0]
    weights = getattr(call.layer, "weights", [])
    return DistinctLayer(
        id=unique,
        layer_type=type(call.layer).__name__,
        count=len(calls),
        config=described_config(call.layer, len(call.inputs)),
        input_shape=", ".join(map(_shape, call.inputs)),
        output_shape=", ".join(map(_shape, call.outputs)),
        compute_dtype=call.compute_dtype,
        kept_float32=call.compute_dtype == "float32" != policy.removeprefix("mixed_"),
        parameters=sum(math.prod(weight.shape) for weight in weights),
        call=call,
        calls=tuple(numbers),
    )


def _key(call: LayerCall) -> str:
    layer = call.layer
    try:
        config = json.dumps(_costly(layer.get_config()), sort_keys=True, default=repr)
    except Exception:  # a layer that cannot say how it is configured is like no other
        config = f"object {id(layer)}"
    weights = [(tuple(w.shape), w.dtype, w.trainable) for w in getattr(layer, "weights", [])]
    tensors = [(tuple(x.shape), x.dtype.name) for x in call.inputs]
    args, kwargs = call.arguments
    others = {k: repr(v) for k, v in kwargs.items()}
    kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
    return repr(
        (
            kind,
            config,
            weights,
            tensors,
            len(args),
            others,
            call.training,
            call.needs_input_gradient,
            call.compute_dtype,
        )
    )


def _costly(config: Any) -> Any:
    """A configuration without what costs no time: names, seeds, initial values, and the dtype (its use is seen)."""
    if isinstance(config, Mapping):
        return {
            key: _costly(value)
            for key, value in config.items()
            if key not in _UNLIKE_IN_NAME_ONLY and not str(key).endswith("_initializer")
        }
    if isinstance(config, (list, tuple)):
        return [_costly(value) for value in config]
    return config


def _stable_names(calls: Sequence[LayerCall]) -> list[str]:
    """One name per call; names that Keras made up (`conv2d_94`) counted anew, each layer having one name."""
    counted: Counter[str] = Counter()
    names: dict[int, str] = {}
    for call in calls:
        if id(call.layer) in names:
            continue
        name = str(call.layer.name)
        made_up = _snake_case(type(call.layer).__name__)
        if re.fullmatch(rf"{re.escape(made_up)}(_\d+)?", name):
            counted[made_up] += 1
            name = made_up if counted[made_up] == 1 else f"{made_up}_{counted[made_up] - 1}"
        names[id(call.layer)] = re.sub(r"[^\w.+-]", "-", name)
    return [names[id(call.layer)] for call in calls]


def _snake_case(name: str) -> str:
    """As Keras makes a layer's name of its class."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def described_config(layer: Any, inputs: int = 1) -> str:
    """What matters of a layer's configuration, for people, such as `64 filters 3x3, stride 2, relu`."""
    words = []
    for attribute, unit in (("filters", "filters"), ("units", "units"), ("num_heads", "heads")):
        if isinstance(number := getattr(layer, attribute, None), int):
            words.append(f"{number} {unit}")
    for attribute in ("kernel_size", "pool_size"):
        if size := _times(getattr(layer, attribute, None)):
            words[-1:] = [f"{words[-1]} {size}" if words else size]
    strides = getattr(layer, "strides", None)
    if isinstance(strides, (tuple, list)) and set(strides) - {1}:
        words.append(f"stride {strides[0] if len(set(strides)) == 1 else _times(strides)}")
    dilation = getattr(layer, "dilation_rate", None)
    if isinstance(dilation, (tuple, list)) and set(dilation) - {1}:
        words.append(f"dilation {_times(dilation)}")
    if isinstance(groups := getattr(layer, "groups", None), int) and groups > 1:
        words.append(f"{groups} groups")
    if getattr(layer, "padding", None) == "same":
        words.append("same")
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation != "linear":
        words.append(activation)
    if inputs > 1:
        words.append(f"{inputs} inputs")
    return ", ".join(words)


def _times(sizes: Any) -> str:
    return "x".join(map(str, sizes)) if isinstance(sizes, (tuple, list)) else ""


def _shape(spec: tf.TensorSpec) -> str:
    return "x".join("?" if size is None else str(size) for size in spec.shape) or "scalar"
