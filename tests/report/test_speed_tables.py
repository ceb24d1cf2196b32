"""mpbench.report.speed_tables and its marks: the words and figures that people read, from records."""

from dataclasses import replace

from case_records import pair, record

from mpbench.config.precisions import CPU_NOTE
from mpbench.records.comparable import not_comparable
from mpbench.records.measured import Measured
from mpbench.report.content import cell_text
from mpbench.report.speed_tables import (
    energy_table,
    first_step_table,
    phase_table,
    reference_tables,
    speed_lines,
    sweep_table,
)


def thesis_run(**changes):
    return [
        *pair("vgg16", 303, 196, **changes),
        *pair("inception_v3", 195, 133, **changes),
        *pair("resnet152_v2", 492, 271, **changes),
    ]


def measured(*args, **changes):
    return Measured(record(*args, **changes), [0.1] * 12)


def text(cases):
    return "\n".join(speed_lines(cases))


def rows_of(table):
    """Its cells by column, without those that are empty."""
    rows = [dict(zip(table.columns, map(cell_text, row), strict=True)) for row in table.rows]
    return [{column: cell for column, cell in row.items() if cell} for row in rows]


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
    assert "SKIPPED: vgg16-mixed_float16 (3 steps): loss scaling dropped" in shown


def test_the_control_is_the_noise_floor_and_no_row():
    interval = {"speedup": 1.002, "speedup_low": 0.995, "speedup_high": 1.009}
    control = Measured(record(control=True, baseline="float32", **interval), [0.303] * 12)
    shown = text([*pair("vgg16", 303, 196), control])
    assert "NOISE FLOOR: vgg16-control (1.002 [0.995, 1.009]): the baseline against itself" in shown
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
    assert "NO TF32: vgg16-tf32: this device has no TF32" in text([*pair("vgg16", 303, 196), without])


def test_what_cannot_be_compared_is_named():
    now = record()
    assert not_comparable(now, record(images_per_second=1.0)) is None
    assert not_comparable(now, record(batch_size=2, jit=False)) == (
        "NOT COMPARABLE: training, vgg16-float32: batch_size 2 -> 64, jit off -> on"
    )


def test_nothing_measured_nothing_shown():
    assert speed_lines([]) == []


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
    table = sweep_table(cases)
    (row,) = rows_of(table)
    assert table.title == "Sweep, training: speedup over float32 [95 % interval]"
    assert [*row] == ["model", "precision", "batch=8", "batch=16"]
    assert (row["batch=8"], row["batch=16"]) == ("1.200 [1.190, 1.210]", "1.500 [1.490, 1.510]")
    assert sweep_table([measured("vgg16", "float32")]).rows == ()


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
    text = "\n".join(phase_table([base, mixed]).lines())
    assert "less ms" not in text
    assert "64 -> 112" in text
    swept = sweep_table([base, mixed])
    assert "speedup in images/s over float32" in swept.title
    assert rows_of(swept)[0]["batch=max"] == "1.700 [1.600, 1.800] (64 -> 112 images)"


def changed(case, **changes):
    return Measured(replace(case.record, **changes), case.rounds)


def throttled_run(base=None, mixed=None):
    float32, mixed_float16 = pair("vgg16", 303, 196)
    return [changed(float32, **base or {}), changed(mixed_float16, **mixed or {})]


def test_rounds_left_out_for_throttling_are_counted():
    cases = throttled_run(mixed={"throttled_blocks": "1,5,6"})
    cases[1] = Measured(cases[1].record, [0.9 if block in (1, 5, 6) else 0.196 for block in range(12)])
    shown = text(cases)
    assert "196.00" in row_of(shown, "vgg16")
    assert "] THROTTLED" not in shown
    assert (
        "THROTTLED: vgg16-mixed_float16 (3 of 12 rounds left out): heat or the power supply slowed the GPU down; "
        in shown
    )


