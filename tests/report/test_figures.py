"""The figures of a report: what is drawn, what stands beside it in words, and how it is written as SVG and files."""

import math
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import matplotlib
import pytest
from case_records import accuracy_record, pair, record
from diagnostic_records import peaks, profiled_pair, run_of
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from PIL import Image
from saved_runs import cases, saved_run

from mpbench.records.measured import Measured
from mpbench.records.runs import load_runs
from mpbench.report import figures
from mpbench.report.cause_figures import breakdowns, rooflines
from mpbench.report.content import Drawing
from mpbench.report.drawing import SERIES, WIDTH_INCHES, fitted, inches, named
from mpbench.report.figures import energy, memory, throughput
from mpbench.report.history_figures import histories
from mpbench.report.svg import COLOUR_VARIABLES, FIGURE_CSS, save, svg_text
from mpbench.why.reading.matched import matched

HOSTILE = [
    "</title><script>alert(1)</script>",
    "$x_{1}^2$ \\frac",
    "m" * 300,
    "\x1b[2J\udc80\x00",
    "模型 🦊 \u202e",
    "",
    "'\" &amp;",
]
TAGS = {"svg", "title", "desc", "defs", "g", "path", "use", "text", "tspan", "clipPath", "rect"}
SVG = "{http://www.w3.org/2000/svg}"


def labels(drawing):
    """All text in a drawing."""
    file = ElementTree.fromstring(svg_text(drawing))
    return [element.text for element in file.iter(f"{SVG}text")]


def points(drawing, marker):
    """Data of the marks of one shape, panel by panel."""
    return [
        list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for panel in drawing.figure.axes
        for line in panel.lines
        if line.get_marker() == marker
    ]


def a_full_run():
    return [
        *pair("vgg16", 303, 196, joules_per_step=64.0, joules_spread=0.02),
        *pair("vgg16", 138, 100, phase="inference"),
        *pair("inception_v3", 97, 87, phase="inference", noisy=True),
    ]


def every_drawing(name="vgg16"):
    base, mixed = pair(name, 303, 196, joules_per_step=64.0, joules_spread=0.02)
    run = [base, Measured(replace(mixed.record, noisy=True, throttled_blocks="2,3", unpaired_blocks="1"), mixed.rounds)]
    drawings = [
        figures.speedups(run),
        *figures.step_times(run),
        memory(run),
        energy(run),
        throughput(run),
        figures.accuracy_differences([accuracy_record(name)]),
    ]
    assert None not in drawings
    return drawings


def test_each_speedup_has_its_interval_and_the_thesiss_ratio_beside_it():
    drawing = figures.speedups(a_full_run())
    assert drawing.title == "Speedup over float32, with 95 % intervals"
    ends = [[x for x, _ in line] for line in points(drawing, "|")]
    ratios = [303 / 196, 138 / 100, 97 / 87]
    assert ends == [pytest.approx([0.99 * ratio, 1.01 * ratio]) for ratio in ratios]
    # The thesis measured the three ratios that this run was made of.
    assert [line[0][0] for line in points(drawing, "D")] == pytest.approx(ratios)
    assert "vgg16, training, mixed_float16: 1.546 [1.530, 1.561]; thesis 1.55." in drawing.alternative
    assert "inception_v3, inference, mixed_float16: 1.115 [1.104, 1.126], NOISY; thesis 1.11." in drawing.alternative
    shown = labels(drawing)
    assert {"Training", "Inference", "inception_v3", "NOISY", "thesis (V100, 2020)"} <= set(shown)
    assert shown.count("vgg16") == 2
    assert "1.546 [1.530, 1.561]" in shown
    assert "speedup over float32" in shown


def test_what_the_thesis_did_not_measure_has_no_mark_beside_it():
    for run in (pair("vgg16", 3, 2, phase="other"), pair("vgg19", 3, 2), pair("vgg16", 3, 2, control=True)):
        drawing = figures.speedups(run)
        assert points(drawing, "D") == []
        assert not any("thesis" in text for text in labels(drawing))


def test_throttled_rounds_of_the_baseline_show_beside_the_speedup():
    base, mixed = pair("vgg16", 3, 2)
    drawing = figures.speedups([Measured(replace(base.record, throttled=True), base.rounds), mixed])
    assert "THROTTLED" in labels(drawing)
    assert "THROTTLED" in drawing.alternative


