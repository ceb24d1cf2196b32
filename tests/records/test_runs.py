"""records.runs: what was saved is loaded, and what cannot be believed is refused with its file and the reason."""

import json
import os
import statistics
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from case_records import accuracy_record, record
from diagnostic_records import diagnostic_name, end_to_end, peak, pipeline, profiled_pair
from saved_runs import cases, fullname, saved_run

from mpbench.gate.judge import judge
from mpbench.gate.rules import Rules
from mpbench.history.series import all_series
from mpbench.records import runs as history
from mpbench.records.accuracy import ACCURACY
from mpbench.records.comparable import COMPARABLE_FACTS, COMPARABLE_SETTINGS, configuration
from mpbench.records.diagnostics import DIAGNOSTICS as DIAGNOSTICS_KIND
from mpbench.records.measured import Measured
from mpbench.records.runs import MAX_RUN_BYTES, UnreadableRun, load_runs, read_run
from mpbench.records.speed import SPEED

TIME = "2026-05-01T12:00:00+00:00"
COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
FOREIGN = {"fullname": "test_other.py::test_other", "extra_info": {}, "stats": {"mean": 1.0}}


@pytest.fixture
def path(tmp_path):
    return saved_run(tmp_path, time=TIME, commit=COMMIT, records_and_rounds=cases(150, 100))


def changed(path, change):
    """The same file after a change of what its JSON holds."""
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
    return path


def first(change):
    """A change of the first benchmark."""
    return lambda saved: change(saved["benchmarks"][0])


def test_a_run_is_read_back(tmp_path):
    speed, accuracy = cases(150, 100), accuracy_record()
    path = saved_run(
        tmp_path, time="2026-05-01T14:00:00+02:00", commit=COMMIT, records_and_rounds=[*speed, (accuracy, [0.1] * 5)]
    )
    run = read_run(path)
    assert (run.path, run.commit, run.dirty, run.branch) == (path, COMMIT, False, "main")
    assert run.time == datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
    assert run.time.utcoffset().total_seconds() == 0
    assert run.facts["gpu"] == "NVIDIA V100"
    assert run.facts["node"] == "bench-1"
    assert run.facts["cpu"].startswith("Intel")
    assert list(run.speed) == [fullname(r) for r, _ in speed]
    for (r, rounds), case in zip(speed, run.speed.values(), strict=True):
        rate = r.batch_size / statistics.median(rounds)
        assert case.record.images_per_second == pytest.approx(rate, rel=1e-12)
        kept = replace(case.record, images_per_second=r.images_per_second)
        assert (case.fullname, kept, list(case.rounds)) == (fullname(r), r, rounds)
    assert run.accuracy == {fullname(accuracy): Measured(accuracy, (0.1,) * 5, fullname(accuracy))}


def test_a_configuration_holds_all_that_must_agree(path):
    run = read_run(path)
    case = next(iter(run.speed.values()))
    found = configuration(run.facts, case.record)
    assert tuple(found) == COMPARABLE_FACTS + COMPARABLE_SETTINGS[SPEED]
    assert found["driver"] == "580.65.06"
    assert found["batch_size"] == 64


def test_foreign_benchmarks_and_later_versions_beside_ours_are_ignored(path):
    def add(saved):
        later = json.loads(json.dumps(saved["benchmarks"][0]))
        later["fullname"], later["extra_info"][SPEED.schema_key] = "later", SPEED.schema + 1
        saved["benchmarks"] += [FOREIGN, FOREIGN, {"extra_info": None}, later]

    assert len(read_run(changed(path, add)).cases) == 2


@pytest.mark.parametrize(
    "commit", [{}, {"id": "unversioned", "branch": "(unknown)"}, {"id": "unknown", "branch": None, "time": None}]
)
def test_an_unknown_commit_is_empty(path, commit):
    run = read_run(changed(path, lambda saved: saved.update(commit_info=commit)))
    assert (run.commit, run.dirty, run.branch) == ("", False, "")


