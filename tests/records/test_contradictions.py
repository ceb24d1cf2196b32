"""records.plausible and records.arms: what contradicts itself is refused, or what was measured takes its place."""

import json
import math
from dataclasses import replace

import pytest
from case_records import accuracy_record, record
from hypothesis import given
from hypothesis import strategies as st
from saved_runs import cases, fullname, saved_run

from mpbench.records.accuracy import ACCURACY
from mpbench.records.arms import Arms
from mpbench.records.runs import UnreadableRun, load_runs, read_run
from mpbench.records.speed import SPEED
from mpbench.stats import contingency as paired

TIME = "2026-05-01T12:00:00+00:00"
INTERVAL = {"baseline": "float32", "speedup": 1.5, "speedup_low": 1.4, "speedup_high": 1.6}


def saved(tmp_path, *pairs):
    return saved_run(tmp_path, time=TIME, commit="c", records_and_rounds=pairs)


def changed(path, number, **fields):
    content = json.loads(path.read_text())
    content["benchmarks"][number]["extra_info"].update(fields)
    path.write_text(json.dumps(content))
    return path


def consistent(table, margin, alpha, share):
    """A record of which everything follows from its counts."""
    n, detectable = table.n, paired.detectable_difference(table.n, table.discordant, alpha)
    counts = table.both_right, table.first_only, table.second_only, table.both_wrong
    return accuracy_record(
        table=counts,
        margin=margin,
        alpha=alpha,
        training_images=n,
        detectable_difference=None if math.isinf(detectable) else detectable,
        majority_share=share,
        majority_p=paired.majority_p(table.both_right + table.second_only, n, share),
        baseline_majority_p=paired.majority_p(table.both_right + table.first_only, n, share),
    )


counts = st.integers(0, 3000)
tables = st.builds(paired.Contingency, counts, st.integers(0, 80), st.integers(0, 80), counts.map(lambda n: n + 1))


@given(tables, st.floats(1e-6, 0.9), st.floats(1e-4, 0.9), st.floats(0, 1))
def test_what_follows_from_its_counts_is_believed(table, margin, alpha, share):
    ACCURACY.check(consistent(table, margin, alpha, share))


@pytest.mark.parametrize("scale", [1, 100, 1900])
def test_so_is_a_large_comparison(scale):
    ACCURACY.check(consistent(paired.Contingency(4562 * scale, 26 * scale, 19 * scale, 393 * scale), 0.01, 0.05, 0.5))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"both_right": 0, "baseline_only": 0, "precision_only": 0, "both_wrong": 5000},
            "accuracy: 0.9162, but by",
        ),
        ({"accuracy": 0.92}, "accuracy: 0.92, but by its counts 0.9162"),
        ({"baseline_accuracy": 0.5}, "baseline_accuracy: 0.5, but by its counts"),
        ({"difference": 0.0}, "difference: 0.0, but by its counts"),
        ({"mcnemar_exact_p": 0.04}, "mcnemar_exact_p: 0.04, but by its counts"),
        ({"mcnemar_midp": 0.04}, "mcnemar_midp"),
        ({"mcnemar_chi2_p": 0.04}, "mcnemar_chi2_p"),
        ({"equivalence_p": 1.0}, "equivalence_p: 1.0, but by its counts"),
        ({"margin": 0.003}, "equivalence_p: "),
        ({"majority_p": 0.9}, "majority_p: 0.9, but by its counts"),
        ({"baseline_majority_p": 0.9}, "baseline_majority_p: 0.9, but by its counts"),
        ({"majority_share": 0.99}, "majority_p: "),
        ({"difference_low": -0.1}, "difference_low, difference_high: -0.1, .*: not by its counts"),
        ({"difference_high": 0.0}, "difference_low, difference_high: .*: not by its counts"),
        ({"detectable_difference": 0.5}, "detectable_difference: 0.5: not by its counts"),
        ({"detectable_difference": None}, "detectable_difference: None: not by its counts"),
        ({"validation_images": 0}, "validation_images: 0: valid is 1 to 1e\\+07"),
        ({"training_images": 0}, "training_images: 0: valid is 1 to 1e\\+09"),
        ({"margin": 1.0}, "margin: 1.0: valid is above 0 and below 1"),
        ({"margin": 0.0}, "margin: 0.0: valid is above 0 and below 1"),
        ({"alpha": 1.0}, "alpha: 1.0: valid is above 0 and below 1"),
    ],
)
def test_an_accuracy_that_contradicts_its_counts_is_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        ACCURACY.check(replace(accuracy_record(), **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (INTERVAL | {"speedup": 9.9}, "speedup: 9.9: not between speedup_low and speedup_high, 1.4, 1.6"),
        (INTERVAL | {"speedup_low": None}, "speedup_low: null, beside speedup, 1.5"),
        (INTERVAL | {"baseline": None}, "speedup: 1.5, but no baseline that it refers to"),
        (INTERVAL | {"speedup_low": 5e-324}, "speedup_low: 5e-324: valid is 1e-09 to 1e\\+09"),
        ({"reference_ratio": 1.0}, "reference_low: null, beside reference_ratio, 1.0"),
        ({"skipped_steps": 13}, "skipped_steps: 13: valid are no more than the 12 that were kept"),
        ({"skipped_steps": 10**30}, "skipped_steps: 1000.*: valid is 0 to 1e\\+09"),
        ({"loss_scale": 1e40}, "loss_scale: 1e\\+40: valid is 0 to 1e\\+39"),
        ({"temperature_c": 1e9}, "temperature_c: .*: valid is -273.15 to 10000"),
    ],
)
def test_a_speed_case_that_contradicts_itself_is_refused(fields, message):
    SPEED.check(record(**INTERVAL))
    with pytest.raises(ValueError, match=f"^{message}"):
        SPEED.check(record(**fields))


