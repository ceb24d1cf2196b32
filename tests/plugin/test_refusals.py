"""A session that cannot be what it was asked to be is refused in one line, on workers of pytest-xdist too."""

import shutil

import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT

from mpbench.plugin.benchmark_adapter import commit_problem

WITH_XDIST = BARE.replace("-p no:xdist", "")
SKIPPED = """
import pytest

@pytest.mark.mpbench(phase="training")
def test_skipped(model, precision, measure, benchmark):
    pytest.skip("not here")
"""
BAD_PHASE = """
import pytest

@pytest.mark.mpbench(phase="trainig")
def test_typo(model, precision, measure, benchmark):
    measure(benchmark, model, precision)

def test_plain():
    pass
"""
TEST_CASE = """
import unittest, pytest

{of_class}
class TestSpeed(unittest.TestCase):
    {of_method}
    def test_speed(self):
        pass
"""
MARK = 'pytest.mark.mpbench(phase="training", models=["vgg16"])'
CAUSE = 'pytest.mark.mpbench_diagnostic("end_to_end")'


@pytest.fixture
def project(pytester, monkeypatch):
    """Cases whose measurements are drawn, in a folder without git."""
    shutil.copy(ROOT / "bench" / "test_training.py", pytester.path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{SUPPORT}")
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    return pytester


def run(project, *args):
    return project.runpytest_subprocess("-p", "fake_measuring", "--mp-lock=off", "-q", *args)


def test_a_time_limit_for_each_test_does_not_end_the_one_that_has_all_measured(project, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "2")
    result = run(project, "-p", "pytest_timeout", "-o", "timeout=1", "-k", "vgg16")
    result.assert_outcomes(passed=2)


def refused(result, message):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    printed = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in printed
    assert "INTERNALERROR" not in printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--mp-gate"], "--mp-gate: given together with pytest-xdist, under which nothing is measured: use one *"),
        (["--benchmark-json=x.json"], "--benchmark-json: given together with pytest-xdist, *"),
        (["--benchmark-autosave", "--dist=loadfile"], "--benchmark-autosave: given together with pytest-xdist, *"),
    ],
)
def test_several_processes_cannot_measure(project, monkeypatch, args, message):
    monkeypatch.setenv("PYTEST_ADDOPTS", WITH_XDIST)
    refused(run(project, "-n2", *args), message)
    assert not (project.path / "x.json").exists()


@pytest.mark.parametrize("option", ["--benchmark-disable", "--benchmark-skip"])
@pytest.mark.parametrize("judging", ["--mp-gate", "--benchmark-compare-fail=mean:5%"])
def test_nothing_is_measured_and_a_verdict_asked_for(project, option, judging):
    refused(run(project, option, judging), f"{judging.partition('=')[0]}: given together with {option}, under which *")


@pytest.mark.parametrize("body", [SKIPPED, "def test_plain(): pass"])
def test_a_gate_that_has_judged_nothing_is_not_green(project, body):
    path = project.makepyfile(test_mine=body)
    result = run(project, path, "--mp-gate", "--mp-summary=summary.md")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--mp-gate: nothing was measured, so nothing was judged: run at least one case"])
    assert "nothing was measured" in (project.path / "summary.md").read_text()
    assert run(project, path, "--mp-gate", "--collect-only").ret == 0
    assert run(project, path).ret == 0


def test_a_run_that_measures_is_judged_as_ever(project):
    result = run(project, "--mp-gate", "--benchmark-autosave")
    assert result.ret == 0
    assert "nothing was measured" not in result.stdout.str()


def test_pytest_benchmark_by_its_module_s_name(project, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "")
    named = ("-p", "pytest_benchmark.plugin", "-p", "mpbench.plugin")
    result = run(project, *named)
    result.assert_outcomes(passed=6)
    refused(run(project, "-p", "mpbench.plugin"), "-p no:benchmark: mpbench reports through pytest-benchmark *")


def test_a_bad_mark_on_workers(project, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", WITH_XDIST)
    path = project.makepyfile(test_mine=BAD_PHASE)
    refused(run(project, path, "-n2"), "test_mine.py::test_typo: mark mpbench: given {'phase': 'trainig'}: valid is *")


@pytest.mark.parametrize(
    "body",
    [
        TEST_CASE.format(of_class=f"@{MARK}", of_method=""),
        TEST_CASE.format(of_class="", of_method=f"@{MARK}"),
        TEST_CASE.format(of_class="", of_method=f"@{CAUSE}"),
        TEST_CASE.format(of_class=f"pytestmark = {MARK}", of_method=""),
    ],
)
def test_a_mark_on_a_test_case_of_unittest(project, body):
    path = project.makepyfile(test_mine=body)
    refused(run(project, path), "test_mine.py::TestSpeed::test_speed: mark mpbench*: given to a method of unittest.*")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            f"@{MARK}\ndef test_a(benchmark): pass",
            "test_mine.py::test_a: mark mpbench: the test does not take *",
        ),
        (
            f"@{CAUSE}\ndef test_a(diagnose): pass",
            "test_mine.py::test_a: mark mpbench_diagnostic: the test does not take *",
        ),
        (f"@{MARK}\n@{CAUSE}\ndef test_a(model, phase, precision, input, measure): pass", "*: use one of them"),
        (
            "@pytest.mark.mpbench_diagnostic(['end_to_end'])\ndef test_a(): pass",
            "test_mine.py::test_a: mark mpbench_diagnostic: *",
        ),
    ],
)
def test_marks_where_they_do_not_fit(project, body, message):
    refused(run(project, project.makepyfile(test_mine=f"import pytest\n{body}")), message)


def test_a_mark_that_a_hook_adds_too_late(project):
    project.makeconftest(f"import pytest\ndef pytest_collection_modifyitems(items): items[0].add_marker({MARK})")
    path = project.makepyfile(test_mine="def test_a(): pass")
    refused(run(project, path), "test_mine.py::test_a: mark mpbench: given to a test without the parameters *")


def test_why_the_commit_is_not_known():
    dubious = (
        "CalledProcessError(128, \"fatal: detected dubious ownership in repository at '/a'\\nTo add an exception for "
        'this directory, call:\\n\\n\\tgit config --global --add safe.directory /a\\n")'
    )
    assert commit_problem(dubious) == (
        "detected dubious ownership in repository at '/a'; git config --global --add safe.directory FOLDER trusts it"
    )
    assert commit_problem("CalledProcessError(128, 'fatal: not a git repository\\n')") == "not a git repository"
    assert commit_problem("CalledProcessError(128, 'fatal: bad object')") == "bad object"
    assert commit_problem("FileNotFoundError(2, 'No such\x1b[2J file')") == "FileNotFoundError(2, 'No such?[2J file')"


def test_an_unknown_commit_is_said(project, monkeypatch):
    (project.path / ".git").mkdir()
    result = run(project)
    (line,) = [line for line in result.outlines if "the commit is not known" in line]
    assert line.endswith("not a git repository (or any of the parent directories): .git")
