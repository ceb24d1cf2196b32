"""Accuracy cases in a session: two precisions' answers compared by `mpbench.accuracy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpbench.accuracy.experiment import Experiment
from mpbench.plugin.kinds import CasesOneByOne, parameters_of
from mpbench.records.accuracy import ACCURACY, AccuracyCase, AccuracyRecord
from mpbench.report.accuracy import accuracy_lines

if TYPE_CHECKING:
    from mpbench.plugin.session import Session


class AccuracyCases(CasesOneByOne[AccuracyRecord]):
    """See `Cases`."""

    kind = ACCURACY
    values = ("accuracy",)
    fixture = "accuracy"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.experiment = Experiment(session.settings, session.run.activate, session.run.progress)

    def parameters(self, value: str) -> tuple[str, ...]:
        return ("model", "precision")

    def parametrized(self, value: str, models: Sequence[str]) -> list[tuple[str, ...]]:
        return [(model, precision) for model in models for precision in self.settings.compared]

    def label(self, id: str) -> str:
        return "accuracy (time of an evaluation pass, not a speed result)"

    def prepare(self) -> None:
        missing = {str(parameters_of(item)["model"]) for id, item in self.selected.items() if id not in self._found}
        if not missing:
            return
        self.experiment.prepare(sorted(missing))
        digest = self.experiment.images.digest
        for id in [id for id, old in self._found.items() if old.record.data_digest != digest]:
            self.session.run.progress(f"{id}: compared anew: --mp-data holds other images than then")
            del self._found[id]

    def look(self, id: str) -> AccuracyCase:
        params = parameters_of(self.selected[id])
        return self.experiment.compare(str(params["model"]), str(params["precision"]))

    def tables(self) -> list[str]:
        return accuracy_lines([case.record for case in self.reported.values()]) if self.reported else []
