"""Which runs make the level that a run is judged against, and what several processes say of one run."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from gate_runs import BASE, EARLIER, SLOW, accuracy_run, following, red, saved_run, verdicts

from mpbench.gate.judge import assess
from mpbench.gate.lines import gate_lines
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Kind

GROUP = [BASE, SLOW]


def again(run, number, factors=None):
    """A process that has measured a group of a run again."""
    measured = saved_run(number, factors=factors)
    cases = {name: case for name, case in measured.cases.items() if name in GROUP}
    return replace(measured, cases=cases, time=run.time + timedelta(minutes=number), confirms="the run")


def suspected(factor):
    return replace(saved_run(9, factors={SLOW: factor}), id="the run")


def test_what_would_be_red_is_measured_again_with_its_group():
    new = suspected(1.06)
    found, suspects = assess(new, EARLIER, Rules())
    assert any(verdict.red for verdict in found)
    assert suspects == GROUP
    assert assess(saved_run(9), EARLIER, Rules())[1] == []
    assert assess(saved_run(9, factors={SLOW: 0.9}), EARLIER, Rules())[1] == []
    assert assess(saved_run(9, factors={SLOW: 0.9}), EARLIER, Rules(faster=0.05))[1] == GROUP


def test_what_several_processes_agree_on_is_red():
    new = suspected(1.06)
    found = verdicts(new, [*EARLIER, *(again(new, number, {SLOW: 1.06}) for number in (20, 21))])
    assert found[SLOW].kind == Kind.SLOWER
    assert SLOW in red(found)
    assert ", measured again: +" in found[SLOW].detail
    assert found[SLOW].change.low < 0.06 < found[SLOW].change.high


@pytest.mark.parametrize("factors", [[1.0, 1.0], [1.0, 1.06], [1.06, 0.99]])
def test_what_comes_back_in_one_of_them_is_not(factors):
    new = suspected(1.06)
    confirming = [again(new, 20 + i, {SLOW: factor}) for i, factor in enumerate(factors)]
    found = verdicts(new, [*EARLIER, *confirming])
    assert not red(found)
    assert found[SLOW].kind == Kind.UNSURE
    assert found[SLOW].detail.startswith("not confirmed, against 5 runs, measured again: ")
    assert 0.05 < found[SLOW].change.estimate < 0.07


def test_what_confirms_a_run_is_no_run_of_its_own():
    slow = suspected(1.08)
    confirming = [again(slow, number, {SLOW: 1.08}) for number in (20, 21, 22)]
    after = replace(saved_run(30, factors={SLOW: 1.08}), id="")
    found = verdicts(after, [*EARLIER, slow, *confirming])
    assert found[SLOW].kind == Kind.SLOWER
    assert "against 5 runs" in found[SLOW].detail
    assert not any(verdict.kind == Kind.MISSING for verdict in found.values())


def test_an_excursion_that_was_not_confirmed_is_none_of_three_runs_at_a_new_level():
    slow = [replace(saved_run(5 + n, factors={SLOW: 1.08}), id=f"run {n}") for n in range(3)]
    unconfirmed = [replace(again(run, 20 + n), confirms=run.id) for n, run in enumerate(slow)]
    assert verdicts(saved_run(9), [*EARLIER, *slow])[SLOW].kind == Kind.FASTER  # the new level
    assert verdicts(saved_run(9), [*EARLIER, *slow, *unconfirmed])[SLOW].kind == Kind.SAME


def test_copies_of_a_process_are_one():
    new = suspected(1.06)
    one = again(new, 20, {SLOW: 1.06})
    found = verdicts(new, [*EARLIER, one, replace(one, path=one.path.with_name("copy.json"))])
    assert found[SLOW].detail.count("%") == 2  # one shift, and that of the rest of the run


def test_one_commit_run_three_times_moves_no_level():
    slow = [replace(run, commit="f" * 40) for run in following({SLOW: 1.08}, 3)]
    assert SLOW in red(verdicts(saved_run(9, factors={SLOW: 1.08}), [*EARLIER, *slow]))


def test_an_accepted_level_is_announced_until_it_is_old():
    slow = following({SLOW: 1.08}, 8)
    for count, announced in ((2, False), (3, True), (7, True), (8, False)):
        new = saved_run(20, factors={SLOW: 1.08})
        found = verdicts(new, [*EARLIER, *slow[:count]])
        words = found[SLOW].accepted
        assert bool(words) == announced, count
        if announced:
            assert not red(found)
            assert words.startswith("new level accepted: +")
            assert words.endswith(f" %, since {slow[0].commit[:7]}")
            assert abs(float(words.split()[3]) - 8) < 1
            assert f"  {words}: {SLOW}" in gate_lines(list(found.values()))


def test_runs_that_are_unsure_do_not_move_the_level():
    def drifting(run):
        """As slow on average, but not steady: what a run's rounds say of it is unsure."""
        case = run.speed[SLOW]
        rounds = np.array(case.rounds) * np.exp(np.linspace(-0.15, 0.15, len(case.rounds)))
        return replace(run, cases=run.speed | {SLOW: replace(case, rounds=tuple(rounds))})

    slow = [drifting(run) for run in following({SLOW: 1.1}, 3)]
    assert verdicts(slow[0])[SLOW].kind == Kind.UNSURE
    found = verdicts(saved_run(9, factors={SLOW: 1.1}), [*EARLIER, *slow])
    assert found[SLOW].kind == Kind.SLOWER
    assert SLOW in red(found)