def test_what_a_machine_does_not_say_is_unknown(path):
    run = read_run(changed(path, lambda saved: saved.pop("machine_info")))
    assert configuration(run.facts)["gpu"] is None


def test_a_time_without_offset_is_utc(path):
    run = read_run(changed(path, lambda saved: saved.update(datetime="2026-05-01T12:00:00.123456")))
    assert run.time == datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=timezone.utc)


def test_integers_are_read_where_fractions_may_be(path):
    rounds = [1, 2] * 10
    change = first(lambda b: (b["stats"].update(data=rounds), b["extra_info"].update(first_step_seconds=2)))
    run = read_run(changed(path, change))
    assert next(iter(run.speed.values())).rounds == tuple(map(float, rounds))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"benchmarks": [', "truncated or not JSON"),
        (b"hello", "truncated or not JSON"),
        (b"\xff\xfe\x00\xd8", "truncated or not JSON"),
        (b'{"n": ' + b"1" * 5000 + b"}", "(truncated or not JSON|must be a list)"),  # Python before 3.11 reads it
        (b"[" * 200_000, "nested too deeply"),
        (b"[1]", "the file: must be an object, not a list of 1"),
        (b"{}", "benchmarks: must be a list, not null"),
        (b'{"benchmarks": {}}', "benchmarks: must be a list, not an object of 0"),
        (b'{"benchmarks": [7]}', r"benchmarks\[0\]: must be an object, not 7"),
        (b'{"benchmarks": []}', "none is a case of mpbench"),
        (json.dumps({"benchmarks": [FOREIGN]}).encode(), "none is a case of mpbench"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, content, message):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableRun, match=message) as refused:
        read_run(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("datetime"), r"datetime: must be a time such as 2026-05-01T12:00:00\+00:00, not null"),
        (lambda s: s.update(datetime=5), r"datetime: must be a time such as 2026-05-01T12:00:00\+00:00, not 5"),
        (
            lambda s: s.update(datetime="yesterday"),
            r'datetime: must be a time such as .*, not "yesterday"',
        ),
        (lambda s: s.update(datetime="0001-01-01T00:00:00+14:00"), "datetime: "),
        (lambda s: s.update(commit_info=[]), "commit_info: must be an object, not a list of 0"),
        (lambda s: s["commit_info"].update(id=5), "commit_info.id: must be a text, not 5"),
        (lambda s: s.update(machine_info="x"), 'machine_info: must be an object, not "x"'),
        (
            lambda s: s["machine_info"]["mpbench"].update(driver=580.6),
            "driver: must be a text, not 580.6",
        ),
        (lambda s: s["benchmarks"].append(s["benchmarks"][0]), "float32.*: two cases of this name"),
        (first(lambda b: b.pop("fullname")), r"benchmarks\[0\].fullname: must be a name, not null"),
        (first(lambda b: b.pop("stats")), "float32.*: stats: must be an object, not null"),
        (first(lambda b: b["stats"].pop("data")), "stats.data: must be the list of rounds, 1000000 at most, not null"),
        (
            first(lambda b: b["stats"].update(data=[])),
            "stats.data: must be the list of rounds, .*, not a list of 0",
        ),
        (first(lambda b: b["stats"].update(data=["0.1"] * 20)), "must hold numbers only"),
        (first(lambda b: b["stats"].update(data=[True] * 20)), "must hold numbers only"),
        (first(lambda b: b["stats"].update(data=[None] * 20)), "must hold numbers only"),
        (first(lambda b: b["stats"]["data"].__setitem__(3, float("nan"))), "not positive and finite"),
        (first(lambda b: b["stats"]["data"].__setitem__(3, float("inf"))), "not positive and finite"),
        (first(lambda b: b["stats"]["data"].__setitem__(3, -0.1)), "not positive and finite"),
        (first(lambda b: b["stats"]["data"].__setitem__(3, 0)), "not positive and finite"),
        (first(lambda b: b["stats"]["data"].__setitem__(3, 10**400)), "not positive and finite"),
        (first(lambda b: b["stats"]["data"].pop()), "19 rounds where the record says 20"),
        (first(lambda b: b["extra_info"].pop("jit")), "float32.*: extra_info lacks jit"),
        (first(lambda b: b["extra_info"].update(batch_size="64")), 'batch_size: "64": valid is int'),
        (first(lambda b: b["extra_info"].update(batch_size=True)), "batch_size: true: valid is int"),
        (first(lambda b: b["extra_info"].update(batch_size=64.0)), "batch_size: 64.0: valid is int"),
        (first(lambda b: b["extra_info"].update(jit=1)), "jit: 1: valid is bool"),
        (first(lambda b: b["extra_info"].update(model=None)), "model: null: valid is str"),
        (first(lambda b: b["extra_info"].update(speedup=[1])), "speedup: a list of 1: valid is float or int or null"),
        (first(lambda b: b["extra_info"].update(speedup=0.0)), "speedup: 0.0: valid is 1e-09 to"),
        (first(lambda b: b["extra_info"].update(first_step_seconds=float("nan"))), "first_step_seconds: NaN: must be"),
        (
            first(lambda b: b["extra_info"].update(parameters=10**400)),
            "parameters: a huge number: must be finite",
        ),
        (first(lambda b: b["extra_info"].update(unpaired_blocks="3,x")), 'unpaired_blocks: "3,x": valid are'),
        (
            first(lambda b: b["extra_info"].update({SPEED.schema_key: "1"})),
            f'{SPEED.schema_key}: must be a version, not "1"',
        ),
        (
            first(lambda b: b["extra_info"].update({SPEED.schema_key: 0})),
            f"{SPEED.schema_key} is 0: this version reads {SPEED.schema}",
        ),
        (first(lambda b: b["extra_info"].update(jit="y" * 10**6)), 'jit: "y{59}...'),
        (
            first(lambda b: b["extra_info"].update(profile="x" * 10**6)),
            "profile: 1000000 characters: valid are",
        ),
        (first(lambda b: b.update(fullname="x" * 10**6)), r"benchmarks\[0\].fullname: 1000000 characters"),
        (lambda s: s["commit_info"].update(id="x" * 10**6), "commit_info.id: 1000000 characters"),
        (lambda s: s["machine_info"].update(node="x" * 10**6), "machine_info: node: 1000000 characters"),
        (
            lambda s: s["machine_info"]["mpbench"].update({str(n): n for n in range(200)}),
            "facts: valid are 100",
        ),
        (lambda s: s["benchmarks"].extend(s["benchmarks"][:1] * 10_000), "two cases of this name"),
    ],
)
def test_a_wrong_field_is_named(path, change, message):
    with pytest.raises(UnreadableRun, match=message) as refused:
        read_run(changed(path, change))
    assert str(refused.value).startswith(f"{path}: ")
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300 + len(str(path))


