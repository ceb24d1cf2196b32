"""How often a speedup's interval holds the truth, on simulated machines with the noise that real ones have.

Whole measurements with the real rules for visits and stopping, of a step against itself, and, where all drifts alike,
of one 5 % slower. A measurement counts as right if the truth is inside the interval or the case says that its figure is
not to be trusted (NOISY, DRIFTING).

    python results/coverage/coverage.py [-o FILE] [--runs N]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mpbench.engine.interleave import Arm, measure
from mpbench.engine.stopping import Plan, Series
from mpbench.stats.intervals import mean_interval

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
from simulation import STEP_SECONDS, Machine, Noise

STEADY_SECONDS = 0.11
"""One such step is a round of the usual length."""

Arms = Callable[[Machine], list[Arm]]


def pair(*noises: Noise) -> Arms:
    return lambda machine: [
        machine.arm(name, STEADY_SECONDS, noise=noise) for name, noise in zip("ab", noises, strict=True)
    ]


def speeding_up(machine: Machine) -> list[Arm]:
    """One arm still speeds up by 20 % within 30 s, counted from the first step."""
    return [
        machine.arm("a", STEADY_SECONDS, noise=Noise(sd=0.005)),
        machine.arm("b", lambda step: STEADY_SECONDS * (1.2 - 0.2 * min(machine.now / 30, 1)), noise=Noise(sd=0.005)),
    ]


def slower_from_a_moment_on(machine: Machine) -> list[Arm]:
    """One arm is 10 % slower from the 5th second on."""
    return [
        machine.arm("a", STEADY_SECONDS, noise=Noise(sd=0.005)),
        machine.arm("b", lambda step: STEADY_SECONDS * (1.1 if machine.now > 5 else 1.0), noise=Noise(sd=0.005)),
    ]


SWITCHING = {"switching": 0.1, "switching_seconds": 3.0}
WAVE = {"wave": 0.05, "wave_seconds": 20.0}

NOISES: dict[str, tuple[Arms, dict[str, float]]] = {
    **{f"independent, {sd:.1%}": (pair(Noise(sd), Noise(sd)), {}) for sd in (0.003, 0.01, 0.03)},
    **{
        f"AR(1) {memory} in each arm, {sd:.0%}": (pair(Noise(sd, memory), Noise(sd, memory)), {})
        for memory in (0.5, 0.9)
        for sd in (0.01, 0.03)
    },
    **{f"AR(1) 0.9 in one arm, {sd:.0%}": (pair(Noise(sd, 0.9), Noise(sd)), {}) for sd in (0.01, 0.03)},
    **{
        f"clock switching by 10 % every 3 s, one arm feels 40 %, {sd:.1%}": (
            pair(Noise(sd, feels=1.0), Noise(sd, feels=0.4)),
            SWITCHING,
        )
        for sd in (0.003, 0.01)
    },
    **{
        f"a wave of 5 % and 20 s, one arm feels 40 %, {sd:.1%}": (
            pair(Noise(sd, feels=1.0), Noise(sd, feels=0.4)),
            WAVE,
        )
        for sd in (0.003, 0.01)
    },
    "one arm speeds up by 20 % in 30 s": (speeding_up, {}),
    "one arm 10 % slower from 5 s on": (slower_from_a_moment_on, {}),
    "both drift by 20 %, bursts": (pair(Noise(0.01), Noise(0.01)), {"drift": 0.2, "burst_share": 0.05}),
}

PLANS = {"1 %, 60 s": Plan(60.0, 0.01), "1 %, 30 s": Plan(30.0, 0.01), "5 %, 20 s": Plan(20.0, 0.05)}


def fixed_size(n: int, runs: int) -> dict[str, float]:
    """Independent values, so many of them: how often the interval alone holds their mean."""
    rng, inside = np.random.default_rng(n), 0
    for _ in range(runs):
        interval = mean_interval(rng.normal(0, 1, n))
        inside += interval.low <= 0 <= interval.high
    return {"n": n, "inside": inside / runs}


def whole(name: str, plan: str, runs: int) -> dict[str, str | float]:
    """A step against itself."""
    arms, facts = NOISES[name]
    found: list[Series] = []
    for seed in range(runs):
        machine = Machine(seed, **facts)
        found.append(measure(arms(machine), PLANS[plan], baseline="a", clock=machine.clock, seed=seed)["b"])
    inside = [s.speedup is not None and s.speedup.low <= 1 <= s.speedup.high for s in found]
    return {
        "noise": name,
        "tolerance, limit": plan,
        "inside": sum(inside) / runs,
        "inside or said to be doubtful": sum(i or s.noisy for i, s in zip(inside, found, strict=True)) / runs,
        "noisy": sum(s.noisy for s in found) / runs,
        "of these drifting": sum(s.drift is not None for s in found) / runs,
        "blocks": sum(len(s.rounds) for s in found) / runs,
    }


def five_percent_slower(runs: int) -> dict[str, float]:
    """How often a step that is 5 % slower is told from its baseline while the machine drifts."""
    told = 0
    for seed in range(runs):
        machine = Machine(seed, drift=0.2, drift_seconds=10.0, noise=0.01, burst_share=0.05)
        arms = [machine.arm("a"), machine.arm("b", STEP_SECONDS * 1.05)]
        speedup = measure(arms, Plan(30.0), baseline="a", clock=machine.clock, seed=seed)["b"].speedup
        told += speedup is not None and speedup.high < 1
    return {"told": told / runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    args = parser.parse_args()
    fixed = [fixed_size(n, 10 * args.runs) for n in (5, 6, 8, 10, 20, 30, 50)]
    print(*fixed, sep="\n")
    slower = five_percent_slower(args.runs)
    print("5 % slower:", slower)
    rows = []
    for plan in PLANS:
        for name in NOISES:
            rows.append(whole(name, plan, args.runs))
            print({key: round(one, 3) if isinstance(one, float) else one for key, one in rows[-1].items()}, flush=True)
    result = {"runs": args.runs, "fixed": fixed, "5 % slower": slower, "measurements": rows}
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
