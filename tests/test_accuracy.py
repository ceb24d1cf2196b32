"""The accuracy experiment: float32 and mixed_float16 must answer alike on Dogs vs. Cats.

Run with `pytest tests/test_accuracy.py`; in full, as the thesis did it: `--mp-profile paper --mp-data <source>`.
"""

from dataclasses import replace

import numpy as np
import pytest

from mpbench.errors import CaseFailure
from mpbench.report.accuracy import in_words
from mpbench.stats.contingency import contingency, majority_p, mcnemar_exact

DAMAGE_BITS = 2


@pytest.mark.mpbench(phase="accuracy")
def test_mcnemar(model, precision, accuracy, benchmark):
    record = accuracy(benchmark, model, precision)
    unlearned, p, alpha = record.unlearned, record.mcnemar_exact_p, record.alpha
    assert not unlearned, in_words(record)
    assert p > alpha, in_words(record)
    if record.require_equivalence:
        equivalence_p = record.equivalence_p
        assert equivalence_p <= alpha, in_words(record)


def test_a_damaged_copy_is_rejected(experiment):
    """The negative control: the first model's weights rounded to very few bits, in the base and in the head."""
    import keras

    from mpbench.accuracy.base import pooled_base
    from mpbench.accuracy.features import extract

    settings, images = experiment.settings, experiment.images
    model, precision = settings.models[0], settings.compared[0]
    baseline, whole = experiment.trained(model, settings.baseline), experiment.trained(model, precision)
    spec = experiment.spec(model, precision)

    truth = images.labels[~images.training]
    right = int((whole.head.answers(whole.validation) == truth).sum())
    if majority_p(right, truth.size, np.bincount(truth).max() / truth.size) > settings.alpha:
        pytest.skip(f"VOID: {model} in {precision} has learned nothing that damage could destroy")

    damaged_base = pooled_base(model, spec.recipe.image_size_px, spec.precision, spec.weights)
    damaged_base.set_weights([rounded(weights) for weights in damaged_base.get_weights()])
    damaged_head = keras.models.clone_model(whole.head.model)
    damaged_head.set_weights([rounded(weights) for weights in whole.head.model.get_weights()])

    judged = [image for image, training in zip(images.all, images.training, strict=True) if not training]
    try:
        features = extract(spec, damaged_base, judged, lambda _: None)
        answers = replace(whole.head, model=damaged_head).answers(features)
    except CaseFailure:  # not finite: rejected by name
        return
    table = contingency(truth, baseline.head.answers(baseline.validation), answers)
    p = mcnemar_exact(table)
    assert p <= settings.alpha, f"{model} damaged to {DAMAGE_BITS} bits is not rejected: {table}"


def rounded(weights):
    """Weights on the few levels that the bits leave, from -max to +max."""
    levels = 2 ** (DAMAGE_BITS - 1) - 1
    step = np.abs(weights).max() / levels
    return np.round(weights / step) * step if step else weights
