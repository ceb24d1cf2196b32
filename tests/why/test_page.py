"""mpbench.why.reading.page: the verdict first, tables that add up as they are printed, and the same as data."""

import json

import pytest
from diagnostic_records import NS, peaks, profiled_pair, row, run_of
from traces import Made, unpacked

from mpbench.records.profile import COPIES, NORMALISATION, TENSOR_CORES
from mpbench.why.reading.matched import matched
from mpbench.why.reading.page import as_data, page_lines, trace_answer
from mpbench.why.reading.trace import UnreadableTrace


def uneven(half=False):
    """Times that do not fit the digits that are printed."""
    conv, norm, cast = (2.111111, 3.355555, 0.633333) if half else (8.333333, 3.333333, 0.333333)
    return [
        row("conv", conv, TENSOR_CORES, kernels=7),
        row("norm", norm, NORMALISATION, kernels=7),
        row("cast", cast, COPIES, kernels=7, fused_ns=int(cast * NS / 2)),
    ]


def page(*diagnostics, cases=None):
    found = matched([run_of(*diagnostics, cases=cases or profiled_pair(base_ms=16, half_ms=10.4, rows=uneven))])
    return page_lines(found), as_data(found)


def tables(lines):
    """The lines of each table, by its header."""
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


def test_the_verdict_comes_first():
    lines, _ = page()
    assert lines[0].startswith(
        "vgg16, training: mixed_float16 is 1.54 [1.52, 1.55] times as fast as float32, 16.0 -> 10.4"
    )
    assert lines[2].startswith("- Partly host-bound: ")
    assert any("normalisation 3.33 -> 3.36 ms" in line for line in lines[:8])


def test_columns_add_up_as_they_are_printed():
    found = tables(page()[0])
    assert [header.split("  ")[0] for header in found] == [
        "ms a step by class of work",
        "ms a step by pass",
        "ms a step by layer",
    ]
    for header, rows in found.items():
        assert "saved" in header
        start = header.index(" float32")
        cells = [[float(cell) for cell in one[start:].split()[:5]] for one in rows]
        *parts, total = cells
        for column in (0, 2, 4):
            assert round(sum(one[column] for one in parts), 2) == total[column]
        assert (total[0], total[2], total[4]) == (16.0, 10.4, 5.6)


def test_what_fusion_and_the_profiler_do_is_told():
    text = "\n".join(page()[0])
    assert "fused 50 %" in text
    assert "Fused: XLA made one kernel" in text
    assert "mixed_float16: 1 steps profiled by TensorFlow 2.21.0, each 1.80 ms longer than without" in text


def test_one_precision_alone_saves_nothing():
    text = "\n".join(page(cases=profiled_pair(rows=uneven)[:1])[0])
    assert "saved" not in text
    assert "Not faster" not in text


def test_roofs_stand_beside_the_layers_where_they_were_measured():
    lines, _ = page(*peaks(), cases=profiled_pair())
    text = "\n".join(lines)
    assert "62 compute" in text
    assert "At their roofs all layers and the update would take 25.0 -> 10.0 ms: 2.50 times as fast." in text
    assert "roof" not in "\n".join(page(cases=profiled_pair())[0])


def test_json_holds_what_the_page_says():
    data = json.loads(json.dumps(page()[1], allow_nan=False))
    (step,) = data["steps"]
    of = step["precisions"]["mixed_float16"]
    assert (of["kernels_per_step"], of["host_bound"], of["compiled_seconds"]) == (21, False, None)
    conv = next(layer for layer in of["layers"] if layer["layer"] == "conv")
    assert conv["seconds"] == pytest.approx(0.002111111)
    assert conv["by_pass_and_class"][0]["class"] == TENSOR_CORES
    assert conv["bound_seconds"] is None
    assert step["peaks"]["bytes_per_second"] is None


def test_a_trace_from_elsewhere(tmp_path):
    lines, data = trace_answer(unpacked("h200-inception_v3-part", tmp_path))
    assert lines[0] == "h200-inception_v3-part.xplane.pb, NVIDIA H200"
    assert lines[1].startswith("- HOST-BOUND: ")
    assert any(line.startswith("- Batch normalisation takes 13.") for line in lines)
    assert lines[-2].startswith("Of 1 steps, told from")
    assert data["verdict"] == [line.removeprefix("- ") for line in lines if line.startswith("- ")]


def test_steps_of_a_trace_may_be_given(tmp_path):
    path = unpacked("cpu-convnet-xla", tmp_path)
    (told, of_two), (given, of_one) = trace_answer(path), trace_answer(path, 1)
    assert told[0].endswith("a CPU, XLA")
    assert any(line.startswith("Of 2 steps, told") for line in told)
    assert "Of 1 steps." in given
    assert of_one["step_seconds"] == pytest.approx(2 * of_two["step_seconds"], rel=0.01)


def test_names_of_a_trace_steer_no_terminal(tmp_path):
    made = Made()
    made.gpu([("k\x1b[2J", "net_1/evil\x1b[31m_1/Mul:Mul", 0, 1000)], gpu_device_name="G\x1bPU")
    assert all(line.isprintable() for line in trace_answer(made.file(tmp_path))[0])


def test_a_bad_trace_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no trace")
    with pytest.raises(UnreadableTrace, match="no trace of TensorFlow's profiler"):
        trace_answer(tmp_path / "file")


def test_what_ran_longer_under_the_profiler_is_hidden_in_no_other_row():
    def many(half=False):
        return [row(f"layer_{n}", 1, kernels=7) for n in range(20)]

    found = tables(page(cases=profiled_pair(base_ms=15, half_ms=21, rows=many))[0])
    for rows in found.values():
        (longer,) = [one for one in rows if one.startswith("ran longer under the profiler")]
        assert longer.split()[5:9:2] == ["-5.00", "0.00"]
    (others,) = [one for one in found[list(found)[-1]] if one.startswith("all others")]
    assert others.split()[2] == "8.00"
