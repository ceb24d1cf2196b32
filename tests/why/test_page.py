"""mpbench.why.reading.page and page_json: what is printed adds up, has no digits to spare, and steers no terminal."""

import dataclasses
import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_records import feed, found_in, layer, part, peaks, pipeline, profile, run_of
from saved_runs import cases

from mpbench.config.precisions import CPU_NOTE
from mpbench.why.reading.findings import Figure, matched
from mpbench.why.reading.page import page_lines
from mpbench.why.reading.page_json import EXPLANATION_SCHEMA, SCHEMA_KEY, as_data
from mpbench.why.reading.printing import decimals


def everything(**changes):
    """A model of which all was measured, in both phases."""
    probes = [*peaks(**{key: value for key, value in changes.items() if key == "device"}), pipeline(90)]
    for precision, scale in (("float32", 1.0), ("mixed_float16", 0.5)):
        for name, ms in {"step": 100, "forward": 30, "gradients": 60, "update": 39}.items():
            probes.append(part(name, ms if name == "update" else 40 + scale * (ms - 40), precision, minimal_bytes=2e9))
        for phase in ("training", "inference"):
            share = 1.0 if phase == "training" else 0.3
            probes += [
                layer("block1_conv1", 40 * scale * share, precision, phase, flops=3e10 * share),
                layer(
                    "bn", 0.3, precision, phase, layer_type="BatchNormalization", flops=1e6, minimal_bytes=1e7, count=9
                ),
                feed("device", (60 + 40 * scale) * share, precision, phase),
                feed("fed", max(91, (60 + 40 * scale) * share), precision, phase),
                profile("convolution=0.02; copy=0.01", precision, phase, tensor_core_share=0.25),
            ]
    if len(changes):
        probes = [
            dataclasses.replace(one, record=dataclasses.replace(one.record, **changes)) if one.record.model else one
            for one in probes
        ]
    return probes


CASES = [*cases(101, 81), *cases(18, 12, phase="inference")]


def page(*probes, cases=()):
    findings, notes = matched([run_of(*probes, cases=cases)])
    return page_lines(findings, notes)


def table(lines, first):
    """The rows of the table whose first column is called so, as cells by column."""
    start = next(n for n, line in enumerate(lines) if line.startswith(first))
    columns = [match.span() for match in re.finditer("-+", lines[start + 1])]
    cells = [[line[begin:end].strip() for begin, end in columns] for line in lines[start:]]
    last = next(n for n, row in enumerate(cells) if row[0].startswith("= "))
    return cells[0], cells[2 : last + 1]


def test_a_page_answers_each_question():
    lines = page(*everything(), cases=CASES)
    text = " ".join(" ".join(lines).split())
    assert lines[0] == "vgg16 on NVIDIA V100, batch 64, 224x224 px, XLA on"
    assert "mixed_float16 is 1.247 [1.234, 1.259] times as fast as float32: 101 -> 81 ms (the step of the speed" in text
    # 30 + 9 x 0.1 + 20 ms in float32, 7.5 + 0.9 + 20 in mixed_float16.
    assert "The roofline would allow mixed_float16 1.79 times, if both ran at it: all layers and the update" in text
    assert "=> The largest part that did not get faster: optimizer update, 56 % of the mixed_float16 step" in text
    assert "It adds up to the step that was measured beside its parts." in text
    assert "you see" in text
    assert "On tensor cores: 25 % of the device's time in mixed_float16." in text
    assert "convolution 20 ms (67 %); copy 10 ms (33 %)" in text
    assert "Roofs, measured: float32 1 TFLOP/s, float16 4 TFLOP/s, copies of float32 100 GB/s" in text
    assert "not measured" not in text
    assert max(map(len, lines)) <= 120


def test_columns_add_up_as_printed():
    lines = page(*everything(), cases=CASES)
    _, rows = table(lines, "what became of it in mixed_float16")
    *parts, total = [[float(cell) for cell in row[1:]] for row in rows]
    for column in range(4):
        assert math.isclose(sum(row[column] for row in parts), total[column], abs_tol=1e-9)
    assert total[3] == 100
    header, rows = table(lines, "where the step goes")
    assert header == ["where the step goes, in ms", "float32", "mixed_float16"]
    for column in (1, 2):
        figures = [re.fullmatch(r"(-?[\d.]+) \( *(-?\d+) %\)", row[column]).groups() for row in rows if row[column]]
        *parts, total = [(float(ms), int(percent)) for ms, percent in figures]
        assert math.isclose(sum(ms for ms, _ in parts), total[0], abs_tol=1e-9)
        assert sum(percent for _, percent in parts) == total[1] == 100


@given(st.lists(st.floats(0.98, 1.02), min_size=5, max_size=9), st.floats(1e-5, 10))
@settings(max_examples=30)
def test_milliseconds_have_the_digits_that_their_doubt_leaves(noise, seconds):
    record = part("step", 1).record
    figure = Figure(record, tuple(seconds * one for one in noise))
    digits = decimals([figure])
    assert 0 <= digits <= 4
    if 0 < digits < 4:
        assert 1000 * figure.doubt_seconds < 10 ** (1 - digits)
        assert 1000 * figure.doubt_seconds >= 10**-digits * (1 - 1e-9)


def test_a_difference_that_is_not_sure_gets_no_shares():
    parts = [part("step", 100, rounds=12), part("step", 98, "mixed_float16", rounds=12)]
    updates = [part("update", 10, name, rounds=12) for name in ("float32", "mixed_float16")]
    text = "\n".join(page(*parts, *updates))
    assert "The steps differ too little, or not for sure: no shares of the saving." in text
    assert "The figures name no main cause." in text


