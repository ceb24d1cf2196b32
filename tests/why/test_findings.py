"""mpbench.why.reading.findings: what belongs together is matched, and what does not is named."""

import dataclasses

import pytest
from case_records import record
from probe_records import feed, layer, part, peak, pipeline, profile, run_of
from saved_runs import cases

from mpbench.why.reading.findings import Figure, Setting, interval_of, matched, merged


def test_each_kind_is_entered_where_it_belongs():
    probes = [
        part("step", 100),
        part("update", 40),
        layer("conv", 3, "mixed_float16", "inference"),
        feed("fed", 110),
        pipeline(20),
        peak("copy", 1, "mixed_float16"),
        profile("copy=0.1"),
    ]
    (found,), left_out = matched([run_of(*probes, cases=cases(150, 100))])
    assert (found.setting.model, found.setting.batch_size, left_out, found.notes) == ("vgg16", 64, [], [])
    assert {key: figure.seconds for key, figure in found.parts.items()} == {
        ("float32", "step"): 0.1,
        ("float32", "update"): 0.04,
    }
    assert found.layers["inference", "mixed_float16"]["conv"].seconds == 0.003
    assert found.feeds["training", "float32"]["fed"].seconds == 0.11
    assert [figure.seconds for figure in found.pipelines] == [0.02]
    assert [figure.record.what for figure in found.peaks] == ["copy"]
    assert list(found.profiles) == [("training", "float32")]
    assert set(found.speed) == {("training", "float32"), ("training", "mixed_float16")}
    assert found.precisions == ["float32", "mixed_float16"]


@pytest.mark.parametrize(
    "change", [{"batch_size": 8}, {"image_size": 80}, {"jit": False}, {"device": "cpu"}, {"device_name": "H100"}]
)
def test_settings_never_meet(change):
    here, there = part("step", 100), part("update", 40, **change)
    found, _ = matched([run_of(here, there)])
    assert [list(of.parts) for of in found] == [[("float32", "step")], [("float32", "update")]]
    assert found[0].setting != found[1].setting


def test_a_setting_of_which_only_the_speed_is_known_is_left_out_by_name():
    speed = [pair for batch in (8, 16) for pair in cases(150, 100, batch_size=batch)]
    found, left_out = matched([run_of(part("step", 100), cases=speed)])
    assert [of.setting.batch_size for of in found] == [64]
    assert not found[0].speed
    (line,) = left_out
    assert line.startswith("left out: vgg16 (NVIDIA V100, batch 8, 224x224 px, XLA on; NVIDIA V100, batch 16, ")


def test_controls_and_variants_are_other_experiments():
    pairs = [(record(control=True), [0.1] * 12), (record(variant="batch=8", batch_size=32), [0.1] * 12)]
    (found,), left_out = matched([run_of(part("step", 100), cases=pairs)])
    assert (found.speed, left_out) == ({}, [])


def test_peaks_and_pipelines_of_other_settings_are_left_out_by_name():
    probes = [part("step", 100), peak("copy", 1, jit=False), peak("matmul", 1, device_name="H100")]
    (found,), _ = matched([run_of(*probes, pipeline(20, batch_size=8))])
    assert (found.peaks, found.pipelines) == ([], [])
    assert found.notes == [
        "left out: the pipeline at batch 8, 224x224 px",
        "left out: peaks, measured with XLA off",
    ]


def test_of_two_figures_of_one_thing_the_last_is_taken_and_it_is_said():
    one = run_of(part("step", 100))
    another = {"my/test.py::test_step[vgg16]": part("step", 90)}
    (found,), _ = matched([dataclasses.replace(one, probes={**one.probes, **another})])
    assert found.parts["float32", "step"].seconds == 0.09
    assert found.notes == ["more than one figure of float32 step: the last one is taken"]


def test_of_two_runs_the_later_counts_whatever_their_order():
    earlier = run_of(part("step", 100), part("update", 40), path="a.json")
    later = run_of(part("step", 90), path="b.json", time="2026-05-02T12:00:00+00:00")
    for order in ([earlier, later], [later, earlier]):
        runs, notes = merged(order)
        (found,), _ = matched(runs)
        assert {key[1]: figure.seconds for key, figure in found.parts.items()} == {"step": 0.09, "update": 0.04}
        assert (notes, found.notes) == ([], [])


def test_a_run_of_another_machine_is_left_out_and_says_what_differs():
    runs, notes = merged([run_of(path="a.json"), run_of(path="b.json", facts={"driver": "550", "gpu": None})])
    assert [run.path.name for run in runs] == ["a.json"]
    assert notes == ["left out: b.json: measured elsewhere than a.json: gpu NVIDIA V100 -> None, driver 580 -> 550"]


def test_different_commits_are_said():
    _, notes = merged([run_of(), run_of(commit="b" * 40)])
    assert notes == ["the runs are of different commits: a model may have changed between them"]


def test_rounds_pair_by_their_blocks_and_only_within_a_run():
    base = Figure(part("step", 1, rounds=6).record, (2.0, 4.0, 2.0, 4.0, 2.0, 4.0))
    record = dataclasses.replace(part("step", 1, "mixed_float16").record, rounds=5, unpaired_blocks="1")
    other = Figure(record, (1.0, 1.0, 2.0, 1.0, 2.0))
    assert other.blocks == [0, 2, 3, 4, 5]
    interval = interval_of(base, other)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((2, 2, 2))
    assert interval_of(base, dataclasses.replace(other, source=1)) is None
    assert interval_of(base, dataclasses.replace(other, rounds=(1.0,) * 3)) is None


def test_the_baseline_is_what_the_speed_cases_say():
    tf32 = [pair for pair in cases(150, 100, baseline="tf32")]
    (found,), _ = matched([run_of(part("step", 100), cases=tf32)])
    assert found.baseline == "tf32"
    (found,), _ = matched([run_of(part("step", 100))])
    assert found.baseline == "float32"
    (found,), _ = matched([run_of(part("step", 100, "mixed_float16"))])
    assert found.baseline is None


def test_a_setting_says_what_it_is():
    assert str(Setting.of(record(device="cpu", jit=False))) == "a CPU, batch 64, 224x224 px, XLA off"
