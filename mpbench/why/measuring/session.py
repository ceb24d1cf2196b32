"""One session's diagnostic cases: which of them form a group, how a group is built, what was measured.

As `mpbench.engine.run`, of which it takes device and settings, it knows cases by their ids and parameters, not pytest's
objects; TensorFlow is imported when the first of them is measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import SEED, Profile
from mpbench.config.settings import Settings, check_image_size
from mpbench.data.images import checked_images, find_images
from mpbench.engine.factories import check_takes_images
from mpbench.engine.outcomes import Outcomes
from mpbench.engine.run import Run
from mpbench.engine.stopping import Plan
from mpbench.errors import UsageProblem
from mpbench.records.diagnostics import INPUTS, DiagnosticRecord, Peak
from mpbench.records.measured import Measured
from mpbench.records.speed import PHASES

if TYPE_CHECKING:
    from mpbench.data.loader import Loader
    from mpbench.engine.interleave import Progress
    from mpbench.why.measuring.diagnostic import Diagnostic, Outcome

MAX_PIPELINE_IMAGES = 1000
"""Different images that the pipeline reads; as many as a quick run draws. More of them measure the disk, not the
pipeline."""


@dataclass(frozen=True)
class Grouping:
    """How the cases of one kind form groups.

    Attributes:
        parameters: of a case, in the order of its id.
        shared: those that are the same in a group; the others tell its arms apart.
        label: of a group, with its parameters in braces.
        time_share: of the time limit of a group of steps: the best of a few rounds tells a peak.
    """

    parameters: tuple[str, ...]
    shared: tuple[str, ...]
    label: str
    time_share: float = 1.0


GROUPINGS = {
    "peaks": Grouping(("what", "precision"), ("what",), "peak {what}", 0.25),
    "input": Grouping((), (), "input", 0.5),
    "end_to_end": Grouping(("model", "phase", "precision", "input"), ("model", "phase"), "{model} {phase} pipeline"),
}
PARAMETERS = {kind: grouping.parameters for kind, grouping in GROUPINGS.items()}


def cases_of_kind(kind: str, models: Sequence[str], settings: Settings) -> list[tuple[str, ...]]:
    """For each case of a kind the values of its PARAMETERS.

    Args:
        models: names.
    """
    values: dict[str, Sequence[str]] = {"what": [peak.value for peak in Peak], "precision": settings.precisions}
    values |= {"model": models, "phase": PHASES, "input": INPUTS}
    return list(itertools.product(*(values[name] for name in PARAMETERS[kind])))


@dataclass(frozen=True)
class DiagnosticCase:
    """One selected case.

    Attributes:
        id: unique in the session (pytest's node id).
        source: where it comes from, as in `run.Case`.
        kind: one of GROUPINGS.
        params: those of its kind, in order.
    """

    id: str
    source: str
    kind: str
    params: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        """A parameter; empty where its kind has none of the name."""
        return dict(self.params).get(name, "")

    @property
    def group(self) -> tuple[str, ...]:
        """Equal for the cases that are measured together."""
        return (self.source, self.kind, *(self[name] for name in GROUPINGS[self.kind].shared))

    @property
    def arm(self) -> str:
        return " ".join(value for name, value in self.params if name not in GROUPINGS[self.kind].shared)

    @property
    def label(self) -> str:
        return GROUPINGS[self.kind].label.format(**dict(self.params))


class Diagnostics:
    """The state of these cases in one session.

    Args:
        run: the session's.
    """

    def __init__(self, run: Run) -> None:
        self.cases: dict[str, DiagnosticCase] = {}
        self.outcomes: Outcomes[Measured[DiagnosticRecord]] = Outcomes()
        self._run = run
        self._loader: Loader | None = None

    def select(self, cases: Iterable[DiagnosticCase]) -> None:
        """Set what is measured: cases of one group that are selected together are interleaved."""
        self.cases = {case.id: case for case in cases}

    def prepare(self) -> None:
        """Find what is wrong with the options before anything is built.

        Raises:
            UsageProblem: no GPU, an image too small, a factory that gives no Keras model, or data of its own, data
                that cannot be had, a sweep, which these cases do not take.
        """
        cases, settings = list(self.cases.values()), self._run.settings
        if settings.sweep:
            raise UsageProblem(f"--mp-sweep: {cases[0].kind} cases are measured at one size: leave it out")
        if len(settings.modes) > 1:
            option = "--mp-jit: both" if settings.jit == "both" else f"--mp-replicas: {settings.replicas}"
            valid = "on, off or auto" if settings.jit == "both" else "1"
            raise UsageProblem(f"{option}: {cases[0].kind} cases are measured in one mode: valid is {valid}")
        models, size_px = sorted({case["model"] for case in cases} - {""}), self._profile.image_size_px
        check_image_size(models, size_px)
        check_takes_images(self._run.check_factories(models, [size_px]), "end-to-end steps")
        if any(case.kind != "peaks" for case in cases):
            self._pipeline()

    def result(self, case: DiagnosticCase) -> Measured[DiagnosticRecord]:
        """The measurement of one case; see `Outcomes.result`."""
        group = [other for other in self.cases.values() if other.group == case.group]
        ids = {other.arm: other.id for other in group}
        return self.outcomes.result(case.id, [ids], lambda keep: iter([(0, self._measure(group))]))

    def run_once(self, case: DiagnosticCase) -> None:
        """Build one case, run it and check it, without measuring; raises as `result` does."""
        with self._built([case]) as built:
            diagnostic = built[case.arm]
            diagnostic.before()
            diagnostic.run(1)
            diagnostic.after()
            diagnostic.check()

    def close(self) -> None:
        """Stop the pipeline's threads; without effect where there is none."""
        if self._loader is not None:
            self._loader.close()

    def _measure(self, group: Sequence[DiagnosticCase]) -> Mapping[str, Outcome]:
        """What became of each arm of a group."""
        from mpbench.why.measuring.diagnostic import measure_diagnostics

        by_precision: dict[str, list[DiagnosticCase]] = {}
        for case in group:
            by_precision.setdefault(case["precision"], []).append(case)
        to_build = [([case.arm for case in cases], self._built(cases)) for cases in by_precision.values()]
        first, profile = group[0], self._profile
        plan = Plan(profile.max_seconds * GROUPINGS[first.kind].time_share, profile.tolerance)
        size = f"batch {profile.batch_size}, {profile.image_size_px} px, {first.label}"
        return measure_diagnostics(to_build, plan, self._run.activate(), size, self._progress_of(first))

    @contextmanager
    def _built(self, cases: Sequence[DiagnosticCase]) -> Iterator[Mapping[str, Diagnostic]]:
        """The diagnostics of one precision of a group, by arm."""
        first, device, profile = cases[0], self._run.activate(), self._profile
        if first.kind == "peaks":
            from mpbench.why.measuring.peaks import peak

            what, precision, jit = Peak(first["what"]), PRECISIONS[first["precision"]], self._run.settings.xla
            with peak(what, precision, device, jit, profile.name) as diagnostic:
                yield {first.arm: diagnostic}
            return
        from mpbench.engine.plan import StepSpec
        from mpbench.why.measuring.end_to_end import end_to_end_steps, input_pipeline

        if first.kind == "input":
            yield {first.arm: input_pipeline(self._pipeline(), device, profile.name)}
            return
        spec = StepSpec(
            model=first["model"],
            precision=PRECISIONS[first["precision"]],
            phase=first["phase"],
            batch_size=profile.batch_size,
            image_size_px=profile.image_size_px,
            jit=self._run.settings.xla,
            device=device,
        )
        with end_to_end_steps(
            spec, self._pipeline(), profile.name, self._progress_of(first, spec.precision.name)
        ) as built:
            yield {case.arm: built[case["input"]] for case in cases}

    def _progress_of(self, case: DiagnosticCase, *what: str) -> Progress:
        return lambda text: self._run.progress(": ".join([case.label, *what, text]))

    @property
    def _profile(self) -> Profile:
        return self._run.profile()

    def _pipeline(self) -> Loader:
        """The session's, made when it is first needed."""
        if self._loader is None:
            from mpbench.data.kept import source
            from mpbench.data.loader import Loader

            settings, profile, say = self._run.settings, self._profile, self._run.progress
            found = find_images(settings.data, MAX_PIPELINE_IMAGES, say)
            images = checked_images(found, profile.image_size_px, say)
            kept = source(images.all, profile.image_size_px, settings.cache, images.digests, say, settings.workers)
            self._loader = Loader(
                kept, profile.batch_size, workers=settings.workers, seed=SEED, paused=True, label=images.label
            )
        return self._loader
