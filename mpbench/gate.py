"""The gate: is this run slower than the last ones? Verdicts per case and per speedup, by the rules of docs/gate.md.

Pure: saved runs in, verdicts out. Knows neither files nor pytest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import special

from mpbench.gate_rules import Rules
from mpbench.history import SavedCase, SavedRun, configuration
from mpbench.measure import paired
from mpbench.record import AccuracyRecord
from mpbench.statistics import Floats, Interval, trimmed_mean_error

ALPHA = 0.0003
"""One-sided level of SLOWER. A default run asks 30 questions, 2 for each of 12 cases and 6 of speedups: if nothing has
changed, one of them alarms in 0.9 % of runs at most."""

SAME_CONFIDENCE = 0.95
"""Of the interval that must lie within the threshold for SAME, and of the intervals shown."""

PRIOR_DEGREES = 12
"""Weight, in degrees of freedom, of what all cases say about how much runs differ, beside the few runs of one case."""

MIN_TIME_RUN_SD = 0.01
"""Least standard deviation that times of two runs are taken to have, on an idle machine."""

MIN_RATIO_RUN_SD = 0.003
"""The same for speedups: what slows a whole run cancels in them."""

MIN_RELATIVE_RUN_SD = 0.005
"""The same for times relative to the rest of the run: what slows all of it cancels, what slows a part does not."""

MIN_OTHERS = 4
"""Cases of other groups below which there is no rest of the run to relate to."""

USUAL_SHIFT_LEVEL = 0.05
"""Two-sided level at which the rest of the run has shifted unusually: it is then no yardstick."""

MIN_ROUNDS = 5
"""With fewer nothing is left to tell the spread from; no run of ours has fewer."""

PRIOR_FACTOR = 2.0
"""With a single earlier run nothing is known about how runs differ: this many times the least is assumed."""

SKIPPED_SHARE_RISE = 0.01
"""Rise of the share of steps that loss scaling dropped, above which it counts as one."""

SPEEDUP, RELATIVE = "speedup of ", " relative to the rest of the run"
FASTER, SAME, SLOWER, UNSURE = "FASTER", "SAME", "SLOWER", "UNSURE"
NEW, MISSING, NOT_COMPARABLE, FAILED = "NEW", "MISSING", "NOT COMPARABLE", "FAILED"


@dataclass(frozen=True)
class Verdict:
    """What is said about one case or speedup.

    Attributes:
        name: the case's full name, `speedup of ` or `accuracy of ` before it for these.
        kind: one of the constants above.
        red: whether it fails the gate.
        change: of the time or of the speedup, a fraction (0.05: 5 % more), with its 95 % interval; None without one.
        detail: in words, may be empty.
    """

    name: str
    kind: str
    red: bool
    change: Interval | None
    detail: str


@dataclass(frozen=True)
class _Level:
    """A run's figure as the mean of logarithms, the standard error of that mean, and how many rounds it has."""

    mean: float
    error: float
    rounds: int


@dataclass(frozen=True)
class _Question:
    """One figure of the new run and the same of earlier comparable runs; slower is `towards` +1 or -1."""

    name: str
    new: _Level
    earlier: Sequence[_Level]
    runs: tuple[Path, ...]
    towards: int
    threshold: float
    faster_threshold: float | None

    @property
    def shift(self) -> float:
        """Of the new run, in logarithms, from the median of the earlier ones.

        The median: neither a lucky run nor one that was slower already sets the bar.
        """
        return self.new.mean - float(np.median([e.mean for e in self.earlier]))

    @property
    def excess(self) -> float:
        """Variance between the earlier runs beyond that of their rounds; negative by chance."""
        return float(np.var([e.mean for e in self.earlier], ddof=1) - np.mean([e.error**2 for e in self.earlier]))