@pytest.mark.parametrize(
    ("year", "good"), [(1, False), (1969, False), (1970, True), (2199, True), (2200, False), (9999, False)]
)
def test_years_have_both_ends(tmp_path, year, good):
    path = saved_run(tmp_path, time=f"{year:04}-12-31T00:00:00+00:00", commit="c", records_and_rounds=cases(150, 100))
    if good:
        assert read_run(path).time.year == year
    else:
        with pytest.raises(UnreadableRun, match="valid are the years 1970 to 2199"):
            read_run(path)


def test_a_speedup_that_its_rounds_deny_is_theirs_and_that_is_said(tmp_path):
    path = changed(saved(tmp_path, *cases(100, 500)), 1, speedup=9.9, speedup_low=9.8, speedup_high=10.0)
    (run,) = load_runs(tmp_path, (said := []).append)
    r = list(run.speed.values())[1].record
    assert (r.speedup, r.speedup_low, r.speedup_high) == pytest.approx((0.2, 0.2, 0.2), rel=0.01)
    (line,) = said
    assert line.startswith(
        f"{path}: bench/test_training.py::test_training[vgg16-mixed_float16]: speedup 9.9 is not what"
    )
    assert run.denied == (line.removeprefix(f"{path}: "),)


def test_a_speedup_of_too_few_pairs_is_none(tmp_path):
    saved(tmp_path, *cases(100, 50, rounds=4))
    (run,) = load_runs(tmp_path, (said := []).append)
    r = list(run.speed.values())[1].record
    assert (r.speedup, r.speedup_low, r.speedup_high, r.interval) == (None, None, None, None)
    assert len(said) == 1


@pytest.mark.parametrize("factor", [0.9, 0.999, 1.0, 1.001, 1.1])
def test_another_interval_and_a_slightly_other_estimate_are_believed(tmp_path, factor):
    rounds = [0.1 * (1 + 0.3 * math.sin(n)) for n in range(40)]
    base, mixed = record(rounds=40), record(precision="mixed_float16", rounds=40, **INTERVAL)
    mixed = replace(mixed, speedup=1.5 * factor, speedup_low=0.01, speedup_high=99.0)
    saved(tmp_path, (base, [0.15] * 40), (mixed, rounds))
    (run,) = load_runs(tmp_path, pytest.fail)
    assert list(run.speed.values())[1].record.speedup == 1.5 * factor


def test_of_other_batches_it_is_the_time_per_image(tmp_path):
    base, mixed = record(rounds=12, batch_size=32), record(precision="mixed_float16", batch_size=64, **INTERVAL)
    saved(tmp_path, (base, [0.1] * 12), (replace(mixed, speedup=1.5), [0.2 / 1.5] * 12))
    (run,) = load_runs(tmp_path, pytest.fail)
    assert run.denied == ()


