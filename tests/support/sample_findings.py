"""Findings of numerics made up for tests: a step of two layers that is SAFE, to be changed."""

from dataclasses import replace

from mpbench.numerics.findings import BackwardFlow, Findings, LayerOutput, WeightGradient, WeightUpdate
from mpbench.numerics.loss_scales import LossScales
from mpbench.numerics.statistics import Comparison, Moved


def comparison(largest=2.0, **changed):
    values = dict(largest=largest, reference_largest=largest, not_finite=0, nonzero=100, lost=0, too_small=0)
    return Comparison(**{**values, "relative_error": 1e-3, **changed})


def output(layer, largest=2.0, dtype="float16", is_output=False, before=False, owner=None, call=0, **changed):
    owner = layer if owner is None else owner
    return LayerOutput(layer, "Dense", call, before, owner, dtype, comparison(largest, **changed), False, is_output)


def gradient(layer, settled_lost=0.0, unscaled_lost=0.0, noise=1e-6, **changed):
    of = comparison(**changed)
    return WeightGradient(f"{layer}/kernel", layer, "float16", of, of, unscaled_lost, settled_lost, noise)


def update(layer, updated=100, unmoved=0, kept_in="float32", not_finite=0):
    return WeightUpdate(f"{layer}/kernel", layer, kept_in, Moved(updated, unmoved), not_finite)


def findings(**changed):
    safe = Findings(
        precision="mixed_float16",
        compute_dtype="float16",
        training=True,
        outputs=(output("first"), output("second", is_output=True)),
        loss=comparison(),
        flows=(BackwardFlow("(loss)", "float32", 100.0, 0), BackwardFlow("second", "float16", 300.0, 0)),
        gradients=(gradient("first"), gradient("second")),
        scales=LossScales(15, 15, 0, 17),
        updates=(update("first"), update("second")),
    )
    return replace(safe, **changed)