def judge(new: SavedRun, earlier: Iterable[SavedRun], rules: Rules) -> list[Verdict]:
    """Verdicts on a run.

    Args:
        new: the run to judge.
        earlier: other runs, in any order; of those before it with a case in the same configuration the last
            `rules.last` are the case's baseline.
        rules: thresholds.

    Returns:
        One for each case, each speedup and each accuracy comparison, and for each case that has vanished.
    """
    before = sorted((run for run in earlier if run.path != new.path and run.time <= new.time), key=lambda run: run.time)
    comparable = {name: _comparable(new, case, before) for name, case in new.cases.items()}
    times, ratios, verdicts = [], [], []
    for name, case in new.cases.items():
        if len(case.rounds) < MIN_ROUNDS:
            verdicts.append(Verdict(name, UNSURE, False, None, "too few rounds"))
            continue
        runs, differing = comparable[name]
        if not runs:
            verdicts.append(_without_baseline(name, differing))
            continue
        runs = runs[-rules.last :]
        slower, faster = rules.thresholds(name)
        levels = [_level(np.log(run.cases[name].rounds)) for run in runs]
        paths = tuple(run.path for run in runs)
        times.append(_Question(name, _level(np.log(case.rounds)), levels, paths, 1, slower, faster))
        ratio = _ratio(new, case)
        earlier_ratios = [r for run in runs if (r := _ratio(run, run.cases[name])) is not None]
        if ratio is not None and earlier_ratios:
            ratios.append(_Question(f"{SPEEDUP}{name}", ratio, earlier_ratios, paths, -1, slower, slower))
    relative = _relative(times, new)
    verdicts += _judged(times, MIN_TIME_RUN_SD)
    verdicts += _judged(relative, MIN_RELATIVE_RUN_SD)
    shifts = {question.name.removesuffix(RELATIVE): question.shift for question in [*times, *relative]}
    verdicts += [_blamed(verdict, shifts, new) for verdict in _judged(ratios, MIN_RATIO_RUN_SD)]
    verdicts += _missing(new, before, rules)
    verdicts += _skipped_steps(new, {name: runs[-rules.last :] for name, (runs, _) in comparable.items()})
    verdicts += _accuracy(new, before, rules)
    return verdicts


def is_red(verdicts: Iterable[Verdict]) -> bool:
    """Whether the gate fails."""
    return any(verdict.red for verdict in verdicts)


def _comparable(
    new: SavedRun, case: SavedCase, before: Sequence[SavedRun]
) -> tuple[list[SavedRun], dict[str, tuple[object, object]]]:
    """The runs with this case in this configuration; without any, the fields in which the last one differs."""
    wanted = configuration(new, case)
    name = case.fullname
    having = [run for run in before if name in run.cases and len(run.cases[name].rounds) >= MIN_ROUNDS]
    fitting = [run for run in having if configuration(run, run.cases[name]) == wanted]
    if fitting or not having:
        return fitting, {}
    last = configuration(having[-1], having[-1].cases[name])
    return [], {field: (last[field], wanted[field]) for field in wanted if last[field] != wanted[field]}


def _without_baseline(name: str, differing: Mapping[str, tuple[object, object]]) -> Verdict:
    if not differing:
        return Verdict(name, NEW, False, None, "no earlier run has it")
    fields = ", ".join(f"{field} {old} -> {now}" for field, (old, now) in differing.items())
    return Verdict(name, NOT_COMPARABLE, False, None, fields)


def _level(logs: Sequence[float] | Floats) -> _Level:
    mean, error = trimmed_mean_error(logs)
    return _Level(mean, error, len(logs))


def _ratio(run: SavedRun, case: SavedCase) -> _Level | None:
    """Level of the log speedup over the blocks that both precisions have a round of."""
    base = next((other for other in run.cases.values() if _is_baseline_of(other, case)), None)
    if base is None or case.record.speedup is None:
        return None
    logs = [math.log(theirs / mine) for mine, theirs in zip(*paired(case, base), strict=True)]
    return _level(logs) if len(logs) >= MIN_ROUNDS else None


def _is_baseline_of(other: SavedCase, case: SavedCase) -> bool:
    o, c = other.record, case.record
    return _group(other) == _group(case) and not o.control and o.precision == c.baseline and other is not case


def _judged(questions: Sequence[_Question], least_sd: float) -> list[Verdict]:
    """Verdicts on figures of one kind, which share what is known about how runs differ."""
    known = [(question.excess, len(question.earlier) - 1) for question in questions if len(question.earlier) > 1]
    degrees = sum(n for _, n in known)
    if degrees:
        pooled = max(sum(variance * n for variance, n in known) / degrees, least_sd**2)
    else:
        pooled = (PRIOR_FACTOR * least_sd) ** 2
    return [_verdict(question, pooled) for question in questions]


