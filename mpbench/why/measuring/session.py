"""One session's diagnostic cases: which of them form a group, how a group is built, what was measured.

As `mpbench.engine.run`, of which it takes device and settings, it knows cases by their ids and parameters, not pytest's
objects; TensorFlow is imported when the first of them is measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import SEED, Profile
from mpbench.config.settings import Settings, check_image_size
from mpbench.data.images import checked_images, find_images
from mpbench.engine import device as devices
from mpbench.engine.factories import check_factories
from mpbench.engine.outcomes import Outcomes
from mpbench.engine.run import Run
from mpbench.engine.stopping import Plan
from mpbench.errors import UsageProblem
from mpbench.records.diagnostics import INPUTS, DiagnosticRecord
from mpbench.records.measured import Measured

if TYPE_CHECKING:
    from mpbench.data.loader import Loader
    from mpbench.engine.plan import StepSpec
    from mpbench.why.measuring.diagnostic import Builder, Diagnostic

PHASES = ("inference", "training")

PEAKS = ("matmul", "copy", "latency")

PARAMETERS = {
    "peaks": ("what", "precision"),
    "input": (),
    "end_to_end": ("model", "phase", "precision", "input"),
}
"""The kinds of cases, and of each the parameters in the order of its ids."""

GROUPED_BY = {
    "peaks": ("what",),
    "input": (),
    "end_to_end": ("model", "phase"),
}
"""For each kind of case the parameters that are the same in a group; the others tell its arms apart."""

TIME_SHARES = {"peaks": 0.25, "input": 0.5}
"""Of the time limit of a group of steps: the best of a few rounds tells a peak."""

MAX_PIPELINE_IMAGES = 1000
"""Different images that the pipeline reads; as many as a quick run draws. More of them measure the disk, not the
pipeline."""


@dataclass(frozen=True)
class DiagnosticCase:
    """One selected case.

    Attributes:
        id: unique in the session (pytest's node id).
        source: where it comes from, as in `run.Case`.
        kind: one of GROUPED_BY.
        params: those of its kind, in order.
    """

    id: str
    source: str
    kind: str
    params: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        return dict(self.params)[name]

    @property
    def group(self) -> tuple[str, ...]:
        """Equal for the cases that are measured together."""
        return (self.source, self.kind, *(self[name] for name in GROUPED_BY[self.kind]))

    @property
    def arm(self) -> str:
        return " ".join(value for name, value in self.params if name not in GROUPED_BY[self.kind])

    @property
    def label(self) -> str:
        return " ".join([*(self[name] for name in GROUPED_BY[self.kind] if name != "what"), self._what])

    @property
    def _what(self) -> str:
        return {"end_to_end": "pipeline", "peaks": f"peak {dict(self.params).get('what')}"}.get(self.kind, self.kind)


def cases_of_kind(kind: str, models: Sequence[str], settings: Settings) -> list[tuple[str, ...]]:
    """For each case of a kind the values of its PARAMETERS.

    Args:
        models: names.
    """
    if kind == "peaks":
        return [(what, precision) for what in PEAKS for precision in settings.precisions]
    if kind == "input":
        return [()]
    return [
        (model, phase, precision, input)
        for model in models
        for phase in PHASES
        for precision in settings.precisions
        for input in INPUTS
    ]


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
            UsageProblem: no GPU, an image too small, a factory that gives no Keras model, data that cannot be had, a
                sweep, which these cases do not take.
        """
        cases = list(self.cases.values())
        settings = self._run.settings
        if settings.sweep:
            raise UsageProblem(f"--mp-sweep: {cases[0].kind} cases are measured at one size: leave it out")
        if len(settings.modes) > 1:
            option = "--mp-jit: both" if settings.jit == "both" else f"--mp-replicas: {settings.replicas}"
            valid = "on, off or auto" if settings.jit == "both" else "1"
            raise UsageProblem(f"{option}: {cases[0].kind} cases are measured in one mode: valid is {valid}")
        models = sorted({case["model"] for case in cases if "model" in dict(case.params)})
        profile = self._profile()
        check_image_size(models, profile.image_size_px)
        check_factories(models, [profile.image_size_px], self._run.progress)
        if any(case.kind in ("input", "end_to_end") for case in cases):
            self._loader = self._load()

    def result(self, case: DiagnosticCase) -> Measured[DiagnosticRecord]:
        """The measurement of one case; see `Outcomes.result`."""
        group = {other.arm: other for other in self.cases.values() if other.group == case.group}
        ids = {arm: other.id for arm, other in group.items()}
        return self.outcomes.result(case.id, [ids], lambda keep: self._measure(list(group.values())))

    def run_once(self, case: DiagnosticCase) -> None:
        """Build one case, run it and check it, without measuring; raises as `result` does."""
        for builder in self._builders([case]):
            diagnostic = builder.build(lambda text: self._run.progress(f"{case.label}: {text}"))[case.arm]
            diagnostic.before()
            diagnostic.run(1)
            diagnostic.after()
            diagnostic.check()
            diagnostic.release()

    def close(self) -> None:
        """Stop the pipeline's threads; without effect where there is none."""
        if self._loader is not None:
            self._loader.close()

    def _measure(
        self, cases: Sequence[DiagnosticCase]
    ) -> Iterator[tuple[int, Mapping[str, Measured[DiagnosticRecord] | Exception]]]:
        from mpbench.why.measuring.diagnostic import measure_diagnostics

        first, label = cases[0], cases[0].label
        yield (
            0,
            measure_diagnostics(
                self._builders(cases),
                Plan(self._profile().max_seconds * TIME_SHARES.get(first.kind, 1.0), self._profile().tolerance),
                self._common(first),
                self._run.activate(),
                f"{self._size()}, {label}",
                lambda text: self._run.progress(f"{label}: {text}"),
            ),
        )

    def _profile(self) -> Profile:
        return self._run.settings.resolved_profile(self._run.activate().kind)

    def _size(self) -> str:
        profile = self._profile()
        return f"batch {profile.batch_size}, {profile.image_size_px} px"

    def _common(self, case: DiagnosticCase) -> dict[str, Any]:
        profile, device = self._profile(), self._run.activate()
        params = dict(case.params)
        return {
            "model": params.get("model", ""),
            "phase": params.get("phase", ""),
            "device": device.kind,
            "device_name": devices.device_name(device),
            "profile": profile.name,
            "batch_size": profile.batch_size,
            "image_size": profile.image_size_px,
        }

    def _spec(self, model: str, precision: str, phase: str) -> StepSpec:
        from mpbench.engine.plan import StepSpec

        profile = self._profile()
        return StepSpec(
            model=model,
            precision=PRECISIONS[precision],
            phase=phase,
            batch_size=profile.batch_size,
            image_size_px=profile.image_size_px,
            jit=self._run.settings.xla,
            device=self._run.activate(),
        )

    def _builders(self, members: Sequence[DiagnosticCase]) -> list[Builder]:
        """One for each precision of a group."""
        from mpbench.why.measuring.diagnostic import Builder

        by_precision: dict[str, list[DiagnosticCase]] = {}
        for member in members:
            by_precision.setdefault(dict(member.params).get("precision", ""), []).append(member)
        return [
            Builder([member.arm for member in of_one], functools.partial(self._build, of_one))
            for of_one in by_precision.values()
        ]

    def _build(self, members: Sequence[DiagnosticCase], progress: Callable[[str], None]) -> dict[str, Diagnostic]:
        """The diagnostics of one precision of a group, by arm."""
        first = members[0]
        kind, params = first.kind, dict(first.params)
        precision = params.get("precision", "")

        def say(text: str) -> None:
            progress(f"{precision}: {text}" if precision else text)

        if kind == "peaks":
            from mpbench.why.measuring.peaks import peak

            device, asked = self._run.activate(), self._run.settings.xla
            return {first.arm: peak(params["what"], PRECISIONS[precision], device, asked)}
        from mpbench.why.measuring.end_to_end import end_to_end_steps, input_pipeline

        loader = self._loader = self._loader or self._load()  # a session that did not prepare: an xdist worker
        if kind == "input":
            return {first.arm: input_pipeline(loader)}
        diagnostics = end_to_end_steps(self._spec(params["model"], precision, params["phase"]), loader, say)
        return {member.arm: diagnostics[member["input"]] for member in members}

    def _load(self) -> Loader:
        from mpbench.data.kept import source
        from mpbench.data.loader import Loader

        settings, profile, say = self._run.settings, self._profile(), self._run.progress
        images = checked_images(find_images(settings.data, MAX_PIPELINE_IMAGES, say), profile.image_size_px, say)
        kept = source(images.all, profile.image_size_px, settings.cache, images.digests, say, settings.workers)
        return Loader(kept, profile.batch_size, workers=settings.workers, seed=SEED, paused=True, label=images.label)
