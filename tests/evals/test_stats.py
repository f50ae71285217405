"""Every statistic against scipy, statsmodels or a worked example; intervals keep their word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm, t, ttest_rel
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportion_confint

from evals.stats import (
    Interval,
    PairedTest,
    design_effect,
    holm,
    lower_bound,
    mean_interval,
    paired_test,
    upper_bound,
    wilson,
)

scores = st.lists(
    st.floats(0, 1, allow_subnormal=False).map(lambda x: round(x, 4)), min_size=1, max_size=40
)


@pytest.mark.parametrize(("k", "n"), [(0, 20), (1, 20), (7, 50), (299, 300), (300, 300), (0, 1)])
def test_wilson_is_statsmodels(k: int, n: int) -> None:
    lo, hi = proportion_confint(k, n, method="wilson")
    found = wilson(k, n)
    assert (found.lo, found.hi) == pytest.approx((lo, hi), abs=1e-12)
    assert (found.mean, found.n) == (k / n, n)


def test_wilson_worked_example() -> None:
    """Newcombe, Two-sided confidence intervals for the single proportion, Stat. Med. 17 (1998),
    table I, method 3: 81/263 gives 0.2553 to 0.3662, 15/148 0.0624 to 0.1605, 0/20 0 to 0.1611."""
    for k, n, lo, hi in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)]:
        found = wilson(k, n)
        assert (found.lo, found.hi) == pytest.approx((lo, hi), abs=5e-5)


def test_no_items_tell_nothing() -> None:
    for found in (wilson(0, 0), mean_interval([])):
        assert (found.lo, found.hi, found.n) == (0.0, 1.0, 0)


@pytest.mark.parametrize("n", [50, 200])
def test_wilson_covers_between_94_and_96_5_percent(n: int) -> None:
    """Exact coverage by the binomial distribution, p = 0.05, 0.10 … 0.95."""
    k = np.arange(n + 1)
    bounds = [wilson(int(successes), n) for successes in k]
    lo, hi = np.array([b.lo for b in bounds]), np.array([b.hi for b in bounds])
    truths = np.arange(1, 20) / 20
    coverage = [binom.pmf(k, n, p)[(lo <= p) & (p <= hi)].sum() for p in truths]
    assert 0.94 <= np.mean(coverage) <= 0.965
    assert min(coverage) >= 0.92


@given(st.integers(1, 400), st.data())
@settings(max_examples=30, deadline=None)
def test_graded_scores_of_nothing_but_0_and_1_give_wilson(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    assert mean_interval([1.0] * k + [0.0] * (n - k)) == wilson(k, n)


def test_graded_interval_meets_wilson_in_the_limit() -> None:
    """Scores a hair away from 0 take the general path, and end up where Wilson's formula does."""
    found, limit = mean_interval([1.0] * 30 + [1e-7] * 20), wilson(30, 50)
    assert (found.lo, found.hi) == pytest.approx((limit.lo, limit.hi), abs=1e-5)


def test_graded_interval_worked_example() -> None:
    """50 scores of 0.5: below the mean m the likeliest distribution has mass at 0 and 0.5 alone, so
    v(m) = m (0.5 - m), and n (0.5 - m)^2 = z^2 v gives m = 0.5 / (1 + z^2 / n)."""
    found = mean_interval([0.5] * 50)
    assert found.lo == pytest.approx(0.5 / (1 + 1.959964**2 / 50), abs=1e-6)
    assert found.hi == pytest.approx(1 - found.lo, abs=1e-9)


@pytest.mark.parametrize("value", [1e-12, 1e-9, 1e-6, 0.5, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12])
@pytest.mark.parametrize("n", [1, 3, 5000])
def test_graded_interval_holds_at_the_very_ends(value: float, n: int) -> None:
    found = mean_interval([value] * n)
    assert 0 <= found.lo < found.hi <= 1
    assert found.lo <= found.mean <= found.hi


@given(scores)
@settings(max_examples=100, deadline=None)
def test_graded_interval_has_width_and_holds_the_mean(values: list[float]) -> None:
    found = mean_interval(values)
    assert 0 <= found.lo <= found.mean <= found.hi <= 1
    assert found.lo < found.hi
    assert found.mean == pytest.approx(np.mean(values))


@given(scores)
@settings(max_examples=50, deadline=None)
def test_graded_interval_mirrors(values: list[float]) -> None:
    found, mirrored = mean_interval(values), mean_interval([1 - value for value in values])
    assert (found.lo, found.hi) == pytest.approx((1 - mirrored.hi, 1 - mirrored.lo), abs=1e-6)


