"""Numerics cases in a session: where a precision hurts a model, looked at by `mpbench.numerics`."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mpbench.config.precisions import PRECISIONS
from mpbench.config.settings import check_image_size
from mpbench.errors import UsageProblem
from mpbench.plugin.kinds import CasesOneByOne, parameters_of
from mpbench.records.measured import Measured
from mpbench.records.numerics import NUMERICS, NumericsRecord
from mpbench.records.speed import PHASES
from mpbench.report.numerics import numerics_lines

if TYPE_CHECKING:
    from mpbench.engine.plan import StepSpec
    from mpbench.numerics.trial import Trial
    from mpbench.plugin.session import Session


class NumericsCases(CasesOneByOne[NumericsRecord]):
    """See `Cases`."""

    kind = NUMERICS
    values = ("numerics",)
    fixture = "numerics"
    order = 1  # speed cases have their models in memory until they are finished

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._trial: tuple[tuple[str, str], Trial | Exception] | None = None

    def parameters(self, value: str) -> tuple[str, ...]:
        return ("model", "phase", "precision")

    def parametrized(self, value: str, models: Sequence[str]) -> list[tuple[str, ...]]:
        half = [name for name in self.settings.precisions if PRECISIONS[name].policy != "float32"]
        return [(model, phase, name) for model in models for phase in PHASES for name in half]

    def label(self, id: str) -> str:
        return "numerics (seconds that it took, not a speed result)"

    def prepare(self) -> None:
        models = sorted({str(parameters_of(item)["model"]) for item in self.selected.values()})
        size_px = self.session.run.profile().image_size_px
        check_image_size(models, size_px)
        self.session.run.check_factories(models, [size_px])

    def look(self, id: str) -> Measured[NumericsRecord]:
        from mpbench.engine.memory import explained
        from mpbench.numerics.trial import record_of

        params = parameters_of(self.selected[id])
        spec = self._spec(str(params["model"]), str(params["phase"]), str(params["precision"]))
        try:
            trial = self._trial_of(spec)
            outcome = trial.of(spec.precision)
        except UsageProblem:
            raise
        except Exception as error:  # whatever a user's model raises
            raise explained(error, spec.device, spec.size) from error
        spec = replace(spec, batch_size=trial.samples)
        return Measured(record_of(spec, outcome, trial.data), (outcome.seconds,))

    def _spec(self, model: str, phase: str, precision: str) -> StepSpec:
        from mpbench.engine.plan import StepSpec

        run, profile = self.session.run, self.session.run.profile()
        sizes = (profile.batch_size, profile.image_size_px)
        return StepSpec(model, PRECISIONS[precision], phase, *sizes, jit=False, device=run.activate())

    def _trial_of(self, spec: StepSpec) -> Trial:
        """The step in float32 is taken once for all precisions of a model and phase; one is kept."""
        key = spec.model, spec.phase
        if self._trial is None or self._trial[0] != key:
            from mpbench.numerics.trial import trial_of

            self._trial = None
            gc.collect()  # Keras's models are full of cycles
            label = f"{spec.model} {spec.phase} numerics"
            try:
                found: Trial | Exception = trial_of(
                    spec, progress=lambda text: self.session.run.progress(f"{label}: {text}")
                )
            except Exception as error:  # kept: the other precisions must not take it again
                found = error
            self._trial = key, found
        if isinstance(self._trial[1], Exception):
            raise self._trial[1]
        return self._trial[1]

    def tables(self) -> list[str]:
        return numerics_lines([case.record for case in self.reported.values()])
