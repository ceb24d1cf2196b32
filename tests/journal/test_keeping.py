"""Runs are safe: real pytest processes that are killed, interrupted, out of space, or save at the same moment.

What they measure is drawn (`fake_measuring.py`).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from child_runs import BARE
from paths import ROOT, SUPPORT
from saved_runs import FACTS
from waiting import PATIENCE_S, until

from mpbench.journal.files import journals
from mpbench.records.runs import load_runs

ACCURACY = """
import pytest

@pytest.mark.mpbench(phase="accuracy")
def test_alike(model, precision, accuracy, benchmark):
    accuracy(benchmark, model, precision)
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A copy of conftest.py and bench/, and an accuracy module; 6 groups of 2 cases and 3 comparisons."""
    shutil.copy(ROOT / "conftest.py", pytester.path)
    shutil.copytree(
        ROOT / "bench", pytester.path / "bench", ignore=shutil.ignore_patterns("__pycache__", "test_numerics.py")
    )
    (pytester.path / "bench" / "test_zz_accuracy.py").write_text(ACCURACY)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{SUPPORT}")
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    return pytester


def storage(project):
    return project.path / ".benchmarks"


def start(project, *args, seconds=0.0, rounds=8, **more):
    # Without the lock: sessions that wait for each other never save at once.
    command = [sys.executable, "-m", "pytest", "-p", "fake_measuring", "bench", "--mp-lock=off", *args]
    environment = os.environ | {"FAKE_SECONDS": str(seconds), "FAKE_ROUNDS": str(rounds)}
    return subprocess.Popen(
        command, cwd=project.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )


def run(project, *args, **more):
    process = start(project, *args, **more)
    output = process.communicate(timeout=PATIENCE_S)[0]
    return process.returncode, output


def recover(project, *args):
    command = [sys.executable, "-m", "mpbench", "recover", *args]
    return subprocess.run(command, cwd=project.path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def journalled(project):
    """Finished cases in the one journal; 0 before there is one."""
    paths = journals(storage(project))
    return max(0, paths[0].read_bytes().count(b"\n") - 1) if paths else 0


def kill_at(project, cases, *args, kind=signal.SIGKILL):
    """Start a run, and end it once so many cases are in its journal; returns how many there are then."""
    process = start(project, "--benchmark-autosave", *args, seconds=0.15)
    until(lambda: journalled(project) >= cases or process.poll() is not None)
    process.send_signal(kind)
    output = process.communicate(timeout=PATIENCE_S)[0]
    return journalled(project), output


def saved(project):
    complaints = []
    found = load_runs(storage(project), complaints.append)
    assert not complaints
    return found


def size(run_):
    return len(run_.speed) + len(run_.accuracy)


@pytest.mark.parametrize("cases", [2, 13])
def test_a_kill_costs_no_more_than_the_group_in_progress(project, cases):
    kept, _ = kill_at(project, cases)
    assert kept >= cases
    assert not saved(project)
    status, output = run(project, "-k", "vgg16 and training")
    assert status == 0
    assert f"has left {kept} of 15 cases in .benchmarks/journal/" in output
    assert "`python -m mpbench recover` saves them, --mp-resume measures the rest" in output
    assert recover(project).returncode == 0
    (run_,) = saved(project)
    assert size(run_) == kept
    assert recover(project).stdout == "nothing to recover in .benchmarks\n"


def test_resuming_after_kills_in_a_row_measures_only_what_is_missing(project):
    kill_at(project, 5)
    (path,) = journals(storage(project))
    before = [json.loads(line)["entry"] for line in path.read_text().splitlines()[1:]]
    lines, output = kill_at(project, 13, "--mp-resume")
    assert f"--mp-resume: {len(before)} of 15 cases are taken from .benchmarks/journal/" in output
    assert lines > len(before)
    # Other precisions, had they been asked for, would make other groups; the order of these does not matter.
    status, output = run(project, "--benchmark-autosave", "--mp-resume", "--mp-precisions=mixed_float16,float32")
    assert status == 0
    assert f": {lines} of 15 cases are taken" in output
    assert "measuring 2 arms" not in output
    (run_,) = saved(project)
    assert size(run_) == 15
    for entry in before:
        assert list(run_.cases[entry["benchmark"]["fullname"]].rounds) == entry["rounds"]
    assert not journals(storage(project))


def test_a_group_that_lacks_an_arm_is_measured_again_whole(project):
    kill_at(project, 2, "-k", "float32 and inference")
    status, output = run(project, "--benchmark-autosave", "--mp-resume", "-k", "inference")
    assert status == 0
    assert "--mp-resume: 0 of 6 cases are taken" in output
    assert output.count("measuring 2 arms") == 3
    assert [size(run_) for run_ in saved(project)] == [6]


def test_a_smaller_selection_takes_its_part_and_loses_nothing(project):
    kept, _ = kill_at(project, 6)
    status, output = run(project, "--benchmark-autosave", "--mp-resume", "-k", "vgg16 and inference")
    assert status == 0
    assert "--mp-resume: 2 of 2 cases are taken" in output
    assert f"{kept - 2} measured cases are not saved: `python -m mpbench recover` saves what is in" in output
    assert recover(project).returncode == 0
    assert sorted(map(size, saved(project))) == sorted([2, kept - 2])


@pytest.fixture
def helped(project):
    """The same project, whose cases import a module of its own, without git."""
    (project.path / "helper.py").write_text("x = 1")
    for path in (project.path / "bench").glob("test_*.py"):
        path.write_text(f"import helper\n{path.read_text()}")
    (project.path / "conftest.py").write_text(
        'import sys\nsys.path.insert(0, ".")\npytest_plugins = ("mpbench.plugin",)'
    )
    kill_at(project, 3)
    return project


def test_the_same_program_is_resumed_without_git(helped):
    (helped.path / "unrelated.py").write_text("x = 1")
    status, output = run(helped, "--mp-resume", "--benchmark-autosave", "-k", "vgg16")
    assert status == 0, output
    assert "--mp-resume: 2 of" in output


@pytest.mark.parametrize("file", ["helper.py", "bench/test_training.py", "conftest.py"])
def test_another_program_is_not_resumed(helped, file):
    with (helped.path / file).open("a") as text:
        text.write("\n# changed\n")
    status, output = run(helped, "--mp-resume", "--benchmark-autosave")
    assert status == 4
    (line,) = [line for line in output.splitlines() if "--mp-resume: " in line]
    assert f"was measured otherwise: changed since then: {file}: use the same again" in line
    assert journalled(helped)
    status, output = run(helped, "--mp-resume", "--mp-batch-size=3")
    assert "batch_size 64 -> 3, changed since then" in output


def test_a_program_that_was_edited_while_it_was_measured_is_not_resumed(project):
    (project.path / "bench" / "test_aa.py").write_text(
        "def test_edit():\n    with open('bench/test_training.py', 'a') as file: file.write('# later')"
    )
    kill_at(project, 3)
    status, output = run(project, "--mp-resume", "--benchmark-autosave")
    assert status == 4
    assert "changed since then: bench/test_training.py" in output


def test_resuming_what_was_measured_otherwise_is_refused(project):
    kill_at(project, 2)
    status, output = run(project, "--mp-resume", "--mp-batch-size=3", "--mp-max-time=9")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "was measured otherwise: batch_size 64 -> 3, max_seconds 60.0 -> 9.0: use the same again" in output
    assert journalled(project) >= 2
    status, output = run(project, "--mp-resume", "--benchmark-storage=elsewhere")
    assert status == 0
    assert "--mp-resume: no interrupted run in elsewhere: everything is measured" in output


def test_a_living_session_is_left_alone(project, monkeypatch):
    (project.path / "bench" / "conftest.py").write_text(
        "import os, time\n"
        "def pytest_runtest_teardown(item, nextitem):\n"
        "    while nextitem is None and os.environ.get('STAYS'): time.sleep(0.01)\n"
    )
    monkeypatch.setenv("STAYS", "1")
    process = start(project)
    until(lambda: journalled(project))
    monkeypatch.delenv("STAYS")
    result = recover(project)
    status, output = run(project, "-k", "vgg16 and training")
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert result.returncode == 0
    assert "its session is running: left alone" in result.stdout
    assert status == 0
    assert "has left" not in output


def test_sessions_that_save_at_once_lose_and_overwrite_nothing(project):
    barrier = project.path / "go"
    (project.path / "bench" / "conftest.py").write_text(
        "import os, pathlib, time\n"
        "def pytest_runtest_teardown(item, nextitem):\n"
        "    if nextitem is None:\n"
        "        pathlib.Path(f'ready-{os.getpid()}').touch()\n"
        f"        while not pathlib.Path({str(barrier)!r}).exists(): time.sleep(0.001)\n"
    )
    processes = [start(project, "--benchmark-save=same", "-k", "vgg16") for _ in range(4)]
    until(lambda: len(list(project.path.glob("ready-*"))) == 4)
    barrier.touch()
    for process in processes:
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    found = saved(project)
    assert sorted(run_.path.name for run_ in found) == [f"000{n}_same.json" for n in range(1, 5)]
    assert [size(run_) for run_ in found] == [5] * 4
    assert len({case.rounds for run_ in found for case in run_.speed.values()}) == 4 * 4
    assert not journals(storage(project))


def test_ctrl_c_keeps_the_journal_for_resuming(project, interruptible):
    kept, output = kill_at(project, 4, kind=signal.SIGINT)
    assert "INTERNALERROR" not in output
    (part,) = saved(project)
    if size(part) == kept:
        assert f"The saved run holds {kept} of 15 cases: --mp-resume measures the {15 - kept} missing" in output
        assert "all of its cases are saved already: removed" in recover(project).stdout
        assert len(saved(project)) == 1
    else:  # it came between a group's end and the report of its last case
        assert "not saved: `python -m mpbench recover` saves what is in" in output
        assert recover(project).returncode == 0
        assert len({*(name for run_ in saved(project) for name in (*run_.speed, *run_.accuracy))}) == kept


CTRL_C = """
import os, signal, time
import mpbench.gate.session, mpbench.journal.saving, mpbench.plugin.session_end, mpbench.plugin.session_files
pytest_plugins = ("mpbench.plugin",)

