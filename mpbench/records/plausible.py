"""Which values of a record can have been measured: what is of the right type and still absurd is refused by name."""

from __future__ import annotations

import math
import re

from mpbench.records import thumbnails
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.arms import FIELDS
from mpbench.records.diagnostics import INPUTS, DiagnosticRecord
from mpbench.records.profile import read_profile
from mpbench.records.speed import BROKEN_OFF, DRIFTING, FOR_WANT_OF_TIME, CaseRecord
from mpbench.stats.contingency import (
    Contingency,
    equivalence_p,
    is_detectable_difference,
    is_difference_interval,
    majority_p,
    mcnemar_chi2,
    mcnemar_exact,
    mcnemar_midp,
)

MIN_ROUND_S, MAX_ROUND_S = 1e-9, 1e6
"""One step takes more than a tick of the clock and less than eleven days."""

MAX_ROUNDS = 1_000_000
"""Of a case. A round is made to take a tenth of a second: so many take a day."""

MAX_COUNT, MAX_AMOUNT = 1e9, 1e24
"""Of what is counted one by one; of FLOPs and bytes. Sums and rates of what is within them do not overflow."""

MAX_SECONDS = 1e9
MAX_SHARE = 1e6
"""Shares of what a clock or a counter gave may be above 1, by rounding or where a container sees the whole host."""

MIN_RATIO, MAX_RATIO = 1e-9, 1e9
"""Of times, with the ends of their intervals."""

CASE_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("batch_size", "image_size", "steps_per_round", "replicas"), (1, MAX_COUNT)),
    **dict.fromkeys(("skipped_steps", "warmup_skipped_steps", "warmup_rounds"), (0, MAX_COUNT)),
    **dict.fromkeys(("parameters", "images_per_second", "peak_memory_bytes", "joules_per_step"), (0, MAX_AMOUNT)),
    **dict.fromkeys(("first_step_seconds", "trace_seconds", "compile_seconds"), (0, MAX_SECONDS)),
    **dict.fromkeys(("sm_clock_mhz", "memory_clock_mhz"), (0, MAX_COUNT)),
    **dict.fromkeys(("others_cpu_share", "joules_spread"), (0, MAX_SHARE)),
    **dict.fromkeys(("speedup", "speedup_low", "speedup_high"), (MIN_RATIO, MAX_RATIO)),
    **dict.fromkeys(("reference_ratio", "reference_low", "reference_high"), (MIN_RATIO, MAX_RATIO)),
    "rounds": (1, MAX_ROUNDS),
    "loss_scale": (0, 1e39),  # it is a float32
    "temperature_c": (-273.15, 1e4),
    "utilisation_percent": (0, 100),
    "power_limited_share": (0, 1),
    "drift": (0, MAX_RATIO),
}
"""Least and largest possible value of a field; None is possible where its type allows it."""

ABOVE_0, BELOW_1 = math.nextafter(0, 1), math.nextafter(1, 0)

ACCURACY_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("batch_size", "image_size", "classes", "training_images"),
        (1, MAX_COUNT),
    ),
    "validation_images": (1, 1e7),  # 200 times ImageNet's: what the table must agree with is counted out
    **dict.fromkeys(
        (
            *("skipped_images", "best_epoch", "baseline_best_epoch", "skipped_steps", "baseline_skipped_steps"),
            *("both_right", "baseline_only", "precision_only", "both_wrong"),
        ),
        (0, MAX_COUNT),
    ),
    **dict.fromkeys(
        (
            *("training_accuracy", "baseline_training_accuracy", "accuracy", "baseline_accuracy", "majority_share"),
            *("mcnemar_exact_p", "mcnemar_midp", "mcnemar_chi2_p", "equivalence_p", "detectable_difference"),
            *("majority_p", "baseline_majority_p"),
        ),
        (0, 1),
    ),
    **dict.fromkeys(("margin", "alpha"), (ABOVE_0, BELOW_1)),
    **dict.fromkeys(("difference", "difference_low", "difference_high"), (-1, 1)),
}

DIAGNOSTIC_RANGES: dict[str, tuple[float, float]] = {
    "rounds": (1, MAX_ROUNDS),
    **dict.fromkeys(("steps_per_round", "images"), (1, MAX_COUNT)),
    # A batch of 0 where the figure depends on none.
    **dict.fromkeys(("batch_size", "image_size", "workers"), (0, MAX_COUNT)),
    **dict.fromkeys(("flops", "bytes"), (0, MAX_AMOUNT)),
    "others_cpu_share": (0, MAX_SHARE),
}
"""As CASE_RANGES, of the records in `diagnostics.py` that have the field."""

DIAGNOSTIC_CHOICES: dict[str, tuple[str, ...]] = {
    "phase": ("", "training", "inference"),
    "input": INPUTS,
    "cache": ("none", "memory", "disk"),
    "what": ("matmul", "copy", "latency"),
}
"""Possible values of a field of text."""


AGREEING = 1e-6
"""Of what is computed from counts, as a difference: two versions of scipy differ by less."""

