"""The gate's verdicts on runs whose truth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gate_runs import BASE, EARLIER, SLOW, accuracy_run, following, red, saved_run, verdicts

from mpbench.gate.judge import judge
from mpbench.gate.lines import gate_lines
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Kind, is_red


def test_without_an_earlier_run_everything_is_new_and_passes():
    found = verdicts(saved_run(9), [])
    assert {verdict.kind for verdict in found.values()} == {Kind.NEW}
    assert gate_lines(list(found.values()))[0] == "GATE PASSED: there is no earlier run to compare with"


def test_the_same_again_passes():
    found = verdicts(saved_run(9))
    assert not red(found)
    assert len(found) == 12 + 6
    assert sum(verdict.kind == Kind.SAME for verdict in found.values()) > 14
    assert gate_lines(list(found.values()))[0] == "GATE PASSED"


@pytest.mark.parametrize("name", [SLOW, BASE])
def test_a_slower_case_is_named_and_no_other(name):
    found = verdicts(saved_run(9, factors={name: 1.06}))
    assert found[name].kind == Kind.SLOWER
    assert all(name in f"{of_red} {found[of_red].detail}" for of_red in red(found))
    assert found[name].change.low < 0.06 < found[name].change.high
    assert gate_lines(list(found.values()))[1].startswith(f"  SLOWER: {name} +")


def test_a_slower_case_is_found_in_a_run_of_another_speed():
    earlier = [saved_run(number, speed=0.03) for number in range(5)]
    found = verdicts(saved_run(9, speed=0.03, factors={SLOW: 1.06}), earlier)
    assert f"speedup of {SLOW}" in red(found)
    assert all(SLOW in name for name in red(found))


def test_a_run_that_is_slower_as_a_whole_is_red_only_beyond_what_runs_differ_by():
    everything = dict.fromkeys(saved_run(0).cases, 1.08)
    assert len(red(verdicts(saved_run(9, factors=everything)))) == 12
    differing = [saved_run(number, speed=0.06) for number in range(5)]
    assert not red(verdicts(saved_run(9, factors=everything), differing))


def test_a_faster_case_fails_only_where_wanted():
    new = saved_run(9, factors={SLOW: 0.9})
    found = verdicts(new)
    assert found[SLOW].kind == Kind.FASTER
    assert not red(found)
    assert SLOW in red(verdicts(new, rules=Rules(faster=0.05)))


def test_where_most_became_faster_the_rest_is_not_blamed():
    most = {name: 0.9 for name in saved_run(0).cases if "vgg16" not in name}
    assert not red(verdicts(saved_run(9, factors=most)))


def test_a_speedup_that_falls_because_its_baseline_is_faster_is_no_failure():
    found = verdicts(saved_run(9, factors={BASE: 0.9}))
    assert found[f"speedup of {SLOW}"].kind == Kind.FASTER
    assert found[f"speedup of {SLOW}"].detail.endswith(f"{BASE} became faster")
    assert not red(found)


def test_a_speedup_that_rises_because_its_baseline_is_slower_is_a_failure():
    earlier = [saved_run(number, speed=0.02) for number in range(5)]
    found = verdicts(saved_run(9, speed=0.02, factors={BASE: 1.06}), earlier)
    assert f"speedup of {SLOW}" in red(found)
    assert found[f"speedup of {SLOW}"].detail.endswith(f"{BASE} became slower")


def test_one_lucky_run_does_not_set_the_bar():
    lucky = dict.fromkeys(saved_run(0).cases, 0.93)
    assert not red(verdicts(saved_run(9), [*EARLIER[:4], saved_run(5, factors=lucky)]))


def test_a_noisy_case_is_unsure_and_says_what_would_settle_it():
    earlier = [saved_run(number, noise=0.1) for number in range(5)]
    found = verdicts(saved_run(9, noise=0.1, rounds=10, factors={SLOW: 1.04}), earlier)
    assert not red(found)
    unsure = [verdict for verdict in found.values() if verdict.kind == Kind.UNSURE]
    assert unsure
    assert all("would settle it" in verdict.detail for verdict in unsure)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"facts": {"gpu": "NVIDIA H200", "tensorflow": "2.21.0", "driver": "550.1"}},
            "gpu NVIDIA V100 -> NVIDIA H200",
        ),
        ({"facts": {"gpu": "NVIDIA V100", "tensorflow": "2.22.0", "driver": "550.1"}}, "tensorflow 2.21.0 -> 2.22.0"),
    ],
)
def test_another_machine_is_not_compared(change, words):
    found = verdicts(replace(saved_run(9, factors={SLOW: 2.0}), **change))
    assert found[SLOW].kind == Kind.NOT_COMPARABLE
    assert words in found[SLOW].detail
    assert not red(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 32}, "batch_size 64 -> 32"),
        ({"image_size": 299}, "image_size 224 -> 299"),
        ({"jit": False}, "jit on -> off"),
        ({"tf32": True}, "tf32 off -> on"),
    ],
)
def test_other_settings_are_not_compared(change, words):
    found = verdicts(saved_run(9, factors={SLOW: 2.0}, **change))
    assert (found[SLOW].kind, found[SLOW].detail) == (Kind.NOT_COMPARABLE, words)


def test_a_comparable_run_is_looked_for_further_back():
    others = [saved_run(number, batch_size=8) for number in (5, 6, 7)]
    assert verdicts(saved_run(9, factors={SLOW: 1.2}), [*EARLIER, *others])[SLOW].kind == Kind.SLOWER


def test_later_runs_and_the_run_itself_are_no_baseline():
    new = saved_run(2, factors={SLOW: 2.0})
    found = verdicts(new, [*EARLIER, new])
    assert found[SLOW].kind == Kind.SLOWER
    assert "against 2 runs" in found[SLOW].detail or "against 3 runs" in found[SLOW].detail


def test_a_vanished_case_is_reported_and_red_where_wanted():
    new = saved_run(9, models={"vgg16": 300.0})
    found = verdicts(new)
    assert sum(verdict.kind == Kind.MISSING for verdict in found.values()) == 8
    assert not red(found)
    assert len(red(verdicts(new, rules=Rules(missing_fails=True)))) == 8


def test_thresholds_may_differ_by_case():
    new = saved_run(9, factors={SLOW: 1.06})
    assert not red(verdicts(new, rules=Rules(cases=(("vgg16-mixed", 0.2, None),))))
    assert red(
        verdicts(new, rules=Rules(slower=0.2, cases=(("training[vgg16", 0.03, None), ("*training*", 0.03, None))))
    )


def test_rising_skips_of_loss_scaling_fail():
    found = verdicts(saved_run(9, skipped_steps=4))
    assert f"skipped steps of {SLOW}" in red(found)
    assert "dropped 9.1% of the steps, in earlier runs 0.0%" in found[f"skipped steps of {SLOW}"].detail


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"table": (4562, 60, 19, 359)}, "McNemar p "),
        ({"table": (100, 2, 8, 90)}, "does not beat the most frequent class"),
        ({"margin": 0.0001, "require_equivalence": True}, "not shown to be equivalent within 0.01 points"),
        ({"table": (4400, 20, 18, 562)}, "accuracy in mixed_float16 fell from 91.62% to 88.36%: more than the margin"),
    ],
)
def test_accuracy_fails_with_its_own_line(changes, words):
    (found,) = verdicts(accuracy_run(9, **changes), [accuracy_run(n) for n in range(3)]).values()
    assert (found.kind, found.red) == (Kind.FAILED, True)
    assert words in found.detail
    assert found.name.startswith("accuracy of ")


def test_accuracy_on_other_data_has_not_fallen():
    new = accuracy_run(9, table=(4400, 20, 18, 562), data_digest="1" * 64)
    (found,) = verdicts(new, [accuracy_run(n) for n in range(3)]).values()
    assert (found.kind, found.red, found.detail) == (Kind.NOT_COMPARABLE, False, "data_digest")


def test_rounds_are_paired_by_their_blocks():
    new = saved_run(9)
    slow, base = new.speed[SLOW], new.speed[BASE]
    # The mixed case has no round of blocks 0 and 3; pairing by position would shift all others.
    kept = tuple(seconds for block, seconds in enumerate(slow.rounds) if block not in (0, 3))
    gap = replace(slow, rounds=kept, record=replace(slow.record, unpaired_blocks="0,3", rounds=len(kept)))
    drifting = np.exp(np.linspace(0, 2, 40))
    cases = new.speed | {
        BASE: replace(base, rounds=tuple(np.array(base.rounds) * drifting)),
        SLOW: replace(gap, rounds=tuple(np.array(kept) * np.delete(drifting, [0, 3]))),
    }
    found = verdicts(replace(new, cases=cases))
    assert abs(found[f"speedup of {SLOW}"].change.estimate) < 0.01


def test_too_few_rounds_tell_nothing():
    found = verdicts(saved_run(9, rounds=3, factors={SLOW: 2.0}))
    assert {verdict.kind for verdict in found.values()} == {Kind.UNSURE}
    assert {v.kind for v in verdicts(saved_run(9), [saved_run(n, rounds=3) for n in range(5)]).values()} == {Kind.NEW}


def test_cases_with_other_earlier_runs_are_no_yardstick():
    # Three runs of one model alone, on a slower machine: what they say about each other is not about the rest.
    alone = [saved_run(n, models={"vgg16": 300.0}, factors=dict.fromkeys(saved_run(0).cases, 1.3)) for n in (5, 6, 7)]
    found = verdicts(saved_run(9), [*EARLIER, *alone])
    assert not any(name.endswith("relative to the rest of the run") and "vgg16" in name for name in found)


def test_is_red():
    assert is_red(verdicts(saved_run(9, factors={SLOW: 1.2})).values())
    assert not is_red([])


def test_a_regression_stays_red_until_three_runs_have_confirmed_it():
    slow = following({SLOW: 1.08}, 5)
    kinds = [verdicts(run, [*EARLIER, *slow[:i]])[SLOW].kind for i, run in enumerate(slow)]
    assert kinds == [Kind.SLOWER, Kind.SLOWER, Kind.SLOWER, Kind.SAME, Kind.SAME]


def test_a_run_at_another_level_does_not_blur_the_next_ones():
    once = saved_run(5, factors={SLOW: 1.3})
    found = verdicts(saved_run(9, factors={SLOW: 1.06}), [*EARLIER, once])
    assert found[SLOW].kind == Kind.SLOWER


def test_with_the_last_run_alone_as_baseline_a_regression_is_red_once():
    slow = following({SLOW: 1.15}, 2)
    rules = Rules(last=1)
    assert red(verdicts(slow[0], EARLIER, rules))
    assert not red(verdicts(slow[1], [*EARLIER, slow[0]], rules))


def test_copies_of_a_run_are_one_run():
    copies = [replace(EARLIER[4], path=Path(f"copy{n}.json")) for n in range(4)]
    found = verdicts(saved_run(9), [EARLIER[4], *copies])
    assert "against 1 run" in found[SLOW].detail
    new = saved_run(9, factors={SLOW: 1.2})
    assert SLOW in red(verdicts(new, [*EARLIER, replace(new, path=Path("copy.json"))]))


def test_speedups_over_another_baseline_are_not_compared():
    def over(run, baseline):
        case = run.speed[SLOW]
        return replace(run, cases=run.speed | {SLOW: replace(case, record=replace(case.record, baseline=baseline))})

    found = verdicts(saved_run(9), [over(run, "tf32") for run in EARLIER])
    assert found[f"speedup of {SLOW}"].kind == Kind.NOT_COMPARABLE
    assert found[f"speedup of {SLOW}"].detail == "baseline tf32 -> float32"
    assert found[SLOW].kind == Kind.SAME


def test_a_speedup_is_not_judged_where_its_baseline_cannot_be():
    def other_batch(run):
        case = run.speed[BASE]
        return replace(run, cases=run.speed | {BASE: replace(case, record=replace(case.record, batch_size=8))})

    found = verdicts(saved_run(9, factors={BASE: 2.0}), [other_batch(run) for run in EARLIER])
    assert found[BASE].kind == found[f"speedup of {SLOW}"].kind == Kind.NOT_COMPARABLE
    assert "batch_size 8" in found[f"speedup of {SLOW}"].detail


def test_a_changed_speedup_goes_by_the_threshold_of_the_one_to_blame():
    earlier = [saved_run(number, speed=0.01) for number in range(5)]
    new = saved_run(9, speed=0.01, factors={BASE: 1.06})
    assert red(verdicts(new, earlier))
    assert not red(verdicts(new, earlier, Rules(cases=(("training[vgg16-float32", 0.2, None),))))


@pytest.mark.parametrize(("earlier_runs", "rounds"), [(5, 40), (5, 8), (1, 40), (1, 8), (2, 10)])
def test_unchanged_runs_are_hardly_ever_red(earlier_runs, rounds):
    wrong = 0
    for seed in range(30):
        runs = [saved_run(100 * seed + n, speed=0.02, noise=0.03, rounds=rounds) for n in range(earlier_runs + 1)]
        wrong += is_red(judge(runs[-1], runs[:-1], Rules()))
    assert wrong <= 1


def test_a_single_step_that_loss_scaling_drops_is_no_failure():
    assert not red(verdicts(saved_run(9, skipped_steps=1)))


def test_a_case_that_vanished_before_the_last_run_is_still_missing():
    without = [saved_run(number, models={"vgg16": 300.0}) for number in (5, 6, 9)]
    found = verdicts(without[2], [*EARLIER, *without[:2]])
    gone = [verdict for verdict in found.values() if verdict.kind == Kind.MISSING]
    assert {verdict.detail for verdict in gone} == {"it ran 3 runs ago"}


def test_runs_of_other_cases_do_not_miss_these():
    assert not any(v.kind == Kind.MISSING for v in verdicts(accuracy_run(9), EARLIER).values())


def test_rounds_from_a_busy_cpu_are_neither_judged_nor_a_baseline():
    busy = {"device": "cpu", "others_cpu_share": 0.3}
    quiet = [saved_run(number, device="cpu") for number in range(3)]
    found = verdicts(saved_run(9, factors={SLOW: 2.0}, **busy), quiet)
    assert (found[SLOW].kind, found[SLOW].red) == (Kind.UNSURE, False)
    assert found[SLOW].detail == "measured while other processes used 30% of this machine's CPU"
    found = verdicts(saved_run(9, device="cpu"), [*quiet, saved_run(5, factors={SLOW: 2.0}, **busy)])
    assert (found[SLOW].kind, "against 3 runs" in found[SLOW].detail) == (Kind.SAME, True)
    assert SLOW in red(verdicts(saved_run(9, factors={SLOW: 1.2}, others_cpu_share=0.3)))  # a GPU's


def test_many_verdicts_that_say_the_same_are_one_line():
    lines = gate_lines(judge(saved_run(9), [], Rules()))
    assert lines[1:] == ["  NEW: 18 cases and speedups: no earlier run has it", "  18 NEW"]


def test_times_on_a_cpu_are_no_evidence_but_speedups_are():
    quiet = [saved_run(number, device="cpu") for number in range(5)]
    everything = dict.fromkeys(saved_run(0).cases, 1.5)
    found = verdicts(saved_run(9, device="cpu", factors=everything), quiet)
    assert not red(found)
    assert found[SLOW].detail.startswith("on a CPU that may be the machine: speedups tell, against 5 runs")
    assert f"speedup of {SLOW}" in red(verdicts(saved_run(9, device="cpu", factors={SLOW: 1.06}), quiet))
    assert SLOW in red(verdicts(saved_run(9, device="cpu", factors=dict.fromkeys(saved_run(0).cases, 5.0)), quiet))
