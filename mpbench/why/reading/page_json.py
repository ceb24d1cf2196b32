"""The answer as JSON; docs/why.md documents its schema. Seconds and fractions, nothing rounded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mpbench.records.diagnostics import LayerRecord, ProfileRecord
from mpbench.why.reading.account import LABELS, Measured, layer_types
from mpbench.why.reading.explanation import Headline, LayerChange, Phase, dominant, explanation, not_faster
from mpbench.why.reading.findings import AnyFigure, Figure, Findings
from mpbench.why.reading.roofline import Peaks, Roof, roof

EXPLANATION_SCHEMA = 1
SCHEMA_KEY = "mpbench_explanation_schema"

LAYER_FIELDS = (
    "layer",
    "layer_type",
    "count",
    "config",
    "input_shape",
    "output_shape",
    "compute_dtype",
    "parameters",
    "flops",
    "minimal_bytes",
    "kernels",
    "cast_bytes",
    "noisy",
)
"""As in LayerRecord."""


def as_data(findings: Sequence[Findings], notes: Sequence[str]) -> dict[str, Any]:
    """All of the answer; see docs/why.md.

    Args:
        findings: of each model and setting.
        notes: on the runs.
    """
    return {SCHEMA_KEY: EXPLANATION_SCHEMA, "notes": list(notes), "models": [_model(found) for found in findings]}


def _model(found: Findings) -> dict[str, Any]:
    return {
        **asdict(found.setting),
        "baseline": found.baseline,
        "precisions": found.precisions,
        "notes": list(dict.fromkeys(found.notes)),
        "phases": {phase.name: _phase(phase) for phase in explanation(found)},
    }


def _phase(phase: Phase) -> dict[str, Any]:
    layers = {name: of for (of_phase, name), of in phase.found.layers.items() if of_phase == phase.name}
    profiles = {name: figure for (of, name), figure in phase.found.profiles.items() if of == phase.name}
    return {
        "speedups": {name: _speedup(of) for name, of in phase.headlines.items()},
        "roofline": {name: asdict(of) | {"speedup": of.speedup} for name, of in phase.allowed.items()},
        "step_source": phase.steps.source if phase.steps else None,
        "peaks": _peaks(phase.peaks),
        "accounts": {name: _account(phase, name, of) for name, of in phase.measured.items()},
        "differences": {
            name: {
                "rows": _rows(of.saved, before=of.before, after=of.after),
                "saved_seconds": math.fsum(of.saved.values()),
                "not_faster": not_faster(of),
            }
            for name, of in phase.differences.items()
        },
        "fed": {
            name: {
                "step_seconds": of.step,
                "device_seconds": of.device,
                "fed_seconds": of.fed,
                "pipeline_seconds": of.pipeline,
                "rows": of.rows,
                "verdict": phase.feed_verdicts[name].verdict,
                "sentence": phase.feed_verdicts[name].sentence,
            }
            for name, of in phase.fed.items()
        },
        "layer_types": {name: layer_types(phase.found, phase.name, name) for name in layers},
        "layers": {name: [_layer(phase, figure) for figure in of.values()] for name, of in layers.items()},
        "layers_by_saving": {name: [_change(change) for change in phase.changes(name)] for name in phase.others},
        "profiles": {name: _profile(figure) for name, figure in profiles.items()},
        "noisy": sorted(_noisy(phase)),
        "cautions": phase.cautions,
        "missing": phase.missing,
        "conclusions": phase.conclusions,
    }


def _peaks(peaks: Peaks) -> dict[str, Any]:
    return {
        "flops_per_second": {
            "tf32" if tf32 else dtype: flops for (dtype, tf32), flops in peaks.flops_per_second.items()
        },
        "bytes_per_second": dict(peaks.bytes_per_second),
        "launch_seconds": dict(peaks.launch_seconds),
    }


def _speedup(of: Headline) -> dict[str, Any]:
    return {
        "speedup": of.speedup,
        "low": of.interval.low if of.interval else None,
        "high": of.interval.high if of.interval else None,
        "noisy": of.noisy,
        "baseline_seconds": of.baseline_seconds,
        "seconds": of.seconds,
        "source": of.source,
    }


def _account(phase: Phase, name: str, of: Measured) -> dict[str, Any]:
    rows = phase.accounts[name]
    return {
        "step_seconds": of.split.step,
        "rows": _rows(rows),
        "dominant": dominant(rows),
        "split_seconds": asdict(of.split) | {"backward": of.split.backward, "rest": of.split.rest},
        "layers_seconds": of.layers_seconds,
        "predicted_seconds": of.predicted,
    }


def _rows(rows: Mapping[str, float], **more: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rows with their share of the sum; of no sum there are no shares."""
    total = math.fsum(rows.values())
    return [
        {
            "row": key,
            "label": LABELS[key],
            "seconds": seconds,
            "share": seconds / total if total else None,
            **{f"{name}_seconds": of[key] for name, of in more.items()},
        }
        for key, seconds in rows.items()
    ]


def _layer(phase: Phase, figure: Figure[LayerRecord]) -> dict[str, Any]:
    record = figure.record
    return {name: getattr(record, name) for name in LAYER_FIELDS} | _roof(roof(figure, phase.peaks))


def _roof(of: Roof) -> dict[str, Any]:
    found = {"bound_seconds": of.bound_seconds, "class": of.bound_by, "fraction_of_roof": of.fraction}
    return asdict(of) | found


def _change(change: LayerChange) -> dict[str, Any]:
    return {
        "layer": change.after.record.layer,
        "count": change.after.record.count,
        "saved_seconds": change.saved,
        "before": _roof(change.roof_before),
        "after": _roof(change.roof_after),
    }


def _profile(figure: Figure[ProfileRecord]) -> dict[str, Any]:
    record = figure.record
    return {
        "source": record.source,
        "on_device": record.on_device,
        "seconds_by_class": record.seconds_by_class,
        "tensor_core_share": record.tensor_core_share,
    }


def _noisy(phase: Phase) -> list[str]:
    """What is noisy, as `layers float32 block1_conv1`."""

    def what(figure: AnyFigure) -> str:
        return str(next((v for n in ("part", "layer", "feed") if (v := getattr(figure.record, n, ""))), "step"))

    return [
        f"{kind} {one.record.precision} {what(one)}"
        for kind, of in phase.figures.items()
        for one in of
        if one.record.noisy
    ]
