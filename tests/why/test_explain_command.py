"""python -m mpbench explain: what is printed, and how it says no."""

import json
import subprocess
import sys

import pytest
from case_records import record
from diagnostic_records import end_to_end, peaks, pipeline, profiled_pair
from saved_runs import cases, saved_run
from traces import Made, unpacked

from mpbench import __main__ as command
from mpbench.why.reading.command import session_lines
from mpbench.why.reading.page import SCHEMA_KEY

TIME, LATER = "2026-05-01T12:00:00+00:00", "2026-05-02T12:00:00+00:00"


def saved(folder, diagnostics=(), time=TIME, speed=(), **changes):
    pairs = [*((one.record, one.rounds) for one in diagnostics), *speed]
    return str(saved_run(folder, time=time, commit="a" * 40, records_and_rounds=pairs, **changes))


@pytest.fixture
def run(tmp_path):
    return saved(tmp_path, peaks(), speed=profiled_pair(), name="run.json")


def explained(capsys, *arguments):
    assert command.main(["explain", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(capsys, *arguments):
    assert command.main(["explain", *map(str, arguments)]) == 4
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert (captured.out, line.isprintable()) == ("", True)
    return line


def test_text(run, capsys):
    out = explained(capsys, run)
    lines = out.splitlines()
    assert " ".join(line.strip() for line in lines[:2]) == (
        "vgg16, training: mixed_float16 is 2.00 [1.98, 2.02] times as fast as float32, 50.0 -> 25.0 ms (NVIDIA V100, "
        "batch 64, 224x224 px, XLA on)"
    )
    verdict = lines[2:8]
    assert verdict[0] == "- Device-bound: the GPU works in 24.0 of 25.0 ms (96 %)."
    assert verdict[1] == "- 33 % of the busy time runs on tensor cores (8.00 of 24.0 ms)."
    assert verdict[2].startswith("- Not faster than in float32: normalisation 10.0 -> 10.0 ms") or "normalis" in out
    assert "ms a step by class of work" in out
    assert out.index("Device-bound") < out.index("ms a step by class of work")


def test_json(run, capsys):
    data = json.loads(explained(capsys, run, "--json"))
    assert data[SCHEMA_KEY] == 2
    (step,) = data["steps"]
    assert (step["model"], step["phase"], step["batch_size"], step["baseline"]) == ("vgg16", "training", 64, "float32")
    assert step["speedups"]["mixed_float16"]["speedup"] == 2
    assert 1 <= len(step["verdict"]) <= 6
    of = step["precisions"]["mixed_float16"]
    for by in ("by_class", "by_pass", "by_layer"):
        assert sum(of[by].values()) == pytest.approx(0.025, abs=1e-9)
    conv = next(layer for layer in of["layers"] if layer["layer"] == "conv")
    assert conv["fraction_of_roof"] == pytest.approx(0.005 / 0.008)
    assert step["roofline_seconds"] == pytest.approx({"float32": 0.025, "mixed_float16": 0.010})


def test_it_imports_neither_tensorflow_nor_pytest(run, tmp_path):
    trace = str(unpacked("h200-vgg16", tmp_path))
    code = (
        f"import sys; from mpbench.__main__ import main; main(['explain', {run!r}]); main(['explain', {run!r}, '--json'"
        f"]); main(['explain', '--trace', {trace!r}]); "
        "sys.exit(str({'tensorflow', 'keras', 'pytest', 'matplotlib'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "0\n"


def test_sessions_of_one_machine_are_put_together(tmp_path, capsys):
    speed = saved(tmp_path, speed=profiled_pair(), name="speed.json")
    roofs = saved(tmp_path, peaks(), LATER, name="peaks.json")
    steps = saved(
        tmp_path,
        [end_to_end("device", 25, "mixed_float16"), end_to_end("pipeline", 90, "mixed_float16")],
        LATER,
        name="steps.json",
    )
    together = explained(capsys, speed, roofs, steps)
    assert "% of roof" in together
    assert "INPUT-BOUND: mixed_float16 is input-bound" in together
    assert explained(capsys, steps, roofs, speed) == together


def test_a_run_of_another_machine_is_named_and_left_out(tmp_path, run, capsys):
    other = saved(tmp_path, speed=profiled_pair("resnet50"), machine={"driver": "550"}, name="other.json")
    out = explained(capsys, run, other)
    assert f"note: left out: {other}: measured elsewhere than {run}: driver" in out.replace("\n  ", " ")
    assert "resnet50" not in out


def test_one_model_of_several(tmp_path, capsys):
    both = saved(tmp_path, speed=[*profiled_pair(), *profiled_pair("resnet50")])
    out = explained(capsys, both, "--model", "resnet50")
    assert out.startswith("resnet50, training")
    assert "vgg16" not in out
    assert refused(capsys, both, "--model", "vgg19") == "--model: unknown 'vgg19': valid are vgg16, resnet50"


def test_all_verdicts_stand_before_the_first_table(tmp_path, capsys):
    both = saved(tmp_path, speed=[*profiled_pair(phase="inference"), *profiled_pair()])
    lines = explained(capsys, both).splitlines()
    titles = [number for number, line in enumerate(lines) if line.startswith("vgg16, ")]
    assert [lines[number].partition(":")[0] for number in titles[:2]] == ["vgg16, training", "vgg16, inference"]
    assert titles[1] < next(number for number, line in enumerate(lines) if line.startswith("ms a step"))


def test_a_case_without_a_profile_says_why(tmp_path, capsys):
    none = record(precision="tf32", step_profile="", no_step_profile="CUPTI is missing")
    alone = record("vgg19", no_step_profile="CUPTI is missing")
    speed = [*profiled_pair(), (none, [0.04] * 12), (alone, [0.04] * 12)]
    out = explained(capsys, saved(tmp_path, speed=speed)).replace("\n  ", " ")
    assert "tf32 has no profile: CUPTI is missing." in out
    assert "note: left out: vgg19, training: no profile (CUPTI is missing); NVIDIA V100, batch 64" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "truncated or not JSON"),
        ('{"benchmarks": []}', "none is a case of mpbench"),
        ("\x1b[2J", "truncated or not JSON"),
    ],
)
def test_what_is_no_run_is_one_line_and_exit_4(tmp_path, capsys, content, message):
    path = tmp_path / "some\x1b.json"
    path.write_text(content)
    line = refused(capsys, path)
    assert line.startswith("explain: ")
    assert message in line