def test_a_run_of_a_later_version_is_refused(path):
    def later(saved):
        for benchmark in saved["benchmarks"]:
            benchmark["extra_info"] = {SPEED.schema_key: SPEED.schema + 1, "what": "nobody knows"}

    with pytest.raises(
        UnreadableRun, match=f"{SPEED.schema_key} is {SPEED.schema + 1}, of a later version: this one reads"
    ):
        read_run(changed(path, later))


def test_a_wrong_accuracy_record_is_named(tmp_path):
    pair = (accuracy_record(), [0.1] * 5)
    path = saved_run(tmp_path, time=TIME, commit=COMMIT, records_and_rounds=[pair])
    assert read_run(path).speed == {}
    with pytest.raises(UnreadableRun, match=r"keeps_accuracy.*: classes: 2.5: valid is int"):
        read_run(changed(path, first(lambda b: b["extra_info"].update(classes=2.5))))
    with pytest.raises(UnreadableRun, match=f"{ACCURACY.schema_key} is 9, of a later version"):
        read_run(changed(path, first(lambda b: b["extra_info"].update({ACCURACY.schema_key: 9}))))


DIAGNOSTICS = [end_to_end("pipeline", 110), pipeline(20), peak("matmul", 1), end_to_end("device", 100)]


@pytest.fixture
def diagnostics_alone(tmp_path):
    pairs = [(one.record, one.rounds) for one in DIAGNOSTICS]
    return saved_run(tmp_path / "diagnostics", time=TIME, commit=COMMIT, records_and_rounds=pairs)


