"""What is shown of numerics: whether a precision is safe for a model, which layers are to blame, and what helps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpbench.records.numerics import NumericsRecord, Safety
from mpbench.report.content import Block, Cell, Sentence, Table, number
from mpbench.text_table import render

SYNTHETIC_NOTE = (
    "Synthetic images and random weights; in inference, BatchNormalization that has never seen data brings its inputs "
    "to the size of 1. Gradients and activations of a trained model on its own data differ: "
    "a factory that loads weights and brings its own batch is looked at with those."
)


def numerics_lines(records: Sequence[NumericsRecord]) -> list[str]:
    """For the terminal; none without records."""
    if not records:
        return []
    rows = [
        {"model": r.model, "step": r.phase, "precision": r.precision, "numerics": r.verdict, "because": r.sentence}
        for r in records
    ]
    table = render(rows, left=("precision", "numerics", "because"))
    return ["", "Is it safe? One step beside the same step in float32", *table, *helps(records)]


def helps(records: Iterable[NumericsRecord]) -> list[str]:
    """What was tried where a precision is not safe, and came out better: a line each."""
    return [
        f"{r.model} {r.phase}, {r.precision}: tried: {remedy.what}: {remedy.sentence}"
        for r in records
        for remedy in r.remedies
        if remedy.helps
    ]


def numerics_blocks(records: Sequence[NumericsRecord]) -> list[Block]:
    """The section of the report; none without records."""
    if not records:
        return []
    rows: list[dict[str, Cell]] = [
        {
            "model": r.model,
            "step": r.phase,
            "precision": r.precision,
            "numerics": r.verdict,
            "because": r.sentence,
            "headroom, powers of 2": _number(r.headroom_log2, ".1f"),
            "loss scales that serve": _window(r),
            "gradient lost, %": _number(_percent(r.gradient_lost), ".2g"),
            "without scaling, %": _number(_percent(r.gradient_lost_unscaled), ".2g"),
            "output error": _number(r.output_error, ".2g"),
        }
        for r in records
    ]
    blocks: list[Block] = [Table.of("One step beside the same step in float32", rows, sortable=True)]
    blocks += [Sentence(f"{line}.") for line in helps(records)]
    worst = [r for r in records if r.verdict != Safety.SAFE.value]
    for r in worst:
        layers: list[dict[str, Cell]] = [
            {
                "layer": one.name,
                "type": one.type,
                "dtype": one.dtype,
                "headroom, powers of 2": _number(one.headroom_log2, ".1f"),
                "outputs lost, %": _number(_percent(one.lost), ".2g"),
                "gradient lost, %": _number(_percent(one.gradient_lost), ".2g"),
                "not moved, %": _number(_percent(one.unmoved), ".2g"),
            }
            for one in r.layers
        ]
        if layers:
            blocks.append(Table.of(f"{r.model} {r.phase}, {r.precision}: the worst layers", layers, sortable=True))
    if all(r.data == "synthetic" for r in records):
        blocks.append(Sentence(SYNTHETIC_NOTE))
    return blocks


def _number(value: float | None, form: str) -> Cell:
    return "" if value is None else number(value, form)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _window(r: NumericsRecord) -> str:
    if r.window_low_log2 is None or r.window_high_log2 is None:
        return ""
    return f"2^{r.window_low_log2} to 2^{r.window_high_log2}"
