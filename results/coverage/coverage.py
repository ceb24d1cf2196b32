"""How often the intervals hold the truth, on a simulated machine with drift, noise and bursts.

Two tables: the interval alone at fixed sample sizes, beside the plain percentile bootstrap; and whole measurements with
the real stopping rule, for a step against itself and against one 5 % slower, interleaved and one after the other.

    python results/coverage/coverage.py [-o FILE] [--runs N]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mpbench.engine.interleave import Plan, measure
from mpbench.stats.intervals import Interval, mean_interval, speedup_interval, trimmed_mean

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
from simulation import STEP_SECONDS, Machine

DRIFT = 0.2
DRIFT_SECONDS = 10.0
BURST_SHARE = 0.05


def plain_percentile(sample: np.ndarray, seed: int) -> tuple[float, float]:
    picks = np.random.default_rng(seed).integers(0, sample.size, size=(1000, sample.size))
    low, high = np.quantile(trimmed_mean(sample[picks]), [0.025, 0.975])
    return float(low), float(high)


def fixed_size(n: int, runs: int) -> dict[str, float]:
    rng = np.random.default_rng(n)
    ours = plain = 0
    for run in range(runs):
        sample = rng.normal(0, 1, n)
        interval = mean_interval(sample, resamples=1000, seed=run)
        low, high = plain_percentile(sample, run)
        ours += interval.low <= 0 <= interval.high
        plain += low <= 0 <= high
    return {"n": n, "expanded": ours / runs, "plain": plain / runs}


def interleaved(machine: Machine, factor: float, seed: int) -> Interval:
    arms = [machine.arm("a"), machine.arm("b", STEP_SECONDS * factor)]
    interval = measure(arms, Plan(max_seconds=30.0), baseline="a", clock=machine.clock, seed=seed)["b"].interval
    assert interval is not None
    return interval


def one_after_the_other(machine: Machine, factor: float, seed: int) -> Interval:
    plan = Plan(max_seconds=30.0)
    a = measure([machine.arm("a")], plan, clock=machine.clock, seed=seed)["a"].rounds
    b = measure([machine.arm("b", STEP_SECONDS * factor)], plan, clock=machine.clock, seed=seed)["b"].rounds
    n = min(len(a), len(b))
    return speedup_interval(a[:n], b[:n])


def whole(
    way: Callable[[Machine, float, int], Interval], factor: float, noise: float, runs: int
) -> dict[str, str | float]:
    found = []
    for seed in range(runs):
        machine = Machine(seed, drift=DRIFT, drift_seconds=DRIFT_SECONDS, noise=noise, burst_share=BURST_SHARE)
        found.append(way(machine, factor, seed))
    return {
        "way": way.__name__,
        "slowdown": factor,
        "noise": noise,
        "truth_inside": sum(i.low <= 1 / factor <= i.high for i in found) / runs,
        "one_inside": sum(i.low <= 1 <= i.high for i in found) / runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    args = parser.parse_args()
    fixed = [fixed_size(n, args.runs) for n in (5, 7, 10, 20, 50)]
    for row in fixed:
        print(row)
    measurements = [
        whole(way, factor, noise, args.runs)
        for way in (interleaved, one_after_the_other)
        for factor in (1.0, 1.05)
        for noise in (0.005, 0.01, 0.03)
    ]
    for line in measurements:
        print(line)
    if args.output:
        args.output.write_text(json.dumps({"runs": args.runs, "fixed": fixed, "measurements": measurements}, indent=1))


if __name__ == "__main__":
    main()
