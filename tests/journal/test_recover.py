"""mpbench.journal.recover: a dead journal becomes one ordinary saved run, whatever happens in between."""

import json
import multiprocessing
from datetime import datetime, timezone

import pytest
from journals import comparison, group, left_behind
from saved_runs import saved_run as saved_by_benchmark

from mpbench.__main__ import main
from mpbench.journal.files import journals
from mpbench.journal.lines import line
from mpbench.records.runs import load_runs, read_run

VGG, RESNET = group("vgg16"), group("resnet152_v2", 300.0)


def recover(storage, capsys):
    status = main(["recover", str(storage)])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err.splitlines()


def runs(storage):
    complaints = []
    return load_runs(storage, complaints.append), complaints


def test_the_run_is_an_ordinary_one_and_the_journal_is_gone(tmp_path, capsys):
    left_behind(tmp_path, VGG, [comparison()])
    status, out, err = recover(tmp_path, capsys)
    path = tmp_path / "Linux-CPython-3.12-64bit" / "0001_nightly.json"
    assert (status, err) == (0, [])
    assert out[0].startswith(f"{path}: 3 of 5 cases, begun 2026-05-01 12:00 UTC, from ")
    run = read_run(path)
    assert [case.rounds for case in run.speed.values()] == [tuple(case.rounds) for case in VGG]
    assert (len(run.accuracy), run.commit) == (1, "abc")
    assert run.time == datetime(2026, 5, 1, 12, 1, tzinfo=timezone.utc)
    ordinary = json.loads(
        saved_by_benchmark(
            tmp_path / "x", time="2026-05-01T12:00:00+00:00", commit="a", records_and_rounds=[]
        ).read_text()
    )
    assert set(json.loads(path.read_text())) == set(ordinary)
    assert not journals(tmp_path)
    assert recover(tmp_path, capsys) == (0, [f"nothing to recover in {tmp_path}"], [])


def test_a_recover_that_was_killed_before_it_removed_the_journal_saves_nothing_twice(tmp_path, capsys):
    path = left_behind(tmp_path, VGG, RESNET)
    content = path.read_bytes()
    recover(tmp_path, capsys)
    path.write_bytes(content)
    status, out, _ = recover(tmp_path, capsys)
    assert (status, out) == (0, [f"{path}: all of its cases are saved already: removed"])
    assert len(runs(tmp_path)[0]) == 1


def test_only_groups_that_no_run_holds_whole_are_saved(tmp_path, capsys):
    path = left_behind(tmp_path, VGG)
    content = path.read_bytes()
    recover(tmp_path, capsys)
    lines = [line({"kind": "case", **vars(case)}) for case in RESNET]
    path.write_bytes(content + b"".join(lines))
    recover(tmp_path, capsys)
    assert [len(run.speed) for run in runs(tmp_path)[0]] == [2, 2]
    assert not set(runs(tmp_path)[0][0].cases) & set(runs(tmp_path)[0][1].cases)


def test_a_truncated_run_beside_the_journal_is_named_and_skipped(tmp_path, capsys):
    left_behind(tmp_path, VGG)
    (tmp_path / "Linux-CPython-3.12-64bit").mkdir()
    (tmp_path / "Linux-CPython-3.12-64bit" / "0001_nightly.json").write_text('{"benchmarks": [')
    assert recover(tmp_path, capsys)[0] == 0
    (run,), complaints = runs(tmp_path)
    assert run.path.name == "0002_nightly.json"
    assert "0001_nightly.json: truncated or not JSON" in complaints[0]


def test_damaged_lines_are_named_and_their_journal_is_kept_by_another_name(tmp_path, capsys):
    path = left_behind(tmp_path, VGG)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b'\x1b[31m{"crc32":1,"entry":{}}\n' + second + third + b"torn")
    status, out, err = recover(tmp_path, capsys)
    assert (status, len(out)) == (0, 1)
    assert err == [f"{path}: line 2 is left out: damaged", f"{path}.damaged: kept for its damaged lines"]
    assert len(runs(tmp_path)[0][0].cases) == 2
    assert recover(tmp_path, capsys)[1] == [f"nothing to recover in {tmp_path}"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x00\xff\n", "no header: damaged"),
        (line({"kind": "header", "schemas": {"journal": 99}}), "no header: of a later version of mpbench"),
        (b"", "none of its cases can be read"),
    ],
)
def test_what_cannot_be_used_is_named_and_left_alone(tmp_path, capsys, content, reason):
    path = left_behind(tmp_path)
    path.write_bytes(content or path.read_bytes() + b"x\n")
    before = path.read_bytes()
    status, out, err = recover(tmp_path, capsys)
    assert (status, out) == (1, [])
    assert err[-1].startswith(f"left alone: {path}: {reason}")
    assert path.read_bytes() == before


def test_a_journal_without_a_case_is_removed(tmp_path, capsys):
    left_behind(tmp_path)
    status, out, _ = recover(tmp_path, capsys)
    assert status == 0
    assert "no case had been finished: removed" in out[0]
    assert not journals(tmp_path)


def test_where_there_is_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["recover"]) == 0
    assert capsys.readouterr().out == "nothing to recover: there is no .benchmarks here\n"
    assert main(["recover", "missing"]) == 4
    assert capsys.readouterr().err == "recover: missing: no such folder: must be one of saved runs\n"
    (tmp_path / "journal").write_text("a file")
    assert main(["recover", "."]) == 0


def test_two_at_once_save_it_once(tmp_path):
    for _ in range(5):
        left_behind(tmp_path, VGG)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=main, args=(["recover", str(tmp_path)],)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    # Five journals with the same rounds are one run five times.
    assert len(runs(tmp_path)[0]) == 1
    assert not journals(tmp_path)
