"""What an accuracy case writes into pytest-benchmark's JSON, and how it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mpbench.records.fields import read_fields

ACCURACY_SCHEMA = 1

ACCURACY_SCHEMA_KEY = "mpbench_accuracy_schema"


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


def is_comparison(extra_info: Mapping[str, Any]) -> bool:
    """Whether a benchmark's extra_info was written by an accuracy case."""
    return ACCURACY_SCHEMA_KEY in extra_info


def read_accuracy(extra_info: Mapping[str, Any]) -> AccuracyRecord:
    """The comparison in a benchmark's extra_info; raises ValueError as `read_case` does."""
    return AccuracyRecord(**read_fields(AccuracyRecord, extra_info, ACCURACY_SCHEMA_KEY, ACCURACY_SCHEMA))
