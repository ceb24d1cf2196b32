"""A pytest plugin for `-p fake_measuring`: cases that take FAKE_SECONDS per group and need no TensorFlow.

Where something goes wrong is the plugin's and the journal's business; what is measured is not.
"""

import os
import random
import time
from types import SimpleNamespace

from case_records import accuracy_record, record

from mpbench.accuracy.experiment import Experiment
from mpbench.engine import device as devices
from mpbench.engine import run
from mpbench.records.measured import Measured
from mpbench.records.rounds import kept_rounds
from mpbench.system.device import Device

SECONDS = float(os.environ.get("FAKE_SECONDS", "0"))
ROUNDS = int(os.environ.get("FAKE_ROUNDS", "8"))
DRAW = random.Random(os.getpid())


def measure(self, plans, keep):
    for number, plan in enumerate(plans):
        yield number, measure_group(plan, self.progress)


def measure_group(plan, progress):
    progress(f"{plan.label}: measuring {len(plan.members)} arms")
    time.sleep(SECONDS)
    rounds = {arm: kept_rounds(DRAW.uniform(0.001, 0.002) for _ in range(ROUNDS)) for arm in plan.members}
    outcomes = {}
    for arm, member in plan.members.items():
        spec = member.spec
        ratios = sorted(b / a for a, b in zip(rounds[arm], rounds[member.baseline or arm], strict=True))
        speedup = (ratios[len(ratios) // 2], ratios[0], ratios[-1]) if member.baseline else (None,) * 3
        outcomes[arm] = Measured(
            record(
                spec.model,
                spec.precision.name,
                spec.phase,
                variant=plan.variant,
                point=plan.point,
                control=member.control,
                mode=member.mode,
                replicas=spec.replicas,
                rounds=len(rounds[arm]),
                baseline=member.baseline and plan.members[member.baseline].spec.precision.name,
                **dict(zip(("speedup", "speedup_low", "speedup_high"), speedup, strict=True)),
            ),
            rounds[arm],
        )
    return outcomes


def compare(self, model, precision):
    time.sleep(SECONDS)
    return Measured(accuracy_record(model), kept_rounds(DRAW.uniform(0.1, 0.2) for _ in range(5)))


def pytest_configure():
    run.Run._measure = measure
    run.check_factories = lambda *args: {}
    devices.activate = lambda *args: Device("cpu", "/CPU:0")
    Experiment.prepare = lambda self, models: None
    Experiment.images = SimpleNamespace(digest="0" * 64)
    Experiment.compare = compare
