"""What the plugin keeps of one pytest session, and how measuring begins. Its end: `session_end.py`."""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any

import pytest

from mpbench.config.options import CHIEF_ONLY, fill_in
from mpbench.config.pyproject import options_of_project
from mpbench.config.settings import Settings, read_settings
from mpbench.engine.run import Run
from mpbench.errors import UsageProblem
from mpbench.gate.session import SessionGate
from mpbench.gate.verdict import Verdict
from mpbench.journal.saving import RunSaver
from mpbench.plugin import benchmark_adapter as adapter
from mpbench.plugin.accuracy_cases import AccuracyCases
from mpbench.plugin.compared_run import ComparedRun, choose_from_storage
from mpbench.plugin.confirming import Task, own_task, take_over
from mpbench.plugin.console import benchmark_session, is_worker, typed, write_line
from mpbench.plugin.diagnostic_cases import DiagnosticCases
from mpbench.plugin.journal import SessionJournal
from mpbench.plugin.kinds import Cases, argument_of, mark_of, misplaced
from mpbench.plugin.numerics_cases import NumericsCases
from mpbench.plugin.output_files import check_outputs
from mpbench.plugin.replay_clock import ReplayClock
from mpbench.plugin.speed_cases import SpeedCases
from mpbench.records.accuracy import AccuracyCase
from mpbench.records.measured import Measured
from mpbench.records.speed import SpeedCase
from mpbench.system.cluster import VARIABLE, Cluster, read_cluster
from mpbench.system.lock import MACHINE, SessionLock, keys_of
from mpbench.system.neighbours import Neighbours
from mpbench.why.measuring.profile import profiler

CHIEFS_OPTIONS = (
    "benchmark_json",
    "benchmark_save",
    "benchmark_autosave",
    "benchmark_compare",
    "benchmark_compare_fail",
    "benchmark_histogram",
    *CHIEF_ONLY,
)
"""Of several workers only the chief has them: what saves, compares and judges."""


