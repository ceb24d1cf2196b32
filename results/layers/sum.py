"""Does the sum over a model's layers, each timed alone, predict the model's step?

    python results/layers/sum.py --output results/layers/cpu.json MODEL...

For each model and precision, inference and training (forward and backward pass; the optimizer's update is no layer):
all distinct layers and the whole are timed in turn, in rounds, so that what else the machine does meets all alike. The
figure is the median over the rounds of the sum of count x seconds over the seconds of the whole.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mpbench.why.measuring.layer_step import LayerStep
from mpbench.why.measuring.layers import named_layers
from mpbench.why.measuring.parts import PartedStep

from mpbench.config.model_names import canonical_name
from mpbench.config.precisions import PRECISIONS
from mpbench.engine.device import activate
from mpbench.engine.models import build_model
from mpbench.engine.plan import StepSpec
from mpbench.engine.step import Step


def seconds_of(run, times: int) -> float:
    start = time.perf_counter()
    run(times)
    return (time.perf_counter() - start) / times


def compared(model: str, precision: str, phase: str, batch_size: int, size_px: int, rounds: int, device) -> dict:
    how = PRECISIONS[precision]
    spec = StepSpec(model, how, phase, batch_size, size_px, None, device)
    if phase == "training":
        whole, run = (step := PartedStep(spec)), step.part("gradients")[0]
    else:
        whole = Step(spec)
        run = whole.run
    layers = named_layers(build_model(model, size_px, how), model, size_px, batch_size, how)
    steps = [LayerStep(layer, spec) for layer in layers]
    wholes, sums = [], []
    each: list[list[float]] = [[] for _ in layers]
    for number in range(rounds + 1):
        before = seconds_of(run, 2)
        total = 0.0
        for layer, step, seen in zip(layers, steps, each, strict=True):
            step.time_empty()
            one = step.seconds(seconds_of(step.run, 2))
            total += layer.count * one
            seen.append(one)
        # The whole before and after its layers, so that a drift of the machine's speed meets both alike.
        if number:
            wholes.append((before + seconds_of(run, 2)) / 2)
            sums.append(total)
    kinds: dict[str, float] = {}
    for layer, seen in zip(layers, each, strict=True):
        kinds[layer.layer_type] = kinds.get(layer.layer_type, 0.0) + layer.count * statistics.median(seen[1:])
    ratios = sorted(total / one for total, one in zip(sums, wholes, strict=True))
    whole.release()
    for step in steps:
        step.release()
    return {
        "model": model,
        "precision": precision,
        "phase": phase,
        "batch_size": batch_size,
        "image_size_px": size_px,
        "distinct": len(layers),
        "layers": sum(layer.count for layer in layers),
        "whole_ms": round(statistics.median(wholes) * 1e3, 2),
        "sum_ms": round(statistics.median(sums) * 1e3, 2),
        "sum_over_whole": round(statistics.median(ratios), 3),
        "lowest": round(ratios[0], 3),
        "highest": round(ratios[-1], 3),
        "sum_ms_by_type": {kind: round(value * 1e3, 2) for kind, value in sorted(kinds.items(), key=lambda k: -k[1])},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precisions", default="float32,mixed_float16")
    options = parser.parse_args()
    device = activate("auto", False)
    results = []
    for model in map(canonical_name, options.models):
        for phase in ("inference", "training"):
            for precision in options.precisions.split(","):
                row = compared(model, precision, phase, options.batch_size, options.image_size, options.rounds, device)
                print(json.dumps(row), flush=True)
                results.append(row)
                options.output.write_text(json.dumps(results, indent=1) + "\n")
                gc.collect()


if __name__ == "__main__":
    main()
