"""Accuracy cases in a session: two precisions' answers compared by `mpbench.accuracy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mpbench.accuracy.experiment import Experiment
from mpbench.plugin.kinds import Cases, parameters_of
from mpbench.records.accuracy import ACCURACY, AccuracyCase, AccuracyRecord
from mpbench.report.accuracy import accuracy_lines

if TYPE_CHECKING:
    from mpbench.plugin.session import Session


class AccuracyCases(Cases[AccuracyRecord]):
    """See `Cases`."""

    kind = ACCURACY
    values = ("accuracy",)
    fixture = "accuracy"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.experiment = Experiment(session.settings, session.run.activate, session.run.progress)
        self._restored: dict[str, AccuracyCase] = {}

    def parameters(self, value: str) -> tuple[str, ...]:
        return ("model", "precision")

    def parametrized(self, value: str, models: Sequence[str]) -> list[tuple[str, ...]]:
        return [(model, precision) for model in models for precision in self.settings.compared]

    def label(self, id: str) -> str:
        return "accuracy (time of an evaluation pass, not a speed result)"

    def prepare(self) -> None:
        missing = {str(parameters_of(item)["model"]) for id, item in self.selected.items() if id not in self._restored}
        if not missing:
            return
        self.experiment.prepare(sorted(missing))
        digest = self.experiment.images.digest
        for id in [id for id, old in self._restored.items() if old.record.data_digest != digest]:
            self.session.run.progress(f"{id}: compared anew: --mp-data holds other images than then")
            del self._restored[id]

    def restore(self, cases: Mapping[str, AccuracyCase]) -> None:
        self._restored.update(cases)

    def result(self, id: str) -> AccuracyCase:
        if id not in self._restored:
            self.session.keep({id: self.run_once(id)})
        return self._restored[id]

    def run_once(self, id: str) -> AccuracyCase:
        """Train and compare, where that has not been done: what is asserted is the comparison, not a time."""
        if id not in self._restored:
            params = parameters_of(self.selected[id])
            self._restored[id] = self.experiment.compare(str(params["model"]), str(params["precision"]))
        return self._restored[id]

    def tables(self) -> list[str]:
        return accuracy_lines([case.record for case in self.reported.values()]) if self.reported else []
