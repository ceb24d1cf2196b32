"""What was found of one step in a precision beside float32: by layer, by weight, by pass. Plain data, no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mpbench.numerics.limits import limits_of
from mpbench.numerics.loss_scales import LossScales
from mpbench.numerics.statistics import Comparison, Moved

KNOWN_GRADIENT = 0.1
"""Relative distance between two float32 gradients of the same step whose loss was scaled by 1 and by 3, up to which
float32 is taken to know the gradient. Beyond it there is only rounding, as of a bias that a batch normalisation takes
out again, and what half precision does to it is no loss."""


@dataclass(frozen=True)
class LayerOutput:
    """A tensor of the forward pass.

    Attributes:
        layer: name.
        kind: the layer's class.
        call: how many times the layer has been called before.
        before: whether operations outside all layers computed it, for this layer.
        owner: name of the layer that computed it; empty where that is the model itself.
        dtype: of the tensor in the precision.
        comparison: with float32. Where float32 has no such layer, with zeros.
        alone: whether float32 has no such layer.
        is_output: of the model.
    """

    layer: str
    kind: str
    call: int
    before: bool
    owner: str
    dtype: str
    comparison: Comparison
    alone: bool
    is_output: bool

    @property
    def label(self) -> str:
        """For people."""
        call = f" (call {self.call + 1})" if self.call else ""
        return f"operations before {self.layer}{call}" if self.before else f"{self.layer}{call}"

    @property
    def lost_share(self) -> float:
        """Of what is not 0 in float32, what became 0 because it is too small; all where nothing else is left."""
        return 1.0 if self.comparison.vanished else self.comparison.lost_share

    @property
    def headroom_log2(self) -> float:
        """Powers of two from its largest magnitude to the dtype's largest number.

        Where something is not finite: of its magnitude in float32 if that is beyond the dtype, else minus infinity.
        """
        limits = limits_of(self.dtype)
        if not self.comparison.not_finite:
            return limits.headroom_log2(self.comparison.largest)
        room = limits.headroom_log2(self.comparison.reference_largest)
        return room if room < 0 else -math.inf


@dataclass(frozen=True)
class BackwardFlow:
    """A gradient that a layer hands back, at a loss scale.

    Attributes:
        layer: that computed it from the gradient of its output; `(loss)` for the loss.
        dtype: that it was handed back in.
        largest: finite magnitude, scaled.
        not_finite: elements.
    """

    layer: str
    dtype: str
    largest: float
    not_finite: int


@dataclass(frozen=True)
class WeightGradient:
    """The gradient of one trainable weight.

    Attributes:
        weight: its path.
        layer: that it belongs to.
        dtype: that the layer computes in.
        unscaled, settled: without loss scaling, and at the scale that has settled.
        unscaled_lost, settled_lost: see `lost_share`.
        noise: see KNOWN_GRADIENT.
    """

    weight: str
    layer: str
    dtype: str
    unscaled: Comparison
    settled: Comparison
    unscaled_lost: float
    settled_lost: float
    noise: float

    @property
    def known(self) -> bool:
        """Whether there is a gradient to lose."""
        return self.noise <= KNOWN_GRADIENT


@dataclass(frozen=True)
class WeightUpdate:
    """One update of one trainable weight, as the optimizer makes it in float32.

    Attributes:
        weight, layer: as above.
        kept_in: dtype of the weight.
        moved: if it is kept in that dtype, or, where that is float32, if it were kept in the precision's compute dtype.
        not_finite: elements that are not finite after an update in the precision itself.
    """

    weight: str
    layer: str
    kept_in: str
    moved: Moved
    not_finite: int = 0


@dataclass(frozen=True)
class Findings:
    """Everything that was found of a step.

    Attributes:
        precision, compute_dtype: name, and dtype of its policy.
        training: whether it is a training step: a loss is made of its outputs.
        outputs: in the order of the forward pass.
        loss: where the step scales one; else None.
        flows: in the order of the backward pass, at the scale that has settled or, where none has, at the lowest tried.
        gradients: in the order of the weights, at those scales.
        scales: None where no gradient was taken, or the forward pass leaves nothing finite.
        first_to_overflow: the layer whose backward pass is the first that is not finite at a loss scale above the
            window; empty where nothing was seen to overflow.
        updates: in the order of the weights; empty where none was made, or where float32 is compared with itself.
        broken_state: names of weights that are not trained, such as a moving variance, and are not finite after the
            step, with their layers.
        no_backward: why there is no backward pass; empty where there is one, or none was asked for.
        unlike: why the two precisions cannot be compared value by value; empty where they can.
        notes: what else should be known, each a sentence.
    """

    precision: str
    compute_dtype: str
    training: bool
    outputs: tuple[LayerOutput, ...]
    loss: Comparison | None = None
    flows: tuple[BackwardFlow, ...] = ()
    gradients: tuple[WeightGradient, ...] = ()
    scales: LossScales | None = None
    first_to_overflow: str = ""
    updates: tuple[WeightUpdate, ...] = ()
    broken_state: tuple[tuple[str, str], ...] = ()
    no_backward: str = ""
    unlike: str = ""
    notes: tuple[str, ...] = ()

    @property
    def forward_reaches_the_end(self) -> bool:
        """Whether the model's outputs and its loss are finite."""
        return not any(one.comparison.not_finite for one in self.outputs if one.is_output) and not (
            self.loss is not None and self.loss.not_finite
        )


def lost_share(gradient: Comparison, handed_back: float) -> float:
    """Of a weight's gradient, the share that half precision's range has lost.

    That is what is too small; and all of it where nothing at all comes back through its layer, as behind one whose
    gradients were too small although these would not be. A sum that is 0 because it cancels out is not lost: the
    gradients that it sums up are there.

    Args:
        handed_back: largest magnitude of the gradient that its layer hands back.
    """
    return 1.0 if gradient.vanished and handed_back == 0 else gradient.lost_share


def first_vanished(flows: Sequence[BackwardFlow]) -> str:
    """Name of the first layer that hands back nothing but 0, though something reaches it; empty where none does."""
    for before, flow in pairwise(flows):
        if flow.largest == 0 and not flow.not_finite and before.largest > 0:
            return flow.layer
    return ""


def first_not_finite(flows: Sequence[BackwardFlow], gradients: Sequence[tuple[str, Comparison]]) -> str:
    """Name of the first layer in whose backward pass something is not finite; empty where all is finite.

    A layer's weights get their gradients as its inputs do. Those of layers that hand nothing back, as the first one,
    come last.

    Args:
        flows: in the order of the backward pass.
        gradients: each weight's layer and gradient, in the order of the weights.
    """
    bad = {layer for layer, comparison in gradients if comparison.not_finite}
    for flow in flows:
        if flow.not_finite or flow.layer in bad:
            return flow.layer
    return next((layer for layer, _ in reversed(gradients) if layer in bad), "")
