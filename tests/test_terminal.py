"""mpbench.terminal and the command line's exit status: decided before anything is printed, whoever reads it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from saved_runs import cases, saved_run

from mpbench import __main__ as command
from mpbench import terminal
from mpbench.errors import UsageProblem, harmless

TIMES = [f"2026-05-{day:02}T12:00:00+00:00" for day in range(1, 9)]


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Seven runs in `runs`, and a new one without two of their cases, red where a missing case is."""
    monkeypatch.chdir(tmp_path)
    for time in TIMES[:7]:
        pairs = [*cases(150, 100), *cases(30, 20, "resnet50")]
        saved_run(tmp_path / "runs", time=time, commit="a", records_and_rounds=pairs)
    saved_run(tmp_path, time=TIMES[7], commit="a", records_and_rounds=cases(150, 100), name="new.json")
    return tmp_path


RED = ("gate", "new.json", "--storage", "runs", "--missing", "fail")


def process(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    return subprocess.run([sys.executable, "-m", "mpbench", *arguments], env=environment, timeout=60, **options)


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("complaints_too", [False, True])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (RED, 1),
        (RED[:-2], 0),
        (("history", "runs"), 0),
        (("history", "runs", "--json"), 0),
        (("report", "new.json"), 0),
        (("report", "-h"), 0),
        (("recover", "runs"), 0),
        (("explain", "new.json"), 4),
        (("gate", "missing.json"), 4),
    ],
)
def test_a_reader_who_is_gone_changes_no_status(storage, arguments, status, unbuffered, complaints_too):
    (storage / "runs" / "0099_bad.json").write_text("{")  # something to complain of
    writing = closed_pipe()
    done = process(
        *arguments,
        stdout=writing,
        stderr=subprocess.STDOUT if complaints_too else subprocess.PIPE,
        env={"PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    assert done.returncode == status
    assert b"Traceback" not in (done.stderr or b"")
    assert b"Broken pipe" not in (done.stderr or b"")


def test_a_journal_is_recovered_whoever_reads(storage):
    from journals import group, left_behind

    path = left_behind(storage / "runs", group("vgg19"))
    writing = closed_pipe()
    assert process("recover", "--storage", "runs", stdout=writing, stderr=writing).returncode == 0
    os.close(writing)
    assert not path.exists()
    assert len(list(storage.glob("runs/*/*.json"))) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("arguments", [("history", "runs"), RED])
def test_an_answer_that_is_lost_is_no_success(storage, arguments):
    with Path("/dev/full").open("w") as full:
        done = process(*arguments, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 4
    assert done.stderr.decode() == "<stdout>: No space left on device: use a place that can be written to\n"


def test_without_a_standard_output_the_status_is_all_there_is(storage):
    shell = f"{sys.executable} -m mpbench {' '.join(RED)} >&- 2>&-"
    assert subprocess.run(shell, shell=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60).returncode == 1


def test_an_error_of_its_own_is_no_red_gate(storage, monkeypatch, capsys):
    def broken(*arguments):
        raise ZeroDivisionError("somewhere")

    monkeypatch.setattr("mpbench.gate.command.judge", broken)
    assert command.main(RED) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "ZeroDivisionError: somewhere"


@pytest.mark.parametrize("fact", ["driver", "tensorflow"])
def test_no_fact_forges_a_verdict(storage, capsys, fact):
    new = json.loads((storage / "new.json").read_text())
    new["machine_info"]["mpbench"][fact] = "1\x1b[2J\x1b[H\nGATE PASSED\n"
    (storage / "new.json").write_text(json.dumps(new))
    assert command.main(["gate", "new.json", "--storage", "runs", "--missing", "fail"]) == 1
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert lines[0].startswith("GATE FAILED")
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines[1:] if line.strip().startswith("GATE")]
    assert any(r"1\x1b[2J\x1b[H\nGATE PASSED\n" in line for line in lines)


def test_no_line_is_longer_than_a_screen_can_bear(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    terminal.show(["x" * 10_000, "short", "y" * terminal.MAX_LINE_CHARACTERS])
    first, second, third = out.getvalue().splitlines()
    assert len(first) == len(third) == terminal.MAX_LINE_CHARACTERS
    assert (first[-9:], second, third[-1]) == ("... (cut)", "short", "y")


def test_an_output_without_a_descriptor_that_fails_is_said(monkeypatch):
    class Full(io.StringIO):
        name = "full"

        def write(self, text):
            raise OSError(28, "No space left on device")

        def fileno(self):
            return os.open(os.devnull, os.O_WRONLY)

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(UsageProblem, match="full: No space left on device"):
        terminal.show(["a"])


def test_texts_from_files_stay_apart():
    assert harmless("plain \u00e4") == "plain \u00e4"
    assert harmless("a\x1b\n\t\ud800\ufffe\u202e\U000e0001") == r"a\x1b\n\t\ud800\ufffe\u202e\U000e0001"
    assert harmless("a\x01") != harmless("a\x02")


def limited(n_bytes):
    """A disk that has no room for more in one file."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (("report", "new.json", "-o", "page.html"), "page.html"),
        (("report", "new.json", "--markdown", "page.md"), "page.md"),
        (("report", "new.json", "--latex", "page.tex"), "page.tex"),
        (("report", "new.json", "--png", "figures"), "figures/speedups.png"),
        (("history", "runs", "-o", "drawn.svg"), "drawn.svg"),
    ],
)
@pytest.mark.parametrize("before", [None, "old"])
def test_what_a_full_disk_cuts_is_not_there_and_not_a_success(storage, arguments, file, before):
    target = storage / file
    target.parent.mkdir(exist_ok=True)
    if before:
        target.write_text(before)
    done = process(*arguments, capture_output=True, text=True, preexec_fn=limited(700))
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert "File too large: must be a" in line
    assert (target.read_text() if target.exists() else None) == before
    assert not list(target.parent.glob(".mpbench-partial-*"))
    assert process(*arguments, capture_output=True).returncode == 0
    assert target.stat().st_size > 700


def test_the_page_of_a_session_is_written_whole_or_not_at_all(storage):
    code = (
        "import sys; from pathlib import Path; from mpbench.report.command import write_page\n"
        "from mpbench.records.runs import read_run; from mpbench.report.content import SessionStatus\n"
        "write_page(read_run(Path('new.json')), Path('page.html'), SessionStatus())\n"
    )
    (storage / "page.html").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limited(700), timeout=60
    )
    assert done.stderr.splitlines()[-1].startswith("OSError: [Errno 27]")
    assert (storage / "page.html").read_text() == "old"