def test_every_round_is_drawn_at_its_block_and_what_is_left_out_is_seen():
    r = record(rounds=6, unpaired_blocks="2,5", throttled_blocks="4,7", steps_per_round=3)
    (drawing,) = figures.step_times([Measured(r, [0.1, 0.11, 0.12, 0.2, 0.13, 0.3])])
    calm = [point for line in points(drawing, "o") for point in line if not math.isnan(point[0])]
    assert calm == [(0, 100), (1, 110), (3, 120), (6, pytest.approx(130))]
    assert points(drawing, "x") == [[(4, 200), (7, 300)]]
    assert [x for x, _ in points(drawing, "|")[0]] == [2, 5]
    (median,) = [line for line in drawing.figure.axes[0].lines if line.get_linestyle() == "--"]
    assert median.get_ydata()[0] == pytest.approx(115)
    assert "float32: median 115 ms" in labels(drawing)
    assert {"throttled round", "block left out"} <= set(labels(drawing))
    assert drawing.alternative == (
        "float32: 6 rounds of 3 steps, median 115 ms, from 100 to 300 ms; the last third is +104.8 % from the first; "
        "throttled in blocks 4,7; blocks left out: 2,5."
    )


def test_a_line_breaks_where_a_block_is_missing():
    (drawing,) = figures.step_times([Measured(record(rounds=3, unpaired_blocks="1"), [0.1, 0.1, 0.1])])
    ((first, gap, *rest),) = points(drawing, "o")
    assert (first[0], math.isnan(gap[0]), [x for x, _ in rest]) == (0, True, [2, 3])


def test_each_model_and_phase_has_its_rounds_and_each_arm_a_panel_and_a_shape():
    drawings = figures.step_times(a_full_run())
    assert [drawing.name for drawing in drawings] == [
        "rounds-vgg16-training",
        "rounds-vgg16-inference",
        "rounds-inception-v3-inference",
    ]
    for drawing in drawings:
        assert len(drawing.figure.axes) == 2
        lines = [next(line for line in panel.lines if line.get_marker() != "None") for panel in drawing.figure.axes]
        assert len({line.get_marker() for line in lines}) == len({to_hex(line.get_color()) for line in lines}) == 2


def test_quiet_rounds_are_no_mountains():
    (drawing,) = figures.step_times([Measured(record(rounds=12), [0.1 + 1e-5 * (i % 2) for i in range(12)])])
    low, high = drawing.figure.axes[0].get_ylim()
    assert high - low > 4


def test_bars_show_what_was_measured_and_no_control():
    base, mixed = pair("vgg16", 303, 196, joules_per_step=64.0, joules_spread=0.02)
    mixed = Measured(replace(mixed.record, peak_memory_bytes=3 * 2**30), mixed.rounds)
    control = Measured(replace(base.record, control=True), base.rounds)
    run = [base, control, mixed]
    bars = [memory(run), energy(run), throughput(run)]
    assert [[bar.get_width() for bar in d.figure.axes[0].patches] for d in bars] == [
        [5 * 1024, 3 * 1024],
        [1.0],
        [211.2, 211.2],
    ]
    assert [x for x, _ in points(bars[1], "|")[0]] == pytest.approx([0.98, 1.02])
    assert bars[0].alternative == "vgg16, training, float32: 5,120 MiB. vgg16, training, mixed_float16: 3,072 MiB."
    assert bars[1].alternative == "vgg16, training, mixed_float16: 1 ± 2.0 % J/image."


def test_what_was_not_measured_is_not_drawn():
    alone = pair("vgg16", 3, 2, memory_kind="host_rss")[:1]
    alone = [Measured(replace(case.record, memory_kind="host_rss"), case.rounds) for case in alone]
    assert figures.speedups(alone) is None
    assert memory(alone) is None
    assert energy(alone) is None
    assert throughput([]) is None
    assert figures.step_times([]) == breakdowns([]) == rooflines([]) == histories([]) == []


