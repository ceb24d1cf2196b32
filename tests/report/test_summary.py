"""The Markdown summary, read by a real Markdown parser as a pull request would."""

from dataclasses import replace

import pytest
from case_records import accuracy_record, pair
from markdown_text import HOSTILE, PARSER, cells, headings, inline_types, visible

from mpbench.gate.verdict import Figure, Kind, Verdict
from mpbench.records.measured import Measured
from mpbench.report.content import Failure, SessionStatus
from mpbench.report.summary import summary
from mpbench.stats.intervals import Interval

KINDS = (Kind.SLOWER, Kind.UNSURE, Kind.FASTER)
CASE = "bench/test_training.py::test_training[vgg16-mixed_float16]"


def verdict(kind, case=CASE, red=False, figure=Figure.TIME, **fields):
    return Verdict(case, figure, kind, red=red, **fields)


def opening(verdicts, status):
    """The heading and the first sentence, as a reader sees them."""
    tokens = PARSER.parse(summary([], [], verdicts, status))
    return ["".join(child.content for child in token.children) for token in tokens if token.type == "inline"][:2]


def test_the_outcome_comes_first_then_what_is_red_then_what_is_unsure_then_the_tables():
    verdicts = [
        verdict(Kind.SAME, change=Interval(0, -0.01, 0.01)),
        verdict(Kind.UNSURE, figure=Figure.SPEEDUP, change=Interval(0.02, -0.01, 0.05), detail="about 20 more rounds"),
        verdict(Kind.SLOWER, red=True, change=Interval(0.051, 0.04, 0.062), detail="p 1e-05, against 5 runs"),
        verdict(Kind.FASTER, "bench/test_inference.py::test_inference[vgg16-float32]"),
        verdict(Kind.NEW, "new"),
    ]
    text = summary(pair("vgg16", 300, 200, noisy=True), [accuracy_record()], verdicts, SessionStatus())
    assert text.startswith(
        "## mpbench: FAILED\n\n**The gate failed: 1 SLOWER for sure; "
        "all verdicts: 1 SAME, 1 UNSURE, 1 SLOWER, 1 FASTER, 1 NEW.**\n\n### Red\n\n"
    )
    training = "Training: median ms per step"
    notes = "Further figures and notes"
    assert headings(text) == ["mpbench: FAILED", "Red", "Unsure: not red", "Also", training, notes, "Accuracy"]
    change = "change [95 % interval]"
    red, unsure, also, speed, accuracy = cells(text)
    assert red == [
        ["verdict", "what", change, "why"],
        ["SLOWER", "test_training[vgg16-mixed_float16]", "+5.1 % [+4.0, +6.2]", "p 1e-05, against 5 runs"],
    ]
    assert unsure[0] == ["verdict", "what", change, "what would settle it"]
    assert unsure[1][1:] == [
        "speedup of test_training[vgg16-mixed_float16]",
        "+2.0 % [-1.0, +5.0]",
        "about 20 more rounds",
    ]
    assert also[1] == ["FASTER", "test_inference[vgg16-float32]", "", ""]
    assert speed == [
        ["model", "precision", "ms", "speedup [95 % interval]", "notes"],
        ["vgg16", "float32", "300.00", "", ""],
        ["vgg16", "mixed_float16", "200.00", "1.500 [1.485, 1.515]", "NOISY (12 rounds)"],
    ]
    assert "> **NOISY**: the time limit" in text
    assert "WARM-UP" not in text
    assert accuracy[1][:4] == ["vgg16", "mixed_float16", "float32", "91.76 % -> 91.62 %"]
    assert accuracy[1][-1] == "EQUIVALENT"
    assert max(map(len, text.splitlines())) < 180


@pytest.mark.parametrize(
    ("verdicts", "status", "heading", "sentence"),
    [
        (None, {}, "mpbench", "The gate was not asked (--mp-gate): nothing is compared with earlier runs"),
        ([], {}, "mpbench", "The gate has judged nothing"),
        (
            [verdict(Kind.NEW)],
            {},
            "mpbench: passed",
            "The gate passed: there is no earlier run to compare with yet (1 NEW)",
        ),
        (
            [verdict(Kind.SAME, change=Interval(0, -0.01, 0.01))],
            {},
            "mpbench: passed",
            "The gate passed: nothing is slower for sure; all verdicts: 1 SAME",
        ),
        (
            None,
            {"failures": [Failure("a", "b")]},
            "mpbench: FAILED",
            "1 test failed. The gate was not asked (--mp-gate): nothing is compared with earlier runs",
        ),
        (
            [verdict(Kind.FAILED, red=True)],
            {"failures": [Failure("a", "b")] * 2},
            "mpbench: FAILED",
            "2 tests failed. The gate failed: 1 FAILED for sure; all verdicts: 1 FAILED",
        ),
        (
            [],
            {"interrupted": True},
            "mpbench: interrupted",
            "The run was interrupted; this is what had been measured by then. The gate has judged nothing",
        ),
        (
            [],
            {"running": True},
            "mpbench: not finished",
            "The run was started and has not ended; if it is over, it was killed",
        ),
    ],
)
def test_the_sentence_a_reader_in_a_hurry_reads(verdicts, status, heading, sentence):
    assert opening(verdicts, SessionStatus(**status)) == [heading, f"{sentence}."]