def test_cases_that_look_for_causes_are_read_back(diagnostics_alone, tmp_path):
    run = read_run(diagnostics_alone)
    assert (run.speed, run.accuracy) == ({}, {})
    assert run.diagnostics == {diagnostic_name(one.record): one for one in DIAGNOSTICS}
    pairs = [*cases(150, 100), *((one.record, one.rounds) for one in DIAGNOSTICS)]
    both = read_run(saved_run(tmp_path, time=TIME, commit=COMMIT, records_and_rounds=pairs))
    assert (len(both.speed), both.diagnostics) == (2, run.diagnostics)


def test_gate_and_history_see_no_figure_in_them(diagnostics_alone, path):
    run, speed = read_run(diagnostics_alone), read_run(path)
    assert judge(run, [], Rules()) == []
    assert all_series([run]) == []
    assert len(all_series([run, speed])) == len(all_series([speed])) == 3


@pytest.mark.parametrize(
    ("nth", "fields", "message"),
    [
        (0, {"input": "hungry"}, "input: 'hungry': valid are device, pipeline"),
        (0, {"input": None}, "input: null: valid is str"),
        (0, {"workers": 1.5}, "workers: 1.5: valid is int"),
        (0, {"phase": "sleep"}, "phase: 'sleep': valid are '', training, inference"),
        (0, {"rounds": 7}, "6 rounds where the record says 7"),
        (0, {"unpaired_blocks": "x"}, 'unpaired_blocks: "x": valid are'),
        (0, {"mpbench_diagnostic": "guess"}, 'mpbench_diagnostic: "guess": valid are end_to_end, input, peak'),
        (0, {"mpbench_diagnostic": ["part"]}, "mpbench_diagnostic: a list of 1: valid are end_to_end, input, peak"),
        (0, {DIAGNOSTICS_KIND.schema_key: "1"}, f'{DIAGNOSTICS_KIND.schema_key}: must be a version, not "1"'),
        (
            0,
            {DIAGNOSTICS_KIND.schema_key: 0},
            f"{DIAGNOSTICS_KIND.schema_key} is 0: this version reads {DIAGNOSTICS_KIND.schema}",
        ),
        (1, {"images": 0}, "images: 0: valid is 1 to 1e+09"),
        (2, {"what": "dance"}, "what: 'dance': valid are matmul, copy, latency"),
        (2, {"flops": -1}, "flops: -1: valid is 0 to 1e+24"),
        (2, {"flops": float("nan")}, "flops: NaN: must be finite"),
        (2, {"flops": 1e299}, "flops: 1e+299: valid is 0 to 1e+24"),
        (2, {"flops": 10**400}, "flops: a huge number: must be finite"),
    ],
)
def test_a_wrong_field_of_a_probe_is_named(diagnostics_alone, nth, fields, message):
    with pytest.raises(UnreadableRun) as refused:
        read_run(changed(diagnostics_alone, lambda saved: saved["benchmarks"][nth]["extra_info"].update(fields)))
    assert f"{diagnostic_name(DIAGNOSTICS[nth].record)}: " in str(refused.value) or f"[{nth}]: " in str(refused.value)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_probe_that_lacks_a_field_or_shares_its_name_is_named(diagnostics_alone):
    content = diagnostics_alone.read_text()
    with pytest.raises(UnreadableRun, match="extra_info lacks images"):
        read_run(changed(diagnostics_alone, lambda s: s["benchmarks"][1]["extra_info"].pop("images")))
    diagnostics_alone.write_text(content)
    with pytest.raises(UnreadableRun, match="two cases of this name"):
        read_run(changed(diagnostics_alone, lambda s: s["benchmarks"].append(s["benchmarks"][0])))


