"""mpbench.tables: the words and figures that people read, from records."""

from records import pair, record

from mpbench.record import Measured
from mpbench.tables import CPU_NOTE, not_comparable, phase_table, summary, sweep_table


def thesis_run(**changes):
    return [
        *pair("vgg16", 303, 196, **changes),
        *pair("inception_v3", 195, 133, **changes),
        *pair("resnet152_v2", 492, 271, **changes),
    ]


def measured(*args, **changes):
    return Measured(record(*args, **changes), [0.1] * 12)


def text(cases):
    return "\n".join(summary(cases))


def row_of(lines, model):
    return next(line for line in lines.splitlines() if line.startswith(model)).split()


def test_the_thesis_own_figures_give_its_table_4():
    shown = text(thesis_run())
    assert shown.startswith(
        "Table 4, training: median ms/step on NVIDIA V100, batch 64, 224x224 px, XLA on, profile paper\n"
    )
    for model, less in (("vgg16", "35.3"), ("inception_v3", "31.8"), ("resnet152_v2", "44.9")):
        assert less in row_of(shown, model)
    assert row_of(shown, "vgg16")[2:5] == ["303.00", "196.00", "107.00"]
    assert "1.546 [1.530, 1.561]" in shown
    assert row_of(shown, "vgg16")[-4:] == ["303", "->", "196", "1.55"]
    assert CPU_NOTE not in shown


def test_inference_is_table_5_and_both_are_shown():
    shown = text([*pair("vgg16", 138, 100, phase="inference"), *thesis_run()])
    assert shown.index("Table 4, training") < shown.index("Table 5, inference")
    assert row_of(shown[shown.index("Table 5") :], "vgg16")[-4:] == ["138", "->", "100", "1.38"]


def test_the_question_is_answered_from_the_intervals():
    assert (
        "Do all benefit equally from mixed_float16? No: resnet152_v2 more than vgg16 "
        "and inception_v3; vgg16 more than inception_v3." in text(thesis_run())
    )
    assert "No: resnet152_v2 more than vgg16 and inception_v3; not distinguishable: vgg16 and inception_v3." in text(
        thesis_run(half_width=0.04)
    )
    assert "Not distinguishable: the intervals of vgg16, inception_v3, resnet152_v2 overlap." in text(
        thesis_run(half_width=0.2)
    )


def test_models_that_lose_are_named():
    shown = text([*pair("vgg16", 150, 800), *pair("inception_v3", 20, 18)])
    assert "No: inception_v3 more than vgg16. Slower with it: vgg16." in shown


def test_one_model_leaves_the_question_unasked():
    assert "Do all benefit" not in text(pair("vgg16", 303, 196))


def test_a_cpu_says_that_it_is_one():
    shown = text(pair("vgg16", 150, 800, device="cpu", memory_kind="host_rss"))
    assert "on a CPU" in shown
    assert "process MiB" in shown
    assert shown.endswith(CPU_NOTE)


def test_what_a_reader_must_know_is_said_in_words():
    shown = text(pair("vgg16", 303, 196, noisy=True, warmup_settled=False, skipped_steps=3))
    assert "] NOISY" in shown
    assert "NOISY: vgg16-mixed_float16 (12 rounds): the time limit" in shown
    assert "WARM-UP: vgg16-mixed_float16 (6 rounds): half the time limit" in shown
    assert "SKIPPED: vgg16-mixed_float16: loss scaling dropped 3 steps" in shown


def test_the_control_is_the_noise_floor_and_no_row():
    interval = {"speedup": 1.002, "speedup_low": 0.995, "speedup_high": 1.009}
    control = Measured(record(control=True, baseline="float32", **interval), [0.303] * 12)
    shown = text([*pair("vgg16", 303, 196), control])
    assert "noise floor: vgg16: float32 against itself 1.002 [0.995, 1.009]" in shown
    assert sum(line.startswith("vgg16") for line in shown.splitlines()) == 1
    off = Measured(record(control=True, baseline="float32", **interval | {"speedup_low": 1.001}), [0.303] * 12)
    assert "1 is outside" in text([*pair("vgg16", 303, 196), off])


