"""mpbench.numerics.verdict and findings: what follows from the findings of a step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_findings import comparison, findings, gradient, output, update

from mpbench.numerics.findings import BackwardFlow, first_not_finite, first_vanished, lost_share
from mpbench.numerics.loss_scales import LossScales
from mpbench.numerics.verdict import judge, named
from mpbench.records.numerics import Pass, Safety

LARGEST = 65504.0


def judged(**changed):
    """Verdict, pass and layers of the first concern, and its sentence."""
    judgement = judge(findings(**changed))
    if not judgement.concerns:
        return judgement.verdict, None, (), judgement.sentence
    first = judgement.concerns[0]
    assert first.verdict is judgement.verdict
    return first.verdict, first.where, first.layers, first.sentence


def test_a_sound_step_is_safe_and_its_margins_are_told():
    verdict, _, _, sentence = judged()
    assert verdict is Safety.SAFE
    assert "the largest output (first) is 15.0 powers of two below float16's largest number, 65504" in sentence
    assert "loss scales from 2^0 to 2^17 serve, 2^15 has settled" in sentence
    assert "nothing of a gradient is lost" in sentence


def test_an_overflow_that_reaches_the_end_breaks_the_first_layer():
    broken = dict(largest=0.0, not_finite=5)
    outputs = (output("first", reference_largest=2e6, **broken), output("second", is_output=True, **broken))
    verdict, where, layers, sentence = judged(outputs=outputs, scales=None, gradients=(), flows=(), updates=())
    assert (verdict, where, layers) == (Safety.BREAKS, Pass.FORWARD, ("first",))
    assert sentence == (
        "first is not finite in the forward pass: 2e+06 in float32, beyond float16's largest number, 65504"
    )


def test_an_overflow_within_a_layer_whose_values_would_fit():
    outputs = (output("first", not_finite=1, reference_largest=3.0), output("second", is_output=True, not_finite=1))
    assert "though its values would fit (3 in float32)" in judged(outputs=outputs)[3]


def test_an_overflow_that_ends_before_the_end_is_to_be_watched():
    outputs = (output("first", not_finite=1, reference_largest=7e4), output("second", is_output=True))
    verdict, where, layers, sentence = judged(outputs=outputs)
    assert (verdict, where, layers) == (Safety.WATCH, Pass.FORWARD, ("first",))
    assert sentence.endswith("what follows is finite again")


def test_operations_are_named_by_the_layer_that_they_stand_before_and_blamed_on_the_one_around():
    outputs = (
        output("block/norm", before=True, owner="block", not_finite=1),
        output("end", is_output=True, not_finite=1),
    )
    _, _, layers, sentence = judged(outputs=outputs)
    assert layers == ("block",)
    assert sentence.startswith("operations before block/norm is not finite")
    outputs = (output("end", before=True, owner="", not_finite=1), output("end", is_output=True, not_finite=1))
    assert judged(outputs=outputs)[2] == ()


def test_a_loss_that_alone_is_not_finite():
    verdict, where, layers, sentence = judged(loss=comparison(not_finite=1))
    assert (verdict, where, layers) == (Safety.BREAKS, Pass.FORWARD, ())
    assert "the loss is not finite" in sentence


@given(st.floats(0.01, 6))
def test_less_than_three_powers_of_two_of_headroom_are_to_be_watched(room):
    verdict, where, layers, _ = judged(outputs=(output("first"), output("second", LARGEST / 2**room)))
    if room < 3:
        assert (verdict, where, layers) == (Safety.WATCH, Pass.FORWARD, ("second",))
    else:
        assert verdict is Safety.SAFE


def test_headroom_is_that_of_the_outputs_own_dtype():
    assert judged(outputs=(output("first", dtype="float32", largest=1e6),))[0] is Safety.SAFE


@pytest.mark.parametrize(
    ("lost", "error", "is_output", "training", "verdict"),
    [
        (50, 0.9, False, True, Safety.WATCH),
        (50, 0.001, False, True, Safety.SAFE),  # dead channels
        (50, 0.001, True, True, Safety.WATCH),  # probabilities that a loss takes logarithms of
        (50, 0.001, True, False, Safety.SAFE),
        (5, 0.9, True, True, Safety.SAFE),
        (6, 0.9, True, True, Safety.WATCH),
    ],
)
def test_outputs_that_became_zero(lost, error, is_output, training, verdict):
    one = output("second", is_output=is_output, lost=lost, too_small=lost, relative_error=error)
    assert judged(outputs=(output("first"), one), training=training)[0] is verdict


def test_a_scale_that_settles_below_the_initial_one_is_no_concern():
    assert judged(scales=LossScales(15, 3, 0, 3), first_to_overflow="first")[0] is Safety.SAFE


def test_a_narrow_window_is_to_be_watched_where_dynamic_scaling_must_meet_it():
    verdict, where, layers, sentence = judged(scales=LossScales(15, 12, 10, 12), first_to_overflow="first")
    assert (verdict, where, layers) == (Safety.WATCH, Pass.BACKWARD, ("first",))
    assert "only loss scales from 2^10 to 2^12" in sentence
    assert judged(scales=LossScales(None, 0, 10, 12))[0] is Safety.SAFE


def test_gradients_that_are_not_finite_at_any_scale():
    flows = (BackwardFlow("(loss)", "float32", 1.0, 0), BackwardFlow("second", "float16", 0.0, 7))
    verdict, where, layers, sentence = judged(scales=LossScales(15, None, None, None), flows=flows)
    assert (verdict, where, layers) == (Safety.BREAKS, Pass.BACKWARD, ("second",))
    assert sentence == "second: its gradients are not finite at any loss scale"


@pytest.mark.parametrize(("lost", "verdict"), [(0.05, Safety.SAFE), (0.051, Safety.WATCH), (1.0, Safety.BREAKS)])
def test_a_lost_gradient(lost, verdict):
    found = judged(gradients=(gradient("first", settled_lost=lost), gradient("second")))
    assert found[0] is verdict
    if verdict is not Safety.SAFE:
        assert found[1:3] == (Pass.BACKWARD, ("first",))
        assert found[3].startswith("first/kernel")


def test_what_float32_does_not_know_cannot_be_lost():
    assert judged(gradients=(gradient("first", settled_lost=1.0, noise=0.5),))[0] is Safety.SAFE


def test_a_gradient_that_vanishes_is_blamed_on_the_layer_where_it_does():
    flows = (BackwardFlow("(loss)", "float32", 1.0, 0), BackwardFlow("second", "float16", 0.0, 0))
    _, _, layers, sentence = judged(flows=flows, gradients=(gradient("first", settled_lost=1.0),))
    assert layers == ("second", "first")
    assert sentence == "first/kernel: all of the gradient is 0 at the loss scale 2^15, from second on"


def test_without_dynamic_scaling_the_headroom_of_gradients_counts():
    flows = (BackwardFlow("second", "float16", LARGEST / 4, 0),)
    assert judged(flows=flows)[0] is Safety.SAFE
    verdict, where, layers, sentence = judged(flows=flows, scales=LossScales(None, 0, 0, 2))
    assert (verdict, where, layers) == (Safety.WATCH, Pass.BACKWARD, ("second",))
    assert "2.0 powers of two below" in sentence


@pytest.mark.parametrize(
    ("unmoved", "kept_in", "verdict"),
    [
        (100, "float32", Safety.SAFE),
        (4, "float16", Safety.SAFE),
        (20, "float16", Safety.WATCH),
        (100, "float16", Safety.WATCH),  # half of all weights
        (100, "bfloat16", Safety.WATCH),
    ],
)
def test_weights_that_an_update_does_not_move(unmoved, kept_in, verdict):
    updates = (update("first", unmoved=unmoved, kept_in=kept_in), update("second", kept_in=kept_in))
    assert judged(updates=updates)[0] is verdict


def test_a_model_that_hardly_moves_does_not_train():
    updates = (update("first", unmoved=100, kept_in="float16"), update("second", unmoved=3, kept_in="float16"))
    verdict, where, layers, sentence = judged(updates=updates)
    assert (verdict, where, layers) == (Safety.BREAKS, Pass.UPDATE, ("first", "second"))
    assert "51.5 % of the weights that are kept in float16 (most in first/kernel)" in sentence


def test_a_single_weight_that_does_not_move_at_all():
    updates = (update("gamma", updated=1, unmoved=1, kept_in="float16"), update("second", 1000, kept_in="float16"))
    verdict, where, layers, sentence = judged(updates=updates)
    assert (verdict, where, layers) == (Safety.WATCH, Pass.UPDATE, ("gamma",))
    assert sentence == "gamma/kernel: an update is too small to move any of it in float16"


def test_weights_that_are_not_finite_after_the_step():
    verdict, where, layers, _ = judged(updates=(update("first", kept_in="float16", not_finite=1),))
    assert (verdict, where, layers) == (Safety.BREAKS, Pass.UPDATE, ("first",))
    found = judged(broken_state=(("norm/moving_variance", "norm"),))
    assert found[:3] == (Safety.BREAKS, Pass.UPDATE, ("norm",))
    assert found[3].startswith("norm/moving_variance: not finite after a step")


def test_where_values_cannot_be_compared_only_overflow_counts():
    lost = dict(
        outputs=(output("first", lost=90, too_small=90, relative_error=1.0), output("second", is_output=True)),
        gradients=(gradient("first", settled_lost=1.0),),
        updates=(update("first", unmoved=100, kept_in="float16"),),
    )
    assert judged(**lost)[0] is Safety.BREAKS
    assert judged(**lost, unlike="it draws")[0] is Safety.SAFE
    assert judged(outputs=(output("first", LARGEST),), unlike="it draws")[0] is Safety.WATCH


def test_what_breaks_comes_before_what_is_to_be_watched():
    outputs = (output("first", LARGEST / 2), output("second", is_output=True))
    judgement = judge(findings(outputs=outputs, gradients=(gradient("second", settled_lost=1.0),)))
    assert [one.verdict for one in judgement.concerns] == [Safety.BREAKS, Safety.WATCH]


def test_the_first_layer_that_is_not_finite_on_the_way_back():
    flows = [
        BackwardFlow("(loss)", "float32", 1.0, 0),
        BackwardFlow("c", "float16", 1.0, 0),
        BackwardFlow("b", "float16", 1.0, 2),
    ]
    fine, bad = comparison(), comparison(not_finite=1)
    assert first_not_finite(flows, [("a", bad), ("b", bad), ("c", fine)]) == "b"
    assert first_not_finite(flows, [("a", bad), ("b", bad), ("c", bad)]) == "c"
    assert first_not_finite(flows[:2], [("a", bad), ("c", fine)]) == "a"
    assert first_not_finite(flows[:2], [("a", fine)]) == ""


def test_where_a_gradient_vanishes():
    flows = [
        BackwardFlow("c", "float16", 1.0, 0),
        BackwardFlow("b", "float16", 0.0, 0),
        BackwardFlow("a", "float16", 0.0, 0),
    ]
    assert first_vanished(flows) == "b"
    assert first_vanished(flows[:1]) == first_vanished([]) == ""


def test_a_sum_that_cancels_out_is_not_lost_but_nothing_that_comes_back_is():
    vanished = comparison(0.0, reference_largest=1.0, lost=100)
    assert lost_share(vanished, handed_back=0.5) == 0
    assert lost_share(vanished, handed_back=0.0) == 1
    assert lost_share(comparison(lost=30, too_small=20), handed_back=0.5) == 0.2


def test_headroom_of_what_is_not_finite():
    assert output("a", not_finite=1, reference_largest=2 * LARGEST).headroom_log2 == pytest.approx(-1)
    assert output("a", not_finite=1, reference_largest=1.0).headroom_log2 == -math.inf


def test_a_sentence_names_a_few():
    assert named(["a", "b", "a"]) == "a, b"
    assert named(list("abcde")) == "a, b, c and 2 more"