def test_what_is_missing_is_one_line_each():
    lines = page(part("step", 100))
    assert [line for line in lines if line.startswith("- ")] == [
        "- not measured: layers: pytest bench/test_layers.py --benchmark-autosave",
        "- not measured: the input: pytest bench/test_input_pipeline.py --benchmark-autosave",
        "- not measured: a profile: pytest bench/test_profile.py --benchmark-autosave",
    ]
    assert lines[-1] == "All that was not measured: make why"


def test_noise_is_shown():
    text = "\n".join(page(part("step", 100, noisy=True), part("step", 50, "mixed_float16")))
    assert " NOISY." in text
    assert "! NOISY: 1 of 2 parts: the time limit came before their intervals were narrow" in text


def test_figures_of_a_cpu_carry_the_note():
    assert page(part("step", 100, device="cpu"))[-1] == CPU_NOTE
    assert CPU_NOTE not in page(part("step", 100))


def test_models_stand_side_by_side():
    lines = page(*everything(), *everything(model="resnet50"), cases=CASES)
    start = lines.index("Side by side: speedups, and shares of the step that is left")
    assert [line.split()[0] for line in lines[start + 3 : start + 7]] == ["vgg16", "vgg16", "resnet50", "resnet50"]
    assert [len(line.split("  ")[0]) for line in lines[start + 1 : start + 3]] == [len("model"), len("resnet50")]


def test_more_precisions_get_more_columns():
    probes = [part("step", ms, name) for name, ms in {"float32": 100, "tf32": 70, "mixed_bfloat16": 60}.items()]
    header, _ = table(page(*probes, part("update", 10)), "where the step goes")
    assert header[1:] == ["float32", "tf32", "mixed_bfloat16"]


HOSTILE = "x\x1b[2J\n\r\u202e\x00" + "y" * 300


def test_hostile_text_steers_no_terminal():
    strings = {"model": HOSTILE, "device_name": HOSTILE}
    probes = [
        layer(HOSTILE, 3, layer_type=HOSTILE, config=HOSTILE, **strings),
        layer(HOSTILE, 2, "mixed_float16", layer_type=HOSTILE, config=HOSTILE, **strings),
        layer("conv", 2, HOSTILE, **strings),
        part("step", 3, **strings),
        part("step", 2, "mixed_float16", **strings),
        feed("fed", 3, data=HOSTILE, **strings),
        feed("device", 3, data=HOSTILE, **strings),
        profile(f"{HOSTILE}=0.1", source=HOSTILE, **strings),
    ]
    lines = page(*probes)
    assert all(line.isprintable() for line in lines)
    assert json.loads(json.dumps(as_data(*matched([run_of(*probes)]))))["models"][0]["model"] == HOSTILE


def test_the_json_says_the_same_and_adds_up():
    data = json.loads(json.dumps(as_data([found_in(*everything(), cases=CASES)], ["a note"]), allow_nan=False))
    assert (data[SCHEMA_KEY], data["notes"]) == (EXPLANATION_SCHEMA, ["a note"])
    (model,) = data["models"]
    assert (model["model"], model["batch_size"], model["jit"], model["baseline"]) == ("vgg16", 64, True, "float32")
    assert list(model["phases"]) == ["training", "inference"]
    training = model["phases"]["training"]
    assert training["speedups"]["mixed_float16"]["speedup"] == pytest.approx(101 / 81)
    assert training["roofline"]["mixed_float16"]["speedup"] == pytest.approx((30 + 0.9 + 20) / (7.5 + 0.9 + 20))
    for account in training["accounts"].values():
        assert math.fsum(row["seconds"] for row in account["rows"]) == pytest.approx(account["step_seconds"])
        assert math.fsum(row["share"] for row in account["rows"]) == pytest.approx(1)
    difference = training["differences"]["mixed_float16"]
    assert math.fsum(row["seconds"] for row in difference["rows"]) == pytest.approx(0.03)
    assert difference["saved_seconds"] == pytest.approx(0.03)
    assert difference["not_faster"] == "update"
    fed = training["fed"]["mixed_float16"]
    assert fed["step_seconds"] + math.fsum(fed["rows"].values()) == pytest.approx(fed["fed_seconds"])
    assert training["layer_types"]["float32"] == pytest.approx({"Conv2D": 0.04, "BatchNormalization": 0.0027})
    conv = training["layers"]["mixed_float16"][0]
    assert (conv["layer"], conv["class"], conv["fraction_of_roof"]) == (
        "block1_conv1",
        "compute-bound",
        pytest.approx(7.5 / 20),
    )
    assert training["profiles"]["float32"]["tensor_core_share"] == 0.25
    assert training["peaks"]["flops_per_second"] == pytest.approx({"float32": 1e12, "float16": 4e12})


pieces = st.lists(st.sampled_from(range(len(everything()))), unique=True)


@given(pieces, st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_part_of_it_makes_a_page_and_strict_json(chosen, with_speed):
    all_of_it = everything()
    findings, notes = matched([run_of(*(all_of_it[n] for n in chosen), cases=CASES if with_speed else ())])
    assert bool(findings) == any(all_of_it[n].record.model for n in chosen)
    lines = page_lines(findings, notes)
    assert all(line.isprintable() for line in lines)
    assert not any("nan" in line.split() or "-0" in line.split() for line in lines)
    json.dumps(as_data(findings, notes), allow_nan=False)


def test_of_a_step_alone_there_is_no_account():
    feeds = [
        feed("device", 100),
        feed("fed", 120),
        feed("device", 60, "mixed_float16"),
        feed("fed", 96, "mixed_float16"),
    ]
    text = "\n".join(page(*feeds, pipeline(95)))
    assert "you see 1.2x" in text
    assert "where the step goes" not in text
    assert "what became of it" not in text
