"""How often the gate is wrong: whole runs without a change, and runs with one case 5 % slower.

    python results/gate/calibrate.py [-o FILE]                              # simulated from results/gate/run-cpu.json
    python results/gate/calibrate.py --real results/gate/aa/*.json          # A/A runs of a real machine

Simulated runs draw whole blocks of a recorded run with replacement, so that what precisions of a block share stays
shared. Each run gets a speed of its own, each group a drift within it (MACHINES says how much of both), each case a
lasting offset (sd 0.3 %), and 5 % of the rounds a burst (30 % on average). Five runs are the baseline, the sixth is
judged.
The rules of others judge the same runs: pytest-benchmark's `--benchmark-compare-fail=median:5%` against the last run,
asv's (Mann-Whitney p < 0.002 and a factor of 1.1) and nvbench's (intervals apart and centres 0.5 % apart; here the
quartiles), each per case.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from scipy import stats

from mpbench.gate import SPEEDUP, is_red, judge
from mpbench.gate_rules import Rules
from mpbench.history import SavedCase, SavedRun, read_run

HERE = Path(__file__).parent
BASELINE_RUNS = 5
SLOWDOWN = 1.05
CASE_SD, BURST_SHARE, BURST_MEAN = 0.003, 0.05, 0.3
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Machine:
    """How much faster or slower a whole run is (sd), how far a group drifts within it, how many times longer it is."""

    run_sd: float
    drift: float
    longer: int


MACHINES = {
    "busy CPU, as recorded": Machine(0.02, 0.05, 1),
    "busy CPU, 20 times the rounds": Machine(0.02, 0.05, 20),
    "steady, 20 times the rounds": Machine(0.005, 0.01, 20),
}
"""Recorded at --mp-max-time=20 on a CPU most cases end NOISY; 20 times the rounds bring them to +-1 %."""

Rule = Callable[[SavedCase, SavedCase], bool]


def simulated(
    recorded: SavedRun, rng: np.random.Generator, number: int, machine: Machine, changed: str = "", factor: float = 1.0
) -> SavedRun:
    """A run as the recorded one might have gone at another time, on that machine; one case's times multiplied."""
    speed = np.exp(rng.normal(0, machine.run_sd))
    cases: dict[str, SavedCase] = {}
    draws: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
    for name, case in recorded.cases.items():
        r = case.record
        group = (r.model, r.phase, r.variant)
        count = machine.longer * len(case.rounds)
        if group not in draws:
            drift = np.linspace(0, rng.uniform(-machine.drift, machine.drift), count)
            draws[group] = rng.integers(0, len(case.rounds), count), np.exp(drift)
        picks, drifting = draws[group]
        bursts = np.where(rng.random(count) < BURST_SHARE, 1 + rng.exponential(BURST_MEAN, count), 1)
        rounds = np.array(case.rounds)[picks] * drifting * bursts * speed * np.exp(rng.normal(0, CASE_SD))
        rounds = rounds * factor if name == changed else rounds
        cases[name] = replace(case, rounds=tuple(rounds), record=replace(r, unpaired_blocks=""))
    return replace(recorded, path=Path(f"{number}.json"), time=START + timedelta(days=number), cases=cases)


def median_rule(new: SavedCase, old: SavedCase) -> bool:
    return bool(np.median(new.rounds) > 1.05 * np.median(old.rounds))


def asv_rule(new: SavedCase, old: SavedCase) -> bool:
    p = stats.mannwhitneyu(new.rounds, old.rounds).pvalue
    return bool(p < 0.002 and np.median(new.rounds) > 1.1 * np.median(old.rounds))


def nvbench_rule(new: SavedCase, old: SavedCase) -> bool:
    apart = np.quantile(new.rounds, 0.25) > np.quantile(old.rounds, 0.75)
    return bool(apart and np.median(new.rounds) > 1.005 * np.median(old.rounds))


OTHERS: dict[str, Rule] = {"median:5%": median_rule, "asv": asv_rule, "nvbench": nvbench_rule}


def outcomes(new: SavedRun, earlier: list[SavedRun]) -> tuple[dict[str, bool], dict[str, set[str]]]:
    """By rule: whether the run is red, and the cases that it names."""
    verdicts = judge(new, earlier, Rules())
    red = {"mpbench": is_red(verdicts)}
    blamed = [v.detail.rpartition(": ")[2] if v.name.startswith(SPEEDUP) else v.name for v in verdicts if v.red]
    named = {"mpbench": {name for name in new.cases if any(name in text for text in blamed)}}
    last = earlier[-1]
    for rule, slower in OTHERS.items():
        named[rule] = {name for name, case in new.cases.items() if slower(case, last.cases[name])}
        red[rule] = bool(named[rule])
    return red, named


def simulate(recorded: SavedRun, runs: int, machine: Machine) -> dict[str, dict[str, float]]:
    alarms: dict[str, int] = dict.fromkeys(["mpbench", *OTHERS], 0)
    found, blamed, faster = dict(alarms), dict(alarms), dict(alarms)
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        earlier = [simulated(recorded, rng, number, machine) for number in range(BASELINE_RUNS)]
        red, _ = outcomes(simulated(recorded, rng, BASELINE_RUNS, machine), earlier)
        slow = list(recorded.cases)[seed % len(recorded.cases)]
        _, named = outcomes(simulated(recorded, rng, BASELINE_RUNS, machine, slow, SLOWDOWN), earlier)
        good, _ = outcomes(simulated(recorded, rng, BASELINE_RUNS, machine, slow, 1 / SLOWDOWN), earlier)
        for rule in alarms:
            alarms[rule] += red[rule]
            found[rule] += slow in named[rule]
            blamed[rule] += bool(named[rule] - {slow})
            faster[rule] += good[rule]
    return {
        rule: {
            "false_alarms": alarms[rule] / runs,
            "slowdowns_found": found[rule] / runs,
            "others_blamed": blamed[rule] / runs,
            "improvements_failed": faster[rule] / runs,
        }
        for rule in alarms
    }


def real(paths: list[Path]) -> dict[str, dict[str, float]]:
    """Each run from the sixth on against the five before it."""
    runs = sorted((read_run(path) for path in paths), key=lambda run: run.time)
    alarms: dict[str, int] = dict.fromkeys(["mpbench", *OTHERS], 0)
    judged = range(BASELINE_RUNS, len(runs))
    for i in judged:
        red, _ = outcomes(runs[i], runs[i - BASELINE_RUNS : i])
        for rule in alarms:
            alarms[rule] += red[rule]
    return {rule: {"judged": len(judged), "false_alarms": count / len(judged)} for rule, count in alarms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, default=HERE / "run-cpu.json")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--real", type=Path, nargs="+", metavar="RUN.json")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    if args.real:
        result = real(args.real)
    else:
        recorded = read_run(args.recorded)
        result = {f"{name}: {rule}": figures for name, machine in MACHINES.items() for rule, figures in
                  simulate(recorded, args.runs, machine).items()}  # fmt: skip
    for rule, figures in result.items():
        print(rule, " ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