def ctrl_c(*args):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

{where}
"""


@pytest.mark.parametrize(
    ("where", "saved", "line"),
    [
        ("mpbench.journal.saving.publish_run = ctrl_c", 0, "NOT SAVED, or not wholly: Ctrl-C"),
        ("mpbench.journal.saving.encoded = ctrl_c", 0, "NOT SAVED, or not wholly: Ctrl-C"),
        ("def pytest_benchmark_group_stats(): ctrl_c()", 1, "Exit: Ctrl-C while the session was ending"),
        ("def pytest_terminal_summary(): ctrl_c()", 1, "Exit: Ctrl-C while the session was ending"),
        ("mpbench.gate.session.SessionGate.assess = ctrl_c", 1, "--mp-gate: not judged: Ctrl-C"),
        ("mpbench.plugin.session_end.gate_lines = ctrl_c", 1, "Exit: Ctrl-C while the session was ending"),
        ("mpbench.plugin.session_files.write_page = ctrl_c", 1, "Ctrl-C while the report or the summary was written"),
    ],
)
def test_ctrl_c_while_a_session_ends(project, interruptible, where, saved, line):
    (project.path / "conftest.py").write_text(CTRL_C.format(where=where))
    status, output = run(
        project, "--benchmark-autosave", "--mp-gate", "--mp-report=page.html", "-k", "vgg16 and training"
    )
    assert status == 2, output
    assert line in output.splitlines()
    assert "Traceback" not in output
    assert "KeyboardInterrupt" not in output
    assert len(list(storage(project).rglob("0*.json"))) == saved
    if not saved:
        assert "Table 4, training" in output
        assert "2 measured cases are not saved: `python -m mpbench recover` saves" in output
        assert recover(project).returncode == 0
        assert len(list(storage(project).rglob("0*.json"))) == 1


def test_ctrl_c_of_a_session_that_saves_nothing(project, interruptible):
    process = start(project, seconds=0.3)
    until(lambda: journalled(project) >= 2)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert "measured cases are not saved: `python -m mpbench recover` saves what is in .benchmarks/journal/" in output
    assert recover(project).returncode == 0
    assert len(saved(project)) == 1


def test_a_session_that_wants_nothing_saved_leaves_nothing(project):
    status, _ = run(project)
    assert status == 0
    assert not journals(storage(project))
    assert not saved(project)


def add_to_conftest(project, code):
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + code)


def test_saving_that_fails_costs_neither_the_tables_nor_the_figures(project):
    add_to_conftest(
        project,
        "import pathlib\n"
        + "def pytest_runtest_teardown(item, nextitem):\n"
        + "    if nextitem is None:\n"
        + "        import shutil; [shutil.rmtree(p) for p in pathlib.Path('.benchmarks').glob('Linux*')]\n"
        + "        [pathlib.Path('.benchmarks', n).touch() for n in [item.config._benchmarksession.machine_id]]\n"
        + "        pathlib.Path('run.json').mkdir()\n",
    )
    status, output = run(project, "--benchmark-autosave", "--benchmark-json=run.json", "--mp-gate")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in output
    assert "test_training[vgg16-mixed_float16]" in output
    for beginning in ("Table 4, training", "Table 5, inference", "Table 2, validation", "GATE PASSED"):
        assert f"\n{beginning}" in output
    assert "\nNOT SAVED: --benchmark-json: run.json: Is a directory" in output
    assert "\nNOT SAVED: .benchmarks: File exists" in output
    assert "\n15 measured cases are not saved: `python -m mpbench recover` saves what is in" in output
    (file,) = [
        path for path in storage(project).iterdir() if path.is_file() and path.stat().st_size == 0 and "-" in path.name
    ]
    file.unlink()
    assert recover(project).returncode == 0
    assert [size(run_) for run_ in saved(project)] == [15]


def test_a_kill_between_saving_and_removing_the_journal_saves_nothing_twice(project):
    add_to_conftest(
        project,
        "import os, pytest\n"
        + "@pytest.hookimpl(trylast=True)\n"
        + "def pytest_sessionfinish(session):\n"
        + "    os.kill(os.getpid(), 9)\n",
    )
    status, _ = run(project, "--benchmark-autosave")
    assert status == -signal.SIGKILL
    assert journals(storage(project))
    assert recover(project).returncode == 0
    assert [size(run_) for run_ in saved(project)] == [15]
    assert not journals(storage(project))


def test_a_storage_that_is_removed_meanwhile_costs_no_case(project):
    add_to_conftest(
        project,
        "import os, pytest, shutil\n"
        + "DONE = []\n"
        + "def pytest_runtest_teardown(item, nextitem):\n"
        + "    DONE.append(item)\n"
        + "    if len(DONE) == 4:\n"
        + "        shutil.rmtree('.benchmarks')\n"
        + "@pytest.hookimpl(tryfirst=True)\n"
        + "def pytest_sessionfinish(session):\n"
        + "    os.kill(os.getpid(), 9)\n",
    )
    status, output = run(project, "--benchmark-autosave")
    assert status == -signal.SIGKILL
    assert output.count(" has been removed: the journal goes on in .benchmarks/journal/") == 1
    assert recover(project).returncode == 0
    assert [size(run_) for run_ in saved(project)] == [15]


def limit_files(n_bytes):
    """A disk that has no room for more in one file."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def test_a_full_disk_is_an_error_at_the_start(project):
    status, output = run(project, "--benchmark-autosave", preexec_fn=limit_files(500_000))
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --benchmark-storage: " in output
    assert "File too large: valid is a folder that can be written to, with room" in output
    assert "measuring" not in output


