import json

import pytest
from traces import Made, unpacked

from mpbench.records.profile import (
    COPIES,
    ELEMENTWISE,
    FORWARD,
    NORMALISATION,
    TENSOR_CORES,
    LayerRow,
    Operations,
    ProfileRecord,
)
from mpbench.why.reading.breakdown import Breakdown
from mpbench.why.reading.page import step_data, step_lines, trace_lines
from mpbench.why.reading.trace import UnreadableTrace
from mpbench.why.reading.verdict import Arm


def arm(name, step_seconds, **layers):
    rows = [
        LayerRow(layer, "Dense", kernels=7, ns={(FORWARD, kind): ns}, fused_ns=ns // 2 if kind == COPIES else 0)
        for layer, (kind, ns) in layers.items()
    ]
    busy = sum(row.total_ns for row in rows)
    operations = (Operations("Mul", ELEMENTWISE, busy, 7),)
    record = ProfileRecord("TensorFlow 2", True, "a GPU", 1, 1, 2 * busy, True, tuple(rows), operations)
    return Arm(name, Breakdown(record, step_seconds))


BEFORE = {"conv": (TENSOR_CORES, 8_333_333), "norm": (NORMALISATION, 3_333_333), "cast": (COPIES, 333_333)}
AFTER = {"conv": (TENSOR_CORES, 2_111_111), "norm": (NORMALISATION, 3_355_555), "cast": (COPIES, 633_333)}


@pytest.fixture
def arms():
    return [arm("float32", 0.0160001, **BEFORE), arm("mixed_float16", 0.0104, **AFTER)]


def tables(lines):
    """The cells of each table, by its first header."""
    found, header = {}, None
    for before, line in zip(["", *lines], lines, strict=False):
        if set(line) == {"-", " "}:
            header = before
            found[header] = []
        elif header and line:
            found[header].append(line)
        elif not line:
            header = None
    return found


def test_the_verdict_comes_first(arms):
    lines = step_lines("a model, training", arms, "float32")
    assert lines[0] == "a model, training"
    assert lines[1].startswith("- Partly host-bound: ")
    assert any("normalisation 3.33 -> 3.36 ms." in line for line in lines[:8])


def test_columns_add_up_as_they_are_printed(arms):
    found = tables(step_lines("a model, training", arms, "float32"))
    assert [header.split("  ")[0] for header in found] == [
        "ms a step by class of work",
        "ms a step by pass",
        "ms a step by layer",
    ]
    for header, rows in found.items():
        assert "saved" in header
        cells = [
            [float(cell) for cell in row.split()[-6:] if cell.replace(".", "").replace("-", "").isdigit()]
            for row in rows
        ]
        if "layer" in header:  # the last column is of words
            continue
        *parts, total = cells
        for column in (0, 2, 4):
            assert round(sum(row[column] for row in parts), 2) == total[column]
        assert total[0] == 16.0
        assert total[2] == 10.4
        assert total[4] == pytest.approx(total[0] - total[2])


def test_what_fusion_and_the_profiler_do_is_told(arms):
    text = "\n".join(step_lines("a model, training", arms, "float32"))
    assert "fused 50 %" in text
    assert "Fused: XLA made one kernel" in text
    assert "mixed_float16: 1 steps profiled by TensorFlow 2; a step took 1.8 ms more under the profiler" in text


def test_one_precision_alone_saves_nothing(arms):
    text = "\n".join(step_lines("a model, training", arms[-1:], "float32"))
    assert "saved" not in text
    assert "Not faster" not in text


def test_json_holds_what_the_page_says(arms):
    data = json.loads(json.dumps(step_data(arms, "float32"), allow_nan=False))
    assert data["baseline"] == "float32"
    assert 1 <= len(data["verdict"]) <= 6
    of = data["precisions"]["mixed_float16"]
    for by in ("by_class", "by_pass", "by_layer"):
        assert sum(of[by].values()) == pytest.approx(of["step_seconds"], abs=1e-9)
    assert of["kernels_per_step"] == 21
    assert of["host_bound"] is False
    conv = next(layer for layer in of["layers"] if layer["layer"] == "conv")
    assert conv["seconds"] == pytest.approx(0.002111111)
    assert conv["by_pass_and_class"][0]["class"] == TENSOR_CORES


def test_a_trace_from_elsewhere(tmp_path):
    lines = trace_lines(unpacked("h200-inception_v3-part", tmp_path))
    assert lines[0] == "h200-inception_v3-part.xplane.pb, NVIDIA H200"
    assert lines[1].startswith("- HOST-BOUND: ")
    assert any(line.startswith("- Batch normalisation takes 13.") for line in lines)
    assert lines[-2].startswith("Of 1 steps, told from")
    assert "profiler" in lines[-1]


def test_steps_of_a_trace_may_be_given(tmp_path):
    path = unpacked("cpu-convnet-xla", tmp_path)
    told, given = trace_lines(path), trace_lines(path, 1)
    assert told[0].endswith("a CPU, XLA")
    assert any(line.startswith("Of 2 steps, told") for line in told)
    assert "Of 1 steps." in given
    total = [float(next(line for line in of if line.startswith("= the step")).split()[3]) for of in (told, given)]
    assert total[1] == pytest.approx(2 * total[0], rel=0.01)


def test_names_of_a_trace_steer_no_terminal(tmp_path):
    made = Made()
    made.gpu([("k\x1b[2J", "net_1/evil\x1b[31m_1/Mul:Mul", 0, 1000)], gpu_device_name="G\x1bPU")
    assert all(line.isprintable() for line in trace_lines(made.file(tmp_path)))


def test_a_bad_trace_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no trace")
    with pytest.raises(UnreadableTrace, match="no trace of TensorFlow's profiler"):
        trace_lines(tmp_path / "file")