@pytest.mark.parametrize("p", [0.03, 0.1, 0.5])
def test_graded_interval_covers_two_grades_as_wilson_does(p: float) -> None:
    """Exact coverage of the mean of 50 scores that are 0 with chance p, else 0.9 (where the usual t
    interval covers 78 % at p = 0.03)."""
    k = np.arange(51)
    graded = [mean_interval([0.0] * i + [0.9] * (50 - i)) for i in k]
    covered = [found.lo <= 0.9 * (1 - p) <= found.hi for found in graded]
    lo, hi = proportion_confint(k, 50, method="wilson")
    assert covered == ((lo <= p) & (p <= hi)).tolist()


@pytest.mark.parametrize(
    "chances", [[0.3, 0.3, 0.3, 0.08, 0.02], [0.01, 0.01, 0.02, 0.01, 0.95]], ids=["low", "high"]
)
def test_graded_interval_covers_five_grades(chances: list[float]) -> None:
    """2,000 simulated runs of 50 skewed scores; two standard errors are 0.01."""
    grades = np.array([0.0, 0.05, 0.1, 0.2, 1.0])
    tables = np.random.default_rng(5).multinomial(50, chances, 2000)
    distinct, times = np.unique(tables, axis=0, return_counts=True)
    chosen = np.random.default_rng(6).permutation(len(distinct))[:300]
    runs = [mean_interval(np.repeat(grades, table).tolist()) for table in distinct[chosen]]
    truth = float(grades @ chances)
    covered = np.array([run.lo <= truth <= run.hi for run in runs])
    assert (covered * times[chosen]).sum() / times[chosen].sum() >= 0.92