def test_cases_without_a_baseline_show_their_own_figures():
    shown = text([Measured(record("vgg16", "mixed_float16"), [0.196] * 12)])
    assert row_of(shown, "vgg16") == ["vgg16", "mixed_float16", "196.00", "211.2", "5120"]
    assert "speedup" not in shown


def test_rows_with_and_without_a_baseline_keep_their_columns():
    shown = text([*pair("vgg16", 303, 196), Measured(record("inception_v3", "mixed_float16"), [0.133] * 12)])
    header, _, full, alone = shown.splitlines()[1:5]
    end = header.index(" ms", header.index("float32 ms") + 10) + 3
    assert full[:end].split()[-1] == "196.00"
    assert alone[:end].split()[-1] == "133.00"


def test_two_groups_of_one_model_keep_their_own_baselines():
    cases = [*pair("vgg16", 303, 196), *pair("vgg16", 600, 100, variant="slow=True")]
    cases[2] = Measured(record("vgg16", variant="slow=True"), cases[2].rounds)
    shown = text(cases)
    assert "303.00" in row_of(shown, "vgg16  ")
    assert "600.00" in row_of(shown, "vgg16 slow=True")
    assert "No: vgg16 slow=True more than vgg16." in shown


def test_settings_that_differ_between_rows_are_all_named():
    cases = [*pair("vgg16", 303, 196), *pair("my:model", 20, 10, jit=False)]
    assert "XLA on/off" in text(cases)


def test_tf32_where_there_is_none_is_said():
    interval = {"speedup": 1.0, "speedup_low": 0.99, "speedup_high": 1.01, "baseline": "float32"}
    without = Measured(record(precision="tf32", **interval), [0.303] * 12)
    assert "TF32: vgg16-tf32: this device has no TF32" in text([*pair("vgg16", 303, 196), without])


def test_what_cannot_be_compared_is_named():
    now = record()
    assert not_comparable(now, record(images_per_second=1.0)) is None
    assert not_comparable(now, record(batch_size=2, jit=False)) == (
        "NOT COMPARABLE: training, vgg16-float32: batch_size 2 -> 64, jit False -> True"
    )


def test_nothing_measured_nothing_shown():
    assert summary([]) == []


def test_a_sweep_is_a_row_per_model_and_a_column_per_point():
    cases = [
        case
        for batch, speedup in ((8, 1.2), (16, 1.5))
        for case in (
            measured("vgg16", "float32", variant=f"batch={batch}", point=f"batch={batch}", batch_size=batch),
            measured(
                "vgg16",
                "mixed_float16",
                variant=f"batch={batch}",
                point=f"batch={batch}",
                batch_size=batch,
                baseline="float32",
                speedup=speedup,
                speedup_low=speedup - 0.01,
                speedup_high=speedup + 0.01,
            ),
        )
    ]
    title, header, _, row = sweep_table(cases)
    assert title == "Sweep, training: speedup over float32 [95 % interval]"
    assert header.split() == ["model", "precision", "batch=8", "batch=16"]
    assert "1.200 [1.190, 1.210]" in row
    assert "1.500 [1.490, 1.510]" in row
    assert sweep_table([measured("vgg16", "float32")]) == []


def test_of_the_largest_batches_no_times_are_subtracted():
    base = measured("vgg16", "float32", variant="batch=max", point="batch=max", batch_size=64)
    mixed = measured(
        "vgg16",
        "mixed_float16",
        variant="batch=max",
        point="batch=max",
        batch_size=112,
        baseline="float32",
        speedup=1.7,
        speedup_low=1.6,
        speedup_high=1.8,
    )
    text = "\n".join(phase_table([base, mixed]))
    assert "less ms" not in text
    assert "64 -> 112" in text
    swept = "\n".join(sweep_table([base, mixed]))
    assert "speedup in images/s over float32" in swept
    assert "1.700 [1.600, 1.800] (64 -> 112 images)" in swept
