"""python -m mpbench: what is printed, and how it says no."""

import io
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
from paths import ROOT
from saved_runs import cases, saved_run

from mpbench import __main__ as command

START = datetime(2026, 4, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project's folder to work in, with 16 runs in its `.benchmarks`."""
    monkeypatch.chdir(tmp_path)
    for n in range(16):
        pairs = cases(150 if n < 8 else 165, 100) + cases(30, 20, "resnet50")
        time = START + timedelta(days=n)
        saved_run(tmp_path / ".benchmarks" / "Linux", time=time, commit=f"{n:x}" * 40, records_and_rounds=pairs)
    return tmp_path


def process(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "mpbench", *arguments], capture_output=True, env=environment, timeout=60, **options
    )


def test_history_of_the_default_folder_in_a_process_of_its_own(folder):
    done = process("history", "--case", "VGG16-float32", encoding="utf-8", env={"PYTHONIOENCODING": "utf-8"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "▁▁▁▁▁▁▁▁████████  +10.0 % from 8888888 (2026-04-09), 7 runs ago" in done.stdout
    assert "resnet50" not in done.stdout


def test_a_terminal_without_blocks_gets_a_sparkline_too(folder):
    done = process("history", env={"PYTHONIOENCODING": "ascii"}, encoding="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "________########" in done.stdout


def test_it_imports_neither_tensorflow_nor_pytest(folder):
    new = str(next((folder / ".benchmarks").rglob("*.json")))
    code = (
        f"import sys; from mpbench.__main__ import main; main(['history', '--json']); main(['gate', {new!r}]);"
        "sys.exit(str({'tensorflow', 'keras', 'pytest', 'matplotlib'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "0\n"


def test_a_reader_who_has_seen_enough_is_no_error(folder):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "mpbench", "history", "--json"], stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_data(folder, capsys):
    assert command.main(["history", ".benchmarks", "--json", "--since", "2026-04-05"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert len(data) == 6
    assert {len(series["runs"]) for series in data} == {12}
    assert data[0]["runs"][0]["time"].startswith("2026-04-05")


def test_bad_files_are_named_and_left_out(folder, capsys):
    (folder / ".benchmarks" / "0099_x.json").write_text("{")
    assert command.main(["history"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("left out: .benchmarks/0099_x.json: truncated")
    assert len(captured.err.splitlines()) == 1
    assert "16 runs" in captured.out


def test_nothing_saved_is_said(folder, capsys):
    (folder / "empty").mkdir()
    assert command.main(["history", "empty"]) == 0
    assert capsys.readouterr().out == "No saved speed case in empty.\n"
    assert command.main(["history", "empty", "--json", "--case", "x"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert command.main(["history", "--since", "2027-01-01", "--case", "vgg16"]) == 0
    assert capsys.readouterr().out == "No saved speed case in .benchmarks since 2027-01-01.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "mpbench: the following arguments are required: COMMAND: -h shows what is valid"),
        (["histroy"], "mpbench: argument COMMAND: invalid choice: 'histroy' *history*"),
        (["history", "--jsn"], "*unrecognized arguments: --jsn*"),
        (["history", "--case"], "history: argument --case: expected one argument*"),
        (["history", "nowhere"], "history: nowhere: no such folder: must be one of saved runs; *"),
        (
            ["history", "--case", "vgg19"],
            "--case: vgg19: no case is like that: must be a part of bench/*, *, * and 1 *",
        ),
        (["history", "--since", "May"], "--since: May: must be a date such as 2026-05-01*"),
        (["history", "-o", "x.pdf"], "-o: x.pdf: must be a file that ends in .svg or .png"),
        (["history", "-o", "x"], "-o: x: must be a file that ends in .svg or .png"),
        (["history", "-o", "nowhere/x.svg"], "-o: nowhere/x.svg: must be a file in a folder that exists"),
    ],
)
def test_bad_usage_is_one_line_and_exit_4(folder, capsys, arguments, message):
    assert command.main(arguments) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    pytest.LineMatcher([line]).fnmatch_lines([message.replace("[", "[[]")])


def test_pictures(folder, capsys):
    assert command.main(["history", "--case", "vgg16", "-o", "x.svg"]) == 0
    assert "16 runs" in capsys.readouterr().out
    assert (folder / "x.svg").read_text().startswith("<?xml")
    assert command.main(["history", "--json", "-o", "x.PNG"]) == 0
    json.loads(capsys.readouterr().out)
    assert (folder / "x.PNG").read_bytes().startswith(b"\x89PNG")
    (folder / "taken.svg").mkdir()
    assert command.main(["history", "-o", "taken.svg"]) == 4
    assert command.main(["history", "--since", "2027-01-01", "-o", "x.svg"]) == 4
    assert "nothing to draw" in capsys.readouterr().err


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as left:
        command.main(["history", "--help"])
    assert left.value.code == 0
    assert "--since DATE" in capsys.readouterr().out


def test_it_prints_to_anything_that_takes_text(folder, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert command.main(["history"]) == 0
    assert "vgg16" in out.getvalue()
