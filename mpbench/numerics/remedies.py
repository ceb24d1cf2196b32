"""What helps a model that a precision hurts: each remedy is tried, and told with what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from mpbench.config.precisions import PRECISIONS, Precision
from mpbench.errors import described
from mpbench.numerics.compared import Compared
from mpbench.numerics.findings import Findings
from mpbench.numerics.reference import Reference
from mpbench.numerics.verdict import NAMED, Judgement, Verdict, judge

ROUNDS = 3
"""A layer in float32 may hand what overflows on to the next one: so often are those added that are then to blame."""

OTHERS = {"mixed_float16": ("mixed_bfloat16",), "float16": ("mixed_float16", "mixed_bfloat16")}
"""Precisions that may do better; float32's range, or its weights."""

Make = Callable[[Precision], keras.Model]
"""Builds a model in a precision, anew each time, and compiles it where it is to be trained."""


@dataclass(frozen=True)
class Remedy:
    """Something that was changed, and what was found then.

    Attributes:
        what: was changed, for people.
        verdict: with it; None where it could not be tried.
        helps: whether that is better than without.
        sentence: the worst that is left, what there is to spare, or why it could not be tried.
    """

    what: str
    verdict: Verdict | None
    helps: bool
    sentence: str


def try_remedies(
    compared: Compared, model: keras.Model, reference: Reference, make: Make | None, progress: Callable[[str], None]
) -> list[Remedy]:
    """Try what may help against the concerns of a comparison; nothing where there is none.

    Args:
        compared: what was found, of `model`.
        make: builds the model in other precisions; None where it cannot be built anew.
        progress: called with the name of each remedy before it is tried.
    """
    before = judge(compared.findings)
    if before.verdict is Verdict.SAFE:
        return []
    found = []
    scale = _better_scale(before, compared.findings)
    if scale is not None:
        what = f"an initial loss scale of 2^{scale}"
        progress(what)
        found.append(_tried(what, before, lambda: compared.with_initial_scale(scale)))
    if any(one.in_layer and one.layers for one in before.concerns):
        found.append(_layers_in_float32(compared, model, reference, before, progress))
    if make is not None:
        others = OTHERS.get(compared.precision.name, ())
        found += [_elsewhere(name, before, reference, make, progress) for name in others]
    return found


def _elsewhere(
    name: str, before: Judgement, reference: Reference, make: Make, progress: Callable[[str], None]
) -> Remedy:
    """Another precision."""
    progress(name)
    return _tried(name, before, lambda: Compared(reference, make(PRECISIONS[name]), PRECISIONS[name]).findings)


def _better_scale(before: Judgement, findings: Findings) -> int | None:
    """The middle of the window of loss scales, where another scale may help."""
    scales = findings.scales
    if scales is None or scales.low is None or scales.high is None:
        return None
    return (scales.low + scales.high) // 2 if any(one.by_scale for one in before.concerns) else None


def _tried(
    what: str, before: Judgement, find: Callable[[], Findings], keep: Callable[[Findings], None] = lambda _: None
) -> Remedy:
    try:
        findings = find()
        keep(findings)
        after = judge(findings)
    except Exception as error:  # whatever a user's model raises in another precision
        return Remedy(what, None, False, f"could not be tried: {described(error)}")
    return Remedy(what, after.verdict, after.verdict.rank < before.verdict.rank, after.sentence)


def _layers_in_float32(
    compared: Compared, model: keras.Model, reference: Reference, before: Judgement, progress: Callable[[str], None]
) -> Remedy:
    """The layers that are to blame in float32, and those that then are, until it is better."""
    names: list[str] = []
    remedy, judgement = None, before
    for _ in range(ROUNDS):
        more = [name for name in _blamed(judgement, compared) if name not in names]
        if not more:
            break
        names += more
        what = f"{', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''} in float32"
        progress(what)
        found: list[Findings] = []
        with in_float32(compared.layer(name) for name in names):
            remedy = _tried(what, before, lambda: Compared(reference, model, compared.precision).findings, found.append)
        kept = {one.layer for of in found for one in of.outputs if one.owner in names and one.dtype != "float32"}
        if kept:
            return Remedy(what, None, False, f"could not be tried: {', '.join(sorted(kept))} computes as before")
        if remedy.helps or not found:
            break
        judgement = judge(found[0])
    return remedy or Remedy("a layer in float32", None, False, "could not be tried: no layer of Keras is to blame")


def _blamed(judgement: Judgement, compared: Compared) -> list[str]:
    """Layers of the first concern that a dtype policy may help."""
    concern = next((one for one in judgement.concerns if one.in_layer and one.layers), None)
    names = concern.layers if concern else ()
    return [name for name in names if isinstance(compared.layer(name), keras.layers.Layer)]


@contextmanager
def in_float32(layers: Iterable[Any]) -> Iterator[None]:
    """Layers, with all within them, compute in float32 for a while; their weights stay in the dtype they are in."""
    every = {id(part): part for layer in layers for part in _parts(layer)}.values()
    before = [(part, part.dtype_policy) for part in every]
    for part, policy in before:
        part.dtype_policy = _ComputesInFloat32(policy.variable_dtype)
    try:
        yield
    finally:
        for part, policy in before:
            part.dtype_policy = policy


class _ComputesInFloat32(keras.DTypePolicy):  # type: ignore[misc]
    def __init__(self, variable_dtype: str) -> None:
        super().__init__("float32")
        self._kept_in = variable_dtype

    @property
    def variable_dtype(self) -> str:
        return self._kept_in


def _parts(layer: Any) -> Iterator[Any]:
    yield layer
    for part in getattr(layer, "_layers", None) or ():
        yield from _parts(part)
