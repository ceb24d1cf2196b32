"""What a case writes into pytest-benchmark's JSON, and how it is read back: names, types and a schema version.

Everything right of the measurement (tables, and later history, gate and report) reads these records only. Flat and
small: numbers, names and flags, never tensors or lists; of a comparison a few tiny images, as text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np

from mpbench.engine.interleave import Judged
from mpbench.stats.intervals import Interval

SCHEMA = 1
SCHEMA_KEY = "mpbench_schema"
ACCURACY_SCHEMA = 1
ACCURACY_SCHEMA_KEY = "mpbench_accuracy_schema"


@dataclass(frozen=True)
class CaseRecord:
    """One case, as saved in `extra_info`.

    Attributes:
        model, precision, phase: what was measured.
        variant: what tells its group from another of the same model and phase; usually empty.
        control: a second, identical baseline arm.
        device, device_name: `gpu` or `cpu`; what TensorFlow calls it.
        profile, batch_size, image_size: as run; image_size in pixels.
        jit, tf32: whether XLA compiled the step; whether TF32 was allowed, on a device that has it.
        parameters: weights of the model with its head.
        images_per_second: at the median round.
        first_step_seconds: tracing, compiling and the first run.
        loss_scale: at the end; None without loss scaling.
        skipped_steps, warmup_skipped_steps: updates that loss scaling dropped, in measured rounds and before.
        peak_memory_bytes, memory_kind: `device` (allocator) or `host_rss` (the whole process's resident set).
        warmup_rounds, warmup_settled: rounds dropped before the first; whether the series had become stationary.
        rounds, steps_per_round: figures kept, and steps behind each.
        unpaired_blocks: numbers of the blocks that left no round, comma-separated; the others number the rounds.
        noisy: the time limit came before the interval was within the tolerance.
        baseline: name of the precision that the speedup refers to; None for the baseline itself.
        speedup, speedup_low, speedup_high: baseline's time over this one's, with its 95 % interval; where their batches
            differ, of the time per image.
        point: of a sweep, as its label, such as `batch=8`; empty where nothing was swept.
        others_cpu_share: of all cores' time, what others used while the group was measured; None where unknown.
        way: how its precision was run where a group runs it in several ways, such as `jit=on` or `replicas=2`.
        replicas: copies of the model that share the work of a step, each with a batch of batch_size.
        layout: of images, as Keras has it: `channels_last` (NHWC) or `channels_first`; the framework may transpose.
        trace_seconds: of first_step_seconds, tracing in Python.
        compile_seconds: of first_step_seconds, the first run beyond a later step: graph optimisation, XLA, autotuning.
        reference: the way that reference_ratio refers to, `jit=off` or `replicas=1`; empty where there is none.
        reference_ratio, reference_low, reference_high: time of a step of the same precision in that way over this
            one's, with its 95 % interval. XLA's speedup; of replicas the scaling efficiency, 1 being ideal.
        throttled_blocks: numbers of the blocks whose round was measured while the GPU was throttled, comma-separated.
        throttled: too few rounds were free of it, so that the figures are those of all rounds.
        sm_clock_mhz, memory_clock_mhz: median over the rounds.
        temperature_c: the highest, degrees Celsius.
        utilisation_percent: share of time in which a kernel ran, median over the passes in which energy was measured.
        power_limited_share: of the rounds, in which the clock was lowered to stay within the power limit.
        joules_per_step: median over passes of seconds each; all replicas together.
        joules_spread: largest less smallest pass, as a share of the median.
    """

    model: str
    precision: str
    phase: str
    variant: str
    control: bool
    device: str
    device_name: str
    profile: str
    batch_size: int
    image_size: int
    jit: bool
    tf32: bool
    parameters: int
    images_per_second: float
    first_step_seconds: float
    loss_scale: float | None
    skipped_steps: int
    warmup_skipped_steps: int
    peak_memory_bytes: int
    memory_kind: str
    warmup_rounds: int
    warmup_settled: bool
    rounds: int
    steps_per_round: int
    unpaired_blocks: str
    noisy: bool
    baseline: str | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    others_cpu_share: float | None = None  # not in the first files of schema 1, as what follows
    point: str = ""
    way: str = ""
    replicas: int = 1
    layout: str = ""
    trace_seconds: float | None = None
    compile_seconds: float | None = None
    reference: str = ""
    reference_ratio: float | None = None
    reference_low: float | None = None
    reference_high: float | None = None
    throttled_blocks: str = ""
    throttled: bool = False
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    utilisation_percent: float | None = None
    power_limited_share: float | None = None
    joules_per_step: float | None = None
    joules_spread: float | None = None

    @property
    def name(self) -> str:
        """The model, and what tells its figures from others of the same precision."""
        return " ".join(filter(None, [self.model, self.variant, self.way]))

    @property
    def joules_per_image(self) -> float | None:
        return None if self.joules_per_step is None else self.joules_per_step / (self.batch_size * self.replicas)

    @property
    def over_reference(self) -> Interval | None:
        """Scaling efficiency of replicas, or XLA's speedup: see `reference_ratio`."""
        return _interval(self.reference_ratio, self.reference_low, self.reference_high)

    @property
    def interval(self) -> Interval | None:
        return _interval(self.speedup, self.speedup_low, self.speedup_high)

    def as_extra_info(self) -> dict[str, Any]:
        return {SCHEMA_KEY: SCHEMA, **asdict(self)}


def is_case(extra_info: Mapping[str, Any]) -> bool:
    """Whether a benchmark's extra_info was written by this suite."""
    return SCHEMA_KEY in extra_info


def read_case(extra_info: Mapping[str, Any]) -> CaseRecord:
    """The record in a benchmark's extra_info.

    Raises:
        ValueError: not ours, from a later version, or a field is missing; the message names it.
    """
    return CaseRecord(**read_fields(CaseRecord, extra_info, SCHEMA_KEY, SCHEMA))


@dataclass(frozen=True)
class AccuracyRecord:
    """One comparison of two precisions' answers, as saved in `extra_info`. Its benchmark's rounds are the seconds of
    one evaluation pass of both heads over the validation features: not a speed result.

    Attributes:
        model, precision, baseline: what was compared with what.
        device, device_name: as in CaseRecord.
        profile, batch_size, image_size, jit: as run; image_size in pixels.
        data, data_digest: its name; SHA-256 over the names and contents of all images used.
        classes: number of them.
        training_images, validation_images, skipped_images: skipped are those that cannot be decoded.
        preprocessing, weights: `model` or `thesis`; `imagenet`, `random`, `factory` or the file's name.
        best_epoch, baseline_best_epoch, training_accuracy, baseline_training_accuracy: of the heads that answered.
        skipped_steps, baseline_skipped_steps: updates that loss scaling dropped while the heads were trained.
        both_right, baseline_only, precision_only, both_wrong: validation images by who was right.
        accuracy, baseline_accuracy: on the validation images, fractions.
        mcnemar_exact_p, mcnemar_midp, mcnemar_chi2_p: see `contingency`.
        difference, difference_low, difference_high: accuracy less baseline's, with a 95 % interval, fractions.
        margin, equivalence_p, require_equivalence: fraction; p of the two one-sided tests; whether it was asserted.
        detectable_difference: fraction that this sample would have shown with 80 % power; None where nothing could.
        alpha: level of the tests.
        majority_share: accuracy of always answering the most frequent class.
        majority_p, baseline_majority_p: of the binomial test that a model beats it.
        discordant: a few images on which the two disagree, small; as `thumbnails.as_text` joins them.
    """

    model: str
    precision: str
    baseline: str
    device: str
    device_name: str
    profile: str
    batch_size: int
    image_size: int
    jit: bool
    data: str
    data_digest: str
    classes: int
    training_images: int
    validation_images: int
    skipped_images: int
    preprocessing: str
    weights: str
    best_epoch: int
    baseline_best_epoch: int
    training_accuracy: float
    baseline_training_accuracy: float
    skipped_steps: int
    baseline_skipped_steps: int
    both_right: int
    baseline_only: int
    precision_only: int
    both_wrong: int
    accuracy: float
    baseline_accuracy: float
    mcnemar_exact_p: float
    mcnemar_midp: float
    mcnemar_chi2_p: float
    difference: float
    difference_low: float
    difference_high: float
    margin: float
    equivalence_p: float
    require_equivalence: bool
    detectable_difference: float | None
    alpha: float
    majority_share: float
    majority_p: float
    baseline_majority_p: float
    discordant: str = ""

    @property
    def differs(self) -> bool:
        """Whether McNemar's exact test rejects that the two are right equally often."""
        return self.mcnemar_exact_p <= self.alpha

    @property
    def equivalent(self) -> bool:
        """Whether the accuracies are shown to lie within the margin of each other."""
        return self.equivalence_p <= self.alpha

    @property
    def unlearned(self) -> list[str]:
        """The precisions that do not beat the majority class: with one of them the comparison is void."""
        ps = {self.baseline: self.baseline_majority_p, self.precision: self.majority_p}
        return [precision for precision, p in ps.items() if p > self.alpha]

    def as_extra_info(self) -> dict[str, Any]:
        return {ACCURACY_SCHEMA_KEY: ACCURACY_SCHEMA, **asdict(self)}


def read_accuracy(extra_info: Mapping[str, Any]) -> AccuracyRecord:
    """The comparison in a benchmark's extra_info; raises ValueError as `read_case` does."""
    return AccuracyRecord(**read_fields(AccuracyRecord, extra_info, ACCURACY_SCHEMA_KEY, ACCURACY_SCHEMA))


def read_fields(record: type, extra_info: Mapping[str, Any], key: str, schema: int) -> dict[str, Any]:
    """The fields of a record in a benchmark's extra_info, by name; raises ValueError as `read_case` does."""
    if key not in extra_info:
        raise ValueError(f"extra_info has no {key}: not a case of mpbench")
    if extra_info[key] != schema:
        raise ValueError(f"{key} is {extra_info[key]}: this version reads {schema}")
    missing = [name for name, optional in _names(record) if not optional and name not in extra_info]
    if missing:
        raise ValueError(f"extra_info lacks {', '.join(missing)}")
    return {name: extra_info[name] for name, _ in _names(record) if name in extra_info}


ROUND_DIGITS = 9
"""Significant digits of a round that are kept: finer than any clock, and half as long in JSON as all 17."""


def kept_rounds(seconds: Iterable[float]) -> tuple[float, ...]:
    """Rounds as they are shown, judged and saved: all from the same figures."""
    return tuple(float(f"{value:.{ROUND_DIGITS}g}") for value in seconds)


def blocks_of(rounds: Sequence[float], unpaired_blocks: str) -> list[int]:
    """Number of the block of each round, from a record's `unpaired_blocks`."""
    gaps = numbers(unpaired_blocks)
    return [n for n in range(len(rounds) + len(gaps)) if n not in gaps][: len(rounds)]


@functools.cache
def _names(record: type) -> tuple[tuple[str, bool], ...]:
    """Its fields, and which of them older files need not have."""
    return tuple((f.name, f.default is not MISSING) for f in fields(record))


def numbers(text: str) -> set[int]:
    """Of blocks, from a field that joins them with commas."""
    return {int(number) for number in text.split(",") if number}


def _interval(estimate: float | None, low: float | None, high: float | None) -> Interval | None:
    return None if estimate is None or low is None or high is None else Interval(estimate, low, high)


class OfRounds:
    """What follows from a case's record and its rounds, measured or read back."""

    record: CaseRecord
    rounds: Sequence[float]

    @property
    def blocks(self) -> list[int]:
        """Number of the block of each round."""
        return blocks_of(self.rounds, self.record.unpaired_blocks)

    @property
    def judged(self) -> Judged:
        """The rounds that figures are made of: those measured while the GPU was not throttled, or else all."""
        out = set() if self.record.throttled else numbers(self.record.throttled_blocks)
        if not out:
            return Judged(tuple(self.rounds), tuple(self.blocks))
        return Judged.of((block, one) for block, one in zip(self.blocks, self.rounds, strict=True) if block not in out)

    @property
    def median_seconds(self) -> float:
        """Of the rounds that count: seconds per step."""
        return float(np.median(self.judged.rounds))


@dataclass(frozen=True)
class Measured(OfRounds):
    """A case's record with its rounds, in seconds per step."""

    record: CaseRecord
    rounds: Sequence[float]
