"""All pytest glue: options, parametrisation, the fixtures `measure` and `gpu`, and pytest-benchmark's hooks.

How a case reports through its own `benchmark` fixture although its group is measured together: each case gets a
`ReplayClock` as its `timer=` mark; the first case of a group that runs measures all that were selected, and each
case then lets its fixture time an empty function with that clock, which replays the rounds. pytest-benchmark sees
nothing before a case has succeeded, so an interrupted or failed one leaves no partial figures behind.

Collecting imports no TensorFlow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mpbench import device as devices
from mpbench import settings as options
from mpbench import tables
from mpbench.errors import CaseFailure, UsageProblem
from mpbench.models import DEFAULT_MODELS, canonical_name, check_factory, load_factory
from mpbench.precision import CONTROL, DEFAULT_PRECISIONS, PRECISIONS
from mpbench.record import Measured, is_case, read_case

if TYPE_CHECKING:
    from mpbench.group import GroupPlan
    from mpbench.steps import StepSpec

MARK = "mpbench"
PHASES = ("training", "inference")


def pytest_addoption(parser: pytest.Parser) -> None:
    add = parser.getgroup("mpbench", "mpbench: float32 against mixed precision").addoption
    models, precisions = ",".join(DEFAULT_MODELS), ",".join(DEFAULT_PRECISIONS)
    add("--mp-models", metavar="NAMES", default=models,
        help=f"models, comma-separated: keras.applications by name, or your package.module:factory ({models})")
    add("--mp-precisions", metavar="NAMES", default=precisions,
        help=f"of {', '.join(PRECISIONS)} ({precisions})")
    add("--mp-baseline", metavar="NAME", default="float32", help="the precision that speedups refer to (float32)")
    add("--mp-control", action="store_true",
        help="measure the baseline a second time in each group: its ratio to itself is the noise floor")
    add("--mp-device", metavar="DEVICE", default="auto", help="auto, gpu or cpu (auto: a GPU if there is one)")
    add("--mp-require-gpu", action="store_true", help="a missing GPU is an error (exit status 4), not a CPU run")
    add("--mp-profile", metavar="NAME",
        help="paper: batch 64, 224 px; quick: batch 2, 80 px (paper on a GPU, quick on a CPU)")
    add("--mp-batch-size", metavar="IMAGES", help="images per step (the profile's)")
    add("--mp-image-size", metavar="PIXELS", help="height and width of an image (the profile's)")
    add("--mp-jit", metavar="WHEN", default="auto",
        help="compile steps with XLA: on, off, or auto as Keras has it: on a GPU, not on a CPU (auto)")
    add("--mp-tolerance", metavar="PERCENT", default="1",
        help="stop when the 95 %% interval of each speedup is within +-PERCENT (1)")
    add("--mp-max-time", metavar="SECONDS",
        help="stop measuring a group after this long and call it NOISY (60 in profile paper, 16 in quick)")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "mpbench(phase, models=None): a speed case; phase is training or inference, models replaces --mp-models.",
    )
    get = config.getoption
    try:
        settings = options.check(
            models=get("mp_models"),
            precisions=get("mp_precisions"),
            baseline=get("mp_baseline"),
            control=get("mp_control"),
            device=get("mp_device"),
            require_gpu=get("mp_require_gpu"),
            profile=get("mp_profile"),
            batch_size=get("mp_batch_size"),
            image_size=get("mp_image_size"),
            jit=get("mp_jit"),
            tolerance=get("mp_tolerance"),
            max_time=get("mp_max_time"),
        )
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    config.stash[RUN] = Run(config, settings)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None:
        return
    run = metafunc.config.stash[RUN]
    if mark.args or mark.kwargs.get("phase") not in PHASES or set(mark.kwargs) - {"phase", "models"}:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: the mark mpbench has {mark.args or mark.kwargs}: "
            f"valid is phase={' or '.join(map(repr, PHASES))}, and models=[names]"
        )
    try:
        names = [canonical_name(name) for name in mark.kwargs.get("models") or run.settings.models]
    except UsageProblem as problem:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {problem}") from None
    cases = [(name, arm) for name in names for arm in run.settings.arms]
    metafunc.parametrize(("model", "precision"), cases, ids=[f"{name}-{arm}" for name, arm in cases])


def pytest_collection_finish(session: pytest.Session) -> None:
    # The last word on what was selected: -k, -m, --lf and --deselect have all been applied.
    session.config.stash[RUN].group(session.items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    run = session.config.stash[RUN]
    if run.groups and not session.config.option.collectonly and not session.testsfailed:
        try:
            run.prepare()
        except UsageProblem as problem:
            raise pytest.UsageError(str(problem)) from None


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Callable[[Any, str, str], None]:
    """Measure this case together with the selected ones of its group: `measure(benchmark, model, precision)`."""
    run = request.config.stash[RUN]
    item = request.node
    if item.nodeid not in run.clocks:
        raise pytest.UsageError(f"{item.nodeid}: the fixture `measure` needs the mark mpbench(phase=...)")

    def measure_case(benchmark: Any, model: str, precision: str) -> None:
        if benchmark.disabled:
            run.run_once(item)
            benchmark.pedantic(lambda: None)
            return
        measured = run.result(item)
        run.clocks[item.nodeid].load(measured.rounds)
        benchmark.extra_info.update(measured.record.as_extra_info())
        benchmark.pedantic(lambda: None, rounds=len(measured.rounds))
        run.reported.append(measured)

    return measure_case


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> devices.Device:
    """The GPU that the cases run on; a test that asks for it is skipped where they run on a CPU."""
    run = request.config.stash[RUN]
    try:
        run.activate()
    except UsageProblem as problem:
        pytest.fail(str(problem), pytrace=False)
    if run.device.kind != "gpu":
        pytest.skip("no GPU: --mp-require-gpu makes that an error")
    return run.device


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    for field in devices.JITTERING_CPU_FIELDS:
        machine_info.get("cpu", {}).pop(field, None)
    machine_info["mpbench"] = devices.machine_facts()


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    # --benchmark-autosave leaves the raw rounds out unless --benchmark-save-data is given too.
    rounds = {bench.fullname: list(bench.stats.data) for bench in benchmarks if is_case(bench.extra_info)}
    for saved in output_json["benchmarks"]:
        if saved["fullname"] in rounds:
            saved["stats"].setdefault("data", rounds[saved["fullname"]])


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    try:
        yield
    finally:  # also where pytest-benchmark raises over a regression
        reported = config.stash[RUN].reported
        if reported:
            terminalreporter.section("mpbench")
            for line in tables.summary(reported):
                terminalreporter.write_line(line)


class ReplayClock:
    """A timer for pytest-benchmark that replays measured rounds: called twice a round, start and end."""

    __name__ = "mpbench_replay"

    def __init__(self) -> None:
        self._times: Iterator[float] = iter(())

    def load(self, rounds: tuple[float, ...]) -> None:
        # Every round starts at 0, so that end - start is the measured figure to the last bit.
        self._times = iter([t for seconds in rounds for t in (0.0, seconds)])

    def __call__(self) -> float:
        return next(self._times)


class Run:
    """The state of one pytest session: what was asked for, which cases form a group, what was measured."""

    def __init__(self, config: pytest.Config, settings: options.Settings) -> None:
        self.config = config
        self.settings = settings
        self.groups: dict[str, list[pytest.Function]] = {}
        self.clocks: dict[str, ReplayClock] = {}
        self.reported: list[Measured] = []
        self._device: devices.Device | None = None
        self._outcomes: dict[str, Measured | Exception] = {}
        self._started = time.monotonic()

    @property
    def device(self) -> devices.Device:
        assert self._device is not None, "prepare() or activate() comes first"
        return self._device

    def group(self, items: list[pytest.Item]) -> None:
        """Put the selected cases into groups and give each its clock and pytest-benchmark group."""
        for item in items:
            mark = item.get_closest_marker(MARK)
            if mark is None or not isinstance(item, pytest.Function):
                continue
            self.groups.setdefault(_group_key(item), []).append(item)
            clock = self.clocks[item.nodeid] = ReplayClock()
            own = item.get_closest_marker("benchmark")
            kwargs = {"group": f"{item.callspec.params['model']} {mark.kwargs['phase']}", **(own.kwargs if own else {})}
            item.add_marker(pytest.mark.benchmark(**{**kwargs, "timer": clock}), append=False)

    def activate(self) -> None:
        """Import TensorFlow and pick the device, once."""
        if self._device is None:
            self.progress("loading TensorFlow")
            self._device = devices.activate(self.settings.device, self.settings.require_gpu)

    def prepare(self) -> None:
        """Everything that can be wrong with the options is found here, before any model of the matrix is built."""
        models = sorted({item.callspec.params["model"] for items in self.groups.values() for item in items})
        factories = [name for name in models if ":" in name]
        for name in factories:
            load_factory(name)
        self.activate()
        profile = self.settings.resolved_profile(self.device.kind)
        options.check_image_size(models, profile.image_size_px)
        for name in factories:
            self.progress(f"{name}: checking the factory")
            check_factory(name, profile.image_size_px)

    def result(self, item: pytest.Function) -> Measured:
        """The measurement of one case; measures its whole group where that has not happened yet.

        Raises:
            Exception: what ended this case; a known reason fails the test with one line.
        """
        from mpbench.group import measure_group

        if item.nodeid not in self._outcomes:
            items = {i.callspec.params["precision"]: i for i in self.groups[_group_key(item)]}
            plan = self._plan(list(items.values()))
            with self._progress_of(plan) as progress:
                for arm, outcome in measure_group(plan, progress).items():
                    self._outcomes[items[arm].nodeid] = outcome
        outcome = self._outcomes.pop(item.nodeid)
        if isinstance(outcome, Measured):
            return outcome
        _raise(outcome)
        raise AssertionError("unreachable")

    def run_once(self, item: pytest.Function) -> None:
        from mpbench.group import run_once

        plan = self._plan([item])
        with self._progress_of(plan) as progress:
            for error in run_once(plan, progress).values():
                if error is not None:
                    _raise(error)

    def progress(self, text: str) -> None:
        """One line, past pytest's capturing, as each slow part begins."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if reporter is None or capture is None:
            return
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"[{time.monotonic() - self._started:4.0f} s] {text}")
            reporter.flush()

    @contextmanager
    def _progress_of(self, plan: GroupPlan) -> Iterator[Callable[[str], None]]:
        yield lambda text: self.progress(f"{plan.label}, {text}")

    def _plan(self, items: list[pytest.Function]) -> GroupPlan:
        from mpbench.group import GroupPlan

        arms = [item.callspec.params["precision"] for item in items]
        model = items[0].callspec.params["model"]
        mark = items[0].get_closest_marker(MARK)
        assert mark is not None
        profile = self.settings.resolved_profile(self.device.kind)
        return GroupPlan(
            label=f"{model} {mark.kwargs['phase']}",
            specs={arm: self._spec(model, arm, mark.kwargs["phase"], profile) for arm in arms},
            baseline=self.settings.baseline if self.settings.baseline in arms else None,
            controls=frozenset(arm for arm in arms if arm == CONTROL),
            profile=profile,
            tolerance=self.settings.tolerance,
        )

    def _spec(self, model: str, arm: str, phase: str, profile: options.Profile) -> StepSpec:
        from mpbench.steps import StepSpec

        return StepSpec(
            model=model,
            precision=PRECISIONS[self.settings.arm_precision(arm)],
            phase=phase,
            batch_size=profile.batch_size,
            image_size_px=profile.image_size_px,
            jit=self.settings.jit,
            device=self.device,
        )


RUN = pytest.StashKey[Run]()


def _group_key(item: pytest.Function) -> str:
    """Equal for the cases that differ in their precision alone."""
    return f"{item.nodeid.partition('[')[0]}[{item.callspec.params['model']}]"


def _raise(error: Exception) -> None:
    if isinstance(error, CaseFailure):
        pytest.fail(str(error), pytrace=False)
    raise error


def storage_folder(config: pytest.Config) -> Path | None:
    """The folder that pytest-benchmark saves to; None where it is not a folder."""
    location = str(config.getoption("benchmark_storage"))
    return Path(location.removeprefix("file://")) if "://" not in location or location.startswith("file://") else None
