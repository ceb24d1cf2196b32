"""How often a history shows a step that is none, and how often one of 5 % is found: simulated series of runs.

    python results/history/steps.py [-o results/history/steps.json]

Noise is independent, or stays for a while: an AR(1) process, or two levels 4 % apart between which runs switch. A step
is found if one is shown within two runs of where it is.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from mpbench.stats.change_points import change_points

STEP, NEAR = 0.05, 2
LENGTHS = (20, 40, 60, 120)
SERIES = {
    "independent, 1 %": {"sd": 0.01},
    "independent, 2 %": {"sd": 0.02},
    "AR(1) 0.5, 1 %": {"sd": 0.01, "memory": 0.5},
    "AR(1) 0.5, 2 %": {"sd": 0.02, "memory": 0.5},
    "AR(1) 0.8, 1 %": {"sd": 0.01, "memory": 0.8},
    "two levels 4 % apart, half and half": {"sd": 0.005, "gap": 0.04, "switch": 0.5},
    "two levels 4 % apart, switching in 1 of 3 runs": {"sd": 0.005, "gap": 0.04, "switch": 1 / 3},
    "two levels 4 % apart, switching in 1 of 5 runs": {"sd": 0.005, "gap": 0.04, "switch": 0.2},
}


def drawn(
    rng: np.random.Generator, n: int, sd: float, memory: float = 0.0, gap: float = 0.0, switch: float = 0.5
) -> np.ndarray:
    x = rng.normal(0, sd, n)
    for i in range(1, n):
        x[i] = memory * x[i - 1] + math.sqrt(1 - memory**2) * x[i]
    level = (rng.integers(2) + np.cumsum(rng.random(n) < switch)) % 2
    return 0.15 * np.exp(x + gap * level)


def shares(how: dict[str, float], n: int, count: int) -> dict[str, float]:
    rng = np.random.default_rng(n)
    false = found = 0
    for _ in range(count):
        false += bool(change_points(drawn(rng, n, **how)))
        values, at = drawn(rng, n, **how), int(rng.integers(n // 4, n - n // 4))
        values[at:] *= 1 + STEP
        found += any(abs(step.index - at) <= NEAR for step in change_points(values))
    return {"series": count, "with_a_false_step": false / count, "step_found": found / count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=400)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    result = {}
    for name, how in SERIES.items():
        for n in LENGTHS:
            result[f"{name}, {n} runs"] = cell = shares(how, n, args.series)
            print(f"{name}, {n} runs:", " ".join(f"{figure} {value:.3g}" for figure, value in cell.items()), flush=True)
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
