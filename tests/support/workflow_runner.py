"""Runs the shell steps of a GitHub workflow here, as its runner would: conditions, environment, shell and files.

Only the expressions that our workflows use; steps with `uses:` are left out.
"""

import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import yaml
from paths import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"
TOKEN = "t0ken"


def load(name):
    """A workflow as read by a YAML parser; its key `on` is true there."""
    return yaml.safe_load((WORKFLOWS / name).read_text())


def shell_steps(job):
    return [step for step in job["steps"] if "run" in step]


def evaluate(expression, context):
    """A condition or an expression of a workflow."""
    python = " ".join(expression.split()).replace("&&", " and ").replace("||", " or ")
    return eval(python, {"__builtins__": {}}, context)


def event(name="push", branch="main", default="main", fork=False, repository="owner/repo"):
    """The context `github`."""
    head = SimpleNamespace(repo=SimpleNamespace(full_name="stranger/repo" if fork else repository))
    return SimpleNamespace(
        event_name=name,
        ref=f"refs/heads/{branch}",
        ref_name=branch,
        repository=repository,
        token=TOKEN,
        event=SimpleNamespace(
            repository=SimpleNamespace(default_branch=default), pull_request=SimpleNamespace(head=head)
        ),
    )


def program(path, text):
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@dataclass
class Step:
    """What a step did; status is None where it was skipped."""

    status: int | None
    output: str = ""


@dataclass
class Server:
    """A bare repository with one commit on main, where GitHub would have it."""

    folder: Path
    files: dict = field(default_factory=dict)

    def __post_init__(self):
        self.path = self.folder / "server" / "owner" / "repo"
        git("init", "--quiet", "--bare", str(self.path))
        git("symbolic-ref", "HEAD", "refs/heads/main", cwd=self.path)
        work = self.folder / "first"
        git("clone", "--quiet", self.url, str(work))
        for name, text in {"README.md": "x", **self.files}.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text)
        git("add", ".", cwd=work)
        git("commit", "--quiet", "--message=first", cwd=work)
        git("push", "--quiet", "origin", "HEAD:refs/heads/main", cwd=work)

    @property
    def url(self):
        return f"file://{self.path}"

    def stored(self, branch="benchmark-history"):
        """Names of the files on the branch of the history; empty where there is none."""
        result = git("ls-tree", "-r", "--name-only", branch, cwd=self.path, check=False)
        return result.stdout.split() if result.returncode == 0 else []

    def commits(self, branch="benchmark-history"):
        return int(git("rev-list", "--count", branch, cwd=self.path).stdout)


def clean_environment(home):
    """This process's, without what would tell the steps of another repository or of CI."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GITHUB_", "MAKE", "CI"))}
    me = {
        f"GIT_{who}_{what}": "somebody@example.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    return env | {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"} | me


def git(*arguments, cwd=None, check=True):
    env = clean_environment("/nonexistent")
    return subprocess.run(["git", *arguments], cwd=cwd, check=check, env=env, capture_output=True, text=True)


class Job:
    """One run of a job: a fresh clone on a runner of its own; `step` goes on, `rest` to the end.

    Args:
        server: where its repository is.
        name: of its folder.
        github: see `event`.
        env: replaces that of the workflow.
        pytest: a program to run in place of pytest; the real one where there is none.
    """

    def __init__(self, server, name, github=None, env=None, pytest=None, workflow="gpu-benchmarks.yml"):
        content = load(workflow)
        (self.job,) = content["jobs"].values()
        self.github = github or event()
        self.folder = server.folder / name
        self.workspace, self.temp, tools = self.folder / "work", self.folder / "temp", self.folder / "tools"
        self.temp.mkdir(parents=True)
        git("clone", "--quiet", server.url, str(self.workspace))
        program(tools / "sleep", "#!/bin/sh\n")
        program(tools / "python", _python(self.folder / "pip.log", pytest))
        program(tools / "python3", f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] || exit 99\n{_venv(tools / "python")}')
        self.summary_file = self.folder / "step_summary.md"
        self.env = clean_environment(self.folder) | (content.get("env") or {}) | self.job.get("env", {})
        # What the job's own environment says about who commits must come from the steps.
        self.env = {key: value for key, value in self.env.items() if not key.startswith(("GIT_AUTHOR", "GIT_COMM"))}
        self.env |= {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "GITHUB_SERVER_URL": f"file://{server.folder / 'server'}",
            "GITHUB_REPOSITORY": self.github.repository,
            "GITHUB_RUN_ID": "7",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_SHA": git("rev-parse", "HEAD", cwd=self.workspace).stdout.strip(),
            "GITHUB_STEP_SUMMARY": str(self.summary_file),
            "RUNNER_TEMP": str(self.temp),
            **(env or {}),
        }
        self.steps = shell_steps(self.job)
        self.done = {}
        self.outcomes = SimpleNamespace()

    @property
    def failed(self):
        return any(step.status for step in self.done.values())

    @property
    def summary(self):
        return self.summary_file.read_text()

    def runs(self):
        """Whether the job's own condition lets it run."""
        return evaluate(self.job.get("if", "True"), self._context())

    def step(self):
        """Run the next step, or skip it."""
        step = self.steps[len(self.done)]
        condition = step.get("if", "")
        context = self._context()
        if (self.failed and "always()" not in condition) or (condition and not evaluate(condition, context)):
            outcome, result = "skipped", Step(None)
        else:
            result = self._run(step, context)
            outcome = "failure" if result.status else "success"
        self.done[step["name"]] = result
        if "id" in step:
            setattr(self.outcomes, step["id"], SimpleNamespace(outcome=outcome))
        return result

    def until(self, name):
        """All steps before that one."""
        while self.steps[len(self.done)]["name"] != name:
            self.step()
        return self

    def rest(self):
        while len(self.done) < len(self.steps):
            self.step()
        return self

    def environment(self, step):
        """Of a step."""
        context = self._context()

        def value(match):
            return str(evaluate(match[1], context))

        own = {key: re.sub(r"\$\{\{(.*?)\}\}", value, str(text)) for key, text in step.get("env", {}).items()}
        return self.env | own

    def _context(self):
        return {"github": self.github, "steps": self.outcomes, "always": lambda: True}

    def _run(self, step, context):
        shell = step.get("shell") or self.job["defaults"]["run"]["shell"]
        assert shell == "bash"
        script = self.folder / "step.sh"
        script.write_text(step["run"])
        result = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.workspace,
            env=self.environment(step),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return Step(result.returncode, result.stdout)


def _venv(python):
    """The shell lines that stand in for making a virtual environment in the last argument."""
    return f'for folder in "$@"; do :; done\nmkdir -p "$folder/bin"\nln -s "{python}" "$folder/bin/python"\n'


def _python(pip_log, pytest):
    """An interpreter with everything installed, whose pip only notes what it was asked for."""
    instead = f'[ "$1 $2" = "-m pytest" ] && {{ shift 2; exec "{pytest}" "$@"; }}\n' if pytest else ""
    return (
        f'#!/bin/sh\n[ "$1 $2" = "-m pip" ] && {{ echo "$@" >> "{pip_log}"; exit 0; }}\n'
        f'{instead}exec "{sys.executable}" "$@"\n'
    )