def _verdict(question: _Question, pooled: float) -> Verdict:
    new, earlier, count = question.new, question.earlier, len(question.earlier)
    own = max(question.excess, 0.0) if count > 1 else 0.0
    degrees = PRIOR_DEGREES + count - 1
    between = (PRIOR_DEGREES * pooled + (count - 1) * own) / degrees
    difference = question.shift
    of_median = (1.0 if count < 3 else math.pi / 2) / count  # its variance in units of one run's
    fixed = between * (1 + of_median) + of_median * float(np.mean([e.error**2 for e in earlier]))
    spread = math.sqrt(fixed + new.error**2)
    slowdown = question.towards * difference
    p_slower = float(special.stdtr(degrees, -slowdown / spread))
    p_faster = float(special.stdtr(degrees, slowdown / spread))
    wide = float(special.stdtrit(degrees, 0.5 + SAME_CONFIDENCE / 2))
    change = Interval(*(math.expm1(difference + side * wide * spread) for side in (0, -1, 1)))
    slower_edge = _edge(question.threshold, question.towards)
    faster_edge = _edge(question.faster_threshold or question.threshold, -question.towards)
    runs = f"against {count} run{'s' if count > 1 else ''}"
    if slowdown >= slower_edge and p_slower <= ALPHA:
        return Verdict(question.name, SLOWER, True, change, f"p {p_slower:.1g}, {runs}")
    if -slowdown >= faster_edge and p_faster <= ALPHA:
        red = question.faster_threshold is not None
        return Verdict(question.name, FASTER, red, change, f"p {p_faster:.1g}, {runs}")
    if slowdown + wide * spread < slower_edge and -slowdown + wide * spread < faster_edge:
        return Verdict(question.name, SAME, False, change, runs)
    # What would settle it: to be sure of a difference where there seems to be one, else of there being none.
    if slowdown >= slower_edge or -slowdown >= faster_edge:
        reach = abs(slowdown) / float(special.stdtrit(degrees, 1 - ALPHA))
    else:
        reach = min(slower_edge - slowdown, faster_edge + slowdown) / wide
    return Verdict(question.name, UNSURE, False, change, f"{_advice(new, reach**2 - fixed, between)}, {runs}")


def _edge(threshold: float, towards: int) -> float:
    """A threshold on the scale of logarithms: 3 % more time, or 3 % less speedup."""
    return math.log1p(threshold) if towards > 0 else -math.log1p(-threshold)


def _advice(new: _Level, room: float, between: float) -> str:
    if room <= 0:
        return f"no number of rounds would settle it: runs differ by {100 * math.sqrt(between):.1f} % from each other"
    needed = math.ceil(new.rounds * new.error**2 / room)
    return f"about {max(needed - new.rounds, 1)} more rounds would settle it (--mp-max-time)"


def _blamed(verdict: Verdict, shifts: Mapping[str, float], new: SavedRun) -> Verdict:
    """Who changed, where a speedup has: that it has is sure, whichever way; who has is told by their times.

    One slowing down shifts the mean of the two up, the other speeding up shifts it down: where it has risen, the slower
    one slowed down and the gate fails, whether that is the precision or its baseline.
    """
    if verdict.kind not in (SLOWER, FASTER):
        return verdict
    case = new.cases[verdict.name.removeprefix(SPEEDUP)]
    base = next(name for name, other in new.cases.items() if _is_baseline_of(other, case))
    slower, faster = (case.fullname, base) if verdict.kind == SLOWER else (base, case.fullname)
    if shifts.get(slower, 0.0) + shifts.get(faster, 0.0) > 0:
        return replace(verdict, kind=SLOWER, red=True, detail=f"{verdict.detail}: {slower} became slower")
    return replace(verdict, kind=FASTER, red=False, detail=f"{verdict.detail}: {faster} became faster")


def _relative(times: Sequence[_Question], new: SavedRun) -> list[_Question]:
    """Times relative to the rest of the run: each level less the median shift of the cases of other groups.

    A slow machine shifts all cases alike, and hides a slow case among them. Where the rest has shifted by more than
    runs usually do, though, it may be the rest that has changed: no question is asked then.
    """
    # Only cases that have the same earlier runs: shifts of one run are compared with each other.
    shared = Counter(question.runs for question in times).most_common(1)
    whole = [question for question in times if question.runs == shared[0][0]]
    levels = {q.name: [*(e.mean for e in q.earlier), q.new.mean] for q in whole}
    shifts = {name: np.array(means) - np.median(means[:-1]) for name, means in levels.items()}
    questions = []
    for question in whole:
        group = _group(new.cases[question.name])
        others = [shift for name, shift in shifts.items() if _group(new.cases[name]) != group]
        if len(others) < MIN_OTHERS:
            continue
        reference = np.median(others, axis=0)
        if _is_unusual(reference[-1], reference[:-1]):
            continue
        *earlier, now = [
            replace(level, mean=level.mean - float(shift))
            for level, shift in zip([*question.earlier, question.new], reference, strict=True)
        ]
        questions.append(replace(question, name=f"{question.name}{RELATIVE}", new=now, earlier=earlier))
    return questions


