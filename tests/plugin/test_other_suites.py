"""The plugin is there wherever mpbench is installed: it leaves other people's tests and benchmarks alone."""

import json
import re
import subprocess
import sys

import pytest

from mpbench.plugin.compared_run import differing_fields

TESTS = """
def test_something():
    pass

def test_a_benchmark(benchmark):
    benchmark.pedantic(lambda: None, rounds=3)
"""


@pytest.fixture
def suite(pytester):
    pytester.makepyfile(test_theirs=TESTS)
    return pytester


def saved(suite, *args):
    """What is printed, without times, and the structure of what is saved."""
    result = suite.runpytest_subprocess("-q", "--benchmark-json=run.json", "--benchmark-autosave", *args)
    run = json.loads((suite.path / "run.json").read_text())
    printed = re.sub(r"[0-9a-f]{40}|\d[\d.,_]*|[-=]{3,}|\s+", "", result.stdout.str())
    return result, printed, {name: run[name] if name == "commit_info" else sorted(run[name]) for name in run
                             if name not in ("benchmarks", "datetime", "version")}  # fmt: skip


def test_what_they_print_and_save_is_what_it_would_be_without_us(suite):
    _, printed, structure = saved(suite, "-p", "no:mpbench.plugin")
    withal = saved(suite)
    withal[0].assert_outcomes(passed=2)
    assert withal[1:] == (printed, structure)
    assert [path.name for path in (suite.path / ".benchmarks").iterdir() if path.name.startswith("journal")] == []
    assert not list((suite.path / ".benchmarks").glob(".*"))


def test_their_pyproject_toml_is_none_of_our_business(suite):
    (suite.path / "their.ini").write_text("[pytest]")
    (suite.path / "pyproject.toml").write_text("[tool.other\nslower = ")
    suite.runpytest_inprocess("-c", "their.ini").assert_outcomes(passed=2)


def test_their_earlier_run_differs_in_nothing_of_ours():
    theirs = {"node": "a", "cpu": {"brand_raw": "Xeon", "hz_actual": [1, 0]}}
    ours = {"node": "a", "cpu": {"brand_raw": "Xeon"}, "mpbench": {"driver": "580"}}
    assert differing_fields(theirs, ours) == []


@pytest.mark.parametrize("line", ["", 'pytest_plugins = ("mpbench.plugin",)'])
def test_installing_is_enough_and_a_line_in_conftest_loads_nothing_twice(suite, line):
    suite.makeconftest(line)
    result = suite.runpytest_subprocess("--co", "-q", "-p", "mpbench.plugin", "--mp-device=tpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --mp-device: unknown 'tpu': *"])
    result = suite.runpytest_subprocess("--markers")
    assert result.stdout.str().count("@pytest.mark.mpbench(") == 1


def test_the_console_script_is_the_module():
    script = subprocess.run(
        [f"{sys.exec_prefix}/bin/mpbench", "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    module = subprocess.run(
        [sys.executable, "-m", "mpbench", "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (script.returncode, script.stdout) == (0, module.stdout)
