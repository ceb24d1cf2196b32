"""Before the gate is red, cases are measured again in fresh processes: real pytest runs, of what is drawn."""

import json
import shutil
from datetime import datetime, timedelta, timezone

import pytest
import scipy.special
import scipy.stats  # noqa: F401
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench import __main__ as command
from mpbench.records.runs import load_runs

# scipy is imported above because pytester unloads what a test imports, and parts of numpy cannot be loaded twice.
STEADY = """
import os
import fake_measuring

AGAIN = "MPBENCH_MEASURES_AGAIN" in os.environ
drawn = fake_measuring.measure_group

def measure_group(plan, *rest):
    outcomes = drawn(plan, *rest)
    for arm, measured in outcomes.items():
        slow = os.environ.get("SLOW_AGAIN" if AGAIN else "SLOW", "")
        factor = 1.1 if slow and f"{plan.label} {arm}".startswith(slow) else 1.0
        base = 0.01 if measured.record.precision == "float32" else 0.006
        rounds = tuple(base * factor * (1 + 0.001 * fake_measuring.DRAW.gauss(0, 1)) for _ in measured.rounds)
        object.__setattr__(measured, "rounds", tuple(float(f"{one:.9g}") for one in rounds))
    return outcomes

@__import__("pytest").hookimpl(trylast=True)
def pytest_configure(config):
    fake_measuring.measure_group = measure_group
    assert config.getoption("mp_cache_compiled") == ("off" if AGAIN else "on")
    assert not (AGAIN and config.getoption("mp_summary"))
"""
"""Steady times, but for what starts with SLOW, or in a process that measures again with SLOW_AGAIN."""

SLOW = "vgg16 training"


@pytest.fixture
def project(pytester, monkeypatch):
    """A copy of bench/ whose cases take steady times, and three runs of it."""
    (pytester.path / "conftest.py").write_text(STEADY)
    shutil.copytree(
        ROOT / "bench", pytester.path / "bench", ignore=shutil.ignore_patterns("__pycache__", "test_numerics.py")
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{SUPPORT}")
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    monkeypatch.setenv("FAKE_ROUNDS", "20")
    assert run(pytester, "--benchmark-autosave").ret == 0
    (path,) = (pytester.path / ".benchmarks").rglob("*.json")
    for number in (2, 3):  # as if it had been measured again, a per mille apart
        content = json.loads(path.read_text())
        content["datetime"] = f"2026-01-0{number}T00:00:00+00:00"
        for bench in content["benchmarks"]:
            bench["stats"]["data"] = [seconds * (1 + number / 1000) for seconds in bench["stats"]["data"]]
        path.with_name(f"000{number}_again.json").write_text(json.dumps(content))
    return pytester


def run(project, *args):
    return project.runpytest_subprocess("-p", "fake_measuring", "bench", "--mp-lock=off", *args)


def saved(project):
    return load_runs(project.path / ".benchmarks", print)


def test_what_is_slow_again_is_red_and_all_of_it_is_saved(project, monkeypatch, capsys):
    monkeypatch.setenv("SLOW", SLOW)
    monkeypatch.setenv("SLOW_AGAIN", SLOW)
    # What the project always wants is the parent's business too.
    (project.path / "pyproject.toml").write_text('[tool.mpbench]\nsummary = "summary.md"\ngate-confirm = 2')
    result = run(project, "--benchmark-autosave", "--mp-gate", "--benchmark-json=run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "* s] measured again, process 1 of 2: 2 cases",
            "* s] measured again, process 1 of 2: Saved benchmark data in: *",
            "* s] measured again, process 2 of 2: 2 cases",
            "GATE FAILED: *",
            "  SLOWER: bench/test_training.py::test_training?vgg16-* measured again: +*%, +*%*",
        ]
    )
    *_, new, one, two = saved(project)
    assert (one.confirms, two.confirms, new.confirms) == (new.id, new.id, "")
    assert {name.partition("[")[2] for name in one.speed} == {"vgg16-float32]", "vgg16-mixed_float16]"}
    assert len(new.speed) == 12
    assert len(json.loads((project.path / "run.json").read_text())["benchmarks"]) == 12  # the children have their own
    assert "The gate failed" in (project.path / "summary.md").read_text()
    monkeypatch.chdir(project.path)
    assert command.main(["gate", str(new.path)]) == 1
    assert ", measured again: +" in capsys.readouterr().out


def test_what_comes_back_in_a_fresh_process_is_not_red(project, monkeypatch, capsys):
    monkeypatch.setenv("SLOW", SLOW)
    result = run(project, "--benchmark-autosave", "--mp-gate", "--mp-gate-confirm=1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["GATE PASSED", "*UNSURE: bench/test_training.py::*: not confirmed, *measured again: *"]
    )
    monkeypatch.chdir(project.path)
    new = next(run for run in saved(project)[::-1] if not run.confirms)
    assert command.main(["gate", str(new.path)]) == 0
    assert command.main(["gate", str(new.path), "--against", str(saved(project)[0].path)]) == 0
    assert "not confirmed" in capsys.readouterr().out


def test_without_confirming_one_process_decides(project, monkeypatch):
    monkeypatch.setenv("SLOW", SLOW)
    result = run(project, "--mp-gate", "--mp-gate-confirm=0")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("*measured again*")


def test_nothing_is_measured_again_where_nothing_is_slow(project):
    result = run(project, "--mp-gate")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*measured again*")


def test_a_process_that_fails_confirms_nothing(project, monkeypatch):
    monkeypatch.setenv("SLOW", SLOW)
    monkeypatch.setenv("FAIL", "1")
    with (project.path / "conftest.py").open("a") as file:
        file.write("\nif AGAIN:\n    raise SystemExit('no room for it')\n")
    result = run(project, "--mp-gate", "--mp-gate-confirm=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["* s] measured again, process 1 of 1: failed: no room for it", "GATE FAILED: *"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--mp-gate", "--mp-gate-confirm=two"], "'two': must be a whole number of processes, 0 to 999"),
        (["--mp-gate", "--mp-gate-confirm=-1"], "'-1': must be a whole number of processes, 0 to 999"),
        (["--mp-gate-confirm=1"], "1: use it together with --mp-gate"),
    ],
)
def test_bad_usage(pytester, monkeypatch, args, words):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{SUPPORT}")
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    result = pytester.runpytest_subprocess(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --mp-gate-confirm: {words}"])


def test_runs_from_the_future_are_an_error_before_anything_is_measured(project):
    path = saved(project)[-1].path
    content = json.loads(path.read_text())
    next_year = (datetime.now(timezone.utc) + timedelta(days=365)).isoformat()
    path.write_text(json.dumps(content | {"datetime": next_year}))
    result = run(project, "--mp-gate")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --mp-gate: 1 of 3 saved runs are later than now, *Set this machine's clock*"])
    result.stdout.no_fnmatch_line("*measuring*")


def test_what_was_left_out_on_purpose_is_not_missing(project):
    for args in (["-k", "vgg16"], ["bench/test_training.py"]):
        extra = args if args[0] == "-k" else []
        paths = ["bench"] if extra else args
        result = project.runpytest_subprocess("-p", "fake_measuring", *paths, *extra, "--mp-lock=off", "--mp-gate",
                                              "--mp-gate-missing=fail")  # fmt: skip
        assert result.ret == 0
        result.stdout.fnmatch_lines(["  NOT SELECTED: *: this run was not asked for it"])
        result.stdout.no_fnmatch_line("*MISSING*")
    result = run(project, "--mp-models=vgg16", "--mp-gate", "--mp-gate-missing=fail")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["GATE FAILED: 8 MISSING"])
