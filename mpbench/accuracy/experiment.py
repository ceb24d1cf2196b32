"""The accuracy experiment: one data set, a head per (model, precision), and the precisions' answers paired.

Knows the options and the data; what computes is in `base.py`, `features.py` and `head.py`, imported when the first case
runs.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpbench.accuracy.weights import Weights, find_weights
from mpbench.config.precisions import PRECISIONS
from mpbench.config.settings import Settings, check_image_size
from mpbench.data.data_set import DataSet
from mpbench.data.decoding import UndecodableImage, decode, read
from mpbench.data.images import Images, checked_images, find_images
from mpbench.engine import device as devices
from mpbench.engine.factories import check_factory, check_takes_images
from mpbench.engine.interleave import Progress
from mpbench.errors import CaseFailure, UsageProblem, harmless
from mpbench.records import thumbnails
from mpbench.records.accuracy import AccuracyCase, AccuracyRecord
from mpbench.records.measured import Measured
from mpbench.records.rounds import kept_rounds
from mpbench.records.thumbnails import Thumbnail
from mpbench.stats import contingency
from mpbench.system.device import Device

if TYPE_CHECKING:
    from mpbench.accuracy.base import ArmSpec
    from mpbench.accuracy.features import Features
    from mpbench.accuracy.head import TrainedHead

EVALUATION_PASSES = 5
"""Evaluations of one comparison, all of which must agree: the thesis's code got two accuracies from one model."""


@dataclass(frozen=True)
class Arm:
    """One (model, precision), trained, with the features that it is judged on, shape (n, channels)."""

    head: TrainedHead
    validation: Features