def test_a_ratio_to_another_way_is_checked_too(tmp_path):
    ratio = {"reference": "jit=off", "reference_ratio": 2.0, "reference_low": 1.9, "reference_high": 2.1}
    off, on = record("a", mode="jit=off"), record("a", "float32", "inference", mode="jit=on")
    path = saved(tmp_path, (off, [0.2] * 12), (replace(on, **ratio), [0.1] * 12))
    assert read_run(path).denied == ()  # another phase: what it refers to is not there
    content = json.loads(path.read_text())
    for benchmark, name in zip(content["benchmarks"], ("off", "on"), strict=True):
        benchmark["fullname"] = f"bench/test_training.py::test_training[a-float32-jit={name}]"
        benchmark["extra_info"]["phase"] = "training"
    path.write_text(json.dumps(content))
    assert read_run(path).denied == ()
    run = read_run(changed(path, 1, reference_ratio=3.0, reference_high=3.1))
    assert run.speed["bench/test_training.py::test_training[a-float32-jit=on]"].record.reference_ratio == 2.0
    assert "reference_ratio 3 is not what its rounds say: 2 [2, 2]" in run.denied[0]


def test_a_speedup_whose_baseline_is_not_in_the_file_cannot_be_asked(tmp_path):
    saved(tmp_path, cases(100, 500)[1])
    (run,) = load_runs(tmp_path, pytest.fail)
    assert next(iter(run.speed.values())).record.speedup == 0.2


def test_arms_of_two_tests_are_never_paired(tmp_path):
    path = saved(tmp_path, *cases(100, 50), *cases(100, 50, model="twin"))
    content = json.loads(path.read_text())
    for benchmark in content["benchmarks"][2:]:
        benchmark["fullname"] = f"own.py::test_own[{benchmark['fullname'].partition('[')[2]}"
        benchmark["extra_info"]["model"] = "vgg16"
        benchmark["stats"]["data"] = [10 * seconds for seconds in benchmark["stats"]["data"]]
    path.write_text(json.dumps(content))
    assert read_run(path).denied == ()


def test_arms_are_found_by_name_phase_and_precision(tmp_path):
    run = read_run(saved(tmp_path, *cases(150, 100), *cases(30, 20, phase="inference")))
    arms = Arms(run.speed.values())
    for base, mixed in (cases(150, 100), cases(30, 20, phase="inference")):
        assert arms.baseline_of(run.speed[fullname(mixed[0])]).fullname == fullname(base[0])
        assert arms.baseline_of(run.speed[fullname(base[0])]) is None


def test_images_per_second_are_those_of_the_rounds(tmp_path):
    run = read_run(changed(saved(tmp_path, *cases(200, 100, rounds=21)), 0, images_per_second=1e9))
    rates = [case.record.images_per_second for case in run.speed.values()]
    assert rates == pytest.approx([320, 640], rel=0.002)


HOSTILE = "a\x1b[2J\nGATE PASSED\u202e\ud800\ufffe<"


def test_no_text_of_a_run_steers_a_terminal_or_breaks_xml(tmp_path):
    path = saved(tmp_path, *cases(150, 100), (accuracy_record(), [0.1] * 5))
    content = json.loads(path.read_text())
    for benchmark in content["benchmarks"]:
        benchmark["fullname"] += HOSTILE
        benchmark["extra_info"] |= {"model": HOSTILE, "device_name": HOSTILE, "profile": HOSTILE}
    content["machine_info"]["mpbench"] |= {"tensorflow": HOSTILE, HOSTILE: HOSTILE, "nested": {"a": HOSTILE}}
    content["commit_info"] |= {"id": HOSTILE, "branch": HOSTILE}
    content["mpbench"] = {"command": HOSTILE}
    path.write_text(json.dumps(content))
    run = read_run(path)
    harmless = r"a\x1b[2J\nGATE PASSED\u202e\ud800\ufffe<"
    case, compared = next(iter(run.speed.values())), next(iter(run.accuracy.values()))
    assert {case.record.model, case.record.device_name, compared.record.model, run.commit, run.branch} == {harmless}
    assert (run.facts["tensorflow"], run.facts[harmless], "nested" in run.facts) == (harmless, harmless, False)
    assert all(name.isprintable() for name in (*run.speed, *run.accuracy))
    assert run.command.splitlines() == [r"a\x1b[2J", r"GATE PASSED\u202e\ud800\ufffe<"]
