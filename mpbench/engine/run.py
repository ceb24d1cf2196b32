"""One session's run: what was asked for, which cases form a group, on which device, and what was measured.

Knows cases by their ids and parameters, not pytest's objects; TensorFlow is imported when the first case runs.
"""

from __future__ import annotations

import atexit
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpbench.config.precisions import CONTROL, PRECISIONS
from mpbench.config.profiles import Profile
from mpbench.config.settings import Settings, check_image_size
from mpbench.config.sweep import parse_point
from mpbench.engine import device as devices
from mpbench.engine.compile_cache import CompileCache, open_cache
from mpbench.engine.factories import check_factories, check_options
from mpbench.engine.outcomes import Keep, Outcomes
from mpbench.engine.plan import GroupPlan, Member, StepSpec
from mpbench.records.speed import SpeedCase
from mpbench.system.cluster import Cluster
from mpbench.system.device import Device

if TYPE_CHECKING:
    from mpbench.engine.group import Outcome, Profiler


@dataclass(frozen=True)
class Case:
    """One selected case.

    Attributes:
        id: unique in the session (pytest's node id).
        source: where it comes from; equal for the cases of one test function with the same further parameters.
        model: canonical name or factory.
        precision: or CONTROL.
        phase: training or inference.
        point: of the sweep, as its label; empty where nothing is swept.
        mode: to run the precision, as its label; empty where there is one.
    """

    id: str
    source: str
    model: str
    precision: str
    phase: str
    point: str = ""
    mode: str = ""

    @property
    def arm(self) -> str:
        """Unique in its group."""
        return f"{self.precision} {self.mode}".strip()

    @property
    def group(self) -> tuple[str, ...]:
        """Equal for the cases that differ in their precision and mode alone: those are measured together."""
        return (self.source, self.model, self.point) if self.point else (self.source, self.model)

    @property
    def label(self) -> str:
        """Name of its group, unless another group of the session has the same."""
        return f"{self.model} {self.phase} {self.point}".strip()


