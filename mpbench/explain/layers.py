"""The distinct layers of a model: every call of a layer, seen while the model is traced once, like ones together.

What a layer costs is in `costs.py`, how one is timed in `layer_step.py`.
"""

from __future__ import annotations

import functools
import gc
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from mpbench.errors import CaseFailure, described
from mpbench.models import build_model
from mpbench.precision import PRECISIONS, Precision

IDS_BATCH_SIZE = 2
"""Which layers are alike does not depend on the batch."""

LAUNCHING_NOTHING = frozenset(
    {
        *("Const", "Identity", "IdentityN", "Placeholder", "PlaceholderWithDefault", "StopGradient", "PreventGradient"),
        *("ReadVariableOp", "VarHandleOp", "VarIsInitializedOp", "AssignVariableOp", "NoOp", "CheckNumerics", "Assert"),
        *("Reshape", "Squeeze", "ExpandDims", "Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs"),
        *("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"),
    }
)
"""Types of TensorFlow's operations that read, rename or hand on a buffer: no kernel runs on the device."""

_UNLIKE_IN_NAME_ONLY = frozenset({"name", "seed", "dtype", "build_config", "compile_config"})


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer while the model ran on one batch.

    Attributes:
        layer: a Keras layer, or an operation of `keras.ops` that a functional model holds as a node.
        arguments: its args and kwargs, tensors replaced by their `tf.TensorSpec`s, without `training`.
        training: what the call was given beside the step's own phase: False where the model freezes a part by
            `part(x, training=False)`, else None.
        inputs, outputs: specs of all tensors in them, flat; before the layer casts them.
        needs_input_gradient: for each input, whether training needs the gradient with respect to it; False where
            nothing before it can be trained, such as the image.
        launches: whether anything of it runs on the device in training.
        compute_dtype: in which most of its floating-point results are computed.
    """

    layer: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    training: bool | None
    inputs: tuple[tf.TensorSpec, ...]
    outputs: tuple[tf.TensorSpec, ...]
    needs_input_gradient: tuple[bool, ...]
    launches: bool
    compute_dtype: str


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


def watch_calls(model: keras.Model, image_shape: tuple[int, int, int], batch_size: int) -> list[LayerCall]:
    """Every call of a layer in a training step's forward pass, in order, found by tracing the model once.

    Models inside the model (functional, sequential, subclassed) are looked into; any other layer, also one made of
    layers, is one unit. What a subclassed model computes without layers is not seen.

    Raises:
        CaseFailure: the model cannot be traced for that input.
    """
    seen: list[_Seen] = []

    def forward(image: tf.Tensor) -> Any:
        seen.clear()  # TensorFlow traces a second time where the first has created variables
        with _watched(seen):
            return model(image, training=True)

    gc_was_enabled = gc.isenabled()
    gc.disable()  # tens of thousands of graph nodes that all stay: collecting only costs time
    try:
        concrete = tf.function(forward, autograph=False).get_concrete_function(
            tf.TensorSpec((batch_size, *image_shape), tf.float32)
        )
    except Exception as error:  # whatever a user's layers raise
        raise CaseFailure(f"its layers cannot be watched: {described(error)}") from error
    finally:
        if gc_was_enabled:
            gc.enable()
    trained = _depends_on_weights(concrete, model)
    return [_layer_call(one, trained) for one in seen]


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


class _Seen:
    """A call as it happened, with its tensors."""

    def __init__(self, layer: Any, args: Any, kwargs: Any, training: bool | None) -> None:
        self.layer = layer
        self.args, self.kwargs, self.training = args, kwargs, training
        self.inputs = [x for x in keras.tree.flatten((args, kwargs)) if tf.is_tensor(x)]
        self.graph = tf.compat.v1.get_default_graph()
        self.first_operation = self.graph.version
        self.outputs: list[Any] = []
        self.operations: list[Any] = []

    def finish(self, outputs: Any) -> None:
        self.outputs = [x for x in keras.tree.flatten(outputs) if tf.is_tensor(x)]
        self.end = self.graph.version


@contextmanager
def _watched(seen: list[_Seen]) -> Iterator[None]:
    """Keep every outermost call of something that is no model in `seen`, while inside."""
    plain_layer_call, plain_operation_call = keras.Layer.__call__, keras.Operation.__call__
    state: dict[str, Any] = {"inside": False, "frozen": None}

    def watching(plain: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if state["inside"]:
                return plain(self, *args, **kwargs)
            training = kwargs.get("training")
            if isinstance(self, keras.Model):
                before = state["frozen"]
                # Inside such a part each layer runs as in inference, whatever the step does.
                state["frozen"] = False if training is False else (None if training else before)
                try:
                    return plain(self, *args, **kwargs)
                finally:
                    state["frozen"] = before
            frozen = False if training is False else (None if training else state["frozen"])
            one = _Seen(self, args, {k: v for k, v in kwargs.items() if k != "training"}, frozen)
            state["inside"] = True
            try:
                outputs = plain(self, *args, **kwargs)
            finally:
                state["inside"] = False
            one.finish(outputs)
            if not isinstance(self, keras.layers.InputLayer):
                seen.append(one)
            return outputs

        return call

    keras.Layer.__call__, keras.Operation.__call__ = watching(plain_layer_call), watching(plain_operation_call)
    try:
        yield
    finally:
        keras.Layer.__call__, keras.Operation.__call__ = plain_layer_call, plain_operation_call


def _depends_on_weights(concrete: Any, model: keras.Model) -> set[str]:
    """Names of the graph's operations through which a gradient flows back to a trainable weight."""
    trainable = {id(weight.value.handle) for weight in model.trainable_weights}
    captured = concrete.inputs[len(concrete.inputs) - len(concrete.captured_inputs) :]
    depending = {
        inside.op.name
        for outside, inside in zip(concrete.captured_inputs, captured, strict=True)
        if id(outside) in trainable
    }
    for operation in concrete.graph.get_operations():  # in the order in which they were made
        if operation.type == "StopGradient" or not operation.outputs:
            continue
        if not any(out.dtype.is_floating or out.dtype == tf.resource for out in operation.outputs):
            continue
        if any(tensor.op.name in depending for tensor in operation.inputs):
            depending.add(operation.name)
    return depending