def test_a_run_without_a_profile_is_one_line_that_says_what_to_do(tmp_path, capsys):
    path = saved(tmp_path, peaks(), speed=cases(150, 100))
    line = refused(capsys, path)
    assert line.startswith(f"explain: {path}: no profile of a step in it: on a CPU --mp-why takes them (make why)")
    missing = saved(tmp_path, speed=cases(150, 100, no_step_profile="no kernel of a GPU"), name="missing.json")
    assert refused(capsys, missing).endswith("(no kernel of a GPU)")


def test_a_damaged_profile_is_named(tmp_path, capsys):
    path = tmp_path / "run.json"
    saved(tmp_path, speed=profiled_pair(), name="run.json")
    path.write_text(path.read_text().replace('\\"busy_ns\\":48000000', '\\"busy_ns\\":48000001'))
    assert "profile: busy_ns is 48000001, its rows add up to 48000000" in refused(capsys, path)


def test_what_cannot_be_asked_is_one_line(run, tmp_path, capsys):
    trace = unpacked("cpu-convnet", tmp_path)
    assert "RUN.json" in refused(capsys)
    assert "not both" in refused(capsys, run, "--trace", trace)
    assert refused(capsys, run, "--steps", "3").startswith("--steps: 3")
    for steps in ("0", "-1", "1" + "0" * 400):
        assert refused(capsys, "--trace", trace, "--steps", steps).startswith(f"--steps: {steps}")
    assert refused(capsys, "--trace", trace, "--model", "vgg16").startswith("--model: ")


def test_a_trace(tmp_path, capsys):
    path = str(unpacked("h200-vgg16", tmp_path))
    out = explained(capsys, "--trace", path)
    assert out.startswith("h200-vgg16.xplane.pb, NVIDIA H200\n- ")
    assert "BiasAddGrad and MaxPoolGrad take 12.7 of 25.9 ms." in out
    data = json.loads(explained(capsys, "--trace", path, "--steps", "1", "--json"))
    assert data[SCHEMA_KEY] == 2
    assert sum(data["by_class"].values()) == pytest.approx(data["step_seconds"], abs=1e-9)
    assert data["verdict"][0][:6] in out


@pytest.mark.parametrize("content", [b"", b"no trace", b"\x0a\xff\xff\xff\x7f", b'{"traceEvents": []}'])
def test_a_bad_trace_is_one_line_and_exit_4(tmp_path, capsys, content):
    path = tmp_path / "bad.xplane.pb"
    path.write_bytes(content)
    assert str(path) in refused(capsys, "--trace", path)


def test_truncated_missing_and_foreign_traces_are_one_line(tmp_path, capsys):
    whole = unpacked("cpu-convnet", tmp_path)
    (tmp_path / "cut.xplane.pb").write_bytes(whole.read_bytes()[:-1000])
    assert "cut off" in refused(capsys, "--trace", tmp_path / "cut.xplane.pb")
    assert "No such file" in refused(capsys, "--trace", tmp_path / "none.xplane.pb")
    assert "directory" in refused(capsys, "--trace", tmp_path)
    made = Made()
    made.plane("/device:TPU:0")
    assert "neither kernels of a GPU nor operations" in refused(capsys, "--trace", made.file(tmp_path))


def test_a_session_ends_with_the_verdicts_alone():
    from diagnostic_records import run_of

    lines = session_lines(run_of(pipeline(32), cases=profiled_pair()))
    assert lines[0].startswith("Input pipeline: 2,000 images/s: 1000 dogs-vs-cats.zip")
    assert any(line.startswith("- Device-bound") for line in lines)
    assert not any("= the step" in line for line in lines)
    assert session_lines(run_of(cases=[(record(), [0.1] * 12)])) == []
