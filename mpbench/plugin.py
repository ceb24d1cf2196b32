"""All pytest glue but the list of options and the fixtures: parametrisation, selection, pytest's hooks and
pytest-benchmark's.

How a case reports through its own `benchmark` fixture although its group is measured together: each case gets a
`ReplayClock` as its `timer=` mark; the first case of a group that runs measures all that were selected, and each
case then lets its fixture time an empty function with that clock, which replays the rounds. pytest-benchmark sees
nothing before a case has succeeded, so an interrupted or failed one leaves no partial figures behind.

Collecting imports no TensorFlow.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpbench import bridge, tables
from mpbench import device as devices
from mpbench.accuracy import Experiment
from mpbench.accuracy_tables import accuracy_summary
from mpbench.baseline import Baseline, choose_from_storage
from mpbench.cluster import VARIABLE, read_cluster
from mpbench.errors import UsageProblem, described
from mpbench.explain.explain_command import session_lines
from mpbench.explain.records import Probed, is_probe
from mpbench.explain.session import PARAMETERS, ProbeRun, cases_of_kind
from mpbench.gate_tables import gate_lines
from mpbench.gatekeeper import Gatekeeper, check_missing
from mpbench.history import SavedRun, unsaved_run
from mpbench.items import (
    ACCURACY,
    CAUSE_MARK,
    MARK,
    PHASES,
    POINT,
    WAY,
    kind_and_models_of,
    model_of,
    models_of,
    parameters_of,
    phase_of,
    probe_case_of,
)
from mpbench.keeper import Keeper, shown
from mpbench.lock import MACHINE, SessionLock, check_mode, keys_of
from mpbench.neighbours import Neighbours
from mpbench.options import add_options
from mpbench.outputs import check_outputs
from mpbench.record import AccuracyRecord, Measured, is_case
from mpbench.run import Run
from mpbench.selection import is_named, name_layers, select
from mpbench.settings import check_settings
from mpbench.stash import (
    BASELINE,
    BROKE_OFF,
    CLOCKS,
    COMPARED,
    COMPLETE,
    EXPERIMENT,
    GATE,
    KEEPER,
    LOCK,
    NEIGHBOURS,
    PROBED,
    PROBES,
    PROBLEMS,
    REPORTED,
    RESTORED,
    RUN,
    SCRIBE,
    SESSION,
    VERDICTS,
)
from mpbench.summary import Ending, Failure, markdown
from mpbench.verdict import Verdict, is_red

pytest_plugins = ("mpbench.fixtures",)

CHIEFS_OPTIONS = (
    "benchmark_json",
    "benchmark_save",
    "benchmark_autosave",
    "benchmark_compare",
    "benchmark_compare_fail",
    "benchmark_histogram",
    "mp_gate",
    "mp_gate_missing",
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
        f"mpbench_cause(kind, models=None): a case that looks for causes; kind is one of {', '.join(PARAMETERS)}.",
    )
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
        )
        mode = check_mode(get("mp_lock"))
        check_missing(get("mp_gate_missing"), get("mp_gate"))
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
    run = config.stash[RUN] = Run(settings, lambda line: _write_line(config, line), cluster)
    # On one machine the lock of the first of its workers stands for all.
    config.stash[LOCK] = SessionLock("off" if cluster.shares_host else mode, _command(config), run.progress)
    config.add_cleanup(config.stash[LOCK].release)
    config.stash[NEIGHBOURS] = Neighbours()
    config.stash[EXPERIMENT] = Experiment(settings, run.activate, run.progress)
    probes = config.stash[PROBES] = ProbeRun(run)
    config.add_cleanup(probes.close)
    config.stash[PROBED] = {}
    config.stash[COMPARED] = {}
    config.stash[CLOCKS] = {}
    config.stash[REPORTED] = {}
    config.stash[BASELINE] = Baseline(choice)
    config.stash[PROBLEMS] = []
    config.stash[RESTORED] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    speed, cause = (metafunc.definition.get_closest_marker(name) for name in (MARK, CAUSE_MARK))
    mark = speed or cause
    settings, layers = metafunc.config.stash[RUN].settings, metafunc.config.stash[PROBES].layers
    if mark is None:
        return
    names, cases = ("model", "precision") if speed else parameters_of(mark), list[tuple[str, ...]]()
    try:
        if speed:
            arms = settings.compared if mark.kwargs.get("phase") == ACCURACY else settings.arms
            cases = [(name, arm) for name in models_of(mark, settings) for arm in arms]
        else:
            cases = cases_of_kind(*kind_and_models_of(mark, settings), settings, layers)
    except UsageProblem as problem:
        # Raised here it would be an error of collecting this file, exit status 2, with a traceback.
        metafunc.config.stash[PROBLEMS].append(f"{metafunc.definition.nodeid}: {problem}")
    if speed and speed.kwargs.get("phase") in PHASES:
        if len(settings.ways) > 1:
            names = (*names, WAY)
            cases = [(*case, way.label) for case in cases for way in settings.ways]
        if settings.sweep:
            names = (*names, POINT)
            cases = [(*case, str(point)) for case in cases for point in settings.sweep]
    if names:
        metafunc.parametrize(names, cases, ids=["-".join(case) for case in cases])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if unasked := [item for item in items if probe_case_of(item) and not is_named(item, config)]:
        items[:] = [item for item in items if item not in unasked]
        config.hook.pytest_deselected(items=unasked)
        files = dict.fromkeys(item.nodeid.partition("::")[0] for item in unasked)
        config.stash[RUN].progress(f"not measured unless named: {', '.join(files)}")
    # Accuracy cases make a GPU deterministic, hence slow, for the rest of the process.
    if any(phase_of(item) in PHASES for item in items):
        items.sort(key=lambda item: "experiment" in getattr(item, "fixturenames", ()))


def pytest_collection_finish(session: pytest.Session) -> None:
    for problem in session.config.stash[PROBLEMS]:
        raise pytest.UsageError(problem)
    for line in session.config.stash[BASELINE].said:
        session.config.stash[RUN].progress(line)
    # The last word on what was selected: -k, -m, --lf and --deselect have all been applied.
    if select(session) and not session.config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("-p no:benchmark: mpbench reports through pytest-benchmark and needs it")


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    config.stash[SESSION] = session
    if benchmarks := _benchmark_session(config):
        keeper = config.stash[KEEPER] = Keeper(bridge.journal_folder(benchmarks), config.stash[RUN].progress)
        bridge.guard_saving(benchmarks, keeper)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    config = session.config
    run, experiment, get = config.stash[RUN], config.stash[EXPERIMENT], config.getoption
    # An xdist worker cannot end the session with a usage error: there the first case to run reports it.
    idle = get("collectonly") or get("benchmark_skip", False) or hasattr(config, "workerinput")
    accuracy_cases = [item for item in session.items if phase_of(item) == ACCURACY]
    probes = config.stash[PROBES]
    if (run.cases or probes.cases or accuracy_cases) and not idle and not session.testsfailed:
        try:
            check_outputs(get, bridge.machine_folder(_benchmark_session(config)))
            _write_summary(config, Ending(running=True))
            if get("benchmark_compare_fail") and not get("benchmark_compare"):
                raise UsageProblem("--benchmark-compare-fail: valid is it together with --benchmark-compare")
            if not run.cluster.is_chief:
                run.progress(f"worker {run.cluster.index} of {run.cluster.workers}: the chief saves and judges")
            if not get("benchmark_disable") or get("benchmark_enable"):
                run.before_loading = lambda: _have_the_device_alone(config)
            if probes.cases:
                probes.prepare()
                name_layers(session)
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
                config.stash[GATE] = _gatekeeper(config)  # now: afterwards this run is among the saved ones
        except UsageProblem as problem:
            config.stash[BROKE_OFF] = str(problem)
            raise pytest.UsageError(str(problem)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    for field in devices.JITTERING_CPU_FIELDS:
        machine_info.get("cpu", {}).pop(field, None)
    machine_info["mpbench"] = devices.machine_facts()


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    # The hook's one public view of the run that --benchmark-compare has loaded.
    config.stash[BASELINE].loaded(compared_benchmark, machine_info)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    # --benchmark-autosave leaves the raw rounds out unless --benchmark-save-data is given too.
    ours = [bench for bench in benchmarks if is_case(bench.extra_info) or is_probe(bench.extra_info)]
    rounds = {bench.fullname: list(bench.stats.data) for bench in ours}
    for saved in output_json["benchmarks"]:
        if saved["fullname"] in rounds:
            saved["stats"].setdefault("data", rounds[saved["fullname"]])
    # Not in machine_info: that must not change from run to run.
    config.stash[NEIGHBOURS].look_again()
    output_json.setdefault("mpbench", {}).update(command=_command(config), **config.stash[NEIGHBOURS].as_json())


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    config.stash[COMPLETE] = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if KEEPER in config.stash and config.stash[KEEPER].problems and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    measured: dict[str, Measured] = config.stash[REPORTED]
    compared: dict[str, AccuracyRecord] = config.stash[COMPARED]
    if GATE not in config.stash or not (measured or compared):
        return
    verdicts: list[Verdict] = config.stash[GATE].verdicts(_this_run(config))
    config.stash[VERDICTS] = verdicts
    if is_red(verdicts) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # pytest-benchmark raises over a regression
        config.stash[BROKE_OFF] = described(error)
        raise
    finally:
        reported, compared = list(config.stash[REPORTED].values()), list(config.stash[COMPARED].values())
        verdicts: list[Verdict] | None = config.stash.get(VERDICTS, None)
        if reported or compared:
            terminalreporter.section("mpbench")
            records = {id: measured.record for id, measured in config.stash[REPORTED].items()}
            lines = [*tables.summary(reported), *config.stash[BASELINE].lines(records)] if reported else []
            lines += accuracy_summary(compared) if compared else []
            lines += gate_lines(verdicts) if verdicts is not None else []
            lines += filter(None, [config.stash[NEIGHBOURS].look_again()])
            for line in lines:
                terminalreporter.write_line(line)
        probed: dict[str, Probed] = config.stash[PROBED]
        if probed:
            terminalreporter.section("why")
            for line in session_lines(_this_run(config)):
                terminalreporter.write_line(line)
            terminalreporter.write_line(_how_to_explain(config))
        for line in _close_journal(config):
            terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    for line in _close_journal(config):  # an internal error, or no terminal
        _write_line(config, line)
    # Not at the session's end: there saving may fail, and --no-summary skips the terminal's.
    session = config.stash.get(SESSION, None)
    if session is None:
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [*reporter.stats.get("error", []), *reporter.stats.get("failed", [])] if reporter else []
    failures = [Failure(report.nodeid, _reason(report)) for report in reports]
    broke_off = config.stash.get(BROKE_OFF, "")
    if not broke_off and session.exitstatus in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        broke_off = f"exit status {int(session.exitstatus)}: the log says why"
    _write_summary(config, Ending(failures, session.exitstatus == pytest.ExitCode.INTERRUPTED, broke_off))


def _command(config: pytest.Config) -> str:
    """What was typed."""
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])


def _this_run(config: pytest.Config) -> SavedRun:
    """What has been measured so far."""
    machine_info = config.hook.pytest_benchmark_generate_machine_info(config=config)
    pytest_benchmark_update_machine_info(machine_info)
    measured, compared, probed = config.stash[REPORTED], config.stash[COMPARED], config.stash[PROBED]
    return unsaved_run(machine_info, measured, compared, probed, _command(config))


def _write_summary(config: pytest.Config, ending: Ending) -> None:
    summary = config.getoption("mp_summary")
    if not summary or config.getoption("collectonly") or hasattr(config, "workerinput"):
        return
    cases, compared = list(config.stash[REPORTED].values()), list(config.stash[COMPARED].values())
    verdicts = config.stash.get(VERDICTS, [] if config.getoption("mp_gate") else None)
    try:
        Path(summary).write_text(markdown(cases, compared, verdicts, ending), encoding="utf-8")
    except OSError as error:  # the disk is full: the tables in the terminal are not lost
        if not ending.problem:  # there what was wrong has been said
            _write_line(config, f"--mp-summary: {summary}: not written: {error.strerror}")


def _reason(report: Any) -> str:
    """Why a test failed, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).strip().partition("\n")[0].removeprefix("Failed: ")


