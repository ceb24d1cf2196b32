"""python -m mpbench explain: what is printed, and how it says no."""

import json
import subprocess
import sys

import pytest
from case_records import record
from probe_records import layer, part, peaks
from saved_runs import cases, saved_run

from mpbench import __main__ as command
from mpbench.why.reading.page_json import SCHEMA_KEY

TIME, LATER = "2026-05-01T12:00:00+00:00", "2026-05-02T12:00:00+00:00"
PROBES = [part("step", 100), part("step", 70, "mixed_float16"), part("update", 40), layer("conv", 30), *peaks()]


def saved(folder, probes, time=TIME, speed=(), **changes):
    pairs = [*((one.record, one.rounds) for one in probes), *speed]
    return str(saved_run(folder, time=time, commit="a" * 40, records_and_rounds=pairs, **changes))


@pytest.fixture
def run(tmp_path):
    return saved(tmp_path, PROBES, speed=cases(150, 100), name="run.json")


def explained(capsys, *arguments):
    assert command.main(["explain", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_text(run, capsys):
    out = explained(capsys, run)
    assert out.startswith("vgg16 on NVIDIA V100, batch 64, 224x224 px, XLA on\n")
    assert "mixed_float16 is 1.500 [1.485, 1.515] times as fast as float32" in out


def test_json(run, capsys):
    data = json.loads(explained(capsys, run, "--json"))
    assert data[SCHEMA_KEY] == 1
    assert data["models"][0]["phases"]["training"]["step_source"] == "parts"


def test_it_imports_neither_tensorflow_nor_pytest(run):
    code = (
        f"import sys; from mpbench.__main__ import main; main(['explain', {run!r}]); main(['explain', {run!r}, '--json'"
        "]); sys.exit(str({'tensorflow', 'keras', 'pytest', 'matplotlib'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "0\n"


def test_sessions_of_one_machine_are_put_together(tmp_path, capsys):
    speed = saved(tmp_path, [], speed=cases(150, 100), name="speed.json")
    parts = saved(tmp_path, PROBES[:3], LATER, name="parts.json")
    layers = saved(tmp_path, PROBES[3:], LATER, name="layers.json")
    together = explained(capsys, speed, parts, layers)
    assert "compute-bound layers" in together
    assert "optimizer update" in together
    assert "1.500 [1.485, 1.515]" in together
    assert explained(capsys, layers, parts, speed) == together


def test_a_run_of_another_machine_is_named_and_left_out(tmp_path, run, capsys):
    other = saved(tmp_path, [part("forward", 7)], machine={"driver": "550"}, name="other.json")
    out = explained(capsys, run, other)
    assert f"note: left out: {other}: measured elsewhere than {run}: driver 580.65.06 -> 550" in out
    assert "forward ms" not in out


def test_one_model_of_several(tmp_path, capsys):
    both = saved(tmp_path, [part("step", 100), part("step", 50, model="resnet50")])
    out = explained(capsys, both, "--model", "resnet50")
    assert out.startswith("resnet50 on")
    assert "vgg16" not in out
    assert command.main(["explain", both, "--model", "vgg19"]) == 4
    assert capsys.readouterr().err == "--model: vgg19: valid are vgg16, resnet50\n"


def test_settings_that_differ_get_pages_of_their_own(tmp_path, capsys):
    speed = [(record(batch_size=8), [0.1] * 12)]
    both = saved(tmp_path, [part("step", 100), part("update", 40, batch_size=32)], speed=speed)
    out = explained(capsys, both)
    assert "vgg16 on NVIDIA V100, batch 64" in out
    assert "vgg16 on NVIDIA V100, batch 32" in out
    assert "note: left out: vgg16 (NVIDIA V100, batch 8, 224x224 px, XLA on): only its speed was measured" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "truncated or no JSON"),
        ('{"benchmarks": []}', "none is a case of mpbench"),
        ("\x1b[2J", "truncated or no JSON"),
    ],
)
def test_what_is_no_run_is_one_line_and_exit_4(tmp_path, capsys, content, message):
    path = tmp_path / "some\x1b.json"
    path.write_text(content)
    assert command.main(["explain", str(path)]) == 4
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert (captured.out, line.isprintable()) == ("", True)
    assert line.startswith("explain: ")
    assert message in line


def test_a_run_with_nothing_to_explain_is_one_line_and_exit_4(tmp_path, capsys):
    path = saved(tmp_path, peaks(), speed=cases(150, 100))
    assert command.main(["explain", path]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"explain: {path}: no case in it looks for causes: valid is a run of `make why`, or of bench/test_layers.py "
        "and the like"
    )


def test_a_damaged_figure_is_named(tmp_path, capsys):
    path = tmp_path / "run.json"
    saved(tmp_path, PROBES, name="run.json")
    path.write_text(path.read_text().replace('"part": "update"', '"part": "upd\\u001bate"'))
    assert command.main(["explain", str(path)]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "part: 'upd" in line
    assert line.endswith("valid are step, forward, gradients, update, casts")


def test_runs_are_needed(capsys):
    assert command.main(["explain"]) == 4
    assert "RUN.json" in capsys.readouterr().err