def test_differences_in_accuracy_stand_against_their_own_margin_and_the_thesiss():
    records = [accuracy_record(), accuracy_record("m", (150, 1, 3, 20), margin=0.02)]
    drawing = figures.accuracy_differences(records)
    (panel,) = drawing.figure.axes
    assert [(band.get_x(), band.get_width()) for band in panel.patches] == [(-1, 2), (-2, 4)]
    ends = [[x for x, _ in line] for line in points(drawing, "|")]
    assert ends == [[pytest.approx(100 * r.difference_low), pytest.approx(100 * r.difference_high)] for r in records]
    assert [line[0][0] for line in points(drawing, "D")] == [pytest.approx(-0.14)]
    assert {"EQUIVALENT", "NOT SHOWN TO BE", "vgg16, mixed_float16 against float32"} <= set(labels(drawing))
    assert drawing.alternative.startswith(
        "vgg16, mixed_float16 against float32: -0.14 points [-0.42, +0.13], margin 1: EQUIVALENT. m, "
    )


@pytest.fixture
def steps():
    """Of a model with three layers, in both precisions, under known peaks."""
    return matched([run_of(*peaks(), cases=profiled_pair())]).steps


def test_bars_of_a_breakdown_add_up_to_the_step(steps):
    (drawing,) = breakdowns(steps)
    (panel,) = drawing.figure.axes
    of_row = {}
    for bar in panel.patches:
        of_row.setdefault(round(bar.get_y(), 6), []).append(bar.get_width())
    assert sorted(map(sum, of_row.values())) == pytest.approx([25, 50])
    assert (
        "float32: 50 ms: other convolution and matmul 32 ms (64 %), normalisation 10 ms (20 %)" in drawing.alternative
    )
    assert drawing.alternative.endswith("device idle 1 ms (4 %).")
    assert {"1", "3", "5 device idle", "3 normalisation"} <= set(labels(drawing))


def test_what_ran_longer_under_the_profiler_lies_left_of_0():
    steps = matched([run_of(cases=profiled_pair(half_ms=20))]).steps
    (drawing,) = breakdowns(steps)
    widths = [bar.get_width() for bar in drawing.figure.axes[0].patches]
    assert min(widths) == pytest.approx(-4)
    assert sum(widths) == pytest.approx(70)


def test_layers_lie_under_their_measured_roofs(steps):
    (drawing,) = rooflines(steps)
    (panel,) = drawing.figure.axes
    roofs = {max(line.get_ydata()) for line in panel.lines}
    assert roofs == {1e12, 4e12}
    marks = {tuple(map(tuple, collection.get_offsets().tolist())) for collection in panel.collections}
    assert {(250.0, 2e10 / 0.032), (500.0, 2e10 / 0.008)} <= {one for of in marks for one in of}
    assert "roof: float16, 4 TFLOP/s, 100 GB/s" in labels(drawing)
    assert (
        "mixed_float16: 3 layers (2 memory-bound, 1 compute-bound); the longest is norm, 10 ms of a step: 1 GFLOP/s, "
        "at 20 % of its roof."
    ) in drawing.alternative


def test_histories_show_the_steps_of_each_model(tmp_path):
    start = datetime(2026, 4, 1, tzinfo=timezone.utc)
    for n in range(22):
        pairs = cases(150 if n < 10 else 165, 100) + cases(30, 20, phase="inference")
        saved_run(tmp_path, time=start + timedelta(days=n), commit=f"{n:03}" * 13, records_and_rounds=pairs)
    runs = load_runs(tmp_path, pytest.fail)
    drawings = histories(reversed(runs))
    assert [drawing.name for drawing in drawings] == ["history-vgg16-training", "history-vgg16-inference"]
    assert [len(drawing.figure.axes) for drawing in drawings] == [3, 3]
    assert "22 runs, 150 ms in the first, 165 ms in the last; step of +10.0 % from 0100100" in drawings[0].alternative
    assert "test_inference[vgg16-mixed_float16], speedup: 22 runs, 1.5 in the first, 1.5 in the last; no step." in (
        drawings[1].alternative
    )
    svg_text(drawings[0])
    assert histories(runs[:1]) == []