def test_a_disk_that_fills_up_meanwhile_stops_nothing(project):
    # The reserve still fits; a journal of 100 KB a case soon does not, nor does the run.
    status, output = run(project, "--benchmark-autosave", rounds=8_000, preexec_fn=limit_files(1_100_000))
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in output
    assert output.count("the journal cannot be written: File too large") == 1
    assert "15 passed" in output
    assert "Table 4, training" in output
    assert "NOT SAVED: .benchmarks: File too large" in output
    assert "lacks some of this session's cases" in output
    assert recover(project).returncode == 0
    (run_,) = saved(project)
    assert 0 < size(run_) < 15


@pytest.mark.parametrize("args", [["--benchmark-autosave"], []])
def test_a_storage_that_cannot_be_written(project, args):
    (project.path / "file").touch()
    for folder in ("/proc/storage",) if args else ("file",):
        status, output = run(project, f"--benchmark-storage={folder}", "-k", "vgg16", *args)
        if args:
            assert status == pytest.ExitCode.USAGE_ERROR
            assert f"ERROR: --benchmark-storage: {Path(project.path, folder)}" in output
        else:
            assert status == 0
            assert "] no journal: " in output


def test_a_default_run_is_small(project):
    """12 cases of 300 rounds, with as much machine_info as a large machine has."""
    machine = {"flags": [f"flag_of_the_processor_{n}" for n in range(150)], "brand_raw": "Intel(R) Xeon(R) Gold 6154"}
    with (project.path / "conftest.py").open("a") as file:
        file.write(
            "import pytest\n@pytest.hookimpl(trylast=True)\n"
            "def pytest_benchmark_update_machine_info(machine_info):\n"
            f"    machine_info['cpu'] |= {machine!r}\n    machine_info['mpbench'] |= {FACTS!r}\n"
        )
    args = ("bench/test_training.py", "bench/test_inference.py", "--benchmark-save=large", "--benchmark-json=run.json")
    status, _ = run(project, "--deselect=bench/test_zz_accuracy.py", *args, rounds=300)
    assert status == 0
    (run_,) = saved(project)
    assert [len(case.rounds) for case in run_.speed.values()] == [300] * 12
    assert run_.path.stat().st_size < 200_000
    assert (project.path / "run.json").stat().st_size < 200_000