class Run:
    """The state of one session.

    Args:
        settings: the options, checked.
        write_line: shows one line of progress at once.
        cluster: the machines that share it.

    Attributes:
        cases: the selected ones, by id.
        outcomes: of its cases.
        before_loading: called once, when all that can be checked without TensorFlow has been.
        profiler: gives, for the device, what takes a profile of each step after its rounds, or None.
        cleanup: takes what is to be called at the session's end.
        spent: seconds that groups took, by what for, and under `arms` how many arms there were.
    """

    def __init__(self, settings: Settings, write_line: Callable[[str], None], cluster: Cluster | None = None) -> None:
        self.settings = settings
        self.cluster = cluster or Cluster()
        self.cases: dict[str, Case] = {}
        self.outcomes: Outcomes[SpeedCase] = Outcomes()
        self.before_loading: Callable[[], None] = lambda: None
        self.profiler: Callable[[Device], Profiler | None] | None = None
        self.cleanup: Callable[[Callable[[], None]], object] = atexit.register
        self.spent: dict[str, float] = defaultdict(float)
        self._compiled: CompileCache | None = None
        self._samples: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        self._groups_of_label: Counter[str] = Counter()
        self._write_line = write_line
        self._started = time.monotonic()
        self._device: Device | None = None

    def select(self, cases: Iterable[Case]) -> None:
        """Set what is measured: cases of one group that are selected together are interleaved."""
        self.cases = {case.id: case for case in cases}
        self._groups_of_label = Counter(label for label, _ in {(one.label, one.group) for one in self.cases.values()})

    def group_label(self, case: Case) -> str:
        """Name of its group: its label, and where another group of the session has the same, where it comes from."""
        return f"{case.label} {self._source(case)}".strip()

    def _source(self, case: Case) -> str:
        return case.source if self._groups_of_label[case.label] > 1 else ""

    def activate(self) -> Device:
        """Import TensorFlow and pick the device, the first time; returns it.

        Raises:
            UsageProblem: a GPU was asked for and there is none, or fewer than replicas.
        """
        if self._device is None:
            self.before_loading()
            if self.settings.cache_compiled:
                self._compiled = open_cache(self.cleanup, self.progress)
            self.progress("loading TensorFlow")
            replicas, workers = self.settings.replicas, self.cluster.workers
            self._device = devices.activate(
                self.settings.device, self.settings.require_gpu, replicas // workers, self.cluster
            )
            if replicas > 1:
                if workers > 1:
                    self.progress(f"waiting for all {workers} workers")
                from mpbench.engine import distribution

                distribution.start(self._device, replicas, self.cluster)
        return self._device

    def profile(self) -> Profile:
        """Sizes and limits on this device, where nothing is swept; raises UsageProblem as `activate`."""
        return self.settings.resolved_profile(self.activate().kind)

    def prepare(self) -> None:
        """Find what is wrong with the options before any model of the matrix is built.

        Raises:
            UsageProblem: no GPU, an image too small for the profile's model, a factory that gives no Keras model, or
                data that an option does not go with.
        """
        models = sorted({case.model for case in self.cases.values() if case.id not in self.outcomes})
        if not models:
            return
        swept = [point.value for point in self.settings.sweep if point.axis == "image" and point.value is not None]
        for size_px in swept or filter(None, [self.settings.image_size]):
            check_image_size(models, size_px, "--mp-sweep" if swept else "--mp-image-size")
        profile = self.profile()
        check_image_size(models, profile.image_size_px)
        self.check_factories(models, swept or [profile.image_size_px])

    def check_factories(self, models: Iterable[str], sizes_px: Sequence[int]) -> Collection[str]:
        """Check the factories among some models, each for images of these sizes, once in a session.

        Returns:
            Names of those that give data of their own.

        Raises:
            UsageProblem: as `factories.check_factories`; an option that such data do not go with.
        """
        keys = {name: (name, tuple(sizes_px)) for name in models}
        new = [name for name, key in keys.items() if key not in self._samples]
        found = check_factories(new, sizes_px, self.progress)
        check_options(found, self.settings)
        self._samples.update({keys[name]: found.get(name, []) for name in new})
        return [name for name, key in keys.items() if self._samples[key]]

    def result(self, case: Case) -> SpeedCase:
        """The measurement of one case, measured with all others of the session; see `Outcomes.result`."""
        groups: dict[tuple[str, ...], dict[str, Case]] = {}
        for other in self.cases.values():
            if other.id not in self.outcomes:
                groups.setdefault(other.group, {})[other.arm] = other
        ids = [{arm: one.id for arm, one in members.items()} for members in groups.values()]
        plans = [members.values() for members in groups.values()]
        return self.outcomes.result(case.id, ids, lambda keep: self._measure([*map(self._plan, plans)], keep))

    def take_first_steps(self, case: Case) -> None:
        """Build one case, take its first steps and check them, without measuring; raises as `result` does."""
        from mpbench.engine.group import take_first_steps

        take_first_steps(self._plan([case]), self.progress)

    def progress(self, text: str) -> None:
        """Show a line with the time since the session began."""
        self._write_line(f"[{time.monotonic() - self._started:4.0f} s] {text}")

    def _measure(
        self, plans: Sequence[GroupPlan], keep: Keep[SpeedCase]
    ) -> Iterator[tuple[int, Mapping[str, Outcome]]]:
        from mpbench.engine.session import measure_groups

        profile = self.profiler(self.activate()) if self.profiler else None
        return measure_groups(plans, self.progress, keep, profile)

    def _plan(self, cases: Iterable[Case]) -> GroupPlan:
        # The baseline first: where XLA cannot compile a model, TF32's state is that of what is built first.
        members = sorted(cases, key=lambda case: case.precision != self.settings.baseline)
        first, settings, device = members[0], self.settings, self.activate()
        profile = settings.resolved_profile(device.kind, parse_point(first.point) if first.point else None)
        arms = {(case.precision, case.mode): case.arm for case in members}
        modes = {mode.label: mode for mode in settings.modes}

        def other_arm(case: Case, precision: str, mode: str) -> str | None:
            return None if (precision, mode) == (case.precision, case.mode) else arms.get((precision, mode))

        def member(case: Case) -> Member:
            return Member(
                StepSpec(
                    model=case.model,
                    precision=PRECISIONS[settings.arm_precision(case.precision)],
                    phase=case.phase,
                    batch_size=profile.batch_size,
                    image_size_px=profile.image_size_px,
                    jit=modes[case.mode].jit,
                    device=device,
                    replicas=modes[case.mode].replicas,
                ),
                mode=case.mode,
                control=case.precision == CONTROL,
                baseline=other_arm(case, settings.baseline, case.mode),
                reference=other_arm(case, case.precision, settings.modes[0].label),
            )

        xla_on_cpu = device.kind == "cpu" and bool(settings.xla)  # it uses all cores by itself (results/building)
        return GroupPlan(
            label=self.group_label(first),
            variant=" ".join(filter(None, [self._source(first), first.point])),
            point=first.point,
            members={case.arm: member(case) for case in members},
            profile=profile,
            energy=settings.energy,
            cluster=self.cluster,
            compiled=self._compiled,
            spent=self.spent,
            # Where modes are compared the seconds to trace and to compile are figures of their own.
            overlapped=len(settings.modes) == 1 and self.cluster.workers == 1 and not xla_on_cpu,
        )