def test_an_svg_stands_in_a_page_of_a_strict_policy_beside_others():
    texts = [svg_text(drawing) for drawing in every_drawing()]
    ids = []
    for drawing, text in zip(every_drawing(), texts, strict=True):
        assert text.startswith("<svg ")
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        assert root.find(f"{SVG}title").text == drawing.title
        assert root.find(f"{SVG}desc").text == drawing.alternative
        assert float(root.get("viewBox").split()[2]) == pytest.approx(72 * WIDTH_INCHES)
        assert not {"width", "height"} & set(root.attrib)
        own = [element.get("id") for element in root.iter() if element.get("id")]
        ids += own
        for element in root.iter():
            assert element.tag.removeprefix(SVG) in TAGS
            assert not {name for name in element.attrib if name == "style" or name.startswith("on")}
            for name, value in element.attrib.items():
                if match := re.fullmatch(r"url\(#(.*)\)|#(.*)", value):
                    assert (match[1] or match[2]) in own
                if name in ("fill", "stroke"):
                    assert value == "none" or value[4:-1] in COLOUR_VARIABLES.values()
    assert len(ids) == len(set(ids))
    assert not any(re.search(r"https?:(?!//www\.w3\.org/2000/svg)", text) for text in texts)
    assert texts == [svg_text(drawing) for drawing in every_drawing()]


def test_the_page_defines_every_variable_in_light_and_dark():
    light, dark = FIGURE_CSS.split("prefers-color-scheme:dark")
    for variable in COLOUR_VARIABLES.values():
        assert f"{variable}:#" in light
        assert f"{variable}:#" in dark.partition("@media print")[0]


def test_a_colour_that_no_page_defines_is_an_error():
    drawing = figures.speedups(a_full_run())
    drawing.figure.axes[0].axvline(1, color="#123456")
    with pytest.raises(ValueError, match="drawn in #123456: valid are"):
        svg_text(drawing)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_text_and_stay_within_the_figure(hostile):
    for drawing in every_drawing(hostile):
        text = svg_text(drawing)
        root = ElementTree.fromstring(text)
        assert "<script" not in text
        assert re.fullmatch(r"[a-z0-9-]{1,80}", drawing.name)
        width, height = map(float, root.get("viewBox").split()[2:])
        for element in root.iter(f"{SVG}text"):
            place = re.findall(r"-?[\d.]+", element.get("transform")) if "x" not in element.attrib else None
            x, y = map(float, place[:2] if place else (element.get("x"), element.get("y")))
            assert 0 <= y <= height
            if "rotate(-90" not in element.get("transform", ""):
                long = 72 * inches([element.text or ""], float(element.get("font-size")))
                start = x - long * {"start": 0, "middle": 0.5, "end": 1}[element.get("text-anchor", "start")]
                assert -1 <= start <= start + long <= width + 1, element.text


@given(st.text(max_size=300), st.floats(0.5, 5))
def test_fitted_text_fits_and_keeps_its_ends(text, width):
    short = fitted(text, width)
    assert inches([short], 8) <= width or len(short) <= 3
    assert short.isprintable()
    if len(text) <= 20 and text.isascii() and text.isprintable() and width > 2:
        assert short == text


@given(st.lists(st.text(max_size=90)))
def test_names_are_fit_for_files_and_unique(wanted):
    names = [one.name for one in named(Drawing(name, "", "", None) for name in wanted)]
    assert len(set(names)) == len(wanted)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) for name in names)


def test_files_for_a_paper_in_plain_colours(tmp_path):
    paths = save(figures.speedups(a_full_run()), tmp_path / "figures")
    assert [path.name for path in paths] == ["speedups.png", "speedups.pdf", "speedups.svg"]
    with Image.open(paths[0]) as image:
        assert image.width >= 200 * WIDTH_INCHES
    assert paths[1].read_bytes().startswith(b"%PDF")
    text = paths[2].read_text()
    assert SERIES[2] in text
    assert "var(" not in text
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in save(figures.speedups(a_full_run()), tmp_path / "figures")]


def test_drawing_leaves_matplotlib_as_it_was():
    matplotlib.rcParams["font.size"] = 31
    try:
        before = dict(matplotlib.rcParams)
        sizes = [text.get_fontsize() for text in figures.speedups(a_full_run()).figure.findobj(matplotlib.text.Text)]
        assert dict(matplotlib.rcParams) == before
        assert 31 not in sizes
    finally:
        matplotlib.rcdefaults()
