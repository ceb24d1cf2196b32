"""Which values of a record can have been measured: what is of the right type and still absurd is refused by name."""

from __future__ import annotations

import math

from mpbench.records import thumbnails
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.diagnostics import FEEDS, ProbeRecord
from mpbench.records.profile import read_profile
from mpbench.records.speed import CaseRecord

MIN_ROUND_S, MAX_ROUND_S = 1e-9, 1e6
"""One step takes more than a tick of the clock and less than eleven days."""

ANY = math.inf

CASE_RANGES: dict[str, tuple[float, float]] = {
    "batch_size": (1, 1e9),
    "image_size": (1, ANY),
    "parameters": (0, ANY),
    "images_per_second": (0, 1e24),
    "first_step_seconds": (0, ANY),
    "loss_scale": (0, ANY),
    "skipped_steps": (0, ANY),
    "warmup_skipped_steps": (0, ANY),
    "peak_memory_bytes": (0, ANY),
    "warmup_rounds": (0, ANY),
    "rounds": (1, ANY),
    "steps_per_round": (1, ANY),
    "others_cpu_share": (0, ANY),
    "replicas": (1, 1e9),
    "trace_seconds": (0, ANY),
    "compile_seconds": (0, ANY),
    "sm_clock_mhz": (0, ANY),
    "memory_clock_mhz": (0, ANY),
    "temperature_c": (-273.15, ANY),
    "utilisation_percent": (0, 100),
    "power_limited_share": (0, 1),
    "joules_per_step": (0, ANY),
    "joules_spread": (0, ANY),
}
"""Least and largest possible value of a field; None is possible where its type allows it."""

ACCURACY_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("batch_size", "image_size", "classes"), (1, ANY)),
    **dict.fromkeys(
        (
            "training_images",
            "validation_images",
            "skipped_images",
            "best_epoch",
            "baseline_best_epoch",
            "skipped_steps",
            "baseline_skipped_steps",
            "both_right",
            "baseline_only",
            "precision_only",
            "both_wrong",
        ),
        (0, ANY),
    ),
    **dict.fromkeys(
        (
            "training_accuracy",
            "baseline_training_accuracy",
            "accuracy",
            "baseline_accuracy",
            "mcnemar_exact_p",
            "mcnemar_midp",
            "mcnemar_chi2_p",
            "margin",
            "equivalence_p",
            "detectable_difference",
            "alpha",
            "majority_share",
            "majority_p",
            "baseline_majority_p",
        ),
        (0, 1),
    ),
    **dict.fromkeys(("difference", "difference_low", "difference_high"), (-1, 1)),
}

MAX_COUNT, MAX_AMOUNT = 1e9, 1e24
"""Of what is counted one by one; of FLOPs and bytes. Sums and rates of what is within them do not overflow."""

PROBE_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("rounds", "steps_per_round", "images"), (1, MAX_COUNT)),
    # A batch of 0 where the figure depends on none.
    **dict.fromkeys(("batch_size", "image_size", "workers"), (0, MAX_COUNT)),
    **dict.fromkeys(("flops", "bytes"), (0, MAX_AMOUNT)),
    "others_cpu_share": (0, ANY),
}
"""As CASE_RANGES, of the records in `diagnostics.py` that have the field."""

PROBE_CHOICES: dict[str, tuple[str, ...]] = {
    "phase": ("", "training", "inference"),
    "feed": FEEDS,
    "cache": ("none", "memory", "disk"),
    "what": ("matmul", "copy", "latency"),
}
"""Possible values of a field of text."""


def check_case(record: CaseRecord) -> None:
    """Raises ValueError, which names the field, where a speed case's record cannot be."""
    _check_ranges(record, CASE_RANGES)
    for estimate, low, high in (
        ("speedup", "speedup_low", "speedup_high"),
        ("reference_ratio", "reference_low", "reference_high"),
    ):
        values = {name: getattr(record, name) for name in (low, estimate, high)}
        for name, value in values.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name}: {value} is not positive")
        if None not in values.values() and values[low] > values[high]:
            raise ValueError(f"{low}: {values[low]} is larger than {high}, {values[high]}")
    if record.step_profile:
        read_profile(record.step_profile)


def check_accuracy(record: AccuracyRecord) -> None:
    """Raises ValueError, which names the field, where a comparison's record cannot be."""
    _check_ranges(record, ACCURACY_RANGES)
    if record.difference_low > record.difference_high:
        raise ValueError(
            f"difference_low: {record.difference_low} is larger than difference_high, {record.difference_high}"
        )
    counted = record.both_right + record.baseline_only + record.precision_only + record.both_wrong
    if counted != record.validation_images:
        raise ValueError(f"validation_images: {record.validation_images}, but the table counts {counted}")
    try:
        thumbnails.from_text(record.discordant)
    except ValueError as error:
        raise ValueError(f"discordant: {error}") from None


def check_probe(record: ProbeRecord) -> None:
    """Raises ValueError, which names the field, where the record of a case that looks for causes cannot be."""
    _check_ranges(record, {name: limits for name, limits in PROBE_RANGES.items() if hasattr(record, name)})
    for name, choices in PROBE_CHOICES.items():
        value = getattr(record, name, choices[0])
        if value not in choices:
            raise ValueError(f"{name}: {value[:60]!r}: valid are {', '.join(choice or repr('') for choice in choices)}")


def _check_ranges(record: CaseRecord | AccuracyRecord | ProbeRecord, ranges: dict[str, tuple[float, float]]) -> None:
    for name, (least, largest) in ranges.items():
        value = getattr(record, name)
        if value is not None and not least <= value <= largest:
            valid = f"{least:g} or more" if largest == ANY else f"{least:g} to {largest:g}"
            raise ValueError(f"{name}: {value}: valid is {valid}")
