"""Are models with a planted cause named rightly? One huge product, elementwise layers only, a thousand tiny layers.

    PYTHONPATH=tests/support python results/layers/planted.py --output results/layers/planted-cpu.json

For each: its inference, the three lower bounds of its layers from peaks measured in the same run (FLOPs / peak FLOP/s,
minimal bytes / bandwidth, kernels x seconds of one tiny operation), each summed over the layers, beside the measured
step. The largest should be the planted one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.device import activate

PLANTED = {
    # name: batch, image size, what it is planted as
    "tiny_models:huge_dense": (64, 16, "compute"),
    "tiny_models:elementwise_only": (8, 32, "memory"),
    "tiny_models:thousand_tiny_layers": (2, 16, "launch"),
}
ROUNDS = 9


def median_seconds(run, least: float = 0.05) -> float:
    run(1)
    start = time.perf_counter()
    run(1)
    times = max(1, int(least / (time.perf_counter() - start)))
    seen = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(times)
        seen.append((time.perf_counter() - start) / times)
    return statistics.median(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--precisions", default="float32,mixed_float16")
    options = parser.parse_args()
    device = activate("auto", False)

    from mpbench.why.measuring.layer_call import call_costs
    from mpbench.why.measuring.layers import distinct_layers

    from mpbench.engine.models import build_model
    from mpbench.engine.plan import StepSpec
    from mpbench.engine.step import Step
    from mpbench.why.measuring.peaks import peak_probe

    fields = {
        "model": "",
        "phase": "",
        "device": "",
        "device_name": "",
        "profile": "",
        "batch_size": 1,
        "image_size": 1,
    }
    fields.update(rounds=1, steps_per_round=1, unpaired_blocks="", noisy=False)
    rows = []
    for name in options.precisions.split(","):
        precision = PRECISIONS[name]
        peaks = {}
        for what in ("matmul", "copy", "latency"):
            probe = peak_probe(what, precision, device)
            seconds, record = probe.seconds(median_seconds(probe.run)), probe.record(**fields)
            peaks[what] = (record.flops or record.bytes or 1) / seconds
            probe.release()
        for model, (batch_size, size_px, planted) in PLANTED.items():
            built = build_model(model, size_px, precision)
            layers = distinct_layers(built, (size_px, size_px, 3), batch_size, precision.policy)
            costs = [(layer.count, call_costs(layer.call, "inference")) for layer in layers]
            step = Step(StepSpec(model, precision, "inference", batch_size, size_px, None, device))
            bounds = {
                "compute": sum(count * cost.flops for count, cost in costs) / peaks["matmul"],
                "memory": sum(count * cost.minimal_bytes for count, cost in costs) / peaks["copy"],
                "launch": sum(count * cost.kernels for count, cost in costs) / peaks["latency"],
            }
            row = {
                "model": model,
                "precision": name,
                "planted": planted,
                "found": max(bounds, key=lambda kind: bounds[kind]),
                **{f"{kind}_ms": round(value * 1e3, 4) for kind, value in bounds.items()},
                "measured_ms": round(median_seconds(step.run) * 1e3, 4),
                "gflops": round(peaks["matmul"] / 1e9, 1),
                "gbytes_per_second": round(peaks["copy"] / 1e9, 1),
                "launch_us": round(1e6 / peaks["latency"], 3),
            }
            step.release()
            print(json.dumps(row), flush=True)
            rows.append(row)
    options.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
