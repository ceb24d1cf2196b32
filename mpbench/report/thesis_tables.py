"""Tables 1 to 5 of the thesis as measured, the thesis's own figures beside them; only what was measured is in them."""

from __future__ import annotations

from collections.abc import Sequence

from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase
from mpbench.report import thesis
from mpbench.report.accuracy import accuracies, mcnemar
from mpbench.report.content import Cell, Table, number
from mpbench.report.speed_tables import phase_table

MILLION = 1e6


def thesis_tables(run: SavedRun) -> list[Table]:
    """The thesis's tables for which something was measured, in its order.

    Swept points are in none of them; other modes of a precision have rows of their own.
    """
    cases = [case for case in run.speed.values() if not case.record.control and not case.record.point]
    compared = [case.record for case in run.accuracy.values()]
    of_phase = ([case for case in cases if case.record.phase == phase] for phase in thesis.TABLE_OF_PHASE)
    return [
        *([_models(cases)] if cases else []),
        *([accuracies(compared), mcnemar(compared)] if compared else []),
        *(phase_table(cases) for cases in of_phase if cases),
    ]


def _models(cases: Sequence[SpeedCase]) -> Table:
    rows = []
    for model, parameters in {case.record.model: case.record.parameters for case in cases}.items():
        row: dict[str, Cell] = {"model": model, "parameters, million": number(parameters / MILLION, ".1f")}
        if was := thesis.MODELS.get(model):
            row |= {"thesis: layers": number(was[0]), "thesis: parameters, million": number(was[1] / MILLION, "g")}
        rows.append(row)
    about = "Table 1, models: parameters with the head as measured; in the thesis with the ImageNet classifier"
    return Table.of(about, rows)
