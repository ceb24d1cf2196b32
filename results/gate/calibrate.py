"""How often the gate is wrong: whole runs without a change, and runs with one case 5 % slower.

    python results/gate/calibrate.py [-o FILE]                         # simulated from results/gate/run-cpu.json
    python results/gate/calibrate.py --levels [-o FILE]                # machines whose cases have levels of their own
    python results/gate/calibrate.py --real results/gate/aa/*.json     # A/A runs of a real machine

Simulated runs draw whole blocks of a recorded run with replacement, so that what precisions of a block share stays
shared. Each run gets a speed of its own, each group a drift within it (SCENARIOS says how much of both), each case a
lasting offset (sd 0.3 %), and 5 % of the rounds a burst (30 % on average). The last run is judged against those before.
Real runs: each from the sixth on is judged against all before it, as it is and, for each of its cases, with that case's
rounds multiplied by 1.05 (--slower).
With --levels every process draws for each of 24 cases which kernels it happens to get (LEVELS says how), and the runs
that are suspected are measured again in two more processes.
The rules of others judge the same runs: pytest-benchmark's `--benchmark-compare-fail=median:5%` against the last run,
asv's (Mann-Whitney p < 0.002 and a factor of 1.1) and nvbench's (intervals apart and centres 0.5 % apart; here the
quartiles), each per case.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from scipy import stats

from mpbench.gate.judge import assess, judge
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Figure, Verdict, is_red
from mpbench.records.measured import Measured
from mpbench.records.runs import SavedRun, read_run
from mpbench.records.speed import SpeedCase, SpeedRecord

HERE = Path(__file__).parent
FIRST_JUDGED = 5
CASE_SD, BURST_SHARE, BURST_MEAN = 0.003, 0.05, 0.3
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Scenario:
    """A machine, and what is run on it.

    Attributes:
        run_sd, drift: how much faster or slower a whole run is; how far a group drifts within it at most.
        longer: how many times longer it is than the recorded run.
        earlier: runs before it.
        models: those that are run; None: all.
        rounds: of each case, in place of `longer` times the recorded ones.
    """

    run_sd: float
    drift: float
    longer: int
    earlier: int = 5
    models: tuple[str, ...] | None = None
    rounds: int | None = None

    @property
    def device(self) -> str:
        """A steady machine stands for a GPU: on a CPU times are no evidence."""
        return "gpu" if (self.run_sd, self.drift) == STEADY else "cpu"


STEADY, BUSY = (0.005, 0.01), (0.02, 0.05)
SCENARIOS = {
    "steady machine, figures good to 1 %": Scenario(*STEADY, 20),
    "the same, 1 earlier run": Scenario(*STEADY, 20, earlier=1),
    "the same, 2 earlier runs": Scenario(*STEADY, 20, earlier=2),
    "the same, 3 earlier runs": Scenario(*STEADY, 20, earlier=3),
    "the same, one model": Scenario(*STEADY, 20, models=("inception_v3",)),
    "busy CPU, 20 times the rounds": Scenario(*BUSY, 20),
    "the same, one model, 1 earlier run": Scenario(*BUSY, 20, earlier=1, models=("inception_v3",)),
    "busy CPU, as recorded": Scenario(*BUSY, 1),
    "busy CPU, 8 rounds": Scenario(*BUSY, 1, rounds=8),
    "busy CPU, 8 rounds, 1 earlier run": Scenario(*BUSY, 1, earlier=1, rounds=8),
}
"""Recorded at --mp-max-time=20 on a CPU most cases end NOISY; 20 times the rounds bring them to +-1 %."""

HISTORIES = (5, 10, 20)
AGAIN, NEXT_RUNS = 2, 5
MODELS, LEVEL_ROUNDS, LEVEL_NOISE = 12, 30, 0.005
"""Of a machine with levels: models of two precisions each, and the rounds of a case, which differ by so much."""


@dataclass(frozen=True)
class Levels:
    """How a machine's cases differ from process to process, beside a run's speed (sd 0.5 %) and a case's own (0.3 %).

    Attributes:
        cases: share of the cases that have two levels, or their number.
        gap: between the two, drawn evenly for each case.
        rare: probability of the second one, which is the slower or the faster.
        memory, sd: of an AR(1) process over the runs, of each case by itself.
    """

    cases: float = 0
    gap: tuple[float, float] = (0.03, 0.06)
    rare: float = 0.5
    memory: float = 0.0
    sd: float = 0.0


LEVELS = {
    "steady": Levels(),
    "a quarter at two levels, half and half": Levels(0.25),
    "a quarter at two levels, one in ten": Levels(0.25, rare=0.1),
    "one case of 24 at two levels, half and half": Levels(1),
    "one case of 24 at two levels, one in ten": Levels(1, rare=0.1),
    "all at two levels 1 to 3 % apart": Levels(1.0 - 1e-9, gap=(0.01, 0.03)),
    "all at two levels 1 to 3 % apart, one in ten": Levels(1.0 - 1e-9, gap=(0.01, 0.03), rare=0.1),
    "AR(1) 0.5 of 1 %": Levels(memory=0.5, sd=0.01),
    "AR(1) 0.9 of 1 %": Levels(memory=0.9, sd=0.01),
    "AR(1) 0.5 of 2 %": Levels(memory=0.5, sd=0.02),
    "AR(1) 0.9 of 2 %": Levels(memory=0.9, sd=0.02),
}

Rule = Callable[[SpeedCase, SpeedCase], bool]


class LevelledMachine:
    """One process after the other on such a machine."""

    def __init__(self, how: Levels, rng: np.random.Generator) -> None:
        self._how, self.rng, self._number = how, rng, 0
        n = 2 * MODELS
        count = int(how.cases) if how.cases >= 1 else round(how.cases * n)
        self._two = np.zeros(n)
        chosen = rng.permutation(n)[:count]
        self._two[chosen] = rng.uniform(*how.gap, count) * rng.choice([-1, 1], count)
        self._wandering = rng.normal(0, how.sd, n)
        self._ms = rng.uniform(50, 500, MODELS)

    def state(self) -> np.ndarray:
        """How its cases wander now."""
        return self._wandering.copy()

    def back_to(self, state: np.ndarray) -> None:
        self._wandering = state.copy()

    def process(
        self, factors: dict[str, float] | None = None, only: set[str] | None = None, confirms: str = ""
    ) -> SavedRun:
        """What the next process measures."""
        rng, how = self.rng, self._how
        offsets = rng.normal(0, STEADY[0]) + rng.normal(0, CASE_SD, self._two.size)
        offsets = offsets + self._two * (rng.random(self._two.size) < how.rare) + self._wandering
        self._wandering = how.memory * self._wandering + math.sqrt(1 - how.memory**2) * rng.normal(
            0, how.sd, self._two.size
        )
        cases = {}
        for model, ms in enumerate(self._ms):
            shared = rng.normal(0, LEVEL_NOISE, LEVEL_ROUNDS)
            for arm, precision in enumerate(("float32", "mixed_float16")):
                name = f"bench/test_training.py::test_training[model{model}-{precision}]"
                if only is not None and name not in only:
                    continue
                own = shared + rng.normal(0, LEVEL_NOISE / 2, LEVEL_ROUNDS) + offsets[2 * model + arm]
                seconds = ms / 1000 * (0.6 if arm else 1.0) * np.exp(own) * (factors or {}).get(name, 1.0)
                cases[name] = Measured(_record(f"model{model}", precision), tuple(seconds), name)
        self._number += 1
        number = self._number
        time = START + timedelta(days=number)
        id = "" if confirms else str(number)
        return SavedRun(
            Path(f"{number}.json"), time, f"{number:040x}", False, "main", {}, cases, {}, id=id, confirms=confirms
        )


def _record(model: str, precision: str) -> SpeedRecord:
    ratio = 1.6 if precision != "float32" else None
    return SpeedRecord(
        model=model, precision=precision, phase="training", variant="", control=False, device="gpu", device_name="GPU",
        profile="paper", batch_size=64, image_size=224, jit=True, tf32=False, parameters=1, images_per_second=1.0,
        first_step_seconds=1.0, loss_scale=None, skipped_steps=0, warmup_skipped_steps=0, peak_memory_bytes=1,
        memory_kind="device", warmup_rounds=5, warmup_settled=True, rounds=LEVEL_ROUNDS, steps_per_round=1,
        unpaired_blocks="", noisy=False, baseline="float32" if ratio else None, speedup=ratio, speedup_low=ratio,
        speedup_high=ratio,
    )  # fmt: skip


def judged_with_levels(seed: int, how: Levels, earlier: int, slowdown: float) -> list[dict[str, bool]]:
    """After one history, several next runs: each unchanged and with a slow case, judged by itself and after what is
    suspected has been measured again."""
    machine = LevelledMachine(how, np.random.default_rng(seed))
    runs = [machine.process() for _ in range(earlier)]
    then = machine.state()
    results = []
    for _ in range(NEXT_RUNS):
        result = {}
        name = str(machine.rng.choice(list(runs[0].cases)))
        for figure, factors in (("false_alarms", {}), ("slowdowns_found", {name: slowdown})):
            machine.back_to(then)
            new = machine.process(factors)
            verdicts, again = assess(new, runs, Rules())
            if not again and is_red(verdicts):
                raise AssertionError("red, but no suspect")
            result[f"{figure}_alone"] = name in _named(verdicts) if factors else is_red(verdicts)
            if again:
                confirming = [machine.process(factors, set(again), new.id) for _ in range(AGAIN)]
                verdicts, _ = assess(new, [*runs, *confirming], Rules())
            result[figure] = name in _named(verdicts) if factors else is_red(verdicts)
            result.setdefault("measured_again", bool(again))
        results.append(result)
    return results


def _named(verdicts: list[Verdict]) -> str:
    """Whom the red ones blame: a time's own name, what a speedup's detail says of its two cases."""
    return " ".join(_whom(verdict) for verdict in verdicts if verdict.red)


def _whom(verdict: Verdict) -> str:
    return verdict.detail if verdict.figure in (Figure.SPEEDUP, Figure.SPEEDUP_CREEP) else verdict.name


def with_levels(runs: int, slowdown: float, only: str) -> dict[str, dict[str, float]]:
    result = {}
    with ProcessPoolExecutor() as pool:
        for name, how in LEVELS.items():
            for earlier in HISTORIES:
                if only not in f"{name}, {earlier} earlier runs":
                    continue
                histories = range(-(-runs // NEXT_RUNS))
                jobs = [pool.submit(judged_with_levels, seed, how, earlier, slowdown) for seed in histories]
                outcomes = [one for job in jobs for one in job.result()]
                cell = {figure: round(float(np.mean([one[figure] for one in outcomes])), 4) for figure in outcomes[0]}
                result[f"{name}, {earlier} earlier runs"] = {"judged": len(outcomes), **cell}
                print(name, earlier, cell, flush=True)
    return result


def simulated(
    recorded: SavedRun, rng: np.random.Generator, number: int, how: Scenario, changed: str = "", factor: float = 1.0
) -> SavedRun:
    """A run as the recorded one might have gone at another time, on that machine; one case's times multiplied."""
    speed = np.exp(rng.normal(0, how.run_sd))
    cases: dict[str, SpeedCase] = {}
    draws: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
    for name, case in recorded.cases.items():
        r = case.record
        group = (r.model, r.phase, r.variant)
        count = how.rounds or how.longer * len(case.rounds)
        if group not in draws:
            drift = np.linspace(0, rng.uniform(-how.drift, how.drift), count)
            draws[group] = rng.integers(0, len(case.rounds), count), np.exp(drift)
        picks, drifting = draws[group]
        bursts = np.where(rng.random(count) < BURST_SHARE, 1 + rng.exponential(BURST_MEAN, count), 1)
        rounds = np.array(case.rounds)[picks] * drifting * bursts * speed * np.exp(rng.normal(0, CASE_SD))
        cases[name] = replace(case, rounds=tuple(rounds), record=replace(r, unpaired_blocks="", device=how.device))
    run = replace(recorded, path=Path(f"{number}.json"), time=START + timedelta(days=number), cases=cases)
    return with_factor(run, changed, factor) if changed else run


