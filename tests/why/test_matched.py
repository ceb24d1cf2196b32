"""mpbench.why.reading.matched: what belongs together, and which of two figures counts."""

from case_records import record
from diagnostic_records import end_to_end, peaks, pipeline, profiled_pair, run_of

from mpbench.why.reading.input_verdict import InputVerdict
from mpbench.why.reading.matched import matched


def test_settings_that_differ_never_meet():
    cases = [
        *profiled_pair(),
        *profiled_pair(batch_size=32, base_ms=52, half_ms=26),
        *profiled_pair(phase="inference"),
        *profiled_pair(jit=False, mode="jit=off"),
        *profiled_pair("resnet50"),
    ]
    found = matched([run_of(cases=cases)])
    steps = found.steps
    assert found.notes == []
    assert [(step.setting.model, step.setting.phase, step.setting.batch_size, step.setting.jit) for step in steps] == [
        ("vgg16", "training", 64, True),
        ("vgg16", "training", 32, True),
        ("vgg16", "training", 64, False),
        ("vgg16", "inference", 64, True),
        ("resnet50", "training", 64, True),
    ]
    assert all([arm.name for arm in step.arms] == ["float32", "mixed_float16"] for step in steps)


def test_the_baseline_comes_first_and_controls_stay_out():
    half_first = profiled_pair()[::-1]
    control = (record(control=True, step_profile=half_first[1][0].step_profile), [0.07] * 12)
    (step,) = matched([run_of(cases=[*half_first, control])]).steps
    assert [arm.name for arm in step.arms] == ["float32", "mixed_float16"]
    assert step.base.breakdown.step_seconds == 0.05


def test_of_what_two_runs_hold_the_later_counts():
    old = run_of(cases=profiled_pair(half_ms=30), path="old.json")
    new = run_of(cases=profiled_pair(half_ms=26)[1:], path="new.json", time="2026-06-01T12:00:00+00:00")
    for runs in ([old, new], [new, old]):
        (step,) = matched(runs).steps
        assert [arm.breakdown.step_seconds for arm in step.arms] == [0.05, 0.026]


def test_a_run_of_another_machine_or_commit_is_noted():
    other = run_of(cases=profiled_pair("resnet50"), path="other.json", facts={"driver": "550"})
    found = matched([run_of(cases=profiled_pair()), other])
    steps = found.steps
    assert [step.setting.model for step in steps] == ["vgg16"]
    assert found.notes == ["left out: other.json: measured elsewhere than run.json: driver 580 -> 550"]
    assert matched([run_of(cases=profiled_pair()), run_of(cases=profiled_pair("resnet50"), commit="b" * 40)]).notes == [
        "the runs are of different commits: a model may have changed between them"
    ]


def test_xla_is_advised_only_where_one_run_measured_it_beside():
    off, on = profiled_pair(jit=False, mode="jit=off"), profiled_pair(base_ms=49, half_ms=10, mode="jit=on")
    steps = matched([run_of(cases=[*off, *on])]).steps
    without, with_xla = steps
    assert [arm.compiled_seconds for arm in without.arms] == [0.049, 0.010]
    assert without.verdict[-1] == "Try XLA: measured beside it, the step takes 10.0 ms (2.50 times as fast)."
    assert not any(arm.compiled_seconds for arm in with_xla.arms)
    steps = matched([run_of(cases=off), run_of(cases=on, path="on.json")]).steps
    assert not any(arm.compiled_seconds for arm in steps[0].arms)


def test_a_larger_batch_is_advised_where_a_sweep_measured_it():
    points = [
        one
        for batch, half_ms, rate in ((64, 25, 2560), (128, 40, 3200))
        for one in profiled_pair(
            half_ms=half_ms, batch_size=batch, point=f"batch={batch}", variant=f"batch={batch}", images_per_second=rate
        )
    ]
    steps = matched([run_of(cases=points)]).steps
    assert [step.setting.variant for step in steps] == ["", ""]
    assert steps[0].arms[-1].other_batches == {64: 2560, 128: 3200}
    assert steps[0].verdict[-1] == "Try a larger batch: at 128 the sweep has 3,200 images/s, here 2,560."
    assert not any("batch" in sentence for sentence in steps[1].verdict)


def test_an_input_bound_step_says_so_first():
    steps = [
        *(end_to_end("device", 50), end_to_end("pipeline", 90)),
        *(end_to_end("device", 25, "mixed_float16"), end_to_end("pipeline", 88, "mixed_float16")),
    ]
    (step,) = matched([run_of(*steps, pipeline(87), cases=profiled_pair())]).steps
    assert {name: of.verdict for name, of in step.inputs.items()} == dict.fromkeys(
        ("float32", "mixed_float16"), InputVerdict.INPUT_BOUND
    )
    assert step.verdict[0] == (
        "INPUT-BOUND: mixed_float16 makes the step 2.0x faster, you see 1.0x: the pipeline delivers 736 images/s and "
        "the step could take 2,560."
    )
    assert len(step.verdict) <= 6
    (step,) = matched([run_of(*steps, pipeline(1), cases=profiled_pair())]).steps
    assert step.inputs["float32"].verdict == InputVerdict.COMPUTE_BOUND
    assert not any("input" in sentence.lower() for sentence in step.verdict)


def test_the_input_alone_is_a_step_too():
    (step,) = matched([run_of(end_to_end("device", 25), end_to_end("pipeline", 88))]).steps
    assert (step.arms, len(step.verdict)) == ([], 1)
    assert step.verdict[0].startswith("INPUT-BOUND: float32 is input-bound: an end-to-end step takes 88 ms")


def test_a_pipeline_of_another_kind_is_not_that_of_the_end_to_end_step():
    steps = [end_to_end("device", 25), end_to_end("pipeline", 26)]
    for other in (pipeline(87, workers=1), pipeline(87, batch_size=8)):
        (step,) = matched([run_of(*steps, other)]).steps
        assert "an end-to-end step takes 26 ms" in step.inputs["float32"].sentence


def test_peaks_are_of_the_same_device():
    (step,) = matched([run_of(*peaks(), cases=profiled_pair())]).steps
    assert step.roofs["mixed_float16"]["conv"].bound_by == "compute"
    (step,) = matched([run_of(*peaks(device_name="another"), cases=profiled_pair())]).steps
    assert not any(step.roofs.values())
