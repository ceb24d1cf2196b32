"""A/A on a real machine: how often does a step compared with itself come out as different?

Builds one real inference step, then measures it against itself again and again, as `--mp-control` does, once
interleaved and once one arm after the other, and counts the runs whose 95 % interval misses 1.

    python results/aa/aa.py [-o FILE] [--runs N] [--seconds N] ...
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mpbench.config.precisions import PRECISIONS
from mpbench.engine import device as devices
from mpbench.engine.interleave import Arm, measure
from mpbench.engine.stopping import Plan
from mpbench.stats.intervals import Interval, speedup_interval
from mpbench.system import machine
from mpbench.system.device import DEVICES


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="inception_v3")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=80)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=6.0, help="time limit for the blocks of each run")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    args = parser.parse_args()

    device = devices.activate(args.device, require_gpu=False)
    from mpbench.engine.plan import StepSpec
    from mpbench.engine.step import Step

    spec = StepSpec(args.model, PRECISIONS["float32"], "inference", args.batch_size, args.image_size, None, device)
    step = Step(spec, print)
    plan = Plan(max_seconds=args.seconds)
    kinds: dict[str, list[Interval]] = {"interleaved": [], "one after the other": []}
    for run in range(args.runs):
        both = measure([Arm("a", step.run), Arm("b", step.run)], plan, baseline="a", seed=run)["b"].interval
        assert both is not None
        kinds["interleaved"].append(both)
        half = Plan(max_seconds=args.seconds / 2)
        a, b = (measure([Arm("x", step.run)], half, seed=run)["x"].rounds for _ in range(2))
        n = min(len(a), len(b))
        kinds["one after the other"].append(speedup_interval(a[:n], b[:n]))
        print(run, *(f"{kind}: {i[-1].estimate:.4f} [{i[-1].low:.4f}, {i[-1].high:.4f}]" for kind, i in kinds.items()))
    result = {
        "model": args.model,
        "batch_size": args.batch_size,
        "image_size": args.image_size,
        "device": devices.device_name(device),
        "machine": machine.machine_facts(),
        "runs": args.runs,
        "false_alarms": {kind: sum(not i.low <= 1 <= i.high for i in found) for kind, found in kinds.items()},
        "largest_deviation": {kind: max(abs(i.estimate - 1) for i in found) for kind, found in kinds.items()},
        "intervals": {
            kind: [[round(v, 5) for v in (i.estimate, i.low, i.high)] for i in found] for kind, found in kinds.items()
        },
    }
    print(json.dumps({key: value for key, value in result.items() if key != "intervals"}, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