@given(st.integers(1, 1500), st.data())
@settings(max_examples=60, deadline=None)
def test_bounds_are_clopper_pearson_on_right_and_wrong(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    values = [1.0] * k + [0.0] * (n - k)
    lower = beta.ppf(0.05, k, n - k + 1) if k else 0.0
    upper = beta.ppf(0.95, k + 1, n - k) if k < n else 1.0
    assert lower_bound(values, 0.0) == pytest.approx(lower, abs=1e-7)
    assert upper_bound(values, 1.0) == pytest.approx(upper, abs=1e-7)


def test_clopper_pearson_worked_example() -> None:
    """The rule of three, exactly: 59 of 59 right leaves at least 0.05 ** (1 / 59) = 0.9505."""
    assert lower_bound([1.0] * 59, 0.0) == pytest.approx(0.05 ** (1 / 59), abs=1e-9)


@pytest.mark.parametrize("size", [1, 3, 60])
def test_bound_is_the_quantile_of_dirichlet_weighted_means(size: int) -> None:
    """The definition, simulated: 400,000 draws of Dirichlet(1, …, 1) weights."""
    rng = np.random.default_rng(3)
    values = rng.choice([-0.95, -0.2, 0.05, 0.3, 1.0], size)
    draws = rng.dirichlet(np.ones(size + 1), 400_000) @ np.append(values, -0.95)
    assert lower_bound(values.tolist(), -0.95) == pytest.approx(np.quantile(draws, 0.05), abs=3e-3)


@given(st.lists(st.floats(-0.95, 1).map(lambda x: round(x, 3)), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_bounds_stand_around_the_mean_with_width(values: list[float]) -> None:
    lower, upper = lower_bound(values, -0.95), upper_bound(values, 1.0)
    assert -0.95 <= lower <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= upper <= 1.0
    assert lower < upper


def test_bound_refuses_items_below_its_floor() -> None:
    with pytest.raises(ValueError, match="below the floor"):
        lower_bound([-0.1, 0.5], 0.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80))
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_statsmodels(pairs: list[tuple[bool, bool]]) -> None:
    table = np.zeros((2, 2))
    for first, second in pairs:
        table[int(first), int(second)] += 1
    found = paired_test([float(a) for a, _ in pairs], [float(b) for _, b in pairs])
    assert found.p_value == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
    assert (found.better, found.worse) == (table[1, 0], table[0, 1])
    assert found.same == table[0, 0] + table[1, 1]


def test_mcnemar_worked_example() -> None:
    """8 discordant pairs, all one way: two-sided p = 2 / 2^8 (Agresti, Categorical Data Analysis,
    section 10.1: the discordant pairs are binomial with 1/2)."""
    assert paired_test([1.0] * 8 + [1.0], [0.0] * 8 + [1.0]).p_value == pytest.approx(2 / 256)


def test_graded_scores_are_permuted() -> None:
    """Signs of three gaps .3, .2, .1: of 8 ways to draw them, 2 give a mean at least as far from 0 as all
    alike.
    """
    found = paired_test([0.5, 0.4, 0.3, 0.0], [0.2, 0.2, 0.2, 0.0])
    assert (found.better, found.worse, found.same, found.method) == (3, 0, 1, "permutation")
    assert found.p_value == pytest.approx(2 / 8)
    assert paired_test([0.5], [0.5]).p_value == 1.0
    assert paired_test([0.5, 0.5], [0.4, 0.5]).p_value == 1.0


def test_permutation_nears_the_t_test_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    first = rng.beta(2, 2, 200)
    second = np.clip(first - 0.02 + rng.normal(0, 0.15, 200), 0, 1)
    found = paired_test(first.tolist(), second.tolist())
    assert found.p_value == pytest.approx(ttest_rel(first, second).pvalue, abs=0.02)
    assert found == paired_test(first.tolist(), second.tolist())


def test_holm_worked_example() -> None:
    """Holm, A simple sequentially rejective multiple test procedure, 1979: of four p-values .01, .04, .03, .005
    the least is times 4, the next times 3, and so on, and none is below one before it."""
    tests = [PairedTest(0, 0, 0, p, p, "McNemar") for p in (0.01, 0.04, 0.03, 0.005)]
    assert [each.adjusted for each in holm(tests)] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [each.p_value for each in holm(tests)] == [0.01, 0.04, 0.03, 0.005]
    assert holm([]) == []


def test_items_on_their_own_are_worth_one_each() -> None:
    scores = [1.0] * 7 + [0.0] * 3
    alone = [str(number) for number in range(10)]
    assert mean_interval(scores, clusters=alone) == mean_interval(scores)
    assert lower_bound(scores, 0, clusters=alone) == lower_bound(scores, 0)
    assert paired_test(scores, scores[::-1], alone) == paired_test(scores, scores[::-1])


def test_clusters_whose_items_agree_are_worth_one_item_each() -> None:
    """Kish's 1 + (10 - 1) x 1 and Korn and Graubard's (t_39 / z)^2, by hand: 40 clusters of ten."""
    clusters = [str(number // 10) for number in range(400)]
    scores = [float(number // 10 % 4 > 0) for number in range(400)]
    few = (t.ppf(0.975, 39) / norm.ppf(0.975)) ** 2
    assert design_effect(scores, clusters, 0.975) == pytest.approx(10 * few)
    worth = 40 / few
    exact = proportion_confint(0.75 * worth, worth, method="wilson")
    found = mean_interval(scores, clusters=clusters)
    assert (found.lo, found.hi) == pytest.approx(exact)
    assert found.n == 400


def test_design_effect_worked_example() -> None:
    """Clusters (1, 1, 0) and (0, 0, 0), (1, 0, 0): means 2/3, 0, 1/3; between 2/3 + 0.3 over 2, inside 4/3 over
    6, so ICC = (0.4833 - 0.2222) / (0.4833 + 2 x 0.2222)."""
    scores, clusters = [1.0, 1, 0, 0, 0, 0, 1, 0, 0], list("aaabbbccc")
    few = (t.ppf(0.95, 2) / norm.ppf(0.95)) ** 2
    alike = (29 / 60 - 2 / 9) / (29 / 60 + 4 / 9)
    assert design_effect(scores, clusters, 0.95) == pytest.approx((1 + 2 * alike) * few)


def test_one_cluster_tells_nothing() -> None:
    assert mean_interval([1.0] * 50, clusters=["a"] * 50) == Interval(1, 0, 1, 50)
    assert lower_bound([1.0] * 50, -0.95, clusters=["a"] * 50) == -0.95


def test_clustered_pairs_are_counted_as_items() -> None:
    found = paired_test([1.0] * 6 + [0.0] * 2, [1.0] * 5 + [0.0] * 3, list("aabbccdd"))
    assert (found.better, found.worse, found.same) == (1, 0, 7)


def test_two_clusters_bound_nothing() -> None:
    assert lower_bound([1.0] * 5, -0.95, clusters=list("aabbb")) == -0.95


def test_clusters_change_sides_together() -> None:
    """Five clusters of four items, all better: 2 of the 2^5 ways to exchange them are as far apart."""
    first, second = [1.0] * 20, [0.0] * 20
    clusters = [str(number // 4) for number in range(20)]
    found = paired_test(first, second, clusters)
    assert (found.better, found.method) == (20, "permutation")
    assert found.p_value == pytest.approx(2 / 32)


@pytest.mark.parametrize("alike", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("p", [0.5, 0.9])
def test_clustered_intervals_cover(p: float, alike: float) -> None:
    """Clusters of 1 to 19 items, of a beta distribution with that intraclass correlation."""
    rng, inside, runs = np.random.default_rng(5), 0, 300
    for _ in range(runs):
        worth = (1 - alike) / alike
        chances = rng.beta(p * worth, (1 - p) * worth, 40)
        of = np.repeat(np.arange(40), rng.integers(1, 20, 40))
        scores = (rng.random(len(of)) < chances[of]).astype(float)
        found = mean_interval(scores.tolist(), clusters=[str(c) for c in of])
        inside += found.lo <= p <= found.hi
    assert inside / runs > 0.95 - 3 * (0.95 * 0.05 / runs) ** 0.5
