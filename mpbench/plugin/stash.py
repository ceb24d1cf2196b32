"""What one pytest session keeps, each thing under its key of `config.stash`."""

from __future__ import annotations

from typing import Any

import pytest

from mpbench.accuracy.experiment import Comparison, Experiment
from mpbench.engine.run import Run
from mpbench.gate.session import SessionGate
from mpbench.gate.verdict import Verdict
from mpbench.journal.saving import RunSaver
from mpbench.plugin import benchmark_adapter as adapter
from mpbench.plugin.compared_run import Baseline
from mpbench.plugin.confirming import Task
from mpbench.plugin.replay_clock import ReplayClock
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.diagnostics import DiagnosticRecord
from mpbench.records.measured import Measured
from mpbench.records.speed import SpeedCase
from mpbench.system.lock import SessionLock
from mpbench.system.neighbours import Neighbours
from mpbench.why.measuring.session import Diagnostics

BEGAN_S = pytest.StashKey[float]()
"""Seconds since the epoch."""

RUN = pytest.StashKey[Run]()
LOCK = pytest.StashKey[SessionLock]()
NEIGHBOURS = pytest.StashKey[Neighbours]()
CLOCKS = pytest.StashKey[dict[str, ReplayClock]]()
REPORTED = pytest.StashKey[dict[str, SpeedCase]]()
BASELINE = pytest.StashKey[Baseline]()
PROBLEMS = pytest.StashKey[list[str]]()
EXPERIMENT = pytest.StashKey[Experiment]()
COMPARED = pytest.StashKey[dict[str, AccuracyRecord]]()
GATE = pytest.StashKey[SessionGate]()
VERDICTS = pytest.StashKey[list[Verdict]]()
SESSION = pytest.StashKey[pytest.Session]()
BROKE_OFF = pytest.StashKey[str]()
SAVER = pytest.StashKey[RunSaver]()
JOURNAL_WRITER = pytest.StashKey[adapter.JournalWriter]()
RESTORED = pytest.StashKey[dict[str, Comparison]]()
COMPLETE = pytest.StashKey[bool]()
DIAGNOSTICS = pytest.StashKey[Diagnostics]()
DIAGNOSED = pytest.StashKey[dict[str, Measured[DiagnosticRecord]]]()
TASK = pytest.StashKey[Task]()
RUN_ID = pytest.StashKey[str]()
CONFIRM = pytest.StashKey[int | None]()
DESELECTED = pytest.StashKey[list[str]]()
MACHINE_INFO = pytest.StashKey[dict[str, Any]]()