class Experiment:
    """The accuracy cases of one session.

    Args:
        settings: the options, checked.
        activate: picks the device, as `Run.activate`.
        progress: called with one line for each slow part.
    """

    def __init__(self, settings: Settings, activate: Callable[[], Device], progress: Progress) -> None:
        self.settings = settings
        self._activate = activate
        self._progress = progress
        self._images: Images | None = None
        self._factories: dict[str, Weights] = {}
        self._arms: dict[tuple[str, str], Arm | Exception] = {}

    def prepare(self, models: Sequence[str]) -> None:
        """Find what is wrong with the options, and load the data, before anything is trained.

        Raises:
            UsageProblem: the data or the weights of a model cannot be had or used.
        """
        options, size_px = self.settings, self.settings.recipe.image_size_px
        weights = {model: self._weights(model) for model in models}
        check_image_size(models, size_px)
        data = self._find_images()
        self._activate()
        for model, of_model in weights.items():
            if of_model.kind != "random":  # random ones cannot be missing or wrong
                self._progress(f"{model}: checking the weights ({of_model.label})")
                self._check_base(model, of_model)
                gc.collect()
        self._images = checked_images(data, size_px, self._progress)
        judged = int((~self._images.training).sum())
        if options.require_equivalence and not contingency.equivalence_can_be_shown(
            judged, options.margin, options.alpha
        ):
            raise UsageProblem(
                f"--mp-require-equivalence: not even identical answers to {judged} images can show equivalence within "
                f"{100 * options.margin:g} points: use a larger --mp-margin or more images"
            )

    def _check_base(self, model: str, weights: Weights) -> None:
        """Build it once; of a factory's model the weights are kept, for every precision to start from."""
        from mpbench.accuracy.base import pooled_base

        size_px = self.settings.recipe.image_size_px
        if weights.kind == "factory":
            check_takes_images([model] if check_factory(model, size_px) else [], "accuracy cases")
        try:
            pooled = pooled_base(model, size_px, PRECISIONS["float32"], weights)
        except CaseFailure as failure:
            raise UsageProblem(f"--mp-models: {failure}") from None
        if weights.kind == "factory":
            self._factories[model] = Weights("factory", arrays=tuple(pooled.get_weights()))

    def compare(self, model: str, precision: str) -> AccuracyCase:
        """Train the baseline and another precision of a model, where that has not happened yet, and pair their answers.

        Returns:
            The record; its rounds are the seconds that each evaluation of both heads took.

        Raises:
            CaseFailure: one of them failed for a known reason, or its answers changed from one evaluation to the next.
        """
        base, other = self.trained(model, self.settings.accuracy_baseline), self.trained(model, precision)
        seconds, passes = [], []
        for _ in range(EVALUATION_PASSES):
            start = time.perf_counter()
            passes.append((base.head.answers(base.validation), other.head.answers(other.validation)))
            seconds.append(time.perf_counter() - start)
        changed = sum(int((a != b).sum()) for again in passes[1:] for a, b in zip(passes[0], again, strict=True))
        if changed:
            raise CaseFailure(f"{model}: {changed} answers changed when the same images were evaluated again")
        return Measured(self._record(base.head, other.head, *passes[0]), kept_rounds(seconds))

    @property
    def images(self) -> Images:
        if self._images is None:  # a session that did not prepare: an xdist worker
            self._images = checked_images(self._find_images(), self.settings.recipe.image_size_px, self._progress)
        return self._images

    def _find_images(self) -> DataSet:
        return find_images(self.settings.data, self.settings.recipe.images, self._progress)

    def trained(self, model: str, precision: str) -> Arm:
        """One precision of a model, trained where that has not happened yet; raises CaseFailure as `compare` does."""
        key = model, precision
        if key not in self._arms:
            try:
                self._arms[key] = self._train(model, precision)
            except Exception as error:  # kept: what needs this arm next must not train it all again
                from mpbench.engine.memory import explained

                recipe = self.settings.recipe
                what = f"batch {recipe.batch_size}, {recipe.image_size_px} px, {model} in {precision}"
                self._arms[key] = explained(error, self._activate(), what)
        arm = self._arms[key]
        if isinstance(arm, Exception):
            raise arm
        return arm

    def spec(self, model: str, precision: str) -> ArmSpec:
        """How a precision of a model computes in this session."""
        from mpbench.accuracy.base import ArmSpec

        device = self._activate()
        devices.make_deterministic(device)
        if ":" in model and model not in self._factories:  # a session that did not prepare
            self._check_base(model, self._weights(model))
        return ArmSpec(
            model=model,
            precision=PRECISIONS[precision],
            weights=self._weights(model),
            recipe=self.settings.recipe,
            classes=len(self.images.classes),
            thesis_preprocessing=self.settings.preprocessing == "thesis",
            jit=bool(self.settings.xla),
            device=device,
        )

    def _weights(self, model: str) -> Weights:
        return self._factories.get(model) or find_weights(self.settings.recipe.weights, model)

    def _train(self, model: str, precision: str) -> Arm:
        spec, images = self.spec(model, precision), self.images
        from mpbench.accuracy.features import pooled_features
        from mpbench.accuracy.head import train_head

        features = pooled_features(spec, images.all, images.digests, self._progress)
        gc.collect()  # the base: Keras's models are full of cycles
        head = train_head(spec, features[images.training], images.labels[images.training], self._progress)
        return Arm(head, features[~images.training])

    def _record(
        self, base: TrainedHead, other: TrainedHead, base_answers: NDArray[np.int64], answers: NDArray[np.int64]
    ) -> AccuracyRecord:
        spec, options, images = other.spec, self.settings, self.images
        truth = images.labels[~images.training]
        table = contingency.contingency(truth, base_answers, answers)
        interval = contingency.difference_interval(table)
        detectable = contingency.detectable_difference(table.n, table.discordant, options.alpha)
        majority_share = float(np.bincount(truth).max() / table.n)
        return AccuracyRecord(
            model=spec.model,
            precision=spec.precision.name,
            baseline=base.spec.precision.name,
            device=spec.device.kind,
            device_name=devices.device_name(spec.device),
            profile=self.settings.recipe_name,
            batch_size=spec.recipe.batch_size,
            image_size=spec.recipe.image_size_px,
            jit=spec.jit,
            data=images.label,
            data_digest=images.digest,
            classes=spec.classes,
            training_images=int(images.training.sum()),
            validation_images=table.n,
            skipped_images=images.skipped,
            preprocessing="thesis" if spec.thesis_preprocessing else "model",
            weights=spec.weights.label,
            best_epoch=other.epoch,
            baseline_best_epoch=base.epoch,
            training_accuracy=other.training_accuracy,
            baseline_training_accuracy=base.training_accuracy,
            skipped_steps=other.skipped_steps,
            baseline_skipped_steps=base.skipped_steps,
            both_right=table.both_right,
            baseline_only=table.first_only,
            precision_only=table.second_only,
            both_wrong=table.both_wrong,
            accuracy=table.second_accuracy,
            baseline_accuracy=table.first_accuracy,
            mcnemar_exact_p=contingency.mcnemar_exact(table),
            mcnemar_midp=contingency.mcnemar_midp(table),
            mcnemar_chi2_p=contingency.mcnemar_chi2(table),
            difference=interval.estimate,
            difference_low=interval.low,
            difference_high=interval.high,
            margin=options.margin,
            equivalence_p=contingency.equivalence_p(table, options.margin),
            require_equivalence=options.require_equivalence,
            detectable_difference=detectable if math.isfinite(detectable) else None,
            alpha=options.alpha,
            majority_share=majority_share,
            majority_p=contingency.majority_p(table.both_right + table.second_only, table.n, majority_share),
            baseline_majority_p=contingency.majority_p(table.both_right + table.first_only, table.n, majority_share),
            discordant=thumbnails.as_text(
                _disagreements(images, base.spec, base_answers == truth, spec, answers == truth)
            ),
        )


def _disagreements(
    images: Images, base: ArmSpec, base_right: NDArray[np.bool_], other: ArmSpec, right: NDArray[np.bool_]
) -> list[Thumbnail]:
    """A few validation images that only one precision got right, squares as the models see them."""
    judged = [image for image, training in zip(images.all, images.training, strict=True) if not training]
    found = []
    for i in thumbnails.chosen(base_right, right):
        image = judged[i]
        with suppress(UndecodableImage):  # a file that is gone by now costs a picture, not the comparison
            jpeg = thumbnails.jpeg_of(decode(read(image.path), thumbnails.SIDE_PX))
            label = harmless(images.classes[image.label])
            found.append(Thumbnail(harmless(image.name), label, (other if right[i] else base).precision.name, jpeg))
    return found
