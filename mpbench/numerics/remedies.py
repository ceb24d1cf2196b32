"""What helps a model that a precision hurts: each remedy is tried, and told with what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from mpbench.config.precisions import PRECISIONS, Precision
from mpbench.errors import described
from mpbench.numerics.compared import Compared
from mpbench.numerics.findings import Findings
from mpbench.numerics.reference import Reference
from mpbench.numerics.verdict import Judgement, judge, named
from mpbench.records.numerics import Safety

ROUNDS = 3
"""A layer in float32 may hand what overflows on to the next one: so often are those added that are then to blame."""

OTHERS = {"mixed_float16": ("mixed_bfloat16",), "float16": ("mixed_float16", "mixed_bfloat16")}
"""Precisions that may do better, for float32's range or for float32's weights."""

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
    verdict: Safety | None
    helps: bool
    sentence: str


class Remedies:
    """What may help against the concerns of a comparison.

    Args:
        compared: what was found.
        reference: that it was compared with.
        make: builds the model.
        progress: called with the name of each remedy before it is tried.
    """

    def __init__(self, compared: Compared, reference: Reference, make: Make, progress: Callable[[str], None]) -> None:
        self._compared, self._reference = compared, reference
        self._make, self._progress = make, progress
        self._before = judge(compared.findings)

    def tried(self) -> list[Remedy]:
        """Those that may help, each tried; none where there is no concern."""
        concerns = self._before.concerns
        found = []
        scale = _middle_scale(self._compared.findings)
        if scale is not None and any(one.by_scale for one in concerns):
            found.append(
                self._try(f"an initial loss scale of 2^{scale}", lambda: self._compared.with_initial_scale(scale))
            )
        if any(one.in_layer and one.layers for one in concerns):
            found.append(self._layers_in_float32())
        if concerns:
            found += [self._try(one, lambda one=one: self._built(one)) for one in OTHERS.get(self._name, ())]  # type: ignore[misc]
        return found

    @property
    def _name(self) -> str:
        return self._compared.precision.name

    def _built(self, precision: str, in_float32: Collection[str] = ()) -> Findings:
        with layers_in_float32(in_float32):
            model = self._make(PRECISIONS[precision])
        return Compared(self._reference, model, PRECISIONS[precision]).findings

    def _try(
        self, what: str, find: Callable[[], Findings], keep: Callable[[Findings], None] = lambda _: None
    ) -> Remedy:
        self._progress(what)
        try:
            findings = find()
        except Exception as error:  # whatever a user's model raises when it is built otherwise
            return Remedy(what, None, False, f"could not be tried: {described(error)}")
        keep(findings)
        after = judge(findings)
        return Remedy(what, after.verdict, after.verdict.rank < self._before.verdict.rank, after.sentence)

    def _layers_in_float32(self) -> Remedy:
        """The layers that are to blame in float32, then those too that are to blame now, until it is better."""
        blamed: list[str] = []
        remedy, judgement = None, self._before
        for _ in range(ROUNDS):
            more = [one for one in self._blamed(judgement) if one not in blamed]
            if not more:
                break
            blamed += more
            found: list[Findings] = []
            last_names = {one.rpartition("/")[2] for one in blamed}
            remedy = self._try(f"{named(blamed)} in float32", lambda: self._built(self._name, last_names), found.append)  # noqa: B023
            kept = [one for of in found for one in of.outputs if one.owner in blamed and one.dtype != "float32"]
            if kept:
                why = f"could not be tried: {kept[0].label} computes in {kept[0].dtype} all the same"
                return Remedy(remedy.what, None, False, why)
            if remedy.helps or not found:
                break
            judgement = judge(found[0])
        return remedy or Remedy("a layer in float32", None, False, "could not be tried: no layer of Keras is to blame")

    def _blamed(self, judgement: Judgement) -> list[str]:
        """Layers of the first concern that a dtype policy may help."""
        concern = next((one for one in judgement.concerns if one.in_layer and one.layers), None)
        names = concern.layers if concern else ()
        return [one for one in names if isinstance(self._compared.layer(one), keras.layers.Layer)]


def _middle_scale(findings: Findings) -> int | None:
    """Of the window of loss scales."""
    scales = findings.scales
    return None if scales is None or scales.low is None or scales.high is None else (scales.low + scales.high) // 2


@contextmanager
def layers_in_float32(names: Collection[str]) -> Iterator[None]:
    """Layers of these names, with all within them, are in float32, weights too, if they are built inside.

    A layer is built by its first call. One that was built before, by the layer around it, keeps its weights' dtype.
    """
    kind = keras.layers.Layer
    own = kind.__call__

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in names:
            for part in _parts(layer):
                part.dtype_policy = _InFloat32(part.variable_dtype if part.built and part.weights else "float32")
        return own(layer, *args, **kwargs)

    kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = own


class _InFloat32(keras.DTypePolicy):  # type: ignore[misc]
    """Computes in float32."""

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
