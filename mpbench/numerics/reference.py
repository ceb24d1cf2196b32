"""A step in float32, taken once, whose tensors stay on the device for those in other precisions to be compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from mpbench.engine import device as devices
from mpbench.engine.models import can_be_called
from mpbench.errors import CaseFailure
from mpbench.numerics import in_graph
from mpbench.numerics.statistics import Moved
from mpbench.numerics.stepping import Batch, Kind, Stepping, after_update, gradients_of
from mpbench.numerics.watching import LOW_DTYPES, Recording
from mpbench.system.device import Device

NOISE_SCALE = 3.0
"""Of the loss in a second step: no power of two, so that all is rounded otherwise on its way back."""

REPEATABLE = 1e-3
"""Relative distance of the outputs of two steps from one start, up to which they are the same step. What is drawn at
random makes more of a difference; a GPU that adds up in another order makes less."""

UNLIKE = "two float32 steps from one start differ: it draws random numbers that no seed of its layers repeats"


class Reference:
    """A step in float32.

    Args:
        model: built; compiled if it is to be trained.
        batch: of the step.
        phase: `training` or `inference`.
        device: where it runs.
        jit: whether XLA compiles it.
        no_backward: why only the forward pass is to be looked at; empty where all is.

    Attributes:
        kind: of the step, for other precisions.
        no_backward: as given, or why no gradient is seen.
        unlike: see Findings.
        outputs, gradients, losses: tensors in float32; of the loss one, or none where the step scales none.
        noise: of each gradient; see `findings.KNOWN_GRADIENT`.

    Raises:
        CaseFailure: nothing of it can be seen, or it is not finite.
        Exception: whatever a user's step raises.
    """

    def __init__(
        self, model: keras.Model, batch: Batch, phase: str, device: Device, jit: bool = False, no_backward: str = ""
    ) -> None:
        self.model = model
        self.no_backward = no_backward
        self.kind = Kind(batch.on(device), phase == "training", bool(no_backward), device, jit)
        devices.check_tf32_is_apart(False, "float32", device, jit)
        devices.set_tf32(False)
        call = self._traced()
        self.outputs, self.gradients, self.losses = self._stepping.run(call, 1.0)
        self._stepping.restore()
        self._check_finite()
        self._compare(*self._stepping.run(call, NOISE_SCALE)[:2])
        self._stepping.restore()
        self._moved: list[dict[str, Moved]] = []

    @property
    def recording(self) -> Recording:
        """What was seen of it."""
        return self._stepping.recording

    @property
    def tensors(self) -> tuple[Any, ...]:
        return self.outputs, self.gradients, self.losses

    def moved(self, dtype: str) -> list[Moved]:
        """For each gradient, what an update does to its weight if that is kept in a dtype, `float16` or `bfloat16`."""
        if not self._moved:
            self._moved = [
                {low: in_graph.moved(before, after, low) for low in LOW_DTYPES}
                for before, after in after_update(self.recording, self.gradients, 1.0)
            ]
        return [one[dtype] for one in self._moved]

    def _traced(self) -> Any:
        """The traced step: with its own functions inlined where less is seen without, or only its forward pass."""
        call = self._trace(self.kind)
        if self._is_seen():
            return call
        with contextlib.suppress(Exception):  # what is written for autograph raises anything without it
            call = self._trace(replace(self.kind, inlined=True))
            if self._is_seen():
                self.kind = replace(self.kind, inlined=True)
                return call
        if not can_be_called(self.model):
            raise CaseFailure("its training step calls its layers in a function of its own: none of them is seen")
        what = "in a branch, a loop or a function of its own" if self.recording.updates else "by no optimizer of Keras"
        self.no_backward = self.no_backward or f"its training step makes its updates {what}: no gradient is seen"
        self.kind = replace(self.kind, forward_only=True)
        return self._trace(self.kind)

    def _trace(self, kind: Kind) -> Any:
        def body(recording: Recording, scale: Any) -> Any:
            outputs = [tf.cast(one.tensor, tf.float32) for one in recording.outputs]
            gradients = [tf.cast(gradient, tf.float32) for _, gradient in gradients_of(recording)]
            return outputs, gradients, [] if recording.loss is None else [tf.cast(recording.loss, tf.float32)]

        self._stepping = Stepping(self.model, kind)
        return self._stepping.trace(body)

    def _is_seen(self) -> bool:
        updates = self.recording.updates
        takes_gradients = self.kind.training and not self.kind.forward_only
        return bool(self.recording.outputs) and (
            not takes_gradients or bool(updates and all(one.visible for one in updates))
        )

    def _check_finite(self) -> None:
        seen = zip(self.recording.outputs, self.outputs, strict=True)
        tensors = [(f"the output of {one.name}", tensor) for one, tensor in seen if one.is_output]
        weights = zip(gradients_of(self.recording), self.gradients, strict=True)
        tensors += [(f"the gradient of {variable.path}", tensor) for (variable, _), tensor in weights]
        for name, tensor in tensors:
            if not bool(tf.reduce_all(tf.math.is_finite(tensor))):
                raise CaseFailure(f"float32 itself is not finite: {name}; there is nothing to compare with")

    def _compare(self, outputs: Sequence[Any], gradients: Sequence[Any]) -> None:
        """With a second step from the same start, whose loss was scaled."""
        seen = zip(self.recording.outputs, self.outputs, outputs, strict=True)
        distances = [_distance(a, b, 1.0) for one, a, b in seen if one.is_output]
        if max(distances, default=0.0) > REPEATABLE:
            self.unlike = UNLIKE
        else:
            self.unlike = ""
        scale = NOISE_SCALE if self.losses else 1.0
        self.noise = [_distance(a, b, scale) for a, b in zip(self.gradients, gradients, strict=True)]


def _distance(first: Any, second: Any, scale: float) -> float:
    row = in_graph.comparison(first, second, "float32", tf.constant(scale))
    return in_graph.read_comparison(row.numpy().tolist()).relative_error
