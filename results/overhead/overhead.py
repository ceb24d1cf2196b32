"""What mpbench itself adds to a step: its recorded rounds beside a bare loop around the same compiled step.

Three arms share one built model and are measured interleaved, in blocks in random order, in one run:
- recorded: rounds as mpbench records them (`measure` reads the clock around `Step.run`);
- bare: a loop around the same compiled function that reads the clock itself, its own figures kept here;
- train_on_batch: what a step costs through Keras's own call, for comparison.

    python results/overhead/overhead.py [-o FILE] [--model NAME] [--seconds N] ...
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from mpbench.config.precisions import PRECISIONS
from mpbench.engine import device as devices
from mpbench.engine.interleave import Arm, measure
from mpbench.engine.stopping import Plan
from mpbench.stats.intervals import speedup_interval
from mpbench.system import machine
from mpbench.system.device import DEVICES


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="inception_v3")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=240.0, help="time limit for the blocks")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    args = parser.parse_args()

    device = devices.activate(args.device, require_gpu=False)
    import tensorflow as tf

    from mpbench.engine.plan import StepSpec
    from mpbench.engine.step import Step

    precision = PRECISIONS[args.precision]
    step = Step(StepSpec(args.model, precision, "training", args.batch_size, args.image_size, None, device), print)
    bare_seconds: list[float] = []

    def bare(steps: int) -> None:
        call = step._call
        start = time.perf_counter()
        for _ in range(steps):
            call()
        tf.test.experimental.sync_devices()
        bare_seconds.append((time.perf_counter() - start) / steps)

    def keras(steps: int) -> None:
        for _ in range(steps):
            step.model.train_on_batch(step.batch.x, step.batch.y)

    keras(1)
    arms = [Arm("recorded", step.run), Arm("bare", bare), Arm("train_on_batch", keras)]
    plan = Plan(max_seconds=args.seconds, tolerance=0.002)
    series = measure(arms, plan, baseline="recorded", progress=print)
    bare_measured = bare_seconds[-len(series["bare"].rounds) :]
    medians = {name: float(np.median(one.rounds)) for name, one in series.items()} | {
        "bare": float(np.median(bare_measured))
    }
    paired = speedup_interval(series["recorded"].rounds, bare_measured)
    result = {
        "model": args.model,
        "precision": args.precision,
        "batch_size": args.batch_size,
        "image_size": args.image_size,
        "device": devices.device_name(device),
        "machine": {"processor": platform.machine(), "python": platform.python_version(), **machine.machine_facts()},
        "blocks": len(series["recorded"].rounds),
        "steps_per_round": series["recorded"].steps_per_round,
        "median_ms": {name: 1000 * seconds for name, seconds in medians.items()},
        "recorded_over_bare_medians": medians["recorded"] / medians["bare"],
        "recorded_over_bare_paired": [paired.estimate, paired.low, paired.high],
        "train_on_batch_over_recorded": medians["train_on_batch"] / medians["recorded"],
        "rounds_ms": {
            "recorded": [round(1000 * s, 4) for s in series["recorded"].rounds],
            "bare": [round(1000 * s, 4) for s in bare_measured],
            "train_on_batch": [round(1000 * s, 4) for s in series["train_on_batch"].rounds],
        },
    }
    print(json.dumps({key: value for key, value in result.items() if key != "rounds_ms"}, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
