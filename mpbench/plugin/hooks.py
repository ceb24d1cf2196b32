"""All pytest glue but the list of options, the fixtures and the end of a session: parametrisation, selection, pytest's
hooks and pytest-benchmark's.

How a case reports through its own `benchmark` fixture although its group is measured together: each case gets a
`ReplayClock` as its `timer=` mark; the first case of a group that runs measures all that were selected, and each
case then lets its fixture time an empty function with that clock, which replays the rounds. pytest-benchmark sees
nothing before a case has succeeded, so an interrupted or failed one leaves no partial figures behind.

Collecting imports no TensorFlow.
"""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mpbench.accuracy.experiment import Experiment
from mpbench.config.options import add_options
from mpbench.config.settings import check_settings
from mpbench.engine.run import Run
from mpbench.errors import UsageProblem
from mpbench.gate.session import SessionGate, check_missing
from mpbench.journal.saving import RunSaver
from mpbench.plugin import benchmark_adapter as adapter
from mpbench.plugin.compared_run import Baseline, choose_from_storage
from mpbench.plugin.confirming import check_confirm, own_task, take_over
from mpbench.plugin.console import benchmark_session, typed, write_line
from mpbench.plugin.items import (
    ACCURACY,
    DIAGNOSTIC_MARK,
    MARK,
    MODE,
    PHASES,
    POINT,
    diagnostic_case_of,
    kind_and_models_of,
    model_of,
    models_of,
    parameters_of,
    phase_of,
)
from mpbench.plugin.output_files import check_outputs
from mpbench.plugin.refusals import is_worker, problem_of_marks, problem_of_options, refuse
from mpbench.plugin.selection import is_named, select
from mpbench.plugin.session_files import beside_benchmarks, write_summary
from mpbench.plugin.stash import (
    BASELINE,
    BEGAN_S,
    BROKE_OFF,
    CLOCKS,
    COMPARED,
    CONFIRM,
    DESELECTED,
    DIAGNOSED,
    DIAGNOSTICS,
    EXPERIMENT,
    GATE,
    JOURNAL_WRITER,
    LOCK,
    NEIGHBOURS,
    PROBLEMS,
    REPORTED,
    RESTORED,
    RUN,
    RUN_ID,
    SAVER,
    SESSION,
    TASK,
)
from mpbench.records.kinds import kind_of
from mpbench.report.summary import Ending
from mpbench.system import machine
from mpbench.system.cluster import VARIABLE, read_cluster
from mpbench.system.lock import MACHINE, SessionLock, check_mode, keys_of
from mpbench.system.neighbours import Neighbours
from mpbench.why.measuring.profile import profiler
from mpbench.why.measuring.session import PARAMETERS, Diagnostics, cases_of_kind

