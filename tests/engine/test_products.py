"""mpbench.engine.products: in which dtype the layers of a traced step compute, and what follows for an arm."""

import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.engine.plan import StepSpec
from mpbench.engine.products import Work, described_work, work_by_layer
from mpbench.engine.step import Step
from mpbench.errors import CaseFailure
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
SIZE_PX = 32


def step(model, precision="mixed_float16", phase="training", replicas=1):
    return Step(
        StepSpec(f"users_models:{model}", PRECISIONS[precision], phase, 4, SIZE_PX, None, CPU, replicas), whole=False
    )


def work(model, precision="mixed_float16", phase="training"):
    """What the layers of its step compute."""
    one = step(model, precision, phase)
    calls = one._trace()
    return work_by_layer(one.graph, calls)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", ["attention", "recurrent", "convolutions_of_all_kinds", "sound_step_in_a_function"])
def test_what_follows_the_policy_computes_in_it(model, precision):
    for phase in ("training", "inference"):
        found = work(model, precision, phase)
        assert {one.dtype for one in found} == {PRECISIONS[precision].compute_dtype}
        assert sum(one.share for one in found) == pytest.approx(1)


def test_shares_are_those_of_the_flops_whatever_the_pass():
    for phase in ("training", "inference"):
        found = {one.layer: one for one in work("a_third_hard_float32", phase=phase)}
        assert found["hard"] == Work("hard", "float16", "float32", pytest.approx(1 / 3))
        assert sorted(one.dtype for one in found.values()) == ["float16", "float16", "float32"]


def test_a_loops_body_counts_as_often_as_it_runs():
    found = {one.layer: one.share for one in work("hard_float32_in_a_loop")}
    loop, dense = SIZE_PX * (3 * SIZE_PX + 16) * 16, 16 * 128
    assert found["cell"] == pytest.approx(loop / (loop + dense))


@pytest.mark.parametrize("phase", ["training", "inference"])
@pytest.mark.parametrize(
    ("model", "precision", "words"),
    [
        ("hard_float32", "mixed_float16", "in float32 (hard "),
        ("hard_float32", "mixed_bfloat16", "in float32 (hard "),
        ("hard_float32", "float16", "in float32 (hard "),
        ("hard_float32_in_a_loop", "mixed_float16", "in float32 (cell "),
        ("hard_float16", "float32", "in float16 (hard "),
        ("hard_float16", "tf32", "in float16 (hard "),
        ("hard_float16", "mixed_bfloat16", "in float16 (hard "),
    ],
)
def test_an_arm_that_mostly_computes_in_another_dtype_fails_by_the_layers_name(model, precision, words, phase):
    with pytest.raises(CaseFailure) as caught:
        step(model, precision, phase).trace()
    assert words in str(caught.value)
    assert str(caught.value).endswith("whatever its dtype policy says")


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_float32_in_a_float32_arm_is_what_it_says(precision):
    step("hard_float32", precision).trace()


def test_a_part_is_told_and_measured():
    messages = []
    Step(step("a_third_hard_float32").spec, messages.append)
    products = "33 % of the FLOPs of its matrix products and convolutions in float32"
    assert f"it computes {products} (hard 33 %), whatever its dtype policy says" in messages
    messages.clear()
    Step(step("a_third_declared_float32").spec, messages.append)
    assert f"it computes {products} (declared 33 %), as these layers declare" in messages


def test_a_healthy_model_is_told_nothing():
    messages = []
    Step(step("attention").spec, messages.append)
    assert messages == ["building", "tracing and compiling"]


def test_many_layers_are_named_by_the_largest():
    layers = [Work(f"layer_{i}", "float16", "float32", share) for i, share in enumerate([0.3, 0.2, 0.1, 0.004, 0.001])]
    assert described_work(layers) == (
        "60 % of the FLOPs of its matrix products and convolutions in float32 (layer_0 30 %, layer_1 20 %, "
        "layer_2 10 %, 2 more)"
    )
    assert "(layer_3 under 1 %)" in described_work(layers[3:4])
