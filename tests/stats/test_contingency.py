"""Paired answers: against the thesis's table, statsmodels, simulation and each other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import contingency_tables

from mpbench.report import thesis
from mpbench.stats.contingency import (
    EXACT_BELOW,
    Contingency,
    _score,
    contingency,
    detectable_difference,
    difference_interval,
    equivalence_can_be_shown,
    equivalence_p,
    majority_p,
    mcnemar_chi2,
    mcnemar_exact,
    mcnemar_midp,
    mcnemar_power,
)

counts = st.integers(0, 300)
tables = st.builds(Contingency, counts, counts, counts, counts.map(lambda n: n + 1))


def swapped(table):
    return Contingency(table.both_right, table.second_only, table.first_only, table.both_wrong)


@pytest.mark.parametrize("model", thesis.CONTINGENCY)
def test_the_thesis_table_3(model):
    table = Contingency(*thesis.CONTINGENCY[model])
    assert table.n == 5000
    assert round(mcnemar_exact(table), 3) == thesis.MCNEMAR_P[model]


@pytest.mark.parametrize(
    ("model", "points", "low", "high"),
    [("vgg16", -0.14, -0.40, 0.12), ("inception_v3", 0.06, -0.14, 0.26), ("resnet152_v2", 0.04, -0.14, 0.22)],
)
def test_the_interval_is_near_the_wald_interval_where_that_is_good(model, points, low, high):
    interval = difference_interval(Contingency(*thesis.CONTINGENCY[model]))
    assert 100 * interval.estimate == pytest.approx(points, abs=0.005)
    assert 100 * interval.low == pytest.approx(low, abs=0.025)
    assert 100 * interval.high == pytest.approx(high, abs=0.025)


def test_no_discordant_image_is_no_difference():
    table = Contingency(90, 0, 0, 10)
    assert mcnemar_exact(table) == mcnemar_midp(table) == mcnemar_chi2(table) == 1
    interval = difference_interval(table)
    z2 = stats.norm.ppf(0.975) ** 2
    assert interval.high == pytest.approx(z2 / (100 + z2))
    assert interval.low == -interval.high


@given(tables)
def test_statsmodels_agrees(table):
    square = [[table.both_right, table.first_only], [table.second_only, table.both_wrong]]
    exact = contingency_tables.mcnemar(square, exact=True).pvalue
    assert mcnemar_exact(table) == pytest.approx(exact, rel=1e-9, abs=1e-300)
    if table.discordant:
        corrected = contingency_tables.mcnemar(square, exact=False, correction=True).pvalue
        assert mcnemar_chi2(table) == pytest.approx(corrected, rel=1e-9, abs=1e-300)
        observed = stats.binom.pmf(table.first_only, table.discordant, 0.5)
        assert mcnemar_midp(table) == pytest.approx(
            2 * stats.binom.cdf(min(table.first_only, table.second_only), table.discordant, 0.5) - observed, rel=1e-6
        )


@given(tables)
def test_either_model_may_be_the_first(table):
    there, back = difference_interval(table), difference_interval(swapped(table))
    assert there.estimate == -back.estimate
    assert there.low == pytest.approx(-back.high, abs=1e-9)
    assert -1 <= there.low <= there.estimate <= there.high <= 1
    for p in (mcnemar_exact, mcnemar_midp, mcnemar_chi2):
        assert p(table) == p(swapped(table))
        assert 0 <= p(table) <= 1
    assert equivalence_p(table, 0.02) == pytest.approx(equivalence_p(swapped(table), 0.02))


@given(tables, st.floats(0.001, 0.3))
def test_equivalence_is_a_90_percent_interval_inside_the_margin(table, margin):
    inner = difference_interval(table, confidence=0.9)
    if table.discordant >= EXACT_BELOW and min(abs(inner.low + margin), abs(inner.high - margin)) > 1e-6:
        assert (equivalence_p(table, margin) <= 0.05) == (-margin < inner.low and inner.high < margin)


def test_identical_answers_show_equivalence_when_chance_would_not():
    # All n agree with probability 0.99^n where one answer in a hundred differs.
    assert [equivalence_can_be_shown(n, 0.01, 0.05) for n in (268, 298, 299)] == [False, False, True]
    for n in (20, 268, 299, 5000):
        assert equivalence_p(Contingency(n, 0, 0, 0), 0.01) == pytest.approx(0.99**n)


@pytest.mark.parametrize("counts", [(20, 0, 0, 4), (10, 1, 2, 8), (5, 4, 1, 20), (12, 0, 5, 3), (0, 6, 6, 9)])
@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_with_few_discordant_images_it_is_exact(counts, margin):
    """Every table of so many images, by the multinomial distribution."""
    table = Contingency(*counts)
    n = table.n
    tables = [(x, y) for x in range(n + 1) for y in range(n + 1 - x)]
    scores = {(x, y): _score(Contingency(n - x - y, y, x, 0), -margin) for x, y in tables}

    def worst(x, y):
        a, b = np.array([one for one in tables if scores[one] >= scores[x, y] - 1e-9]).T
        shares = np.linspace(0, (1 - margin) / 2, 400)
        return max(
            stats.multinomial.pmf(np.stack([a, b, n - a - b], 1), n, [q, q + margin, 1 - 2 * q - margin]).sum()
            for q in shares
        )

    p = max(worst(table.second_only, table.first_only), worst(table.first_only, table.second_only))
    assert equivalence_p(table, margin) == pytest.approx(p, rel=0.02)


def test_the_exact_test_keeps_its_level():
    for n, margin in ((60, 0.05), (300, 0.01), (100, 0.1)):
        rng = np.random.default_rng(n)
        for second_only in (0.0, 0.01, 0.05):
            drawn = rng.multinomial(n, [0.5 - margin - 2 * second_only, margin + second_only, second_only, 0.5], 400)
            shown = sum(equivalence_p(Contingency(*map(int, counts)), margin) <= 0.05 for counts in drawn)
            assert shown <= 0.05 * 400 + 3 * math.sqrt(0.05 * 400)


def test_the_score_at_no_difference_is_mcnemars_uncorrected_statistic():
    # Where the interval's limit is 0, chi-squared without correction is at its critical value.
    table = Contingency(500, 40, 22, 100)
    z = abs(40 - 22) / math.sqrt(62)
    confidence = 1 - 2 * stats.norm.sf(z)
    assert difference_interval(table, confidence).high == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("first_only", "second_only"), [(0.02, 0.02), (0.10, 0.03), (0.0, 0.01), (0.2, 0.1)])
def test_the_interval_covers_the_truth(first_only, second_only):
    rng = np.random.default_rng(0)
    shares = [0.6, first_only, second_only, 0.4 - first_only - second_only]
    tables, times = np.unique(rng.multinomial(200, shares, size=3000), axis=0, return_counts=True)
    intervals = [difference_interval(Contingency(*map(int, table))) for table in tables]
    inside = [i.low <= second_only - first_only <= i.high for i in intervals]
    # 3,000 draws are sure to +-0.8 percentage points.
    assert np.average(inside, weights=times) > 0.94


def test_power_is_how_often_a_simulated_sample_is_rejected():
    n, share, difference = 400, 0.08, 0.045
    rng = np.random.default_rng(1)
    both = (share + difference) / 2, (share - difference) / 2
    drawn = rng.multinomial(n, [*both, 1 - share], size=4000)
    rejected = [mcnemar_exact(Contingency(0, int(b), int(c), int(rest))) <= 0.05 for b, c, rest in drawn]
    assert mcnemar_power(n, share, difference, 0.05) == pytest.approx(np.mean(rejected), abs=0.025)


def test_power_without_a_difference_is_below_alpha():
    assert 0 < mcnemar_power(1000, 0.1, 0.0, 0.05) < 0.05
    assert mcnemar_power(1000, 0.0, 0.0, 0.05) == 0


@given(st.integers(30, 3000), st.floats(0, 0.5), st.sampled_from([0.01, 0.05]))
def test_the_detectable_difference_is_found_with_that_power(n, share, alpha):
    found = detectable_difference(n, round(n * share), alpha)
    assert 0 < found <= 1
    assert mcnemar_power(n, round(n * share) / n, found, alpha) == pytest.approx(0.8, abs=0.01)


def test_the_detectable_difference_agrees_with_connors_formula():
    # Connor 1987, Biometrics 43:207-211, for the uncorrected chi-squared test, which is less conservative.
    n, discordant = 5000, 400
    d = detectable_difference(n, discordant, 0.05)
    share = discordant / n
    needed = (1.959964 * math.sqrt(share) + 0.841621 * math.sqrt(share - d**2)) ** 2 / d**2
    assert needed == pytest.approx(n, rel=0.07)


def test_an_alpha_that_rejects_nearly_everything_detects_anything():
    assert detectable_difference(200, 93, 0.99) == 0


def test_a_sample_too_small_to_reject_anything_detects_nothing():
    assert detectable_difference(5, 1, 0.05) == math.inf


def test_beating_the_majority_class():
    assert majority_p(120, 200, 0.5) == pytest.approx(stats.binomtest(120, 200, 0.5, "greater").pvalue)
    assert majority_p(0, 200, 0.5) == 1
    assert majority_p(200, 200, 0.9) == pytest.approx(0.9**200)
    assert majority_p(180, 200, 0.9) > 0.05


def test_answers_are_paired_image_by_image():
    table = contingency([0, 1, 1, 0, 2], [0, 1, 0, 1, 2], [0, 0, 1, 1, 2])
    assert table == Contingency(2, 1, 1, 1)
    assert (table.n, table.discordant) == (5, 2)
    assert table.first_accuracy == table.second_accuracy == 3 / 5


def test_what_is_not_a_table():
    with pytest.raises(ValueError, match="one shape"):
        contingency([0, 1], [0, 1], [0])
    with pytest.raises(ValueError, match="at least one image"):
        contingency([], [], [])
    with pytest.raises(ValueError, match="0 or more"):
        Contingency(1, -1, 0, 0)
    with pytest.raises(ValueError, match="margin"):
        equivalence_p(Contingency(1, 1, 1, 1), 0)