def test_excursions_that_came_back_count_for_how_much_runs_differ():
    there_and_back = [saved_run(5 + n, factors={SLOW: 1.0 if n % 2 else 1.05}) for n in range(8)]
    new = saved_run(20, factors={SLOW: 1.05})
    assert SLOW in red(verdicts(new, [*EARLIER, *(saved_run(5 + n) for n in range(8))]))
    found = verdicts(new, [*EARLIER, *there_and_back])
    assert SLOW not in red(found)


@pytest.mark.parametrize("per_run", [0.003, 0.005, 0.01])
def test_what_creeps_in_is_seen_against_runs_long_ago(per_run):
    steady = [saved_run(number) for number in range(12)]
    creeping = [saved_run(12 + n, factors={SLOW: 1 + per_run * (n + 1)}) for n in range(16)]
    reds = [red(verdicts(run, [*steady, *creeping[:n]])) for n, run in enumerate(creeping)]
    assert any(SLOW in name for names in reds for name in names)
    if per_run == 0.003:
        assert any(name.startswith("creep of ") for names in reds for name in names)
    assert all(name.endswith((SLOW, BASE)) for names in reds for name in names)


def test_an_accepted_level_is_no_creep():
    steady = [saved_run(number) for number in range(12)]
    slow = following({SLOW: 1.08}, 12, first=12)
    assert not red(verdicts(saved_run(30, factors={SLOW: 1.08}), [*steady, *slow]))


@pytest.mark.parametrize("speed", [0.01, 0.02, 0.03])
def test_an_improvement_of_another_case_is_seldom_blamed(speed):
    models = {"vgg16": 300.0}  # no rest of the run to go by
    blamed = 0
    for seed in range(60):
        earlier = [saved_run(100 * seed + n, speed=speed, models=models) for n in range(5)]
        new = saved_run(100 * seed + 9, speed=speed, models=models, factors={SLOW: 0.95})
        blamed += bool(red(verdicts(new, earlier)))
    assert blamed <= 1  # the odds asked for are 100