def test_a_case_that_was_throttled_throughout_keeps_its_figures_and_says_so():
    every = {"throttled_blocks": ",".join(map(str, range(12))), "throttled": True}
    shown = text(throttled_run(mixed=every))
    assert "196.00" in row_of(shown, "vgg16")
    assert "1.546 [1.530, 1.561] THROTTLED" in shown
    assert "THROTTLED: vgg16-mixed_float16 (12 of 12 rounds, all count): " in shown
    assert "1.546 [1.530, 1.561] THROTTLED" in text(throttled_run(base=every))


def test_the_power_limit_is_told_with_its_share_and_clock():
    shown = text(throttled_run(base={"power_limited_share": 0.625, "sm_clock_mhz": 1755.0}))
    assert "POWER LIMIT: vgg16-float32 (62 % of rounds, SM clock 1755 MHz): the clock was lowered" in shown
    assert "POWER LIMIT" not in text(throttled_run(base={"power_limited_share": 0.0}))


def test_too_few_rounds_are_named():
    cases = [changed(one, rounds=4) for one in pair("vgg16", 300, 200)]
    assert "FEW ROUNDS: vgg16-float32 (4 rounds), vgg16-mixed_float16 (4 rounds): below 5" in text(cases)


def test_a_swept_mode_is_one_row():
    cases = [
        changed(one, variant=point, point=point, mode=mode)
        for point in ("batch=1", "batch=2")
        for mode in ("jit=off", "jit=on")
        for one in pair("vgg16", 300, 200)
    ]
    rows = rows_of(sweep_table(cases))
    assert [row["model"] for row in rows] == ["vgg16 jit=off", "vgg16 jit=on"]
    assert all({"batch=1", "batch=2"} <= set(row) for row in rows)


def test_replicas_on_a_cpu_are_said_to_share_it():
    cases = [changed(one, replicas=2, mode="replicas=2", device="cpu") for one in pair("vgg16", 300, 200)]
    assert ": on one machine's CPU they share its cores" in text(cases)
    assert "REPLICAS" not in text(pair("vgg16", 300, 200))


def test_of_many_cases_with_one_mark_some_are_named():
    cases = [changed(one, skipped_steps=1) for n in range(10) for one in pair(f"m{n}", 300, 200)]
    named = ", ".join(f"m{n}-{precision} (1 steps)" for n in range(3) for precision in ("float32", "mixed_float16"))
    assert f"SKIPPED: {named} and 14 more: loss scaling" in text(cases)


def with_energy(base_joules, mixed_joules, spread=0.02, **changes):
    float32, mixed = pair("vgg16", 300, 200)
    return [
        changed(one, joules_per_step=64.0 * joules, joules_spread=spread, **changes)
        for one, joules in ((float32, base_joules), (mixed, mixed_joules))
    ]


def test_energy_is_per_image_against_the_baseline_with_spread_and_power():
    table = energy_table(with_energy(1.5, 0.75))
    (row,) = rows_of(table)
    assert table.title == "Energy, training: joules per image ± spread of the passes"
    assert row == {
        "model": "vgg16",
        "precision": "mixed_float16",
        "float32 J/image": "1.5 ± 2.0 %",
        "J/image": "0.75 ± 2.0 %",
        "less %": "50.0",
        "W": "320 -> 240",
    }
    assert "Energy, training" in text(with_energy(1.5, 0.75))
    assert "Energy" not in text(thesis_run())


def test_a_saving_within_the_spread_of_its_figures_says_so():
    assert rows_of(energy_table(with_energy(1.0, 0.97)))[0]["less %"] == "3.0 (within the spread)"
    assert rows_of(energy_table(with_energy(1.0, 0.95)))[0]["less %"] == "5.0"
    assert rows_of(energy_table(with_energy(1.0, 1.2)))[0]["less %"] == "-20.0"
    assert rows_of(energy_table(with_energy(1.0, 0.5, throttled=True)))[0]["less %"] == "50.0 THROTTLED"


def test_energy_of_several_replicas_is_per_image_of_all():
    cases = [changed(case, replicas=2, mode="replicas=2") for case in with_energy(3.0, 1.5)]
    table = energy_table(cases)
    (row,) = rows_of(table)
    assert table.title.endswith("all replicas together")
    assert (row["model"], row["float32 J/image"]) == ("vgg16 replicas=2", "1.5 ± 2.0 %")


