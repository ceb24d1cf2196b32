"""mpbench.why.reading.explanation: planted causes are named, and nothing is named that the figures do not support."""

import dataclasses

import pytest
from case_records import record
from probe_records import feed, found_in, layer, part, peaks, pipeline, profile
from saved_runs import cases

from mpbench.why.reading.account import KEPT, UNEXPLAINED, UPDATE
from mpbench.why.reading.explanation import dominant, explanation, not_faster
from mpbench.why.reading.feed_verdict import COMPUTE_BOUND, INPUT_BOUND
from mpbench.why.reading.roofline import COMPUTE, LAUNCH, MEMORY

KINDS = {
    COMPUTE: {"flops": 1e10, "minimal_bytes": 1e6, "kernels": 1},
    MEMORY: {"flops": 1e3, "minimal_bytes": 1e9, "kernels": 1},
    LAUNCH: {"flops": 1e3, "minimal_bytes": 1e3, "kernels": 1000},
}


def phase_of(*probes, cases=(), name="training"):
    return {phase.name: phase for phase in explanation(found_in(*probes, cases=cases))}[name]


def planted(kind, before_ms, after_ms, phase="inference", **changes):
    """A layer of a known cause, in both precisions."""
    return [
        layer(kind, before_ms, phase=phase, **KINDS[kind]),
        layer(kind, after_ms, "mixed_float16", phase, **KINDS[kind] | changes),
    ]


@pytest.mark.parametrize("cause", KINDS)
def test_a_planted_cause_is_named(cause):
    others = [one for kind in KINDS if kind != cause for one in planted(kind, 3, 2)]
    pairs = cases(100, 70, phase="inference")
    phase = phase_of(*planted(cause, 90, 62), *others, *peaks(), cases=pairs, name="inference")
    assert {name: dominant(rows) for name, rows in phase.accounts.items()} == dict.fromkeys(phase.accounts, cause)
    (first, second, third) = phase.conclusions
    assert first.startswith(f"Most of the float32 step: {cause} layers")
    assert "90 % of the float32 step" in first
    assert "89 % of the mixed_float16 step" in second
    assert third.startswith(f"Most of what mixed_float16 saves: {cause} layers")


def test_tiny_layers_that_take_longer_one_by_one_than_in_the_step_are_still_named():
    tiny = planted(LAUNCH, 150, 150)
    phase = phase_of(*tiny, *peaks(), cases=cases(100, 100, phase="inference"), name="inference")
    assert dominant(phase.accounts["float32"]) == LAUNCH
    assert "100 % of what the parts of the float32 step take one by one" in phase.conclusions[0]


def test_layers_that_take_much_longer_one_by_one_name_nothing():
    """As where XLA makes one kernel of them: the step need not be bound by what they are."""
    tiny = planted(LAUNCH, 250, 250)
    phase = phase_of(*tiny, *peaks(), cases=cases(100, 100, phase="inference"), name="inference")
    assert phase.conclusions == []


def test_an_update_that_did_not_get_faster_is_named():
    parts = [
        *(part(name, ms) for name, ms in {"step": 100, "gradients": 50, "update": 48}.items()),
        *(part(name, ms, "mixed_float16") for name, ms in {"step": 70, "gradients": 21, "update": 47}.items()),
    ]
    layers = planted(COMPUTE, 48, 20, "training")
    phase = phase_of(*parts, *layers, *peaks())
    assert not_faster(phase.differences["mixed_float16"]) == UPDATE
    assert phase.conclusions[-1] == (
        "The largest part that did not get faster: optimizer update, 67 % of the mixed_float16 step (48 -> 47 ms)."
    )
    assert phase.conclusions[-2].startswith("Most of what mixed_float16 saves: compute-bound layers, 48 -> 20 ms")


def test_layers_kept_in_float32_are_named():
    kept = [
        layer("softmax", 60, phase="inference", **KINDS[MEMORY]),
        layer("softmax", 60, "mixed_float16", "inference", compute_dtype="float32", **KINDS[MEMORY]),
    ]
    phase = phase_of(*kept, *peaks(), cases=cases(100, 80, phase="inference"), name="inference")
    assert not_faster(phase.differences["mixed_float16"]) == KEPT


def test_what_is_mostly_unexplained_names_no_cause():
    layers = planted(COMPUTE, 20, 20)
    phase = phase_of(*layers, *peaks(), cases=cases(100, 70, phase="inference"), name="inference")
    assert phase.conclusions == []
    # The saving, too, is where nobody looked.
    layers = planted(COMPUTE, 60, 55)
    phase = phase_of(*layers, *peaks(), cases=cases(100, 60, phase="inference"), name="inference")
    assert not any("saves" in sentence for sentence in phase.conclusions)


def test_no_saving_is_explained_that_is_not_sure():
    pairs = cases(100, 97, phase="inference")
    wide = {"speedup_low": 0.9, "speedup_high": 1.1, "noisy": True}
    pairs[1] = (dataclasses.replace(pairs[1][0], **wide), pairs[1][1])
    phase = phase_of(*planted(COMPUTE, 90, 87), *peaks(), cases=pairs, name="inference")
    assert phase.headlines["mixed_float16"].direction == 0
    assert not any("saves" in sentence or "costs" in sentence for sentence in phase.conclusions)
    assert "NOISY: 1 of 2 speed cases: the time limit came before their intervals were narrow" in phase.cautions


