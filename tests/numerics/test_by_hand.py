"""A step of three layers, all of whose numbers are computed here, in NumPy's float16 and float32.

Each unit has one weight that is not 0 and the batch one sample, so that every number is a single product, rounded once:
no order of summation can make a difference.
"""

import keras
import numpy as np
import pytest
from keras import layers

from mpbench.config.precisions import PRECISIONS
from mpbench.numerics.loss_scales import LOST_GRADIENT, LossScales
from mpbench.numerics.statistics import compared, moved
from mpbench.numerics.stepping import Batch
from mpbench.numerics.trial import compare
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
UNITS = 40
RATE = 0.1

DRAW = np.random.default_rng(7)
X = (DRAW.normal(size=(1, UNITS)) * 2.0 ** DRAW.integers(-9, 2, UNITS)).astype(np.float32)
WEIGHTS = [(DRAW.normal(size=UNITS) * 2.0 ** DRAW.integers(-6, 2, UNITS)).astype(np.float32) for _ in range(3)]
X[0, 0] = np.copysign(1e-8, WEIGHTS[0][0])  # 0 in float16, and a ReLU would let it through
Y = DRAW.normal(size=(1, UNITS)).astype(np.float32)
LAYERS = ("first", "second", "third")


def model():
    x = keras.Input((UNITS,))
    y = layers.Dense(UNITS, activation="relu", use_bias=False, name="first")(x)
    y = layers.Dense(UNITS, use_bias=False, name="second")(y)
    model = keras.Model(x, layers.Dense(UNITS, use_bias=False, name="third")(y))
    model.set_weights([np.diag(one) for one in WEIGHTS])
    model.compile(keras.optimizers.SGD(RATE), "mse")
    return model


class Step:
    """Forward and backward pass in a dtype, with a loss in float32 as Keras has it.

    Attributes:
        outputs, gradients: of the layers in order.
        back: what each layer hands back.
        start: the gradient of the loss by the model's output.
    """

    def __init__(self, dtype, scale=1.0):
        x, weights = X.astype(dtype), [one.astype(dtype) for one in WEIGHTS]
        with np.errstate(over="ignore", invalid="ignore"):
            first = np.maximum(x * weights[0], dtype(0))
            second = first * weights[1]
            third = second * weights[2]
            error = third.astype(np.float32) - Y
            self.start = (error * np.float32(2 * scale / UNITS)).astype(dtype)
            by_second = self.start * weights[2]
            by_first = by_second * weights[1]
            by_relu = np.where(first > 0, by_first, dtype(0))
            self.gradients = [a.T @ b for a, b in ((x, by_relu), (first, by_second), (second, self.start))]
        self.outputs = [first, second, third]
        self.back = [by_first, by_second]


@pytest.fixture(scope="module")
def findings():
    keras.backend.clear_session()
    reference = model()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        tested = model()
    finally:
        keras.config.set_dtype_policy("float32")
    return compare(reference, tested, PRECISIONS["mixed_float16"], Batch(X, Y), "training", CPU).findings


def like(expected):
    """Counts as they are; errors within float32's rounding."""
    values = vars(expected)
    return {**values, "relative_error": pytest.approx(values["relative_error"], rel=1e-3, abs=1e-7)}


def test_the_step_is_worth_looking_at():
    """Some of it is too small for float16; gradients are lost without a scale and overflow at a large one."""
    lost = [
        compared(a, b, "float16").lost for a, b in zip(Step(np.float32).outputs, Step(np.float16).outputs, strict=True)
    ]
    assert 0 < sum(lost) < 3 * UNITS
    assert compared(Step(np.float32).gradients[0], Step(np.float16).gradients[0], "float16").lost_share > LOST_GRADIENT
    assert not all(np.isfinite(one).all() for one in Step(np.float16, 2.0**24).gradients)


def test_outputs(findings):
    assert [one.layer for one in findings.outputs] == list(LAYERS)
    pairs = zip(findings.outputs, Step(np.float32).outputs, Step(np.float16).outputs, strict=True)
    for found, reference, here in pairs:
        assert found.dtype == "float16"
        assert vars(found.comparison) == like(compared(reference, here, "float16"))
    assert [one.is_output for one in findings.outputs] == [False, False, True]


def fits(exponent):
    return all(np.isfinite(one).all() for one in Step(np.float16, 2.0**exponent).gradients)


def lost(exponent):
    here = Step(np.float16, 2.0**exponent).gradients
    pairs = zip(Step(np.float32).gradients, here, strict=True)
    return max(compared(a, b, "float16", 2.0**exponent).lost_share for a, b in pairs)


def test_loss_scales(findings):
    high = max(e for e in range(25) if fits(e))
    low = min(e for e in range(25) if lost(e) <= LOST_GRADIENT)
    assert 0 < low <= high < 24
    assert findings.scales == LossScales(15, min(15, high), low, high)


def test_gradients(findings):
    reference = Step(np.float32).gradients
    assert [one.layer for one in findings.gradients] == list(LAYERS)
    for exponent, name in ((0, "unscaled"), (findings.scales.settled, "settled")):
        here = Step(np.float16, 2.0**exponent).gradients
        for found, one, other in zip(findings.gradients, reference, here, strict=True):
            expected = compared(one, other, "float16", 2.0**exponent)
            assert vars(getattr(found, name)) == like(expected)
            assert getattr(found, f"{name}_lost") == expected.lost_share
            assert found.known


def test_what_is_handed_back(findings):
    step = Step(np.float16, 2.0**findings.scales.settled)
    largest = {one.layer: one.largest for one in findings.flows}
    assert [one.layer for one in findings.flows] == ["(loss)", "third", "second"]
    assert largest == {
        "(loss)": np.abs(step.start).max(), "third": np.abs(step.back[1]).max(), "second": np.abs(step.back[0]).max()
    }  # fmt: skip


def test_updates(findings):
    for found, weight, gradient in zip(findings.updates, WEIGHTS, Step(np.float32).gradients, strict=True):
        before = np.diag(weight)
        after = before - np.float32(RATE) * gradient
        assert (found.moved, found.kept_in) == (moved(before, after, "float16"), "float32")
    assert any(one.moved.unmoved for one in findings.updates)


def test_the_loss(findings):
    losses = [np.mean((step.outputs[2].astype(np.float32) - Y) ** 2) for step in (Step(np.float32), Step(np.float16))]
    assert findings.loss.reference_largest == pytest.approx(losses[0], rel=1e-5)
    assert findings.loss.largest == pytest.approx(losses[1], rel=1e-5)
