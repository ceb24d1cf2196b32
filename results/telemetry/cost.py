"""What the GPU's readings cost: one step with a reading around each of its rounds and without, interleaved in one run.

Three arms share one built model and are measured in blocks in random order:
- silent: rounds as they are timed, and nothing is read;
- before: a reading right before each round, outside the timed region, where mpbench reads (after one round is before
  the next);
- within: a reading inside the timed region, which mpbench never does: the most that it could cost.

The claim is that `before` is within 0.1 % of `silent`. Needs a GPU that NVML can read; without one it exits with 4.

    python results/telemetry/cost.py [-o FILE] [--model NAME] [--seconds N] ...
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mpbench.config.precisions import PRECISIONS
from mpbench.engine import device as devices
from mpbench.engine.interleave import Arm, measure
from mpbench.engine.stopping import Plan
from mpbench.engine.telemetry import Telemetry, open_telemetry
from mpbench.errors import UsageProblem
from mpbench.stats.intervals import speedup_interval
from mpbench.system import machine, nvidia
from mpbench.system.device import Device

CLAIM = 0.001
"""Of a step, relative."""

NO_GPU_EXIT = 4
READS = 1000
"""Readings timed by themselves."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="inception_v3")
    parser.add_argument("--precision", default="mixed_float16", choices=PRECISIONS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=240.0, help="time limit for the blocks")
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    args = parser.parse_args()

    with nvidia.nvml() as (_, gpu):
        if gpu is None:
            print("cost.py: NVML sees no GPU here: there are no readings, and nothing that they could cost")
            return NO_GPU_EXIT
    try:
        device = devices.activate("gpu", require_gpu=True)
    except UsageProblem as problem:
        print(f"cost.py: {problem}")
        return NO_GPU_EXIT
    with open_telemetry(device) as telemetry:
        if telemetry is None:
            print("cost.py: NVML does not see the GPU that TensorFlow uses")
            return NO_GPU_EXIT
        result = compared(args, device, telemetry)
    print(json.dumps({key: value for key, value in result.items() if key != "rounds_ms"}, indent=1))
    print(in_words(result))
    if args.output:
        args.output.write_text(json.dumps(result) + "\n")
    return 0


def compared(args: argparse.Namespace, device: Device, telemetry: Telemetry) -> dict[str, Any]:
    """Measure the three arms, and readings by themselves."""
    from mpbench.engine.plan import StepSpec
    from mpbench.engine.step import Step

    precision = PRECISIONS[args.precision]
    step = Step(StepSpec(args.model, precision, "training", args.batch_size, args.image_size, None, device), print)

    def within(steps: int) -> None:
        step.run(steps)
        telemetry.read()

    def read() -> None:
        telemetry.read()

    arms = [Arm("silent", step.run), Arm("before", step.run, before=read), Arm("within", within)]
    series = measure(arms, Plan(args.seconds, tolerance=CLAIM / 4), baseline="silent", progress=print)
    for one in series.values():
        if one.error is not None:
            raise one.error
    over = {name: speedup_interval(series[name].rounds, series["silent"].rounds) for name in ("before", "within")}
    reads = []
    for _ in range(READS):
        began = time.perf_counter()
        telemetry.read()
        reads.append(time.perf_counter() - began)
    steps_per_round = series["silent"].steps_per_round
    return {
        "model": args.model,
        "precision": args.precision,
        "batch_size": args.batch_size,
        "image_size": args.image_size,
        "device": devices.device_name(device),
        "machine": {"processor": platform.machine(), "python": platform.python_version(), **machine.machine_facts()},
        "blocks": len(series["silent"].rounds),
        "steps_per_round": {name: one.steps_per_round for name, one in series.items()},
        "median_ms": {name: 1000 * float(np.median(one.rounds)) for name, one in series.items()},
        "over_silent": {name: [one.estimate, one.low, one.high] for name, one in over.items()},
        "reading_ms": {"median": 1000 * float(np.median(reads)), "p99": 1000 * float(np.quantile(reads, 0.99))},
        "reading_share_of_round": float(np.median(reads) / np.median(series["silent"].rounds) / steps_per_round),
        "last_reading": str(telemetry.read()),
        "rounds_ms": {name: [round(1000 * s, 4) for s in one.rounds] for name, one in series.items()},
    }


def in_words(result: dict[str, Any]) -> str:
    """The claim, and whether the interval lies within it, reaches beyond it, or lies beyond it."""
    estimate, low, high = (100 * (value - 1) for value in result["over_silent"]["before"])
    limit = 100 * CLAIM
    if -limit <= low and high <= limit:
        verdict = "the claim holds"
    elif low > limit or high < -limit:
        verdict = "the claim is WRONG"
    else:
        verdict = "not settled: more --seconds would narrow the interval"
    return (
        f"Rounds after a reading are {estimate:+.3f} % [{low:+.3f}, {high:+.3f}] longer than others, against at most "
        f"{limit:g} %: {verdict}. A reading takes {result['reading_ms']['median']:.3f} ms."
    )


if __name__ == "__main__":
    sys.exit(main())
