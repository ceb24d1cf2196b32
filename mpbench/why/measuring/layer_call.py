"""One call of one layer as a function of tensors, forward or forward and backward, and what its graph costs.

`layer_step.py` times it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from mpbench.why.measuring.costs import INFERENCE, TRAINING, Array, Costs, cast_bytes, minimal_bytes
from mpbench.why.measuring.watch import LayerCall, flops_of, launches, traced_whole

_UNCOUNTED = (
    "PartitionedCall",
    "StatefulPartitionedCall",
    "While",
    "StatelessWhile",
    "If",
    "StatelessIf",
    "Case",
    "StatelessCase",
)


class CallFunction:
    """A layer's call as a function of its tensors.

    Args:
        call: of the layer.
        phase: in inference the forward pass with training=False; in training the forward pass with training=True and
            the gradients with respect to its trainable weights and to the inputs that need one.
    """

    def __init__(self, call: LayerCall, phase: str) -> None:
        self.call = call
        self.phase = phase
        layer = call.layer
        self.weights = list(getattr(layer, "trainable_weights", [])) if phase == TRAINING else []
        self._sources = [n for n, needed in enumerate(call.needs_input_gradient) if needed and phase == TRAINING]
        training = phase == TRAINING if call.training is None else call.training
        # Keras hands it on to the layers inside one whose own `call` does not take it.
        self._training = {"training": training} if isinstance(layer, keras.Layer) else {}

    def __call__(
        self, inputs: Sequence[tf.Tensor], output_gradients: Sequence[tf.Tensor]
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]:
        """Outputs, gradients of the weights, gradients of the inputs; those that do not exist are left out."""
        if self.phase == INFERENCE:
            return self._forward(inputs), [], []
        with tf.GradientTape() as tape:
            sources = [inputs[number] for number in self._sources]
            tape.watch(sources)
            outputs = self._forward(inputs)
        # Whole numbers have no gradient: left out of what is differentiated, kept in what is returned.
        real = [number for number, output in enumerate(outputs) if output.dtype.is_floating]
        if not real or not (self.weights or sources):
            return outputs, [], []
        gradients = tape.gradient(
            [outputs[number] for number in real],
            [*self.weights, *sources],
            output_gradients=[output_gradients[number] for number in real],
        )
        # A gradient of slices (an embedding's) is one tensor of values and one of places.
        given = [gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient for gradient in gradients]
        of_weights, of_inputs = given[: len(self.weights)], given[len(self.weights) :]
        return outputs, [g for g in of_weights if g is not None], [g for g in of_inputs if g is not None]

    def _forward(self, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        remaining = iter(inputs)
        args, kwargs = keras.tree.map_structure(
            lambda value: next(remaining) if isinstance(value, tf.TensorSpec) else value, self.call.arguments
        )
        outputs = self.call.layer(*args, **kwargs, **self._training)
        return [value for value in keras.tree.flatten(outputs) if tf.is_tensor(value)]


def call_costs(call: LayerCall, phase: str) -> Costs:
    """What one call of a layer costs in a phase, counted in its graph as Keras builds it."""
    function = CallFunction(call, phase)
    gradients_of: dict[str, list[tf.Tensor]] = {}

    def traced(inputs: list[tf.Tensor], output_gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        outputs, of_weights, of_inputs = function(inputs, output_gradients)
        gradients_of.update(weights=of_weights, inputs=of_inputs)
        return [*outputs, *of_weights, *of_inputs]

    operations = _needed(traced_whole(traced, list(call.inputs), list(call.outputs)))
    weights = list(getattr(call.layer, "weights", []))
    moved = minimal_bytes(
        phase,
        [_array(x) for x in call.inputs],
        [_array(x) for x in call.outputs],
        [as_array(w) for w in weights],
        input_gradients=[_array(x) for x in gradients_of["inputs"]],
        weight_gradients=[as_array(w) for w in function.weights] if gradients_of["weights"] else [],
        updated=_updated(operations, weights) if phase == TRAINING else [],
    )
    return Costs(_flops(operations), moved, sum(map(launches, operations)), _casts(operations, gradients_of["weights"]))


def _needed(concrete: Any) -> list[Any]:
    """What its outputs and assignments need of its graph; gradients that nobody asked for are in there too."""
    found: dict[str, Any] = {}
    waiting = [tensor.op for tensor in concrete.outputs] + list(concrete.graph.control_outputs)
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found[operation.name] = operation
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return list(found.values())


def _flops(operations: Sequence[Any]) -> float:
    if any(operation.type in _UNCOUNTED for operation in operations):
        return 0.0
    try:
        return float(sum(map(flops_of, operations)))
    except ValueError:
        return 0.0


def _casts(operations: Sequence[Any], weight_gradients: Sequence[tf.Tensor]) -> float:
    """Bytes of casts of a weight as it is read, and of casts of which a weight's gradient is made."""
    gradients = {id(gradient.op) for gradient in weight_gradients}
    total = 0.0
    for operation in operations:
        if operation.type == "Cast" and (operation.inputs[0].op.type == "ReadVariableOp" or id(operation) in gradients):
            (source,), (result,) = operation.inputs, operation.outputs
            total += cast_bytes(source.shape.num_elements() or 0, source.dtype.size, result.dtype.size)
    return total


def _updated(operations: Sequence[Any], weights: Sequence[Any]) -> list[Array]:
    """The layer's own weights that its forward pass assigns, such as moving averages."""
    assigned = sum(op.type in ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp") for op in operations)
    return [as_array(w) for w in weights if not w.trainable and w.dtype.startswith(("float", "bfloat"))][:assigned]


def _array(spec: Any) -> Array:
    return Array(tuple(spec.shape), spec.dtype.size)


def as_array(weight: Any) -> Array:
    """Of a Keras variable."""
    return Array(tuple(weight.shape), tf.as_dtype(weight.dtype).size)