def test_what_costs_is_named_where_it_is_slower():
    pairs = cases(100, 130, phase="inference")
    phase = phase_of(*planted(COMPUTE, 90, 118), *peaks(), cases=pairs, name="inference")
    assert "Most of what mixed_float16 costs: compute-bound layers, 90 -> 118 ms." in phase.conclusions


def test_a_step_behind_a_slow_loader_is_input_bound():
    feeds = [
        feed("device", 100),
        feed("fed", 101),
        feed("device", 60, "mixed_float16"),
        feed("fed", 96, "mixed_float16"),
    ]
    phase = phase_of(*feeds, pipeline(95))
    assert [verdict.verdict for verdict in phase.feed_verdicts.values()] == [COMPUTE_BOUND, INPUT_BOUND]
    (sentence,) = phase.conclusions
    assert sentence.startswith("training: mixed_float16 makes the step 1.7x faster, you see 1.1x: the pipeline ")


def test_without_the_pipeline_alone_the_fed_step_decides():
    feeds = [
        feed("device", 100),
        feed("fed", 120),
        feed("device", 100, "mixed_float16"),
        feed("fed", 105, "mixed_float16"),
    ]
    phase = phase_of(*feeds)
    assert [verdict.verdict for verdict in phase.feed_verdicts.values()] == [INPUT_BOUND, COMPUTE_BOUND]


def test_what_is_between_launch_bound_layers_is_launch_overhead():
    rows = {COMPUTE: 0.0, MEMORY: 0.1, LAUNCH: 2.0, UNEXPLAINED: 6.0}
    assert dominant(rows) == LAUNCH
    # Not where other layers take more, where the step is something else, or where the layers alone take longer.
    assert dominant(rows | {MEMORY: 2.5}) is None
    assert dominant(rows | {UPDATE: 9.0}) == UPDATE
    assert dominant(rows | {MEMORY: 1.9, UNEXPLAINED: -3.0}) is None


def test_the_headline_is_that_of_the_speed_cases_with_their_interval():
    parts = [part("step", 100, rounds=12), part("step", 60, "mixed_float16", rounds=12)]
    headline = phase_of(*parts, cases=cases(150, 100)).headlines["mixed_float16"]
    assert (headline.source, headline.speedup) == ("speed", pytest.approx(1.5))
    assert (headline.interval.low, headline.interval.high) == pytest.approx((1.485, 1.515))
    headline = phase_of(*parts).headlines["mixed_float16"]
    assert (headline.source, headline.speedup) == ("parts", pytest.approx(5 / 3))
    assert headline.interval.low == pytest.approx(5 / 3)
    few = [part("step", 100, rounds=3), part("step", 60, "mixed_float16", rounds=3)]
    headline = phase_of(*few).headlines["mixed_float16"]
    assert (headline.interval, headline.speedup, headline.direction) == (None, pytest.approx(5 / 3), 1)


def test_without_a_baseline_nothing_is_compared():
    phase = phase_of(part("step", 60, "mixed_float16"), part("update", 40, "mixed_float16"))
    assert (phase.headlines, phase.differences, phase.allowed) == ({}, {}, {})
    assert dominant(phase.accounts["mixed_float16"]) == UPDATE


def test_what_is_missing_is_said_with_its_command():
    assert [line.split(": ")[-1].split()[1] for line in phase_of(part("step", 100)).missing] == [
        "bench/test_layers.py",
        "bench/test_input_pipeline.py",
        "bench/test_profile.py",
    ]
    inference = phase_of(layer("conv", 1, phase="inference"), name="inference").missing
    assert [line.split(": ")[1] for line in inference] == [
        "the step",
        "peaks of this device, so that layers have no class",
        "the input",
        "a profile",
    ]
    assert "bench/test_step_parts.py" in phase_of(layer("conv", 1)).missing[1]
    everything = [part("step", 1), layer("conv", 1), *peaks(), feed("fed", 1), profile("copy=1")]
    assert phase_of(*everything).missing == []


def test_layers_that_do_not_hold_all_weights_are_said_to_be_incomplete():
    speed = [(record(parameters=1000), [0.1] * 12)]
    whole = layer("conv", 1, count=2, parameters=500)
    assert phase_of(whole, cases=speed).cautions == []
    assert phase_of(layer("conv", 1, parameters=500), cases=speed).cautions == [
        "layers are missing: those measured in float32 hold 500 of 1,000 weights"
    ]


def test_others_on_the_machine_are_said():
    assert phase_of(part("step", 100, others_cpu_share=0.35)).cautions == [
        "others used up to 35 % of the CPU while this was measured"
    ]


def test_changes_of_layers_are_ordered_by_what_a_step_gains_or_loses():
    probes = [
        *(layer(name, ms, count=count) for name, ms, count in [("a", 3, 1), ("b", 2, 10), ("c", 5, 1)]),
        *(layer(name, ms, "mixed_float16", count=n) for name, ms, n in [("a", 2, 1), ("b", 1, 10), ("c", 9, 1)]),
        layer("d", 1, "mixed_float16"),
    ]
    changes = phase_of(*probes).changes("mixed_float16")
    assert [(change.after.record.layer, round(1000 * change.saved)) for change in changes] == [
        ("b", 10),
        ("c", -4),
        ("a", 1),
    ]
