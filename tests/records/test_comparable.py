"""records.comparable: what must agree before two figures may be compared."""

import pytest
from case_records import record
from saved_runs import cases, saved_run

from mpbench.gate.judge import judge
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import NOT_COMPARABLE
from mpbench.records.comparable import configuration, not_comparable
from mpbench.records.runs import read_run

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
    assert {verdict.kind for verdict in judge(now, earlier, Rules())} == {NOT_COMPARABLE}
    (detail,) = {verdict.detail for verdict in judge(now, earlier, Rules())}
    assert detail == f"{fact} None -> {FACTS[fact]}"


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
    said = not_comparable(record(**changes), record())
    assert said is None if line is None else line in said


def test_runs_that_do_not_say_are_comparable_with_each_other_and_with_the_defaults(tmp_path):
    old, new = run(tmp_path, 1), run(tmp_path, 2, dict.fromkeys(FACTS), layout="channels_last")
    (before, after) = (configuration(one, next(iter(one.speed.values()))) for one in (old, new))
    assert before == after
    assert not [verdict for verdict in judge(new, [old], Rules()) if verdict.kind == NOT_COMPARABLE]