def test_what_broke_off_says_why():
    assert opening([], SessionStatus(problem="no GPU")) == ["mpbench: FAILED", "The run broke off: no GPU"]


def test_names_that_only_their_files_tell_apart_stay_whole():
    names = ["a/test_x.py::test[m]", "b/test_x.py::test[m]"]
    text = summary([], [], None, SessionStatus([Failure(name, "why") for name in names]))
    assert [row[0] for row in cells(text)[0][1:]] == names


def test_a_cpu_is_called_one_and_a_run_without_figures_says_so():
    on_cpu, on_gpu = (summary(pair("m", 3, 2, device=device), [], None, SessionStatus()) for device in ("cpu", "gpu"))
    assert "> **CPU**: CPU figures: they say nothing about GPUs." in on_cpu
    assert "CPU" not in on_gpu
    assert summary([], [], None, SessionStatus()).endswith("\n\n### Nothing was measured.\n")


def test_what_the_gpu_said_is_noted_and_its_tables_follow():
    energy = {"joules_spread": 0.01, "mode": "jit=on", "reference": "jit=off"}
    xla = {"reference_ratio": 1.2, "reference_low": 1.1, "reference_high": 1.3}
    base, mixed = (
        Measured(replace(case.record, joules_per_step=joules, **energy, **xla), case.rounds)
        for case, joules in zip(pair("a|b", 300, 200), (96.0, 48.0), strict=True)
    )
    limited = replace(base.record, power_limited_share=0.5, sm_clock_mhz=1700.0)
    throttled = replace(mixed.record, throttled_blocks="0,1")
    cases = [Measured(limited, base.rounds), Measured(throttled, mixed.rounds)]
    text = summary(cases, [], None, SessionStatus())
    speed, energy, xla = cells(text)
    assert speed[1][-1] == "POWER LIMIT (50 % of rounds, SM clock 1700 MHz)"
    assert speed[2][-1] == "THROTTLED (2 of 12 rounds left out)"
    assert "> **THROTTLED**: heat" in text
    assert "> **POWER LIMIT**: the clock" in text
    assert energy[1] == ["a|b jit=on", "mixed_float16", "1.5 ± 1.0 %", "0.75 ± 1.0 %", "50.0", "320 -> 240"]
    assert xla[1:] == [["a|b jit=on", p, "1.200 [1.100, 1.300]"] for p in ("float32", "mixed_float16")]
    throughout = Measured(replace(throttled, throttled=True), mixed.rounds)
    shown = cells(summary([throughout], [], None, SessionStatus()))
    assert shown[0][1][-1] == "THROTTLED (2 of 12 rounds, all count)"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_come_out_as_text_wherever_they_stand(hostile):
    cases = pair(hostile, 300, 200, device_name=hostile, variant=hostile)
    verdicts = [verdict(kind, hostile, kind is Kind.SLOWER, detail=hostile) for kind in KINDS]
    compared = [accuracy_record(model=hostile, data=hostile)]
    text = summary(cases, compared, verdicts, SessionStatus([Failure(hostile, hostile)]))
    types = set(inline_types(PARSER.parse(text)))
    assert not types & {"html_inline", "html_block", "link_open", "image", "fence", "code_block"}
    failed, red, _, _, speed, accuracy = cells(text)
    seen = visible(hostile).replace("(empty)", "")
    assert failed[1] == [seen] * 2
    assert red[1][1] == seen
    assert speed[2][0] == f"{seen} {seen}".strip()
    assert accuracy[1][0] == seen


def test_an_accepted_level_is_told_and_what_was_not_selected_is_counted():
    accepted = verdict(Kind.SAME, change=Interval(0, -0.01, 0.01), accepted="new level accepted: +7.6 %, since 1234567")
    text = summary([], [], [accepted, verdict(Kind.NOT_SELECTED, "other")], SessionStatus())
    level = r"new level accepted: +7.6 %, since `1234567:` test\_training\[vgg16-mixed\_float16\]"
    assert f"### New levels\n\n{level}\n" in text
    assert "1 SAME, 1 NOT SELECTED" in text
    assert "other" not in text