def test_energy_that_only_one_of_two_has_is_shown_alone():
    base, mixed = with_energy(1.5, 0.75)
    without = {"joules_per_step": None, "joules_spread": None}
    assert energy_table([base, changed(mixed, **without)]).rows == ()
    (row,) = rows_of(energy_table([changed(base, **without), mixed]))
    assert row == {"model": "vgg16", "precision": "mixed_float16", "J/image": "0.75 ± 2.0 %", "W": "240"}
    assert energy_table([]).rows == ()
    assert "less %" not in rows_of(energy_table([changed(base, joules_per_step=0.0), mixed]))[0]


def in_modes(labels, reference, ratio, **second):
    """Both phases in two modes, each with its own baseline; the second mode that much faster."""
    cases = []
    for phase in ("training", "inference"):
        for label, factor in zip(labels, (1, ratio), strict=True):
            for case in pair("vgg16", 300 / factor, 200 / factor, phase=phase):
                of_second = {
                    "reference": reference,
                    "reference_ratio": ratio,
                    "reference_low": ratio - 0.01,
                    "reference_high": ratio + 0.01,
                    **second,
                }
                cases.append(changed(case, mode=label, **of_second if label == labels[1] else {}))
    return cases


def test_each_mode_has_its_own_baseline():
    shown = text(in_modes(["jit=off", "jit=on"], "jit=off", 1.25))
    assert row_of(shown, "vgg16 jit=off")[3:5] == ["300.00", "200.00"]
    assert row_of(shown, "vgg16 jit=on")[3:5] == ["240.00", "160.00"]
    assert "Do all benefit" not in shown  # one model, asked for each mode by itself


def test_two_models_are_compared_within_each_mode():
    cases = [
        changed(case, mode=mode)
        for mode, faster in (("jit=off", 2.0), ("jit=on", 1.0))
        for case in [*pair("vgg16", 300, 200), *pair("resnet", 300, 200 / faster)]
    ]
    shown = text(cases)
    assert "equally from mixed_float16 jit=off? No: resnet more than vgg16." in shown
    assert "equally from mixed_float16 jit=on? Not distinguishable: " in shown


def test_what_xla_brings_is_a_row_per_precision_and_a_column_per_phase():
    xla, scaling = reference_tables(in_modes(["jit=off", "jit=on"], "jit=off", 1.25))
    assert xla.title.startswith("XLA's speedup")
    assert rows_of(xla) == [
        {
            "model": "vgg16 jit=on",
            "precision": precision,
            "training": "1.250 [1.240, 1.260]",
            "inference": "1.250 [1.240, 1.260]",
        }
        for precision in ("float32", "mixed_float16")
    ]
    assert scaling.rows == ()


def test_how_replicas_scale_is_told_and_batches_are_each_ones():
    cases = in_modes(["replicas=1", "replicas=2"], "replicas=1", 0.93, replicas=2)
    shown = text(cases)
    assert "batch 64 per replica, " in shown
    assert "Scaling efficiency of replicas" in shown
    assert "0.930 [0.920, 0.940]" in shown
    assert "XLA's speedup" not in shown
    in_first_mode, in_second = (row_of(shown, f"vgg16 replicas={n}") for n in (1, 2))
    assert in_first_mode[-4:] == ["303", "->", "196", "1.55"]
    assert "303" not in in_second  # the thesis had one GPU


def test_the_first_step_is_told_apart_where_xla_is_on_and_off():
    seconds = {"trace_seconds": 2.31, "compile_seconds": 14.04}
    cases = [changed(case, **seconds) for case in in_modes(["jit=off", "jit=on"], "jit=off", 1.25)]
    assert "First step" not in text(cases)
    cases = [changed(case, jit=case.record.mode == "jit=on") for case in cases]
    assert "First step: seconds to trace + to compile" in text(cases)
    assert rows_of(first_step_table(cases))[2] == {
        "model": "vgg16 jit=on",
        "precision": "float32",
        "training": "2.3 + 14.0",
        "inference": "2.3 + 14.0",
    }
    assert first_step_table(thesis_run()).rows == ()
