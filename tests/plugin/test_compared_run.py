"""What a storage folder may hold besides runs: each is named in one line and left out; it never crashes a run, hangs
it or passes a gate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from child_runs import BARE
from diagnostic_records import peak
from harmful_files import ABSURD, HARMFUL, TABLE_ONLY, TIME, changed, first, whole
from paths import ROOT
from saved_runs import saved_run

from mpbench import __main__ as command
from mpbench.errors import UsageProblem
from mpbench.plugin.compared_run import (
    Choice,
    check_baseline,
    choose,
    choose_from_storage,
    differing_facts,
    differing_fields,
)
from mpbench.records.runs import UnreadableRun, load_runs, read_run
from mpbench.records.speed import SPEED


@pytest.mark.parametrize("name", [*HARMFUL, *ABSURD])
def test_the_history_and_the_gate_name_it_and_go_on(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = Path(".benchmarks")
    good, bad = whole(folder / "0001_good.json"), folder / "0002_bad.json"
    (HARMFUL | ABSURD)[name](bad)
    said = []
    assert [run.path for run in load_runs(folder, said.append)] == [good]
    (line,) = said
    assert line.startswith(f"left out: {bad}: ")
    assert line.isprintable()
    assert len(line) < 300
    if name in ABSURD:
        assert f": {name}: " in line
    assert command.main(["history"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"{line}\n"
    assert "vgg16" in captured.out
    assert command.main(["gate", str(good)]) == 0
    assert line in capsys.readouterr().err.splitlines()
    for arguments in ([str(bad)], [str(good), "--against", str(bad)]):
        assert command.main(["gate", *arguments]) == 4
        captured = capsys.readouterr()
        assert captured.out == ""
        (line_of_gate,) = captured.err.splitlines()
        assert str(bad) in line_of_gate


@pytest.mark.parametrize("name", [*HARMFUL, *ABSURD, *TABLE_ONLY])
def test_the_comparison_takes_the_newest_usable_run(tmp_path, name):
    good, bad = whole(tmp_path / "0001_good.json"), tmp_path / "0002_bad.json"
    (HARMFUL | ABSURD | TABLE_ONLY)[name](bad)
    check_baseline(good)
    choice = choose(True, True, lambda glob: [good, bad], "here")
    assert choice.value == str(good)
    (line,) = choice.messages
    assert line.startswith(f"left out: {bad}: ")
    assert line.isprintable()
    assert len(line) < 300
    nothing = choose(True, False, lambda glob: [bad], "here")
    assert nothing == Choice("", (line,), "no saved run that can be used in here")
    assert choose("0002", False, lambda glob: [bad], "here").value == ""
    with pytest.raises(
        UsageProblem, match=r"^--benchmark-compare: no saved run like 0002 that can be used in here: give"
    ):
        choose("0002", True, lambda glob: [bad], "here")


USABLE = {
    "whole": whole,
    "without_a_machine": changed(lambda saved: saved.pop("machine_info") and None),
    "foreign_cases_only": changed(
        lambda saved: [bench.update(extra_info={}) for bench in saved["benchmarks"]] and None
    ),
    "before_3.1": first(lambda bench: bench["stats"].pop("ops")),
}


@pytest.mark.parametrize("name", USABLE)
def test_what_pytest_benchmark_can_compare_with_stays_its_own(tmp_path, name):
    path = tmp_path / "0001_x.json"
    USABLE[name](path)
    check_baseline(path)
    assert choose("0001", True, lambda glob: [path], "here") == Choice("0001")


def test_of_several_runs_the_newest_usable_one_is_left(tmp_path):
    paths = [whole(tmp_path / f"000{n}_x.json") for n in (1, 2, 3)]
    assert choose("000", False, lambda glob: paths, "here") == Choice("000")
    paths[2].write_text("{")
    choice = choose("000", False, lambda glob: paths, "here")
    assert choice.value == str(paths[1])
    assert choice.messages[-1] == f"--benchmark-compare: 000: compared with {paths[1]} alone"


def test_the_newest_run_is_none_that_confirms_another(tmp_path):
    good, again = whole(tmp_path / "0001_good.json"), whole(tmp_path / "0002_again.json")
    saved = json.loads(again.read_text())
    again.write_text(json.dumps(saved | {"mpbench": {"confirms": "1a2b"}}))
    assert choose(True, False, lambda glob: [good, again], "here") == Choice(str(good))
    assert choose("0002", False, lambda glob: [again], "here") == Choice("0002")


def test_a_run_of_nothing_but_causes_is_no_baseline(tmp_path):
    diagnosed = peak("copy", 5)
    path = saved_run(tmp_path, time=TIME, commit="x", records_and_rounds=[(diagnosed.record, list(diagnosed.rounds))])
    with pytest.raises(UnreadableRun, match="holds only diagnostic cases"):
        check_baseline(path)


def test_a_first_run_has_nothing_to_fail_against(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"benchmark_compare": True, "benchmark_storage": "file://./.benchmarks", "benchmark_compare_fail": [1]}
    choice = choose_from_storage(lambda name, default=None: options.get(name, default))
    assert choice == Choice("", (), "no saved run in .benchmarks: --benchmark-compare-fail fails nothing in this run")
    options["benchmark_storage"] = "elasticsearch+http://nowhere"
    assert choose_from_storage(lambda name, default=None: options.get(name, default)) is None


def test_a_value_that_cannot_name_a_run_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"benchmark_compare": "a/b/c.json", "benchmark_storage": "file://./.benchmarks"}
    with pytest.raises(UsageProblem, match=r"^--benchmark-compare: a/b/c.json: valid is [^\n]*$"):
        choose_from_storage(lambda name, default=None: options.get(name, default))
    options["benchmark_compare"] = "/"
    with pytest.raises(UsageProblem, match=r"^--benchmark-compare: /: valid is [^\n]*$"):
        choose_from_storage(lambda name, default=None: options.get(name, default))


def test_what_differs_between_two_machines_is_named():
    then = {"python_version": "3.11.1", "cpu": {"brand_raw": "A", "flags": ["x"] * 99}, "mpbench": {"driver": "550"}}
    now = {"python_version": "3.11.2", "cpu": {"brand_raw": "B", "flags": ["y"] * 99}, "mpbench": {"driver": "580"}}
    assert differing_facts(then, now) == ["driver 550 -> 580", "cpu A -> B"]
    assert differing_fields(then, now) == [
        "python_version 3.11.1 -> 3.11.2",
        "cpu.brand_raw A -> B",
        "cpu.flags",
        "mpbench.driver 550 -> 580",
    ]
    # Other people's benchmarks have no facts of mpbench's: those are no difference.
    assert differing_fields({}, now) == ["python_version none -> 3.11.2", "cpu"]
    assert differing_fields(now, json.loads(json.dumps(now))) == differing_facts(now, now) == []


# The plugin.


@pytest.fixture
def project(pytester, monkeypatch):
    for name in ("conftest.py", "bench/test_inference.py"):
        target = pytester.path / name
        target.parent.mkdir(exist_ok=True)
        target.write_text((ROOT / name).read_text())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    return pytester


ARGS = ("bench", "--mp-device=cpu", "--mp-image-size=16", "--mp-max-time=0.5", "--mp-models=tiny_models:classifier")


def test_what_cannot_be_compared_is_said_before_anything_is_measured(project):
    storage = project.path / ".benchmarks"
    storage.mkdir()
    os.mkfifo(storage / "0009_x.json")
    quick = (*ARGS, "--collect-only")
    result = project.runpytest_subprocess(*quick, "--benchmark-compare=0009", timeout=60)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*left out: .benchmarks/0009_x.json: not a regular file",
            "*nothing to compare with: no saved run like 0009 that can be used in .benchmarks",
        ]
    )
    fails = "--benchmark-compare-fail=min:5%"
    for args, line in (
        (
            (*quick, "--benchmark-compare=0009", fails),
            "ERROR: --benchmark-compare: no saved run like 0009 that can be used *",
        ),
        (
            (*quick, "--benchmark-compare=0042", fails),
            "ERROR: --benchmark-compare: no saved run like 0042 in .benchmarks: *",
        ),
        (
            (*quick, "--benchmark-compare=a/b/c.json"),
            "ERROR: --benchmark-compare: a/b/c.json: valid is a run's number, *",
        ),
        ((*ARGS, fails), "ERROR: --benchmark-compare-fail: use it together with --benchmark-compare"),
    ):
        result = project.runpytest_subprocess(*args, timeout=60)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([line])
        assert "loading TensorFlow" not in result.stdout.str()


def test_a_later_versions_case_in_a_usable_run_is_not_compared_with(tmp_path):
    from mpbench.plugin.compared_run import ComparedRun

    path = whole(tmp_path / "0001_x.json")
    saved = json.loads(path.read_text())
    saved["benchmarks"][0]["extra_info"][SPEED.schema_key] = SPEED.schema + 1
    path.write_text(json.dumps(saved))
    check_baseline(path)
    baseline, machine = ComparedRun(Choice("0001")), {"node": "here"}
    baseline.loaded(saved, machine)
    assert len(saved["benchmarks"]) == 2
    assert saved["machine_info"] is machine


def test_the_gate_in_a_process_of_its_own_does_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "new.json")
    done = subprocess.run(
        [sys.executable, "-m", "mpbench", "gate", "new.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "new.json: not a regular file\n")


def test_the_zoo_would_pass_if_it_were_whole(tmp_path):
    assert len(read_run(whole(tmp_path / "x.json")).speed) == 2
    with pytest.raises(UnreadableRun, match="No such file"):
        check_baseline(tmp_path / "none.json")