def test_diagnostics_of_a_later_version_are_left_out_or_refused(diagnostics_alone):
    def later(saved, until):
        for benchmark in saved["benchmarks"][:until]:
            benchmark["extra_info"][DIAGNOSTICS_KIND.schema_key] = DIAGNOSTICS_KIND.schema + 1

    assert len(read_run(changed(diagnostics_alone, lambda saved: later(saved, 2))).diagnostics) == len(DIAGNOSTICS) - 2
    with pytest.raises(
        UnreadableRun, match=f"{DIAGNOSTICS_KIND.schema_key} is {DIAGNOSTICS_KIND.schema + 1}, of a later version"
    ):
        read_run(changed(diagnostics_alone, lambda saved: later(saved, None)))


def test_what_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(UnreadableRun, match="No such file"):
        read_run(tmp_path / "none.json")
    with pytest.raises(UnreadableRun, match="not a regular file"):
        read_run(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.json")
        with pytest.raises(UnreadableRun, match="not a regular file"):
            read_run(tmp_path / "pipe.json")


def test_a_huge_file_is_refused_before_it_is_parsed(path, monkeypatch):
    assert MAX_RUN_BYTES == 64 * 2**20
    size = path.stat().st_size
    monkeypatch.setattr(history, "MAX_RUN_BYTES", size)
    read_run(path)
    monkeypatch.setattr(history, "MAX_RUN_BYTES", size - 1)
    with pytest.raises(UnreadableRun, match="larger than"):
        read_run(path)


def test_runs_are_loaded_from_any_depth_by_time_and_bad_ones_named(tmp_path):
    folder = tmp_path / ".benchmarks"
    pairs = [(record(rounds=2), [0.1, 0.2])]
    names = [("c", "3.json", 3), ("a/b", "1.json", 1), ("a", "2.json", 2), ("b", "2.json", 2)]
    for sub, name, day in names:
        saved_run(folder / sub, time=f"2026-05-0{day}T12:00:00+00:00", commit="x", records_and_rounds=pairs, name=name)
    (folder / "a" / "bad.json").write_text("{")
    (folder / "notes.txt").write_text("no run")
    warnings = []
    runs = load_runs(folder, warnings.append)
    assert [run.path.relative_to(folder).as_posix() for run in runs] == [
        "a/b/1.json",
        "a/2.json",
        "b/2.json",
        "c/3.json",
    ]
    (warning,) = warnings
    assert warning.startswith(f"left out: {folder / 'a' / 'bad.json'}: ")


def test_a_missing_folder_has_no_runs(tmp_path):
    assert load_runs(tmp_path / "none", pytest.fail) == []


@pytest.mark.parametrize("kind", ["part", "layer", "profile"])
def test_kinds_of_earlier_versions_are_passed_over(diagnostics_alone, kind):
    def older(saved):
        saved["benchmarks"][0]["extra_info"] = {
            DIAGNOSTICS_KIND.schema_key: DIAGNOSTICS_KIND.schema,
            "mpbench_diagnostic": kind,
            "classes": "?",
        }

    assert len(read_run(changed(diagnostics_alone, older)).diagnostics) == len(DIAGNOSTICS) - 1


def test_a_profile_of_a_step_is_read_back_and_checked(tmp_path):
    path = saved_run(tmp_path, time=TIME, commit=COMMIT, records_and_rounds=profiled_pair())
    found = [case.record.step_profile for case in read_run(path).cases.values()]
    assert found == [record.step_profile for record, _ in profiled_pair()]
    with pytest.raises(UnreadableRun, match=r"float32.*: profile: no JSON"):
        read_run(changed(path, first(lambda b: b["extra_info"].update(step_profile="{"))))
