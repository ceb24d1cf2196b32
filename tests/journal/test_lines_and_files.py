"""mpbench.journal.files and mpbench.journal.lines: what a kill leaves can be read, and nothing else is believed."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import zlib

import pytest
from diagnostic_records import end_to_end
from hypothesis import example, given
from hypothesis import strategies as st
from journals import comparison, finished, group, header, left_behind

from mpbench.journal.files import DeadJournal, Journal, journals, opened, read
from mpbench.journal.lines import UnreadableJournal, line, parse, saved_run
from mpbench.plugin.benchmark_stats import benchmark_statistics

VGG, RESNET = group("vgg16"), group("resnet152_v2", 300.0)
HEADER = {"kind": "header", "schemas": {"journal": 1, "mpbench_schema": 1, "mpbench_accuracy_schema": 1}}
HEADER |= dataclasses.asdict(header())


def contents(path):
    with opened(path) as descriptor:
        return read(descriptor)


def entry(case, **changes):
    return {"kind": "case", **dataclasses.asdict(case), **changes}


def lines(*entries):
    return b"".join(line(each) for each in (HEADER, *entries))


def names(cases):
    return [case.fullname for case in cases]


def test_what_is_appended_is_read_back(tmp_path):
    path = left_behind(tmp_path, VGG, [comparison()], RESNET)
    assert journals(tmp_path) == [path]
    found = contents(path)
    assert found.header == header()
    assert list(found.cases.values()) == [*VGG, comparison(), *RESNET]
    assert not found.damaged
    # Neither the history nor pytest-benchmark takes it for a run.
    assert not list(tmp_path.rglob("*.json"))


def test_cases_that_look_for_causes_are_kept_and_older_journals_are_read(tmp_path):
    diagnostics = [
        finished(one.record, one.rounds, "input of vgg16")
        for one in (end_to_end("device", 100), end_to_end("pipeline", 140))
    ]
    path = left_behind(tmp_path, VGG, diagnostics)
    assert list(contents(path).cases.values()) == [*VGG, *diagnostics]
    # HEADER is what was written before there were any.
    assert list(parse(lines(*map(entry, VGG))).cases.values()) == VGG
    later = HEADER | {"schemas": HEADER["schemas"] | {"mpbench_diagnostic_schema": 99}}
    with pytest.raises(UnreadableJournal, match=r"of a later version of mpbench .mpbench_diagnostic_schema 99"):
        parse(line(later))


WHOLE = lines(*map(entry, (*VGG, *RESNET)))


@given(st.integers(0, len(WHOLE)))
@example(len(WHOLE) - 1)
def test_cut_anywhere_it_holds_every_case_that_was_whole(length):
    """What a kill, the power or a full disk can leave."""
    found = parse(WHOLE[:length])
    whole = max(0, WHOLE[:length].count(b"\n") - 1)
    assert list(found.cases.values()) == [*VGG, *RESNET][:whole]
    assert not found.damaged
    assert WHOLE[: found.whole_bytes].endswith(b"\n") or not found.whole_bytes


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_flipped_bit_never_changes_a_number(at, bits):
    damaged = bytearray(WHOLE)
    damaged[at] ^= bits
    try:
        found = parse(bytes(damaged))
    except UnreadableJournal:
        assert at < len(line(HEADER))
        return
    assert all(case in (*VGG, *RESNET) for case in found.cases.values())
    assert len(found.cases) >= 2


@given(st.binary())
def test_any_bytes_are_a_journal_or_refused_in_one_line(content):
    if b"\n" in content:
        with pytest.raises(UnreadableJournal, match=r"^no header: "):
            parse(content)
    else:
        assert parse(content).header is None


def test_a_damaged_line_in_the_middle_is_named_and_the_rest_is_kept():
    first, second, third = (line(entry(case)) for case in (*VGG, RESNET[0]))
    found = parse(line(HEADER) + first + b"\0" * 40 + b"\n" + second[:30] + b"\n" + third)
    assert names(found.cases.values()) == names([VGG[0], RESNET[0]])
    assert found.damaged == {3: "damaged", 4: "damaged"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rounds": []}, "must be the list of rounds"),
        ({"rounds": 0.1}, "rounds is missing or of the wrong type"),
        ({"rounds": [True] * 20}, "must hold numbers only"),
        ({"rounds": ["0.1"] * 20}, "must hold numbers only"),
        ({"rounds": [float("nan")] * 20}, "a round is not positive and finite"),
        ({"rounds": [10**400] * 20}, "a round is not positive and finite"),
        ({"rounds": [1e-320] * 20}, "a round is not between 1e-09 and 1e+06 s"),
        ({"rounds": [0.1] * 3}, "3 rounds where the record says 20"),
        ({"benchmark": 7}, "benchmark is missing or of the wrong type"),
        ({"benchmark": {}}, "group is missing or of the wrong type"),
        ({"benchmark": VGG[0].benchmark | {"params": "x"}}, "params is missing or of the wrong type"),
        ({"benchmark": VGG[0].benchmark | {"fullname": ""}}, "fullname"),
        ({"benchmark": VGG[0].benchmark | {"extra_info": {}}}, "none is a case of mpbench"),
        ({"benchmark": VGG[0].benchmark | {"options": {"max_time": float("inf")}}}, "not JSON compliant"),
        ({"kind": "gossip"}, "not a case"),
        ({"group": None}, "group is missing or of the wrong type"),
        ({"time": "yesterday"}, "yesterday"),
        ({"time": "2026-05-01T12:00:00+02:00"}, "must be a time in UTC"),
    ],
)
def test_a_line_that_nobody_could_have_measured_is_left_out(changes, problem):
    found = parse(lines(entry(VGG[0], **changes), entry(VGG[1])))
    assert names(found.cases.values()) == names([VGG[1]])
    assert problem in found.damaged[2]


def test_nesting_without_end_is_damage():
    text = b'{"kind":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    deep = b'{"crc32":%d,"entry":%s}\n' % (zlib.crc32(text), text)
    assert list(parse(lines() + deep).damaged) == [2]
    nested = json.loads("[" * 400 + "]" * 400)
    benchmark = VGG[0].benchmark | {"params": {"deep": nested}}
    assert parse(lines(entry(VGG[0], benchmark=benchmark))).damaged.get(2, "nested too deeply") == "nested too deeply"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schemas": {**HEADER["schemas"], "journal": 2}}, "of a later version of mpbench"),
        ({"schemas": {**HEADER["schemas"], "mpbench_schema": 9}}, "of a later version of mpbench"),
        ({"schemas": {"journal": "1"}}, "the journal version is missing"),
        ({"kind": "case"}, "something else"),
        ({"name": "../../escape"}, "must be names of files"),
        ({"machine": ".."}, "must be names of files"),
        ({"machine_info": []}, "machine_info is missing or of the wrong type"),
        ({"cases": [1]}, "cases must be names"),
        ({"began": "once"}, "once"),
        ({"version": None}, "version is missing or of the wrong type"),
    ],
)
def test_a_header_that_cannot_be_used_refuses_the_journal(changes, problem):
    with pytest.raises(UnreadableJournal, match=problem):
        parse(line(HEADER | changes) + line(entry(VGG[0])))


def test_a_later_measurement_of_a_group_replaces_all_of_the_earlier_one():
    control = dataclasses.replace(VGG[0], benchmark=VGG[0].benchmark | {"fullname": "control"})
    again = group("vgg16", 90.0, "2")
    found = parse(lines(*map(entry, (*VGG, control, *RESNET, *again))))
    assert list(found.cases.values()) == [*RESNET, *again]


def test_a_live_journal_is_not_opened_and_a_dead_one_is(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def live():
        Journal.create(tmp_path, header()).append(VGG)
        ready.set()
        context.Event().wait()

    process = context.Process(target=live)
    process.start()
    assert ready.wait(60)
    (path,) = journals(tmp_path)
    with opened(path) as descriptor:
        assert descriptor is None
    process.kill()
    process.join(60)
    assert names(contents(path).cases.values()) == names(VGG)


def test_a_resumed_journal_goes_on_behind_the_last_whole_line(tmp_path):
    path = left_behind(tmp_path, VGG)
    with path.open("ab") as file:
        file.write(line(entry(RESNET[0]))[:-9])
    with opened(path) as descriptor:
        journal = Journal.resume(DeadJournal(path, descriptor, read(descriptor)), ["a", "b"])
    with opened(path) as descriptor:
        assert descriptor is None
    journal.append(RESNET)
    journal.close()
    found = contents(path)
    assert list(found.cases.values()) == [*VGG, *RESNET]
    assert not found.damaged


def test_a_write_that_fails_halfway_leaves_the_journal_as_it_was_and_is_tried_again(tmp_path, monkeypatch):
    journal = Journal.create(tmp_path, header())
    journal.append(VGG)
    write = os.write

    def full(descriptor, data):
        write(descriptor, bytes(data)[:50])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            journal.append(RESNET)
    assert journal.lacks_some
    journal.close()
    assert list(contents(journal.path).cases.values()) == VGG
    with opened(journal.path) as descriptor:
        journal = Journal.resume(DeadJournal(journal.path, descriptor, read(descriptor)), ["a"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            journal.append(RESNET)
    assert not journal.append([comparison()])
    assert not journal.lacks_some
    journal.close()
    assert list(contents(journal.path).cases.values()) == [*VGG, *RESNET, comparison()]


def test_of_a_group_whose_write_failed_only_the_later_measurement_is_kept(tmp_path, monkeypatch):
    journal = Journal.create(tmp_path, header())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            journal.append(VGG)
    later = group("vgg16", measurement="2")
    journal.append(later[:1])
    journal.close()
    assert list(contents(journal.path).cases.values()) == later[:1]


def remove(storage):
    shutil.rmtree(storage)


def move(storage):
    storage.rename(storage.with_name("moved"))


def replace_journals(storage):
    for path in journals(storage):
        path.unlink()
        path.write_bytes(b"somebody else's")


@pytest.mark.parametrize("disturb", [remove, move, replace_journals])
def test_a_journal_that_is_removed_goes_on_in_a_new_file_with_all_it_had(tmp_path, disturb):
    storage = tmp_path / "storage"
    journal = Journal.create(storage, header())
    journal.append(VGG)
    old = journal.path
    disturb(storage)
    assert journal.append(RESNET)
    assert not journal.append([comparison()])
    assert journal.path != old
    with opened(journal.path) as descriptor:
        assert descriptor is None
    journal.close()
    found = contents(journal.path)
    assert found.header == header()
    assert list(found.cases.values()) == [*VGG, *RESNET, comparison()]


def test_where_no_new_file_can_be_made_it_is_tried_again(tmp_path):
    storage = tmp_path / "storage"
    journal = Journal.create(storage, header())
    journal.append(VGG)
    shutil.rmtree(storage)
    storage.touch()
    with pytest.raises(OSError, match="exists"):
        journal.append(RESNET)
    assert journal.lacks_some
    storage.unlink()
    assert journal.append([])
    assert not journal.lacks_some
    journal.close()
    assert list(contents(journal.path).cases.values()) == [*VGG, *RESNET]


@pytest.mark.parametrize("what", ["folder", "pipe", "link"])
def test_what_only_has_a_journals_name(tmp_path, what):
    path = left_behind(tmp_path)
    path.unlink()
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "link": lambda: path.symlink_to("/etc/passwd")}[what]()
    with pytest.raises((OSError, UnreadableJournal)), opened(path):
        pass


def test_a_run_of_the_cases_can_be_believed_and_keeps_their_rounds():
    run = saved_run(header(), [*VGG, comparison()], benchmark_statistics)
    assert list(run) == ["machine_info", "commit_info", "benchmarks", "datetime", "version"]
    assert [bench["stats"]["data"] for bench in run["benchmarks"]] == [case.rounds for case in (*VGG, comparison())]
    assert run["datetime"] == "2026-05-01T12:01:00.000000+00:00"
