"""What is saved of an outcome: the fields of a `NumericsRecord` that follow from the findings of one step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from mpbench.numerics.findings import Findings
from mpbench.numerics.limits import limits_of
from mpbench.numerics.statistics import total_unmoved_share
from mpbench.numerics.verdict import Judgement
from mpbench.records.numerics import (
    MAX_CONCERNS,
    MAX_LAYERS,
    MAX_TEXT,
    LayerNumerics,
    SavedConcern,
    SavedRemedy,
    as_details,
)


def worst_layers(findings: Findings, judgement: Judgement) -> list[LayerNumerics]:
    """At most MAX_LAYERS: those to blame first, in the order of the concerns, then those with least headroom."""
    rows = {one.name: one for one in layer_rows(findings)}
    blamed = [rows.pop(name) for concern in judgement.concerns for name in concern.layers if name in rows]

    def room(row: LayerNumerics) -> float:
        return math.inf if row.headroom_log2 is None else row.headroom_log2

    return [*blamed, *sorted(rows.values(), key=room)][:MAX_LAYERS]


def layer_rows(findings: Findings) -> list[LayerNumerics]:
    """What was found, by layer, in the order of the forward pass."""
    names = dict.fromkeys([one.owner or one.label for one in findings.outputs])
    names |= dict.fromkeys([one.layer for one in findings.gradients if one.layer])
    names |= dict.fromkeys([one.layer for one in findings.flows])
    return [_row(findings, name) for name in names]


def _row(findings: Findings, name: str) -> LayerNumerics:
    outputs = [one for one in findings.outputs if (one.owner or one.label) == name]
    flows = [one for one in findings.flows if one.layer == name]
    gradients = [one for one in findings.gradients if one.layer == name and one.known]
    moved = [one.moved for one in findings.updates if one.layer == name]
    compared = [] if findings.unlike else [one for one in outputs if not one.alone]
    dtype = outputs[-1].dtype if outputs else flows[0].dtype if flows else gradients[0].dtype if gradients else ""
    return LayerNumerics(
        name=name,
        type=next((one.kind for one in outputs if not one.before), ""),
        dtype=dtype,
        headroom_log2=_least(one.headroom_log2 for one in outputs),
        finite=not any(one.comparison.not_finite for one in outputs),
        lost=_most(one.lost_share for one in compared),
        error=_most(one.comparison.relative_error for one in compared),
        backward_headroom_log2=_least(limits_of(one.dtype).headroom_log2(one.largest) for one in flows),
        backward_finite=not any(one.not_finite for one in flows),
        gradient_lost_unscaled=None if findings.unlike else _most(one.unscaled_lost for one in gradients),
        gradient_lost=None if findings.unlike else _most(one.settled_lost for one in gradients),
        gradient_error=None if findings.unlike else _most(one.settled.relative_error for one in gradients),
        unmoved=total_unmoved_share(moved) if moved else None,
    )


def _least(values: Iterable[float]) -> float | None:
    return min((one for one in values if math.isfinite(one)), default=None)


def _most(values: Iterable[float]) -> float | None:
    return max((one for one in values if math.isfinite(one)), default=None)


def summary(findings: Findings, judgement: Judgement) -> dict[str, Any]:
    """The fields of a record that follow from what was found."""
    concern = judgement.concerns[0] if judgement.concerns else None
    outputs = [] if findings.unlike else [one for one in findings.outputs if not one.alone]
    roomy = [one for one in findings.outputs if math.isfinite(one.headroom_log2)]
    tightest = min(roomy, key=lambda one: one.headroom_log2, default=None)
    most_lost = max(outputs, key=lambda one: one.lost_share, default=None)
    gradients = [] if findings.unlike else [one for one in findings.gradients if one.known]
    worst = max(gradients, key=lambda one: (one.settled_lost, one.unscaled_lost), default=None)
    scales = findings.scales
    fields_of = {
        "verdict": judgement.verdict.value,
        "sentence": judgement.sentence,
        "layer": concern.layers[0] if concern and concern.layers else "",
        "where": concern.where.value if concern else "",
        "headroom_log2": tightest.headroom_log2 if tightest else None,
        "headroom_layer": tightest.label if tightest else "",
        "output_lost": most_lost.lost_share if most_lost else None,
        "output_lost_layer": most_lost.label if most_lost and most_lost.lost_share else "",
        "output_error": _most(one.comparison.relative_error for one in outputs if one.is_output),
        "loss_error": None if findings.unlike or findings.loss is None else _most([findings.loss.relative_error]),
        "initial_scale_log2": scales.initial if scales else None,
        "settled_scale_log2": scales.settled if scales and scales.initial is not None else None,
        "window_low_log2": scales.low if scales else None,
        "window_high_log2": scales.high if scales else None,
        "first_to_overflow": findings.first_to_overflow,
        "gradient_lost_unscaled": _most(one.unscaled_lost for one in gradients),
        "gradient_lost": worst.settled_lost if worst else None,
        "gradient_lost_weight": worst.weight if worst and (worst.settled_lost or worst.unscaled_lost) else "",
        "gradient_error": _most(one.settled.relative_error for one in gradients),
        "unmoved_share": total_unmoved_share(one.moved for one in findings.updates) if findings.updates else None,
        "no_backward": findings.no_backward,
        "unlike": findings.unlike,
        "notes": "; ".join(findings.notes),
    }
    return {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in fields_of.items()}


def details_of(findings: Findings, judgement: Judgement, remedies: Sequence[Any]) -> str:
    """The JSON text of a record of what was found; remedies are as `remedies.Remedy`."""
    return as_details(
        worst_layers(findings, judgement),
        [
            SavedConcern(one.verdict.value, one.where.value, ", ".join(one.layers[:3]), one.sentence)
            for one in judgement.concerns[:MAX_CONCERNS]
        ],
        [
            SavedRemedy(one.what, one.verdict.value if one.verdict else "", one.helps, one.sentence)
            for one in remedies[:MAX_CONCERNS]
        ],
    )