def _group(case: SavedCase) -> tuple[str, str, str, str]:
    """Equal for the precisions that were measured together."""
    r = case.record
    return case.fullname.partition("[")[0], r.model, r.variant, r.phase


def _is_unusual(now: float, earlier: Sequence[float] | Floats) -> bool:
    """Whether a shift of the rest of the run is beyond how earlier runs differ."""
    count = len(earlier)
    own = float(np.var(earlier, ddof=1)) if count > 1 else (PRIOR_FACTOR * MIN_TIME_RUN_SD) ** 2
    spread = math.sqrt(max(own, MIN_TIME_RUN_SD**2) * (1 + 1 / count))
    return abs(now) > float(special.stdtrit(max(count - 1, 1), 1 - USUAL_SHIFT_LEVEL / 2)) * spread


def _missing(new: SavedRun, before: Sequence[SavedRun], rules: Rules) -> list[Verdict]:
    """Cases of the last earlier run that this one lacks."""
    if not before:
        return []
    lost = [name for name in (*before[-1].cases, *before[-1].accuracy) if name not in {*new.cases, *new.accuracy}]
    return [Verdict(name, MISSING, rules.missing_fails, None, "the last run has it") for name in lost]


def _skipped_steps(new: SavedRun, earlier: Mapping[str, Sequence[SavedRun]]) -> list[Verdict]:
    verdicts = []
    for name, case in new.cases.items():
        shares = [_skipped_share(run.cases[name]) for run in earlier[name]]
        now = _skipped_share(case)
        if shares and now > max(shares) + SKIPPED_SHARE_RISE:
            detail = f"loss scaling dropped {now:.1%} of the steps, in earlier runs {max(shares):.1%} at most"
            verdicts.append(Verdict(f"skipped steps of {name}", FAILED, True, None, detail))
    return verdicts


def _skipped_share(case: SavedCase) -> float:
    skipped = case.record.skipped_steps
    return skipped / (skipped + len(case.rounds) * case.record.steps_per_round)


def _accuracy(new: SavedRun, before: Sequence[SavedRun], rules: Rules) -> list[Verdict]:
    verdicts = []
    for name, record in new.accuracy.items():
        label = f"accuracy of {name}"
        reasons = accuracy_problems(record)
        earlier = [run.accuracy[name] for run in before if name in run.accuracy]
        earlier = [other for other in earlier if _setting(other) == _setting(record)]
        if earlier:
            best = float(np.median([r.accuracy for r in earlier[-rules.last :]]))
            if record.accuracy < best - record.margin:
                reasons.append(f"accuracy fell from {best:.2%} to {record.accuracy:.2%}, by more than the margin")
        verdicts.append(
            Verdict(label, FAILED, True, None, "; ".join(reasons))
            if reasons
            else Verdict(label, SAME if earlier else NEW, False, None, f"McNemar p {record.mcnemar_exact_p:.3f}")
        )
    return verdicts


def accuracy_problems(record: AccuracyRecord) -> list[str]:
    """The assertions that a comparison's record fails, in words."""
    problems = []
    if record.unlearned:
        problems.append(f"{' and '.join(record.unlearned)} does not beat the most frequent class")
    if record.differs:
        problems.append(f"McNemar p {record.mcnemar_exact_p:.2g} is not above {record.alpha:g}")
    if record.require_equivalence and not record.equivalent:
        margin = f"{100 * record.margin:g} points"
        problems.append(f"not shown to be equivalent within {margin} (p {record.equivalence_p:.2g})")
    return problems


def _setting(r: AccuracyRecord) -> tuple[object, ...]:
    inputs = r.data_digest, r.weights, r.preprocessing, r.image_size, r.batch_size, r.profile
    return *inputs, r.device, r.baseline, r.precision