CHIEFS_OPTIONS = (
    "benchmark_json",
    "benchmark_save",
    "benchmark_autosave",
    "benchmark_compare",
    "benchmark_compare_fail",
    "benchmark_histogram",
    "mp_gate",
    "mp_gate_missing",
    "mp_gate_confirm",
    "mp_report",
    "mp_summary",
)
"""Of several workers only the chief has them: what saves, compares and judges."""


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "mpbench(phase, models=None): a case; phase is training, inference or accuracy, models replaces --mp-models.",
    )
    config.addinivalue_line(
        "markers",
        f"mpbench_diagnostic(kind, models=None): a diagnostic case; kind is one of {', '.join(PARAMETERS)}.",
    )
    config.stash[RUN_ID] = secrets.token_hex(8)
    config.stash[DESELECTED] = []
    if (task := own_task()) is not None:
        config.stash[TASK] = task
        take_over(config, task)
    get = config.getoption
    try:
        settings = check_settings(
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
            data=get("mp_data"),
            weights=get("mp_weights"),
            preprocessing=get("mp_preprocessing"),
            alpha=get("mp_alpha"),
            margin=get("mp_margin"),
            require_equivalence=get("mp_require_equivalence"),
            sweep=get("mp_sweep"),
            workers=get("mp_workers"),
            cache=get("mp_cache"),
            replicas=get("mp_replicas"),
            profile_steps=get("mp_profile_steps"),
            why=get("mp_why"),
            energy=get("mp_energy"),
            cache_compiled=get("mp_cache_compiled"),
        )
        mode = check_mode(get("mp_lock"))
        check_missing(get("mp_gate_missing"), get("mp_gate"))
        config.stash[CONFIRM] = check_confirm(get("mp_gate_confirm"), get("mp_gate"))
        # Now: pytest-benchmark, whose turn comes later, opens what it finds.
        choice = choose_from_storage(get)
        cluster = read_cluster(os.environ.get(VARIABLE), settings.replicas)
        if cluster.workers > 1 and get("mp_resume"):
            raise UsageProblem(f"--mp-resume: given to one of {cluster.workers} workers: valid is a run without it")
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    if not cluster.is_chief:
        for name in CHIEFS_OPTIONS:
            setattr(config.option, name, None)
        choice = None
    if choice is not None:
        config.option.benchmark_compare = choice.value
        if not choice.value:
            config.option.benchmark_compare_fail = []
    run = config.stash[RUN] = Run(settings, lambda line: write_line(config, line), cluster)
    # On one machine the lock of the first of its workers stands for all.
    config.stash[LOCK] = SessionLock("off" if cluster.shares_host else mode, typed(config), run.progress)
    config.add_cleanup(config.stash[LOCK].release)
    config.stash[NEIGHBOURS] = Neighbours()
    config.stash[EXPERIMENT] = Experiment(settings, run.activate, run.progress)
    run.cleanup = config.add_cleanup
    run.profiler = functools.partial(profiler, steps=settings.profile_steps, on_cpu=settings.why)
    diagnostics = config.stash[DIAGNOSTICS] = Diagnostics(run)
    config.add_cleanup(diagnostics.close)
    config.stash[BEGAN_S] = time.time()
    config.stash[DIAGNOSED] = {}
    config.stash[COMPARED] = {}
    config.stash[CLOCKS] = {}
    config.stash[REPORTED] = {}
    config.stash[BASELINE] = Baseline(choice)
    config.stash[PROBLEMS] = []
    config.stash[RESTORED] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    speed, cause = (metafunc.definition.get_closest_marker(name) for name in (MARK, DIAGNOSTIC_MARK))
    mark = speed or cause
    settings = metafunc.config.stash[RUN].settings
    if mark is None:
        return
    names, cases = ("model", "precision") if speed else parameters_of(mark), list[tuple[str, ...]]()
    try:
        if speed:
            arms = settings.compared if mark.kwargs.get("phase") == ACCURACY else settings.arms
            cases = [(name, arm) for name in models_of(mark, settings) for arm in arms]
        else:
            cases = cases_of_kind(*kind_and_models_of(mark, settings), settings)
    except UsageProblem as problem:
        # Raised here it would be an error of collecting this file, exit status 2, with a traceback.
        metafunc.config.stash[PROBLEMS].append(f"{metafunc.definition.nodeid}: {problem}")
    if speed and speed.kwargs.get("phase") in PHASES:
        if len(settings.modes) > 1:
            names = (*names, MODE)
            cases = [(*case, mode.label) for case in cases for mode in settings.modes]
        if settings.sweep:
            names = (*names, POINT)
            cases = [(*case, str(point)) for case in cases for point in settings.sweep]
    if missing := [name for name in names if name not in metafunc.fixturenames]:
        fixture = "measure or accuracy" if speed else "diagnose"
        metafunc.config.stash[PROBLEMS].append(
            f"{metafunc.definition.nodeid}: mark {mark.name}: the test does not take {', '.join(missing)}: valid is "
            f"one that takes {', '.join(names)}, benchmark and {fixture}"
        )
    elif names:
        metafunc.parametrize(names, cases, ids=["-".join(case) for case in cases])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if unasked := [item for item in items if diagnostic_case_of(item) and not is_named(item, config)]:
        items[:] = [item for item in items if item not in unasked]
        config.hook.pytest_deselected(items=unasked)
        files = dict.fromkeys(item.nodeid.partition("::")[0] for item in unasked)
        config.stash[RUN].progress(f"not measured unless named: {', '.join(files)}")
    if TASK in config.stash:
        wanted = set(config.stash[TASK].cases)
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
        items[:] = [item for item in items if item.nodeid in wanted]
    if hasattr(config.option, "timeout_method"):
        # pytest-timeout's limit is for one test; the first of ours to run has most of the session measured.
        for item in items:
            if phase_of(item) in PHASES and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(0))
    # Accuracy cases make a GPU deterministic, hence slow, for the rest of the process.
    if any(phase_of(item) in PHASES for item in items):
        items.sort(key=lambda item: "experiment" in getattr(item, "fixturenames", ()))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if phase_of(item):
            item.config.stash[DESELECTED].append(item.nodeid)


