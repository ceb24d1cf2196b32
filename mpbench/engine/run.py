"""One session's run: what was asked for, which cases form a group, on which device, and what was measured.

Knows cases by their ids and parameters, not pytest's objects; TensorFlow is imported when the first case runs.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from mpbench.config.precisions import CONTROL, PRECISIONS
from mpbench.config.settings import Settings, check_image_size
from mpbench.config.sweep import parse_point
from mpbench.engine import device as devices
from mpbench.engine.compile_cache import CompileCache, open_cache
from mpbench.engine.models import check_factory, load_factory
from mpbench.errors import CaseFailure, described
from mpbench.records.speed import SpeedCase
from mpbench.system import machine
from mpbench.system.cluster import Cluster
from mpbench.system.device import Device

if TYPE_CHECKING:
    from mpbench.engine.group import Profiler
    from mpbench.engine.plan import GroupPlan


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


class Grouped(Protocol):
    """A case of a group."""

    @property
    def id(self) -> str: ...
    @property
    def arm(self) -> str: ...
    @property
    def group(self) -> tuple[str, ...]: ...


OneCase = TypeVar("OneCase", bound=Grouped)
Result = TypeVar("Result")
Measure = Callable[
    [Sequence[Mapping[str, OneCase]], Callable[[int, Mapping[str, Result]], None]],
    Iterator[tuple[int, Mapping[str, Result | Exception]]],
]
"""Takes for each group its cases by arm, and what it may call with the number of a group and its arms that are measured
before it has finished with them; yields the number of each group that is finished, and what became of its arms."""


class Outcomes(Generic[OneCase, Result]):
    """What became of cases: the first that is asked for has those measured that are selected with it.

    Attributes:
        on_measured: called with the measured cases of a group by id, before any of them is reported; again where
            something has been added to them.
    """

    def __init__(self) -> None:
        self.on_measured: Callable[[Mapping[str, Result]], None] = lambda measured: None
        self._by_id: dict[str, Result | Exception] = {}
        self._going_on: Iterator[None] | None = None

    def __contains__(self, id: str) -> bool:
        return id in self._by_id

    def restore(self, measured: Mapping[str, Result]) -> None:
        """Take cases as measured, by their ids; all selected ones of a group or none."""
        self._by_id.update(measured)

    def result(self, case: OneCase, groups: Iterable[Sequence[OneCase]], measure: Measure[OneCase, Result]) -> Result:
        """The measurement of one case; measures these groups where that has not happened yet.

        Args:
            groups: the case's own among them; each of cases that are selected and measured together.
            measure: see `Measure`; gone on with by the next case, since groups are finished in any order.

        Raises:
            CaseFailure: the case failed for a known reason.
            Exception: whatever else ended it.
        """
        if case.id not in self._by_id:
            devices.check_not_deterministic()
            while case.id not in self._by_id:
                self._going_on = self._going_on or self._measured(list(groups), measure)
                next(self._going_on, None)  # ended, it is None: these groups are others than those
        outcome = self._by_id[case.id]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _measured(self, groups: Sequence[Sequence[OneCase]], measure: Measure[OneCase, Result]) -> Iterator[None]:
        """Measure groups, with a pause after each that is finished."""
        kept: list[dict[str, Result]] = [{} for _ in groups]

        def keep(number: int, measured: Mapping[str, Result]) -> None:
            ids = {case.arm: case.id for case in groups[number]}
            by_id = {ids[arm]: one for arm, one in measured.items()}
            if by_id != kept[number]:
                kept[number] = by_id
                self.on_measured(by_id)

        finished: set[int] = set()
        try:
            for number, of_group in measure([{case.arm: case for case in cases} for cases in groups], keep):
                finished.add(number)
                self._by_id.update({case.id: of_group[case.arm] for case in groups[number]})
                keep(number, {arm: one for arm, one in of_group.items() if not isinstance(one, Exception)})
                yield
        except GeneratorExit:
            raise
        except BaseException as error:  # a time-out's too: the other cases must not measure it all again
            lost = CaseFailure(f"measuring its group ended with {described(error)}")
            for number in set(range(len(groups))) - finished:
                self._by_id.update({case.id: kept[number].get(case.id, lost) for case in groups[number]})
            raise
        finally:
            self._going_on = None


def groups_of(cases: Iterable[OneCase]) -> list[list[OneCase]]:
    """Cases by the groups that they are measured in, in the order of the first of each."""
    groups: dict[tuple[str, ...], list[OneCase]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    return list(groups.values())


def measure_groups(
    plans: Sequence[GroupPlan],
    progress: Callable[[str], None],
    keep: Callable[[int, Mapping[str, SpeedCase]], None],
    profile: Profiler | None,
) -> Iterator[tuple[int, Mapping[str, SpeedCase | Exception]]]:
    """As `mpbench.engine.session` has it, which is imported when the first case is measured."""
    from mpbench.engine import session

    return session.measure_groups(plans, progress, keep, profile)


class Run:
    """The state of one session.

    Args:
        settings: the options, checked.
        write_line: shows one line of progress at once.
        cluster: the machines that share it.

    Attributes:
        before_loading: called once, when all that can be checked without TensorFlow has been.
        outcomes: of its cases.
        profiler: gives, for the device, what takes a profile of each step after its rounds, or None.
        cleanup: takes what is to be called at the session's end.
        spent: seconds that groups took, by what for, and under `arms` how many arms there were.
    """

    def __init__(self, settings: Settings, write_line: Callable[[str], None], cluster: Cluster | None = None) -> None:
        self.settings = settings
        self.cluster = cluster or Cluster()
        self.cases: dict[str, Case] = {}
        self.before_loading: Callable[[], None] = lambda: None
        self.profiler: Callable[[Device], Profiler | None] | None = None
        self.cleanup: Callable[[Callable[[], None]], object] = atexit.register
        self.spent: dict[str, float] = {}
        self._compiled: CompileCache | None = None
        self._shared_labels: set[str] = set()
        self._write_line = write_line
        self._started = time.monotonic()
        self._device: Device | None = None
        self.outcomes: Outcomes[Case, SpeedCase] = Outcomes()

    def select(self, cases: Iterable[Case]) -> None:
        """Set what is measured: cases of one group that are selected together are interleaved."""
        self.cases = {case.id: case for case in cases}
        groups: dict[str, set[tuple[str, ...]]] = {}
        for case in self.cases.values():
            groups.setdefault(case.label, set()).add(case.group)
        self._shared_labels = {label for label, of_label in groups.items() if len(of_label) > 1}

    def variant(self, case: Case) -> str:
        """What tells a case's group from another of the same model and phase; empty where there is no other."""
        return " ".join(filter(None, [self._source(case), case.point]))

    def group_label(self, case: Case) -> str:
        return f"{case.label} {self._source(case)}".strip()

    def _source(self, case: Case) -> str:
        return case.source if case.label in self._shared_labels else ""

    def activate(self) -> Device:
        """Import TensorFlow and pick the device, the first time; returns it.

        Raises:
            UsageProblem: a GPU was asked for and there is none, or fewer than replicas.
        """
        if self._device is None:
            self.before_loading()
            if self.settings.cache_compiled:
                self._compiled = open_cache(machine.machine_facts(), self.cleanup, self.progress)
            self.progress("loading TensorFlow")
            replicas = self.settings.replicas
            local = replicas // self.cluster.workers
            self._device = devices.activate(self.settings.device, self.settings.require_gpu, local, self.cluster)
            if replicas > 1:
                if self.cluster.workers > 1:
                    self.progress(f"waiting for all {self.cluster.workers} workers")
                from mpbench.engine import distribution as shared

                shared.start(self._device, replicas, self.cluster)
        return self._device

    def prepare(self) -> None:
        """Find what is wrong with the options before any model of the matrix is built.

        Raises:
            UsageProblem: no GPU, an image too small for the profile's model, a factory that gives no Keras model.
        """
        models = sorted({case.model for case in self.cases.values() if case.id not in self.outcomes})
        if not models:
            return
        factories = [name for name in models if ":" in name]
        swept = [point.value for point in self.settings.sweep if point.axis == "image" and point.value is not None]
        for size_px in swept or filter(None, [self.settings.image_size]):
            check_image_size(models, size_px, "--mp-sweep" if swept else "--mp-image-size")
        profile = self.settings.resolved_profile(self.activate().kind)
        check_image_size(models, profile.image_size_px)
        for name in factories:
            load_factory(name)
        for name in factories:
            self.progress(f"{name}: checking the factory")
            for size_px in swept or [profile.image_size_px]:
                check_factory(name, size_px)

    def result(self, case: Case) -> SpeedCase:
        """The measurement of one case, measured with all others of the session; see `Outcomes.result`."""
        groups = groups_of(other for other in self.cases.values() if other.id not in self.outcomes)
        return self.outcomes.result(case, groups, self._measure)

    def take_first_steps(self, case: Case) -> None:
        """Build one case, take its first steps and check them, without measuring; raises as `result` does."""
        from mpbench.engine.group import take_first_steps

        take_first_steps(self._plan([case]), self.progress)

    def progress(self, text: str) -> None:
        """Show a line with the time since the session began."""
        self._write_line(f"[{time.monotonic() - self._started:4.0f} s] {text}")

    def _measure(
        self, groups: Sequence[Mapping[str, Case]], keep: Callable[[int, Mapping[str, SpeedCase]], None]
    ) -> Iterator[tuple[int, Mapping[str, SpeedCase | Exception]]]:
        profile = self.profiler(self.activate()) if self.profiler else None
        return measure_groups([self._plan(members.values()) for members in groups], self.progress, keep, profile)

    def _overlaps(self, device: Device) -> bool:
        """Whether one arm is traced while another is compiled; XLA on a CPU uses all cores (results/building)."""
        xla_on_cpu = device.kind == "cpu" and bool(self.settings.xla)
        return len(self.settings.modes) == 1 and self.cluster.workers == 1 and not xla_on_cpu

    def _plan(self, cases: Iterable[Case]) -> GroupPlan:
        from mpbench.engine.plan import GroupPlan, Member, StepSpec

        members = list(cases)
        device = self.activate()
        point = parse_point(members[0].point) if members[0].point else None
        profile = self.settings.resolved_profile(device.kind, point)
        arms = {(case.precision, case.mode): case.arm for case in members}
        modes = {mode.label: mode for mode in self.settings.modes}

        def other_arm(case: Case, precision: str, mode: str) -> str | None:
            return None if (precision, mode) == (case.precision, case.mode) else arms.get((precision, mode))

        def member(case: Case) -> Member:
            return Member(
                StepSpec(
                    model=case.model,
                    precision=PRECISIONS[self.settings.arm_precision(case.precision)],
                    phase=case.phase,
                    batch_size=profile.batch_size,
                    image_size_px=profile.image_size_px,
                    jit=modes[case.mode].jit,
                    device=device,
                    replicas=modes[case.mode].replicas,
                ),
                mode=case.mode,
                control=case.precision == CONTROL,
                baseline=other_arm(case, self.settings.baseline, case.mode),
                reference=other_arm(case, case.precision, self.settings.modes[0].label),
            )

        return GroupPlan(
            label=self.group_label(members[0]),
            variant=self.variant(members[0]),
            point=members[0].point,
            # The baseline first: where XLA cannot compile a model, TF32's state is that of what is built first.
            members={
                case.arm: member(case) for case in sorted(members, key=lambda c: c.precision != self.settings.baseline)
            },
            profile=profile,
            energy=self.settings.energy,
            cluster=self.cluster,
            compiled=self._compiled,
            spent=self.spent,
            # Where modes are compared the seconds to trace and to compile are figures of their own.
            overlapped=self._overlaps(device),
        )
