"""records.comparable: what must agree before two figures may be compared, and that all who compare go by it."""

from dataclasses import asdict
from pathlib import Path

import pytest
from case_records import accuracy_record, record
from journals import finished, header
from saved_runs import FACTS as MACHINE
from saved_runs import cases, saved_run

from mpbench.config.settings import read_settings
from mpbench.gate.judge import judge
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Kind
from mpbench.history.series import all_series
from mpbench.journal.lines import Contents
from mpbench.journal.resuming import why_not_resumed
from mpbench.plugin.compared_run import differing_facts
from mpbench.records.comparable import Difference, configuration, differences, not_comparable
from mpbench.records.runs import read_json, read_run
from mpbench.report.environment import side_by_side
from mpbench.why.reading.matched import matched

FACTS = {
    "cpu_affinity": "0-3",
    "cpu_quota": "2",
    "threads": "OMP_NUM_THREADS=4",
    "onednn": "TF_ENABLE_ONEDNN_OPTS=0",
}


def run(folder, day, machine=None, **changes):
    time = f"2026-05-{day:02}T12:00:00+00:00"
    path = saved_run(folder, time=time, commit="c", records_and_rounds=cases(150, 100, **changes), machine=machine)
    return read_run(path)


@pytest.mark.parametrize("fact", FACTS)
def test_how_much_of_the_cpu_and_how_must_agree(tmp_path, fact):
    earlier, now = [run(tmp_path, day) for day in (1, 2, 3)], run(tmp_path, 4, {fact: FACTS[fact]})
    assert {verdict.kind for verdict in judge(now, earlier, Rules())} == {Kind.NOT_COMPARABLE}
    (detail,) = {verdict.detail for verdict in judge(now, earlier, Rules())}
    assert detail == f"{fact} none -> {FACTS[fact]}"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"parameters": 7}, "parameters 15000000 -> 7"),
        ({"layout": "channels_first"}, "layout channels_last -> channels_first"),
        ({"precision": "tf32"}, "precision float32 -> tf32"),
        ({"model": "other"}, "model vgg16 -> other"),
        ({"profile": "quick"}, None),
    ],
)
def test_what_is_measured_must_agree(changes, line):
    found = not_comparable(record(**changes), record())
    assert found is None if line is None else line in found


def test_runs_that_do_not_say_are_comparable_with_each_other_and_with_the_defaults(tmp_path):
    old, new = run(tmp_path, 1), run(tmp_path, 2, dict.fromkeys(FACTS), layout="channels_last")
    before, after = (configuration(one.facts, next(iter(one.speed.values())).record) for one in (old, new))
    assert before == after
    assert not [verdict for verdict in judge(new, [old], Rules()) if verdict.kind is Kind.NOT_COMPARABLE]


def test_a_difference_of_long_values_names_the_field_alone():
    assert str(Difference("tf32", None, True)) == "tf32 none -> on"
    assert str(Difference("data_digest", "0" * 64, "1" * 64)) == "data_digest"


def test_an_accuracy_comparison_goes_by_its_recipe():
    def of(**changes):
        return configuration(MACHINE, accuracy_record(**changes))

    assert differences(of(), of(profile="quick")) == [Difference("profile", "paper", "quick")]
    assert differences(of(), of(weights="random", data="elsewhere")) == [Difference("weights", "imagenet", "random")]


def session(folder, day, machine=None, profile="paper", **options):
    """A session's saved run, and its journal; `options` are given besides --mp-profile."""
    typed = {"mp_profile": profile, "mp_max_time": "9", "mp_tolerance": "10"}
    typed |= {f"mp_{name}": str(value) for name, value in options.items()}
    settings = read_settings(typed, has_tf32=lambda: False)
    own = settings.resolved_profile("gpu")
    pairs = cases(150, 100, profile=profile, batch_size=own.batch_size, image_size=own.image_size_px)
    time = f"2026-05-{day:02}T12:00:00+00:00"
    path = saved_run(folder, time=time, commit="c", records_and_rounds=pairs, machine=machine)
    of_session = header(machine_info=read_json(path)["machine_info"], settings=asdict(settings))
    measured = [finished(*pair, "vgg16 training") for pair in pairs]
    return read_run(path), Contents(of_session, {case.fullname: case for case in measured}, {}, 0)


def compared(then, now):
    """What a run says that is compared with an earlier one, by --benchmark-compare."""
    facts = differing_facts(then[1].header.machine_info, now[1].header.machine_info)
    return [*facts, *filter(None, (not_comparable(c.record, then[0].speed[n].record) for n, c in now[0].speed.items()))]


def judged(then, now):
    return [v.detail for v in judge(now[0], [then[0]], Rules()) if v.kind is Kind.NOT_COMPARABLE]


def charted(then, now):
    """What tells the series of one run from that of the other."""
    return [series.label for series in all_series([then[0], now[0]]) if len(series.runs) == 1]


def reported(then, now):
    return [row[-1] for row in side_by_side(then[0], now[0]).rows if row[-1]]


def resumed(then, now):
    return why_not_resumed(then[1], now[1].header, Path())


def explained(then, now):
    """Steps of other settings are steps of their own: only other machines are left out."""
    return [note for note in matched([then[0], now[0]]).left_out if "measured elsewhere" in note]


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        ({}, {}, ""),
        ({"profile": "quick"}, {"batch_size": 2, "image_size": 80}, ""),
        ({"profile": "quick", "batch_size": 64, "image_size": 224}, {}, ""),
        ({}, {"profile": "quick"}, "batch_size 64 -> 2, image_size"),
        ({}, {"batch_size": 2}, "batch_size 64 -> 2"),
        ({}, {"machine": {"driver": "590"}}, "driver 580.65.06 -> 590"),
        ({"machine": {"threads": "OMP_NUM_THREADS=4"}}, {}, "threads OMP_NUM_THREADS=4 -> none"),
    ],
)
def test_all_who_compare_two_runs_agree(tmp_path, then, now, words):
    elsewhere = "machine" in {*then, *now} and bool(words)
    then, now = session(tmp_path, 1, **then), session(tmp_path, 2, **now)
    for found in (compared, judged, reported, resumed, *([explained] if elsewhere else [])):
        differing = ", ".join(found(then, now))
        assert words in differing if words else not differing, found.__name__
    assert bool(charted(then, now)) == bool(words)
    assert bool(explained(then, now)) == elsewhere


def test_resuming_asks_for_more(tmp_path):
    then, now = session(tmp_path, 1), session(tmp_path, 2, max_time=60, cache="memory")
    assert not any(found(then, now) for found in (compared, judged, charted, reported))
    assert resumed(then, now) == ["cache none -> memory", "max_seconds 9.0 -> 60.0"]
    now[1].header.machine_info["python_version"] = "3.11"
    now[1].header.machine_info["node"] = "bench-2"
    now[1].header.commit_info["id"] = "another"
    assert resumed(then, now)[:3] == ["node bench-1 -> bench-2", "python 3.12.3 -> 3.11", "commit abc -> another"]


def test_resuming_accuracy_cases_asks_for_their_recipe(tmp_path):
    then, now = session(tmp_path, 1), session(tmp_path, 2, profile="quick", batch_size=64, image_size=224)
    assert not resumed(then, now)
    then[1].cases["accuracy"] = finished(accuracy_record(), [0.1], "accuracy")
    assert "learning_rate (accuracy) 0.0001 -> 0.0003" in resumed(then, now)