class Session:
    """One pytest session.

    Args:
        config: pytest's.
        settings: the options, checked.
        task: of a process that measures another session's cases again.

    Attributes:
        id: names its run.
        began_s: seconds since the epoch.
        run: measures steps, and owns the device.
        kinds: the cases by kind.
        clocks: through which each case's rounds reach its `benchmark` fixture, by id.
        compared_run: the earlier run that --benchmark-compare means.
        problems: what is wrong with marks, found while collecting.
        deselected: ids of cases that were left out on purpose.
        saver, journal: what is kept on the disk; None before it is known that cases are selected, or measured.
        gate, verdicts: None where nothing is judged, or not yet.
        problem: why the session ended early, in a line; empty where it did not.
        is_complete: it came to its end, with cases that failed or without.
        pytest: pytest's own session; None before it began.
    """

    def __init__(self, config: pytest.Config, settings: Settings, task: Task | None) -> None:
        self.config = config
        self.settings = settings
        self.task = task
        self.id = secrets.token_hex(8)
        self.began_s = time.time()
        cluster = self._cluster()
        # Now: pytest-benchmark, whose turn comes later, opens what it finds.
        choice = choose_from_storage(config.getoption)
        if not cluster.is_chief:
            for name in CHIEFS_OPTIONS:
                setattr(config.option, name, None)
            settings = self.settings = read_settings(vars(config.option))
            choice = None
        if choice is not None:
            config.option.benchmark_compare = choice.value
            if not choice.value:
                config.option.benchmark_compare_fail = []
        self.compared_run = ComparedRun(choice)
        self.run = Run(settings, self.say, cluster)
        self.run.cleanup = config.add_cleanup
        self.run.profiler = functools.partial(profiler, steps=settings.profile_steps, on_cpu=settings.why)
        # On one machine the lock of the first of its workers stands for all.
        self.lock = SessionLock("off" if cluster.shares_host else settings.lock, typed(config), self.run.progress)
        config.add_cleanup(self.lock.release)
        self.neighbours = Neighbours()
        self.speed, self.accuracy, self.diagnostics = SpeedCases(self), AccuracyCases(self), DiagnosticCases(self)
        self.numerics = NumericsCases(self)
        self.kinds: tuple[Cases[Any], ...] = (self.speed, self.numerics, self.accuracy, self.diagnostics)
        self.clocks: dict[str, ReplayClock] = {}
        self.problems: list[str] = []
        self.deselected: list[str] = []
        self.saver: RunSaver | None = None
        self.journal: SessionJournal | None = None
        self.gate: SessionGate | None = None
        self.verdicts: list[Verdict] | None = None
        self.problem = ""
        self.is_complete = False
        self.pytest: pytest.Session | None = None
        self._machine_info: dict[str, Any] | None = None

    def _cluster(self) -> Cluster:
        cluster = read_cluster(os.environ.get(VARIABLE), self.settings.replicas)
        if cluster.workers > 1 and self.config.getoption("mp_resume"):
            raise UsageProblem(f"--mp-resume: given to one of {cluster.workers} workers: leave it out")
        return cluster

    def say(self, line: str) -> None:
        """Show a line at once."""
        write_line(self.config, line)

    def kind_of(self, item: pytest.Item) -> Cases[Any] | None:
        """The kind of case that an item's mark makes it; None for any other test."""
        mark = mark_of(item)
        if mark is None:
            return None
        value = argument_of(mark)
        return next((kind for kind in self.kinds if kind.mark == mark.name and value in tuple(kind.values)), None)

    def misplaced(self, item: pytest.Item) -> str | None:
        """Why a marked test is not a case; None where all is well."""
        return misplaced(item, self.kind_of(item))

    @property
    def reported(self) -> dict[str, Measured[Any]]:
        """All that has been measured and reported, by id."""
        return {id: case for kind in self.kinds for id, case in kind.reported.items()}

    @property
    def speed_cases(self) -> list[SpeedCase]:
        return list(self.speed.reported.values())

    @property
    def accuracy_cases(self) -> list[AccuracyCase]:
        return list(self.accuracy.reported.values())

    def keep(self, cases: Mapping[str, Measured[Any]]) -> None:
        """Put cases that were measured together on the disk, before any of them is reported."""
        if self.journal is not None:
            self.journal.write(cases)

    @property
    def machine_info(self) -> dict[str, Any]:
        """pytest-benchmark's, with ours in it: asking takes a moment, and it does not change."""
        if self._machine_info is None:
            hook = self.config.hook
            self._machine_info = hook.pytest_benchmark_generate_machine_info(config=self.config)
            hook.pytest_benchmark_update_machine_info(config=self.config, machine_info=self._machine_info)
        return self._machine_info

    def check_outputs(self) -> None:
        """Find out whether everything that was asked for can be written; raises UsageProblem."""
        check_outputs(self.config.getoption, adapter.machine_folder(benchmark_session(self.config)))

    def begin(self) -> None:
        """Find what is wrong before anything slow is done, and open the journal.

        Raises:
            UsageProblem: what was asked for cannot be measured.
        """
        config, run = self.config, self.run
        if config.getoption("benchmark_compare_fail") and not config.getoption("benchmark_compare"):
            raise UsageProblem("--benchmark-compare-fail: use it together with --benchmark-compare")
        if not run.cluster.is_chief:
            run.progress(f"worker {run.cluster.index} of {run.cluster.workers}: the chief saves and judges")
        if not config.getoption("benchmark_disable") or config.getoption("benchmark_enable"):
            run.before_loading = self._have_the_device_alone
        self._open_journal()
        for kind in self.kinds:
            if kind.selected:
                kind.prepare()
        if self.lock.holds_any and run.activate().kind == "cpu":
            self.lock.take(MACHINE)  # TensorFlow need not see the GPU that the driver sees
        if config.getoption("mp_gate"):  # now: afterwards this run is among the saved ones
            storage, missing = config.getoption("benchmark_storage"), config.getoption("mp_gate_missing")
            self.gate = SessionGate(storage, config.rootpath, missing, self._warn)

    def _warn(self, line: str) -> None:
        if line not in self.compared_run.messages:
            self.run.progress(line)

    def _open_journal(self) -> None:
        """Open this session's journal, if it measures, and take from an interrupted one what is to be resumed."""
        benchmarks = benchmark_session(self.config)
        if benchmarks.disabled or not self.run.cluster.is_chief:
            return
        assert self.saver is not None
        self.journal = SessionJournal(self, benchmarks, self.saver)
        self.journal.open(self.config.getoption("mp_resume"))

    def _have_the_device_alone(self) -> None:
        """As far as our other sessions go; of all else that computes there, say so."""
        device = self.settings.device
        for key in keys_of(device, self.settings.replicas // self.run.cluster.workers):
            self.lock.take(key)
        if line := self.neighbours.look(device):
            self.run.progress(line)

    @property
    def measures_nothing(self) -> bool:
        """Whether pytest only collects, skips benchmarks, or this is a worker of pytest-xdist: it cannot end the
        session with a usage error, so there the first case to run reports it."""
        get = self.config.getoption
        return bool(get("collectonly") or get("benchmark_skip", False) or is_worker(self.config))


def new_session(config: pytest.Config) -> Session:
    """The session of the options, as typed and as the project sets them.

    Raises:
        UsageProblem: the first of them that is not valid.
    """
    fill_in(vars(config.option), options_of_project(config.rootpath))
    if (task := own_task()) is not None:
        take_over(config, task)
    return Session(config, read_settings(vars(config.option)), task)


SESSION = pytest.StashKey[Session]()


def session_of(config: pytest.Config) -> Session:
    return config.stash[SESSION]
