"""What is counted of a tensor in two precisions, defined in NumPy. Pure; imports no TensorFlow.

These are the definitions. `in_graph` computes the same on the device, and is tested against them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike

from mpbench.numerics.limits import limits_of


@dataclass(frozen=True)
class Comparison:
    """A tensor in a precision beside the same tensor in float32.

    Attributes:
        largest: magnitude among the finite elements; of a gradient, multiplied by the loss scale as it was.
        reference_largest: the same in float32, without a loss scale.
        not_finite: elements that are infinite or NaN, and finite in float32.
        nonzero: elements that are not 0 in float32.
        lost: of those, elements that are 0 in the precision. Micikevicius et al. 2017, "Mixed Precision Training", 3.2,
            count gradients so; of their SSD detector 31 % became 0 in float16, and it diverged.
        too_small: of those, elements that are smaller in float32, times the loss scale, than the smallest normal number
            of the dtype. Others that are lost were rounded: to the other side of a ReLU, or in a sum that cancels out.
        relative_error: ||here - float32|| / ||float32||, Euclidean, over the elements that are finite in both; 0 where
            both are 0, infinite where float32 alone is 0. Of a gradient after the loss scale has been divided out.
    """

    largest: float
    reference_largest: float
    not_finite: int
    nonzero: int
    lost: int
    too_small: int
    relative_error: float

    @property
    def lost_share(self) -> float:
        """Of the elements that are not 0 in float32, those that are 0 in the precision because they are too small."""
        return self.too_small / self.nonzero if self.nonzero else 0.0

    @property
    def vanished(self) -> bool:
        """Whether all of it is 0, and something is not in float32."""
        return self.nonzero > 0 and self.largest == 0 and self.not_finite == 0


def compared(reference: ArrayLike, here: ArrayLike, dtype: str, scale: float = 1.0) -> Comparison:
    """Compare a tensor with the same one in float32.

    Args:
        reference: in float32, any shape.
        here: in the precision, the same shape.
        dtype: that it was computed in.
        scale: power of two that the loss was multiplied by, where it is a gradient.
    """
    wanted = np.asarray(reference, np.float64)
    scaled = np.asarray(here).astype(np.float64)
    of_wanted, of_scaled = np.isfinite(wanted), np.isfinite(scaled)
    both = of_wanted & of_scaled
    nonzero = wanted != 0
    lost = nonzero & (scaled == 0)
    return Comparison(
        largest=float(np.abs(scaled[of_scaled]).max(initial=0.0)),
        reference_largest=float(np.abs(wanted[of_wanted]).max(initial=0.0)),
        not_finite=int((of_wanted & ~of_scaled).sum()),
        nonzero=int(nonzero.sum()),
        lost=int(lost.sum()),
        too_small=int((lost & (np.abs(wanted) * scale < limits_of(dtype).smallest_normal)).sum()),
        relative_error=_ratio(np.linalg.norm(scaled[both] / scale - wanted[both]), np.linalg.norm(wanted[both])),
    )


def _ratio(distance: Any, size: Any) -> float:
    if size == 0:
        return math.inf if distance else 0.0
    return float(distance / size)


@dataclass(frozen=True)
class Moved:
    """What an update does to a weight kept in a dtype with fewer bits.

    Attributes:
        updated: elements that the update moves in float32.
        unmoved: of those, elements that round to the same number before and after it.
        not_finite: elements that are not finite after it.
    """

    updated: int
    unmoved: int
    not_finite: int = 0

    @property
    def unmoved_share(self) -> float:
        """0 where the update moves nothing."""
        return self.unmoved / self.updated if self.updated else 0.0


def moved(before: ArrayLike, after: ArrayLike, dtype: str) -> Moved:
    """Whether an update would move a weight kept in a dtype.

    The spacing of a binary format's numbers near w is between epsilon * |w| / 2 and epsilon * |w|; an update below half
    of it is rounded away (IEEE 754-2019, 4.3.1). In float16 that is an update 2048 or more times smaller than its
    weight: Micikevicius et al. 2017, 3.1, which is why they keep the weights in float32.

    Args:
        before: the weight in float32, any shape.
        after: the same after the update.
        dtype: `float16` or `bfloat16`.
    """
    old, new = np.asarray(before, np.float32), np.asarray(after, np.float32)
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    with np.errstate(over="ignore"):
        same = old.astype(kind) == new.astype(kind)
    updated = old != new
    return Moved(int(updated.sum()), int((updated & same).sum()), int((~np.isfinite(new)).sum()))


def total_unmoved_share(weights: Iterable[Moved]) -> float:
    """Of all elements of several weights together."""
    of = list(weights)
    updated = sum(one.updated for one in of)
    return sum(one.unmoved for one in of) / updated if updated else 0.0


def aligned(reference: Sequence[Hashable], here: Sequence[Hashable]) -> list[int | None]:
    """For each thing seen in one run, its place in the other; None where it has none.

    Two models built alike call the same layers in the same order. Where they differ, what both begin with and end with
    is taken for the same, and between that the longest runs that both share (difflib).

    Args:
        reference: what was seen in float32, such as class, name and shape.
        here: in the precision.
    """
    shorter = min(len(reference), len(here))
    start = next((i for i in range(shorter) if reference[i] != here[i]), shorter)
    rest = shorter - start
    end = next((i for i in range(rest) if reference[-1 - i] != here[-1 - i]), rest)
    middles = [one[start : len(one) - end] for one in (reference, here)]
    places: list[int | None] = [*range(start), *[None] * len(middles[1]), *range(len(reference) - end, len(reference))]
    for block in difflib.SequenceMatcher(None, middles[0], middles[1], autojunk=False).get_matching_blocks():
        for i in range(start, start + block.size):
            places[block.b + i] = block.a + i
    return places
