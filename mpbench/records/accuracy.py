"""What an accuracy case writes into pytest-benchmark's JSON, and how it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpbench.records import thumbnails
from mpbench.records.fields import MAX_CHARACTERS
from mpbench.records.limits import ABOVE_0, BELOW_1, MAX_COUNT, check_ranges, ranges
from mpbench.records.measured import CaseKind, Measured, Record, read_rounds
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

RANGES = ranges(
    (("batch_size", "image_size", "classes", "training_images"), (1, MAX_COUNT)),
    (("validation_images",), (1, 1e7)),  # 200 times ImageNet's: what the table must agree with is counted out
    (("skipped_images", "best_epoch", "baseline_best_epoch"), (0, MAX_COUNT)),
    (("skipped_steps", "baseline_skipped_steps"), (0, MAX_COUNT)),
    (("both_right", "baseline_only", "precision_only", "both_wrong"), (0, MAX_COUNT)),
    (("training_accuracy", "baseline_training_accuracy", "accuracy", "baseline_accuracy"), (0, 1)),
    (("mcnemar_exact_p", "mcnemar_midp", "mcnemar_chi2_p", "equivalence_p", "detectable_difference"), (0, 1)),
    (("majority_share", "majority_p", "baseline_majority_p"), (0, 1)),
    (("margin", "alpha"), (ABOVE_0, BELOW_1)),
    (("difference", "difference_low", "difference_high"), (-1, 1)),
)

AGREEING = 1e-6
"""Of what is computed from counts, as a difference: two versions of scipy differ by less."""

AGREEING_LIMIT = 0.01
"""The same of the score at an interval's ends, which is found by iteration, in standard deviations."""

AGREEING_POWER = 0.05
"""The same of the power that `detectable_difference` has been found for, to 1e-6 of the difference."""


@dataclass(frozen=True)
class AccuracyRecord(Record):
    """One comparison of two precisions' answers, as saved in `extra_info`. Its benchmark's rounds are the seconds of
    one evaluation pass of both heads over the validation features: not a speed result.

    Attributes:
        model, precision, baseline: what was compared with what.
        device, device_name: as in SpeedRecord.
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
    discordant: str = field(default="", metadata={MAX_CHARACTERS: thumbnails.MAX_SAVED_CHARACTERS})

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


AccuracyCase = Measured[AccuracyRecord]


class AccuracyKind(CaseKind[AccuracyRecord]):
    """Cases that compare two precisions' answers. Their rounds are the seconds of evaluation passes."""

    schema_key = "mpbench_accuracy_schema"
    schema = 1
    max_cases = 1000  # checking one takes some milliseconds

    def record_type(self, extra_info: Mapping[str, Any]) -> type[AccuracyRecord]:
        return AccuracyRecord

    def check(self, record: AccuracyRecord) -> None:
        """What follows from a record's counts is computed from them, and must be what it says."""
        check_ranges(record, RANGES)
        r, table = (
            record,
            Contingency(record.both_right, record.baseline_only, record.precision_only, record.both_wrong),
        )
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
            raise ValueError(
                f"difference_low, difference_high: {r.difference_low}, {r.difference_high}: not by its counts"
            )
        if not is_detectable_difference(table, r.detectable_difference, r.alpha, AGREEING_POWER):
            raise ValueError(f"detectable_difference: {r.detectable_difference}: not by its counts")
        try:
            thumbnails.from_text(r.discordant)
        except ValueError as error:
            raise ValueError(f"discordant: {error}") from None

    def read_case(self, benchmark: Mapping[str, Any], fullname: str) -> AccuracyCase:
        """As for other kinds, but its rounds are no figure and may be missing."""
        record = self.read(benchmark["extra_info"])
        return Measured(record, read_rounds(benchmark, record) if _has_rounds(benchmark) else (), fullname)


def _has_rounds(benchmark: Mapping[str, Any]) -> bool:
    stats = benchmark.get("stats")
    return isinstance(stats, dict) and "data" in stats


ACCURACY = AccuracyRecord.kind = AccuracyKind()