def with_factor(run: SavedRun, name: str, factor: float) -> SavedRun:
    """The run with one case's rounds multiplied."""
    case = run.speed[name]
    return replace(run, cases=run.speed | {name: replace(case, rounds=tuple(factor * r for r in case.rounds))})


def median_rule(new: SpeedCase, old: SpeedCase) -> bool:
    return bool(np.median(new.rounds) > 1.05 * np.median(old.rounds))


def asv_rule(new: SpeedCase, old: SpeedCase) -> bool:
    p = stats.mannwhitneyu(new.rounds, old.rounds).pvalue
    return bool(p < 0.002 and np.median(new.rounds) > 1.1 * np.median(old.rounds))


def nvbench_rule(new: SpeedCase, old: SpeedCase) -> bool:
    apart = np.quantile(new.rounds, 0.25) > np.quantile(old.rounds, 0.75)
    return bool(apart and np.median(new.rounds) > 1.005 * np.median(old.rounds))


OTHERS: dict[str, Rule] = {"median:5%": median_rule, "asv": asv_rule, "nvbench": nvbench_rule}


def outcomes(new: SavedRun, earlier: list[SavedRun]) -> tuple[dict[str, bool], dict[str, set[str]]]:
    """By rule: whether the run is red, and the cases that it names; a speedup names both of its cases or one."""
    verdicts = judge(new, earlier, Rules())
    red = {"mpbench": is_red(verdicts)}
    texts = _named(verdicts)
    named = {"mpbench": {name for name in new.speed if name in texts}}
    last = earlier[-1]
    for rule, slower in OTHERS.items():
        named[rule] = {n for n, case in new.speed.items() if n in last.cases and slower(case, last.cases[n])}
        red[rule] = bool(named[rule])
    return red, named