def test_a_speedup_that_can_no_longer_be_had_is_said():
    new = saved_run(9)
    case = new.speed[SLOW]
    without = replace(case, record=replace(case.record, speedup=None, baseline=None))
    found = verdicts(replace(new, cases=new.speed | {SLOW: without}))
    assert (found[f"speedup of {SLOW}"].kind, found[f"speedup of {SLOW}"].red) == (Kind.UNSURE, False)
    apart = replace(
        case,
        rounds=case.rounds[:20],
        record=replace(case.record, rounds=20, unpaired_blocks=",".join(map(str, range(40)))),
    )
    found = verdicts(replace(new, cases=new.speed | {SLOW: apart}))
    assert found[f"speedup of {SLOW}"].kind == Kind.UNSURE
    assert "fewer than 8 blocks have a round of both" in found[f"speedup of {SLOW}"].detail


def test_what_was_not_asked_for_is_not_missing():
    new = saved_run(9, models={"vgg16": 300.0})
    others = set(saved_run(9).cases) - set(new.speed)
    for asked in (
        {"paths": ("",), "deselected": frozenset(others)},
        {"paths": tuple(f"{name.partition('[')[0]}[vgg16-float32]" for name in new.speed)},
    ):
        found = verdicts(replace(new, **asked), rules=Rules(missing_fails=True))
        assert not red(found)
        assert {found[name].kind for name in others} == {Kind.NOT_SELECTED}
    found = verdicts(replace(new, paths=("bench",)), rules=Rules(missing_fails=True))
    assert red(found) == others


def test_where_all_cases_have_other_names_they_are_missing():
    new = saved_run(9, models={"renamed": 300.0})
    found = verdicts(new)
    assert sum(verdict.kind == Kind.MISSING for verdict in found.values()) == 12
    assert found["bench/test_training.py::test_training[renamed-float32]"].kind == Kind.NEW
    assert found["bench/test_training.py::test_training[renamed-float32]"].detail == "none of the 5 earlier runs has it"
    assert gate_lines(list(found.values()))[0] == "GATE PASSED: no earlier run has these cases in these settings"
    assert len(red(verdicts(new, rules=Rules(missing_fails=True)))) == 12


def test_what_the_rules_let_pass_is_shown():
    rules = Rules(slower=0.2, last=2, cases=(("vgg16", 0.5, None),))
    words = "  the rules are looser than the defaults: slower 20 %, last 2, slower 50 % for 'vgg16'"
    assert gate_lines(list(verdicts(saved_run(9), rules=rules).values()), rules)[-1] == words
    assert "looser" not in gate_lines(list(verdicts(saved_run(9)).values()), Rules(slower=0.01))[-1]


def test_answers_that_flip_by_chance_are_no_fall_of_accuracy():
    rng = np.random.default_rng(0)
    for number in range(200):
        tables = []
        for _ in range(4):
            flips = rng.binomial(6, 0.5)  # of 3 % of 200 images, to the better or the worse
            tables.append((180 - 6 + 2 * flips - 1, 1, 1, 200 - (180 - 6 + 2 * flips + 1)))
        earlier = [accuracy_run(n, table=table) for n, table in enumerate(tables[:3])]
        (found,) = verdicts(accuracy_run(9, table=tables[3]), earlier).values()
        assert not found.red, number


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"facts": {"gpu": "NVIDIA V100", "tensorflow": "2.22.0", "driver": "550.1"}}, "tensorflow 2.21.0 -> 2.22.0"),
        ({"device_name": "NVIDIA H200"}, "device_name NVIDIA V100 -> NVIDIA H200"),
    ],
)
def test_accuracy_with_another_tensorflow_or_on_another_device_is_not_compared(changes, words):
    facts = {"facts": changes["facts"]} if "facts" in changes else {}
    of_record = {} if facts else changes
    new = replace(accuracy_run(9, table=(4400, 20, 18, 562), **of_record), **facts)
    (found,) = verdicts(new, [accuracy_run(n) for n in range(3)]).values()
    assert (found.kind, found.red, found.detail) == (Kind.NOT_COMPARABLE, False, words)


def test_a_margin_that_was_widened_is_shown():
    (found,) = verdicts(accuracy_run(9, margin=0.05), [accuracy_run(n) for n in range(3)]).values()
    assert found.detail.endswith("; its margin is 5 points, that of earlier runs 1")