@pytest.hookimpl(tryfirst=True)  # before a worker of pytest-xdist tells what it has collected
def pytest_collection_finish(session: pytest.Session) -> None:
    if problem := problem_of_marks(session):
        refuse(session, problem)
        return
    for line in session.config.stash[BASELINE].said:
        session.config.stash[RUN].progress(line)
    # The last word on what was selected: -k, -m, --lf and --deselect have all been applied.
    config = session.config
    if not select(session):
        return  # other people's tests: the plugin is there wherever mpbench is installed, and leaves them alone
    if problem := problem_of_options(config):
        refuse(session, problem)
        return
    benchmarks, progress = benchmark_session(config), config.stash[RUN].progress
    saver = config.stash[SAVER] = RunSaver(adapter.journal_folder(benchmarks), progress, config.rootpath)
    adapter.guard_saving(benchmarks, saver, lambda: setattr(session, "exitstatus", pytest.ExitCode.INTERRUPTED))


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[SESSION] = session


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        # pytest expects none here, and would end with a traceback: this is its way to end early with a line.
        pytest.exit("Ctrl-C while the session was ending", returncode=pytest.ExitCode.INTERRUPTED)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    config = session.config
    run, experiment, get = config.stash[RUN], config.stash[EXPERIMENT], config.getoption
    # An xdist worker cannot end the session with a usage error: there the first case to run reports it.
    idle = get("collectonly") or get("benchmark_skip", False) or is_worker(config)
    accuracy_cases = [item for item in session.items if phase_of(item) == ACCURACY]
    diagnostics = config.stash[DIAGNOSTICS]
    if (run.cases or diagnostics.cases or accuracy_cases) and not idle and not session.testsfailed:
        try:
            check_outputs(get, adapter.machine_folder(benchmark_session(config)))
            write_summary(config, Ending(running=True))
            if get("benchmark_compare_fail") and not get("benchmark_compare"):
                raise UsageProblem("--benchmark-compare-fail: valid is it together with --benchmark-compare")
            if not run.cluster.is_chief:
                run.progress(f"worker {run.cluster.index} of {run.cluster.workers}: the chief saves and judges")
            if not get("benchmark_disable") or get("benchmark_enable"):
                run.before_loading = lambda: _have_the_device_alone(config)
            if diagnostics.cases:
                diagnostics.prepare()
            _open_journal(session)
            restored = config.stash[RESTORED]
            if run.cases:
                run.prepare()
            missing = {model_of(item) for item in accuracy_cases if item.nodeid not in restored}
            if missing:
                experiment.prepare(sorted(missing))
                for id in [id for id, old in restored.items() if old.record.data_digest != experiment.images.digest]:
                    run.progress(f"{id}: compared anew: --mp-data holds other images than then")
                    del restored[id]
            if config.stash[LOCK].holds_any and run.activate().kind == "cpu":
                config.stash[LOCK].take(MACHINE)  # TensorFlow need not see the GPU that the driver sees
            if get("mp_gate"):
                config.stash[GATE] = _session_gate(config)  # now: afterwards this run is among the saved ones
        except UsageProblem as problem:
            config.stash[BROKE_OFF] = str(problem)
            raise pytest.UsageError(str(problem)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    if SESSION in config.stash and SAVER not in config.stash:
        return  # what is saved holds no case of ours; before the session began nobody can know
    for field in machine.JITTERING_CPU_FIELDS:
        machine_info.get("cpu", {}).pop(field, None)
    machine_info["mpbench"] = machine.machine_facts()


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    # The hook's one public view of the run that --benchmark-compare has loaded.
    config.stash[BASELINE].loaded(compared_benchmark, machine_info)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    # --benchmark-autosave leaves the raw rounds out unless --benchmark-save-data is given too.
    if SAVER not in config.stash:
        return
    ours = [bench for bench in benchmarks if kind_of(bench.extra_info)]
    rounds = {bench.fullname: list(bench.stats.data) for bench in ours}
    for saved in output_json["benchmarks"]:
        if saved["fullname"] in rounds:
            saved["stats"].setdefault("data", rounds[saved["fullname"]])
    # Not in machine_info: that must not change from run to run.
    config.stash[NEIGHBOURS].look_again()
    output_json.setdefault("mpbench", {}).update(beside_benchmarks(config), **config.stash[NEIGHBOURS].as_json())


def _session_gate(config: pytest.Config) -> SessionGate:
    def warn(line: str) -> None:
        if line not in config.stash[BASELINE].said:
            config.stash[RUN].progress(line)

    return SessionGate(
        config.getoption("benchmark_storage"), config.rootpath, config.getoption("mp_gate_missing"), warn
    )


def _open_journal(session: pytest.Session) -> None:
    """Open this session's journal, if it measures, and take from an interrupted one what is to be resumed."""
    stash, benchmarks = session.config.stash, benchmark_session(session.config)
    if benchmarks.disabled or not stash[RUN].cluster.is_chief:
        return
    items = [item for item in session.items if phase_of(item) or diagnostic_case_of(item)]
    writer = stash[JOURNAL_WRITER] = adapter.JournalWriter(
        benchmarks, stash[SAVER], stash[RUN], stash[DIAGNOSTICS], items, stash[BEGAN_S]
    )
    stash[RESTORED].update(writer.begin(session.config.getoption("mp_resume")))


def _have_the_device_alone(config: pytest.Config) -> None:
    """As far as our other sessions go; of all else that computes there, say so."""
    run, device = config.stash[RUN], config.stash[RUN].settings.device
    for key in keys_of(device, run.settings.replicas // run.cluster.workers):
        config.stash[LOCK].take(key)
    if line := config.stash[NEIGHBOURS].look(device):
        run.progress(line)