class Tally:
    """Counts by rule, as shares."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, list[bool]]] = {}

    def add(self, figure: str, by_rule: dict[str, bool]) -> None:
        for rule, yes in by_rule.items():
            self._counts.setdefault(rule, {}).setdefault(figure, []).append(yes)

    def shares(self) -> dict[str, dict[str, float]]:
        return {
            rule: {"judged": len(figures["false_alarms"])}
            | {figure: round(float(np.mean(found)), 4) for figure, found in figures.items()}
            for rule, figures in self._counts.items()
        }


def simulate(recorded: SavedRun, runs: int, how: Scenario, slowdown: float) -> dict[str, dict[str, float]]:
    cases = {n: c for n, c in recorded.cases.items() if not how.models or c.record.model in how.models}
    recorded, tally = replace(recorded, cases=cases), Tally()
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        earlier = [simulated(recorded, rng, number, how) for number in range(how.earlier)]
        number, name = how.earlier, list(cases)[seed % len(cases)]
        tally.add("false_alarms", outcomes(simulated(recorded, rng, number, how), earlier)[0])
        slow = simulated(recorded, rng, number, how, name, slowdown)
        _, named = outcomes(slow, earlier)
        tally.add("slowdowns_found", {rule: name in cases for rule, cases in named.items()})
        again = simulated(recorded, rng, number + 1, how, name, slowdown)
        _, named = outcomes(again, [*earlier, slow])
        tally.add("found_again_in_the_next_run", {rule: name in cases for rule, cases in named.items()})
        tally.add(
            "improvements_failed",
            outcomes(simulated(recorded, rng, number, how, name, 1 / slowdown), earlier)[0],
        )
    return tally.shares()


def real(paths: list[Path], slowdown: float) -> dict[str, dict[str, float]]:
    """Each run from the sixth on against those before it."""
    runs = sorted((read_run(path) for path in paths), key=lambda run: run.time)
    tally = Tally()
    for i in range(FIRST_JUDGED, len(runs)):
        tally.add("false_alarms", outcomes(runs[i], runs[:i])[0])
        for name in runs[i].cases:
            _, named = outcomes(with_factor(runs[i], name, slowdown), runs[:i])
            tally.add("slowdowns_found", {rule: name in cases for rule, cases in named.items()})
    return tally.shares()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, default=HERE / "run-cpu.json")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--slower", type=float, default=5.0, metavar="PERCENT", help="of the slow case (5)")
    parser.add_argument("--real", type=Path, nargs="+", metavar="RUN.json")
    parser.add_argument("--levels", action="store_true")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="with --levels: the scenarios with them in their name"
    )
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    slowdown = 1 + args.slower / 100
    if args.real:
        result = real(args.real, slowdown)
    elif args.levels:
        result = with_levels(args.runs, slowdown, args.only)
    else:
        recorded = read_run(args.recorded)
        result = {f"{name}: {rule}": figures for name, how in SCENARIOS.items() for rule, figures in
                  simulate(recorded, args.runs, how, slowdown).items()}  # fmt: skip
    for rule, figures in result.items():
        print(rule, " ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
