"""Every call of a layer, seen while a model is traced once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from mpbench.engine.tracing import tracing
from mpbench.errors import CaseFailure, described
from mpbench.why.measuring.costs import operation_flops

LAUNCHING_NOTHING = frozenset(
    {
        *("Const", "Identity", "IdentityN", "Placeholder", "PlaceholderWithDefault", "StopGradient", "PreventGradient"),
        *("ReadVariableOp", "VarHandleOp", "VarIsInitializedOp", "AssignVariableOp", "NoOp", "CheckNumerics", "Assert"),
        *("Reshape", "Squeeze", "ExpandDims", "Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs"),
        *("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"),
    }
)
"""Types of TensorFlow's operations that read, rename or hand on a buffer: no kernel runs on the device."""


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
        compute_dtype: in which most of its FLOPs are computed.
    """

    layer: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    training: bool | None
    inputs: tuple[tf.TensorSpec, ...]
    outputs: tuple[tf.TensorSpec, ...]
    needs_input_gradient: tuple[bool, ...]
    launches: bool
    compute_dtype: str


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

    try:
        concrete = traced_whole(forward, tf.TensorSpec((batch_size, *image_shape), tf.float32))
    except Exception as error:  # whatever a user's layers raise
        raise CaseFailure(f"its layers cannot be watched: {described(error)}") from error
    trained = _depends_on_weights(concrete, model)
    operations: dict[int, list[Any]] = {}
    for one in seen:  # a part may run in a graph of its own, such as a branch
        if id(one.graph) not in operations:
            operations[id(one.graph)] = one.graph.get_operations()
    return [_layer_call(one, operations[id(one.graph)][one.first_operation : one.end], trained) for one in seen]


def traced_whole(function: Callable[..., Any], *arguments: Any) -> Any:
    """The concrete function of a Python function, functions that it calls written out in place in its graph.

    To be looked at, not to be run: Keras compiles some operations apart (grouped convolutions, with XLA).
    """

    def written_out(*values: Any) -> Any:
        before = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)  # while another one is traced: they become part of its graph
        try:
            return function(*values)
        finally:
            tf.config.run_functions_eagerly(before)

    with tracing():
        return tf.function(written_out, autograph=False).get_concrete_function(*arguments)


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


def _layer_call(seen: _Seen, operations: Sequence[Any], trained: set[str]) -> LayerCall:
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


def flops_of(operation: Any) -> int:
    """FLOPs of an operation of a graph; raises ValueError where its shapes do not tell."""
    if not launches(operation):
        return 0
    wanted = {attribute.name for attribute in operation.op_def.attr} & {"ksize", "transpose_a", "adj_x", "equation"}
    attributes = {name: operation.get_attr(name) for name in wanted}
    return operation_flops(operation.type, _shapes(operation.inputs), _shapes(operation.outputs), attributes)


def _shapes(tensors: Sequence[Any]) -> list[tuple[int | None, ...]]:
    """A tensor of unknown rank stands as one unknown dimension."""
    return [(None,) if x.shape.rank is None else tuple(x.shape) for x in tensors]


def _compute_dtype(operations: Sequence[Any], seen: _Seen) -> str:
    """The dtype of most of the layer's FLOPs; batch normalisation, for one, computes in float32."""
    work: Counter[str] = Counter()
    for operation in operations:
        if operation.type != "Cast" and launches(operation):
            try:
                size = flops_of(operation)
            except ValueError:
                size = 0
            for out in operation.outputs:
                if out.dtype.is_floating:
                    work[out.dtype.name] += size
    if work:
        return work.most_common(1)[0][0]
    declared = getattr(seen.layer, "compute_dtype", None)
    return str(declared or (seen.outputs[0].dtype.name if seen.outputs else "float32"))


def _spec(value: Any) -> Any:
    return tf.TensorSpec(value.shape, value.dtype) if tf.is_tensor(value) else value