def _gatekeeper(config: pytest.Config) -> Gatekeeper:
    def warn(line: str) -> None:
        if line not in config.stash[BASELINE].said:
            config.stash[RUN].progress(line)

    return Gatekeeper(config.getoption("benchmark_storage"), config.rootpath, config.getoption("mp_gate_missing"), warn)


def _how_to_explain(config: pytest.Config) -> str:
    file = config.stash[KEEPER].file if KEEPER in config.stash else None
    what = shown(file) if file else "FILE, after a run with --benchmark-json=FILE"
    return f"The same again, or as JSON: python -m mpbench explain {what}"


def _benchmark_session(config: pytest.Config) -> Any:
    """pytest-benchmark's session object; None without the plugin."""
    return getattr(config, "_benchmarksession", None)


def _open_journal(session: pytest.Session) -> None:
    """Open this session's journal, if it measures, and take from an interrupted one what is to be resumed."""
    stash, benchmarks = session.config.stash, _benchmark_session(session.config)
    if benchmarks.disabled or not stash[RUN].cluster.is_chief:
        return
    items = [item for item in session.items if phase_of(item) or probe_case_of(item)]
    scribe = stash[SCRIBE] = bridge.Scribe(benchmarks, stash[KEEPER], stash[RUN], stash[PROBES], items)
    stash[RESTORED].update(scribe.begin(session.config.getoption("mp_resume")))


def _close_journal(config: pytest.Config) -> list[str]:
    """Lines about what was saved and what was not."""
    if KEEPER not in config.stash:
        return []
    shown = {*config.stash[REPORTED], *config.stash[COMPARED], *config.stash[PROBED]}
    asked = bridge.asked_for(_benchmark_session(config))
    return config.stash[KEEPER].end(asked, shown, config.stash.get(COMPLETE, False))


def _have_the_device_alone(config: pytest.Config) -> None:
    """As far as our other sessions go; of all else that computes there, say so."""
    run, device = config.stash[RUN], config.stash[RUN].settings.device
    for key in keys_of(device, run.settings.replicas // run.cluster.workers):
        config.stash[LOCK].take(key)
    if line := config.stash[NEIGHBOURS].look(device):
        run.progress(line)


def _write_line(config: pytest.Config, line: str) -> None:
    """Show a line at once, past pytest's capturing."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line)
            reporter.flush()
