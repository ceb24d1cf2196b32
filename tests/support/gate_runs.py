"""Runs whose truth is known, for tests of the gate."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from case_records import accuracy_record, record

from mpbench.gate.judge import judge
from mpbench.gate.rules import Rules
from mpbench.records.measured import Measured
from mpbench.records.runs import SavedRun

MODELS = {"vgg16": 300.0, "inception_v3": 200.0, "resnet152_v2": 500.0}
PHASES = {"training": 1.0, "inference": 0.4}
SLOW = "bench/test_training.py::test_training[vgg16-mixed_float16]"
BASE = "bench/test_training.py::test_training[vgg16-float32]"


def saved_run(number, *, factors=None, noise=0.01, speed=0.0, rounds=40, models=MODELS, **changes):
    """A run of the default matrix; `factors` multiply the times of cases, `speed` is the sd of the whole run's."""
    rng = np.random.default_rng(number)
    whole = np.exp(rng.normal(0, speed))
    cases = {}
    for model, ms in models.items():
        for phase, share in PHASES.items():
            blocks = np.exp(rng.normal(0, noise, rounds))  # what slows a block slows both precisions
            for precision, of_base in (("float32", 1.0), ("mixed_float16", 0.6)):
                name = f"bench/test_{phase}.py::test_{phase}[{model}-{precision}]"
                own = np.exp(rng.normal(0, noise / 2, rounds)) * (factors or {}).get(name, 1.0)
                ratio = {} if precision == "float32" else {"baseline": "float32", "speedup": 1.6}
                of_case = record(model, precision, phase, rounds=rounds, **ratio, **changes)
                cases[name] = Measured(of_case, tuple(ms / 1000 * share * of_base * whole * blocks * own), name)
    time = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=number)
    facts = {"gpu": "NVIDIA V100", "tensorflow": "2.21.0", "driver": "550.1"}
    return SavedRun(Path(f"{number}.json"), time, f"{number:07x}", False, "main", facts, cases)


EARLIER = [saved_run(number) for number in range(5)]


def verdicts(new, earlier=EARLIER, rules=None):
    return {verdict.name: verdict for verdict in judge(new, earlier, rules or Rules())}


def red(found):
    return {name for name, verdict in found.items() if verdict.red}


def accuracy_run(number, **changes):
    compared = accuracy_record(**changes)
    name = "tests/test_accuracy.py::test_mcnemar[vgg16-x]"
    return replace(saved_run(number), cases={name: Measured(compared, (0.1,), name)})


def following(factors, count, first=5, **changes):
    return [saved_run(number, factors=factors, **changes) for number in range(first, first + count)]
