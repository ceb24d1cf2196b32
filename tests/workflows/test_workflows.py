"""The workflows: each shell step is run, with conditions and environment as GitHub's runner has them, against a bare
repository; where pytest would take minutes a stand-in writes a run instead."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from workflow_runner import (
    ROOT,
    TOKEN,
    WORKFLOWS,
    Job,
    Server,
    clean_environment,
    event,
    load,
    program,
    shell_steps,
)

STORE = "Store the history"
MEASURE = "Measure and judge"
RECOVER = "Recover a run that was killed, and collect what is new"
NAMES = sorted(path.name for path in WORKFLOWS.iterdir())
LINT = [str(Path(sys.executable).parent / "actionlint"), "-config-file", str(ROOT / ".github" / "actionlint.yaml")]
LINT += ["-shellcheck", str(Path(sys.executable).parent / "shellcheck")]

FAKE_PYTEST = f"""#!{sys.executable}
import os, pathlib, sys
options = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
pathlib.Path(os.environ["ARGUMENTS"]).write_text(repr(sys.argv[1:]))
if os.environ.get("KILLED"):
    os.kill(os.getpid(), 9)
folder = pathlib.Path(".benchmarks/Linux")
folder.mkdir(parents=True, exist_ok=True)
(folder / os.environ["RUN_NAME"]).write_text("{{}}")
journal = pathlib.Path(".benchmarks/journal")
journal.mkdir(exist_ok=True)
(journal / "dead.jsonl").write_text("")
pathlib.Path(options["--mp-summary"]).write_text("## what the run says\\n")
sys.exit(int(os.environ.get("STATUS", "0")))
"""


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path)


@pytest.fixture
def job(server, tmp_path):
    """Makes jobs whose pytest is the stand-in."""
    fake = program(tmp_path / "fake_pytest", FAKE_PYTEST)

    def make(name, github=None, **env):
        (tmp_path / name).mkdir()
        own = {"RUN_NAME": f"0001_{name}.json", "ARGUMENTS": str(tmp_path / name / "arguments")}
        return Job(server, name, github, {"PYTHONPATH": str(ROOT), **own, **env}, fake)

    return make


def test_a_first_run_passes_says_so_and_is_stored(job, server):
    first = job("a").rest()
    assert not first.failed, first.done
    assert "::notice::There is no branch benchmark-history yet" in first.done["Restore the history"].output
    assert server.stored() == ["Linux/0001_a.json"]
    assert first.summary == "## what the run says\n"
    assert [path.name for path in sorted((first.temp / "report").iterdir())] == ["0001_a.json", "summary.md"]
    assert "install --quiet --disable-pip-version-check .[cuda]" in (first.folder / "pip.log").read_text()
    arguments = (first.folder / "arguments").read_text()
    assert "'bench/', '--benchmark-autosave', '--mp-gate', '--mp-require-gpu', '--mp-summary=" in arguments


def test_the_next_run_has_the_history_and_is_stored_though_it_failed(job, server):
    job("a").rest()
    second = job("b", STATUS="1").rest()
    assert "Saved runs restored: 1\n" in second.done["Restore the history"].output
    assert second.done[MEASURE].status == 1
    assert second.failed
    assert second.done[STORE].output == "Stored.\n"
    assert server.stored() == ["Linux/0001_a.json", "Linux/0001_b.json"]
    assert server.commits() == 2
    assert second.summary == "## what the run says\n"
    # Of the history only what is new goes into the artifact.
    assert [path.name for path in sorted((second.temp / "report").iterdir())] == ["0001_b.json", "summary.md"]


@pytest.mark.parametrize("begun", [True, False])
def test_a_concurrent_push_is_retried(job, server, begun):
    if begun:
        job("earlier").rest()
    one, two = (job(name).until(STORE) for name in ("one", "two"))
    assert one.step().status == 0
    late = two.step()
    assert late.status == 0
    assert "Not pushed (attempt 1)" in late.output
    assert late.output.endswith("Stored.\n")
    names = [f"Linux/0001_{name}.json" for name in (["earlier"] if begun else []) + ["one", "two"]]
    assert server.stored() == names
    assert server.commits() == len(names)


def test_a_history_that_cannot_be_pushed_is_red(job, server):
    program(server.path / "hooks" / "pre-receive", "#!/bin/sh\nexit 1\n")
    done = job("a").rest().done[STORE]
    assert done.status == 1
    assert "Not pushed (attempt 5)" in done.output
    assert done.output.endswith("::error::The run is not in the history: pushing to benchmark-history failed.\n")
    assert server.stored() == []


@pytest.mark.parametrize(
    "github",
    [event("pull_request", "1/merge"), event("workflow_dispatch", "topic"), event("push", default="trunk")],
    ids=["pull request", "another branch", "not the default branch"],
)
def test_only_the_default_branch_is_stored(job, server, github):
    job("a").rest()
    compared = job("b", github).rest()
    assert compared.runs()
    assert "Saved runs restored: 1\n" in compared.done["Restore the history"].output
    assert compared.done[STORE].status is None
    assert server.stored() == ["Linux/0001_a.json"]
    assert (compared.temp / "report" / "0001_b.json").exists()


def test_code_from_forks_does_not_run(job):
    assert not job("a", event("pull_request", "1/merge", fork=True)).runs()


def test_a_history_that_cannot_be_read_is_red_and_nothing_is_measured(job, server):
    cut_off = job("a", GITHUB_SERVER_URL="file:///nonexistent").rest()
    assert cut_off.done["Restore the history"].status == 128
    assert [cut_off.done[name].status for name in ("Install", MEASURE, RECOVER, STORE)] == [None] * 4
    assert cut_off.summary == "mpbench wrote no summary: the log of the first step that failed says why.\n"


def test_a_killed_run_leaves_a_red_job_and_no_empty_commit(job, server):
    job("a").rest()
    killed = job("b", KILLED="1").rest()
    assert killed.done[MEASURE].status == 137 or killed.done[MEASURE].status == -9
    assert killed.done[RECOVER].status == 0, killed.done[RECOVER].output
    assert killed.done[STORE].output == "Nothing was measured: nothing to store.\n"
    assert server.commits() == 1


def test_options_and_packages_can_be_set_and_are_no_shell(job):
    hostile = "--mp-device=cpu -k=$(touch${IFS}hacked) ;touch hacked `touch hacked` *\n--mp-control"
    done = job("a", BENCH_ARGS=hostile, MPBENCH="a package; touch hacked").rest()
    arguments = (done.folder / "arguments").read_text()
    assert "'-k=$(touch${IFS}hacked)', ';touch', 'hacked', '`touch', 'hacked`', '*', '--mp-control'" in arguments
    assert not (done.workspace / "hacked").exists()


def test_the_token_reaches_git_in_two_steps_and_nothing_else(job):
    work = job("a")
    holders = [step["name"] for step in work.steps if TOKEN in work.environment(step).values()]
    assert holders == ["Restore the history", STORE]
    for step in work.steps:
        if step["name"] in holders:
            filled = subprocess.run(
                ["git", "credential", "fill"],
                input="protocol=https\nhost=github.invalid\n\n",
                env=work.environment(step),
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert f"username=x-access-token\npassword={TOKEN}\n" in filled
    checkouts = [step for step in work.job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False]


@pytest.mark.parametrize("name", NAMES)
def test_nobody_elses_actions_no_expressions_in_shells_least_permissions(name):
    workflow = load(name)
    assert set(workflow["permissions"].values() if workflow["permissions"] else []) <= {"read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 150
        assert all("${{" not in step["run"] for step in shell_steps(job))
        uses = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
        assert set(uses) <= {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}


def test_the_artifact_is_uploaded_whatever_happened():
    (job,) = load("gpu-benchmarks.yml")["jobs"].values()
    (upload,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert upload["if"] == "always()"
    assert upload["with"]["path"] == "${{ runner.temp }}/report"


def test_the_hosted_steps_name_targets_that_exist():
    (job,) = load("tests.yml")["jobs"].values()
    assert [step["run"].split()[:2] for step in shell_steps(job)] == [["make", "check"], ["make", "test"]]
    for step in shell_steps(job):
        result = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=ROOT,
            env=clean_environment("/nonexistent") | {"MAKEFLAGS": "n"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.search(r"\.venv/bin/(actionlint|pytest)", result.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_actionlint_finds_nothing(name):
    result = subprocess.run([*LINT, str(WORKFLOWS / name)], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("whole", "broken", "complaint"),
    [
        ("runner.temp", "runner.tmp", 'property "tmp" is not defined'),
        ("timeout-minutes: 120", "timeout-minuts: 120", 'unexpected key "timeout-minuts"'),
        ('cat "$RUNNER_TEMP/report/summary.md"', "cat $RUNNER_TEMP/report/summary.md", "SC2086"),
    ],
    ids=["expression", "key", "shell"],
)
def test_actionlint_finds_what_is_broken(tmp_path, whole, broken, complaint):
    text = (WORKFLOWS / "gpu-benchmarks.yml").read_text()
    assert whole in text
    (tmp_path / "broken.yml").write_text(text.replace(whole, broken))
    result = subprocess.run([*LINT, str(tmp_path / "broken.yml")], capture_output=True, text=True)
    assert result.returncode == 1
    assert complaint in result.stdout
