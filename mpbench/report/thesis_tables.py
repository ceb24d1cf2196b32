"""Tables 1 to 5 of the thesis as measured, in its layout, the thesis's own figures beside them.

Pure functions from a saved run to tables; only what was measured is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.arms import Arms
from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase
from mpbench.report import thesis
from mpbench.report.accuracy_tables import is_the_thesis_pair, setting
from mpbench.report.content import Cell, Number, Table
from mpbench.report.tables import marks, title

MILLION = 1e6


def thesis_tables(run: SavedRun) -> list[Table]:
    """The thesis's tables, those of which something was measured, in its order.

    Swept points are in none of them; other modes to run a precision have rows of their own.
    """
    cases = [case for case in run.speed.values() if not case.record.control and not case.record.point]
    compared = [case.record for case in run.accuracy.values()]
    tables = [_models(cases)] if cases else []
    arms = Arms(cases)
    if compared:
        tables += [_accuracies(compared), _mcnemar(compared)]
    for phase in thesis.TABLE:
        pairs = [(arms.baseline_of(case), case) for case in cases if case.record.phase == phase]
        paired = [(base, case) for base, case in pairs if base is not None]
        if paired:
            tables.append(_times(paired))
    return tables


def _models(cases: Sequence[SpeedCase]) -> Table:
    parameters: dict[str, int] = {}
    for case in cases:
        parameters.setdefault(case.record.model, case.record.parameters)
    rows = []
    for model, number in parameters.items():
        was = thesis.MODELS.get(model)
        thesiss: list[Cell] = ["", ""] if was is None else [_number(was[0]), _number(was[1] / MILLION, "g")]
        rows.append((model, Number(f"{number / MILLION:.1f}", number / MILLION), *thesiss))
    return Table(
        "Table 1, models: parameters with the head as measured; in the thesis with the ImageNet classifier",
        ("model", "parameters, million", "thesis: layers", "thesis: parameters, million"),
        tuple(rows),
    )


def _accuracies(records: Sequence[AccuracyRecord]) -> Table:
    rows = []
    for r in records:
        was = thesis.ACCURACY_PERCENT[r.model] if is_the_thesis_pair(r) else ()
        rows.append(
            (
                r.model,
                _over(r.precision, r.baseline),
                _number(100 * r.baseline_accuracy, ".2f"),
                _number(100 * r.accuracy, ".2f"),
                f"{100 * r.difference:+.2f} [{100 * r.difference_low:+.2f}, {100 * r.difference_high:+.2f}]",
                *_numbers(was, 2, ".2f"),
            )
        )
    return Table(
        f"Table 2, validation accuracy: {setting(records)}",
        (
            "model",
            "precision",
            "baseline, %",
            "this, %",
            "difference [95 % interval], points",
            "thesis: float32, %",
            "thesis: mixed, %",
        ),
        tuple(rows),
    )


def _mcnemar(records: Sequence[AccuracyRecord]) -> Table:
    rows = []
    for r in records:
        counts = (r.both_right, r.baseline_only, r.precision_only, r.both_wrong)
        was: Sequence[Cell] = ["", ""]
        if is_the_thesis_pair(r):
            was = [" / ".join(map(str, thesis.CONTINGENCY[r.model])), _number(thesis.MCNEMAR_P[r.model], ".3f")]
        rows.append(
            (
                r.model,
                _over(r.precision, r.baseline),
                *(_number(count) for count in counts),
                _number(min(r.baseline_only, r.precision_only)),
                _number(r.mcnemar_exact_p, ".3f"),
                *was,
            )
        )
    return Table(
        "Table 3, McNemar: validation images by who was right; statistic: the smaller of the two in which one was",
        (
            "model",
            "precision",
            "both right",
            "baseline only",
            "this only",
            "both wrong",
            "statistic",
            "p",
            "thesis: images",
            "thesis: p",
        ),
        tuple(rows),
    )


def _times(pairs: Sequence[tuple[SpeedCase, SpeedCase]]) -> Table:
    rows = []
    for base, case in pairs:
        r, ms, base_ms = case.record, 1000 * case.median_seconds, 1000 * base.median_seconds
        alike = base.record.batch_size == r.batch_size
        was: Sequence[Cell] = ["", "", ""]
        if (r.baseline, r.precision) == ("float32", "mixed_float16") and (r.model, r.phase) in thesis.MS_PER_STEP:
            float32, mixed = thesis.MS_PER_STEP[r.model, r.phase]
            was = [_number(float32), _number(mixed), _number(100 * (float32 - mixed) / float32, ".0f")]
        speedup = f"{r.speedup:.3f} [{r.speedup_low:.3f}, {r.speedup_high:.3f}]" if r.interval else ""
        rows.append(
            (
                r.name,
                _over(r.precision, base.record.precision),
                _number(base_ms, ".2f"),
                _number(ms, ".2f"),
                _number(100 * (base_ms - ms) / base_ms, ".1f") if alike else "other batch",
                " ".join([speedup, *marks(case, base)]).strip(),
                *was,
            )
        )
    records = [case.record for _, case in pairs]
    return Table(
        title(records),
        (
            "model",
            "precision",
            "baseline, ms",
            "this, ms",
            "less, %",
            "speedup [95 % interval]",
            "thesis: float32, ms",
            "thesis: mixed, ms",
            "thesis: less, %",
        ),
        tuple(rows),
    )


def _over(precision: str, baseline: str) -> str:
    return f"{precision} over {baseline}"


def _number(value: float, form: str = "d") -> Number:
    return Number(f"{value:{form}}", float(value))


def _numbers(values: Iterable[float], count: int, form: str) -> list[Cell]:
    """Cells of some values; as many empty ones where there are none."""
    return [_number(value, form) for value in values] or [""] * count