AGREEING_LIMIT = 0.01
"""The same of the score at an interval's ends, which is found by iteration, in standard deviations."""

AGREEING_POWER = 0.05
"""The same of the power that `detectable_difference` has been found for, to 1e-6 of the difference."""


def check_case(record: CaseRecord) -> None:
    """Raises ValueError, which names the field, where a speed case's record cannot be."""
    _check_ranges(record, CASE_RANGES)
    for estimate, low, high in FIELDS.values():
        values = {name: getattr(record, name) for name in (low, estimate, high)}
        if missing := [name for name, value in values.items() if value is None]:
            if given := [name for name, value in values.items() if value is not None]:
                raise ValueError(f"{missing[0]}: null, beside {given[0]}, {values[given[0]]}")
            continue
        if values[low] > values[high]:
            raise ValueError(f"{low}: {values[low]} is larger than {high}, {values[high]}")
        if not values[low] * (1 - AGREEING) <= values[estimate] <= values[high] * (1 + AGREEING):
            raise ValueError(
                f"{estimate}: {values[estimate]}: not between {low} and {high}, {values[low]}, {values[high]}"
            )
    if record.speedup is not None and not record.baseline:
        raise ValueError(f"speedup: {record.speedup}, but no baseline that it refers to")
    if record.skipped_steps > (kept := record.rounds * record.steps_per_round):
        raise ValueError(f"skipped_steps: {record.skipped_steps}: valid are no more than the {kept} that were kept")
    if record.noisy_because not in (valid := ("", FOR_WANT_OF_TIME, DRIFTING, BROKEN_OFF)):
        raise ValueError(f"noisy_because: {record.noisy_because!r}: valid are {', '.join(filter(None, valid))}")
    if record.visits and not re.fullmatch(r"0(,[1-9]\d{0,6})*", record.visits):
        raise ValueError(f"visits: {record.visits[:40]!r}: valid are block numbers from 0 on, comma-separated")
    if record.step_profile:
        read_profile(record.step_profile)


def check_accuracy(record: AccuracyRecord) -> None:
    """Raises ValueError, which names the field, where a comparison's record cannot be: what follows from its counts is
    computed from them, and must be what it says."""
    _check_ranges(record, ACCURACY_RANGES)
    r, table = record, Contingency(record.both_right, record.baseline_only, record.precision_only, record.both_wrong)
    if r.difference_low > r.difference_high:
        raise ValueError(f"difference_low: {r.difference_low} is larger than difference_high, {r.difference_high}")
    if table.n != r.validation_images:
        raise ValueError(f"validation_images: {r.validation_images}, but the table counts {table.n}")
    right = {
        "majority_p": table.both_right + table.second_only,
        "baseline_majority_p": table.both_right + table.first_only,
    }
    for name, counted in {
        "accuracy": table.second_accuracy,
        "baseline_accuracy": table.first_accuracy,
        "difference": table.second_accuracy - table.first_accuracy,
        "mcnemar_exact_p": mcnemar_exact(table),
        "mcnemar_midp": mcnemar_midp(table),
        "mcnemar_chi2_p": mcnemar_chi2(table),
        "equivalence_p": equivalence_p(table, r.margin),
        **{name: majority_p(count, table.n, r.majority_share) for name, count in right.items()},
    }.items():
        if not abs(getattr(r, name) - counted) <= AGREEING:
            raise ValueError(f"{name}: {getattr(r, name)}, but by its counts {counted:.6g}")
    if not is_difference_interval(table, r.difference_low, r.difference_high, AGREEING_LIMIT):
        raise ValueError(f"difference_low, difference_high: {r.difference_low}, {r.difference_high}: not by its counts")
    if not is_detectable_difference(table, r.detectable_difference, r.alpha, AGREEING_POWER):
        raise ValueError(f"detectable_difference: {r.detectable_difference}: not by its counts")
    try:
        thumbnails.from_text(r.discordant)
    except ValueError as error:
        raise ValueError(f"discordant: {error}") from None


def check_diagnostic(record: DiagnosticRecord) -> None:
    """Raises ValueError, which names the field, where the record of a diagnostic case cannot be."""
    _check_ranges(record, {name: limits for name, limits in DIAGNOSTIC_RANGES.items() if hasattr(record, name)})
    for name, choices in DIAGNOSTIC_CHOICES.items():
        value = getattr(record, name, choices[0])
        if value not in choices:
            raise ValueError(f"{name}: {value[:60]!r}: valid are {', '.join(choice or repr('') for choice in choices)}")


def _check_ranges(
    record: CaseRecord | AccuracyRecord | DiagnosticRecord, ranges: dict[str, tuple[float, float]]
) -> None:
    for name, (least, largest) in ranges.items():
        value = getattr(record, name)
        if value is not None and not least <= value <= largest:
            valid = "above 0 and below 1" if (least, largest) == (ABOVE_0, BELOW_1) else f"{least:g} to {largest:g}"
            raise ValueError(f"{name}: {value}: valid is {valid}")