def _layer_call(seen: _Seen, trained: set[str]) -> LayerCall:
    operations = seen.graph.get_operations()[seen.first_operation : seen.end]
    args, kwargs = keras.tree.map_structure(_spec, (seen.args, seen.kwargs))
    return LayerCall(
        layer=seen.layer,
        arguments=(tuple(args), dict(kwargs)),
        training=seen.training,
        inputs=tuple(_spec(x) for x in seen.inputs),
        outputs=tuple(_spec(x) for x in seen.outputs),
        needs_input_gradient=tuple(x.dtype.is_floating and x.op.name in trained for x in seen.inputs),
        launches=any(launches(operation) for operation in operations),
        compute_dtype=_compute_dtype(operations, seen),
    )


def launches(operation: Any) -> bool:
    """Whether an operation of a graph runs something on the device; arithmetic on shapes is the host's."""
    if operation.type in LAUNCHING_NOTHING or not operation.outputs:
        return str(operation.type).startswith(("AssignAdd", "AssignSub", "ResourceApply", "Scatter"))
    if all(out.dtype in (tf.int32, tf.bool, tf.string, tf.resource, tf.variant) for out in operation.outputs):
        return any(tensor.dtype.is_floating for tensor in operation.inputs)
    return True


def _compute_dtype(operations: Sequence[Any], seen: _Seen) -> str:
    """The dtype in which most values of the layer are computed; batch normalisation, for one, computes in float32."""
    work: Counter[str] = Counter()
    for operation in operations:
        if operation.type != "Cast" and launches(operation):
            for out in operation.outputs:
                if out.dtype.is_floating:
                    work[out.dtype.name] += out.shape.num_elements() or 1
    if work:
        return work.most_common(1)[0][0]
    declared = getattr(seen.layer, "compute_dtype", None)
    return str(declared or (seen.outputs[0].dtype.name if seen.outputs else "float32"))


def _spec(value: Any) -> Any:
    return tf.TensorSpec(value.shape, value.dtype) if tf.is_tensor(value) else value


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
