"""Statistics of a comparison against sums by hand, brute force and simulation."""

import itertools
import re

import numpy as np
import pytest
from scipy import stats
from scipy.stats import t, ttest_rel

from wgf.runs.trainer.statistics import (
    COVERAGE,
    Interval,
    band,
    bootstrap,
    difference,
    episodes_to,
    holm,
    improvement,
    interval,
    iqm,
    resampled,
)


def test_iqm_of_five_values_drops_the_least_and_the_largest():
    assert iqm(np.array([7.0, -100.0, 4.0, 1e6, 1.0])) == pytest.approx((1 + 4 + 7) / 3)


@pytest.mark.parametrize(("n", "dropped"), [(1, 0), (3, 0), (4, 1), (7, 1), (8, 2), (12, 3)])
def test_iqm_drops_a_quarter_rounded_down_at_each_end(n, dropped):
    values = np.random.default_rng(n).normal(size=n)
    assert iqm(values) == pytest.approx(sum(sorted(values)[dropped : n - dropped]) / (n - 2 * dropped))


def test_iqm_of_curves_is_taken_point_by_point():
    curves = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(iqm(curves), [iqm(curves[:, i]) for i in range(3)])


def test_improvement_is_the_share_of_pairs_won():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 5, 7).astype(float), rng.integers(0, 5, 4).astype(float)
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(x, y)]
    assert improvement(x, y) == pytest.approx(sum(wins) / 28)
    assert improvement(x, y) + improvement(y, x) == pytest.approx(1.0)
    assert (improvement(x + 10, y), improvement(x, x), improvement(x - 10, y)) == (1.0, 0.5, 0.0)


def test_the_bootstrap_of_a_mean_has_the_percentiles_of_all_resamples():
    x = np.array([0.0, 1.0, 5.0, 6.0])
    every = sorted(np.mean(draw) for draw in itertools.product(x, repeat=4))
    found = bootstrap(lambda v: float(v.mean()), x, resamples=20_000)
    assert found.value == 3.0
    # the exact distribution has atoms 1/4 apart; 4 sigma of 20,000 draws around 2.5 % is 0.45 %
    low = np.percentile(every, [2.05, 2.95])
    high = np.percentile(every, [97.05, 97.95])
    assert low[0] <= found.low <= low[1]
    assert high[0] <= found.high <= high[1]


def test_the_bootstrap_covers_as_often_as_it_says():
    """Mean of 40 normals: 95 % less what the percentile bootstrap is known to lack, Student's 2.0227 against 1.96 at n - 1 in n."""
    rng, trials, n = np.random.default_rng(0), 400, 40
    hits = 0
    for _ in range(trials):
        found = bootstrap(lambda v: float(v.mean()), rng.normal(size=n), resamples=400)
        hits += found.low <= 0.0 <= found.high
    # normal quantile times the bootstrap's standard deviation, sqrt((n - 1) / n) of the usual one
    expected = 1 - 2 * t.sf(1.95996 * np.sqrt((n - 1) / n), n - 1)
    assert abs(hits / trials - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)


def test_of_five_seeds_95_percent_covers_84_of_a_mean_and_89_of_an_interquartile_mean():
    """Simulated: 600 means and 4,000 interquartile means of five normal numbers, and how often their interval holds the true 0."""
    rng = np.random.default_rng(5)
    found = [bootstrap(lambda v: float(v.mean()), sample, resamples=300) for sample in rng.normal(size=(600, 5))]
    mean = np.mean([interval.low <= 0.0 <= interval.high for interval in found])
    _, low, high = band(rng.normal(size=(5, 4000)))
    middle = ((low <= 0.0) & (high >= 0.0)).mean()
    told = [float(number) / 100 for number in re.findall(r"about (\d+) % \(mean\) to (\d+) %", COVERAGE)[0]]
    for share, expected, trials in zip((mean, middle), told, (600, 4000), strict=True):
        assert abs(share - expected) < 0.005 + 4 * np.sqrt(expected * (1 - expected) / trials)  # it is told to the nearest percent


def test_the_samples_of_two_agents_are_drawn_apart():
    x = np.arange(5.0)
    assert bootstrap(improvement, x, x).value == 0.5
    assert bootstrap(improvement, x, x).low < 0.3  # drawn together it would be 1/2 throughout


def test_a_single_run_has_an_interval_of_no_width():
    assert tuple(bootstrap(lambda v: float(v.mean()), np.array([3.0]))) == (3.0, 3.0, 3.0)


def test_the_band_holds_the_percentiles_at_each_point():
    curves = np.random.default_rng(2).normal(size=(6, 4)) * [1.0, 2.0, 3.0, 4.0]
    middle, low, high = band(curves, resamples=200)
    np.testing.assert_allclose(middle, iqm(curves))
    for i in range(4):
        one = bootstrap(lambda v: float(iqm(v)), curves[:, i], resamples=200)
        np.testing.assert_allclose([one.low, one.high], [low[i], high[i]])  # of the same resamples
    assert (low < middle).all()
    assert (middle < high).all()


def test_bands_and_intervals_are_those_of_scipys_bootstrap():
    curves, settings = np.random.default_rng(4).normal(size=(6, 4)), {"n_resamples": 2000, "method": "percentile"}
    found = stats.bootstrap((curves,), iqm, axis=0, rng=np.random.default_rng(0), **settings).confidence_interval
    np.testing.assert_allclose(band(curves)[1:], found, rtol=1e-12)
    each = stats.bootstrap((curves[:, 0],), np.median, vectorized=False, rng=np.random.default_rng(0), **settings).confidence_interval
    np.testing.assert_allclose(bootstrap(np.median, curves[:, 0])[1:], each, rtol=1e-12)


def test_the_same_runs_give_the_same_interval():
    x = np.random.default_rng(3).normal(size=5)
    assert interval(x) == interval(x)
    assert tuple(interval(x)) == tuple(part[1] for part in band(np.stack([x + 1.0, x], 1)))


def test_an_interval_reads_as_value_and_bounds():
    assert str(bootstrap(lambda v: float(v.mean()), np.array([1234.5]))) == "1,234 [1,234, 1,234]"


@pytest.mark.parametrize(
    ("returns", "threshold", "window", "episodes"),
    [
        ([0, 0, 10, 10, 10], 10.0, 2, 4),
        ([0, 0, 10, 10, 10], 5.0, 2, 3),
        ([10, 10], 10.0, 2, 2),
        ([10], 5.0, 2, np.inf),
        ([1, 2, 3, 4], 9.0, 2, np.inf),
        ([6, 0, 0, 6, 6, 6], 6.0, 3, 6),
    ],
)
def test_episodes_are_counted_until_the_moving_mean_reaches_the_threshold(returns, threshold, window, episodes):
    assert episodes_to(np.array(returns, dtype=float), threshold, window) == episodes


def test_the_window_is_ten_episodes():
    assert episodes_to(np.array([0.0] * 5 + [1.0] * 20), 1.0) == 15


def test_a_difference_of_means_is_welchs_and_its_ranks_are_counted_over_all_orders():
    x, y = np.array([3.0, 5.0, 8.0]), np.array([1.0, 2.0, 4.0, 2.5])
    found = difference(x, y)
    error = np.sqrt(x.var(ddof=1) / 3 + y.var(ddof=1) / 4)
    freedom = error**4 / ((x.var(ddof=1) / 3) ** 2 / 2 + (y.var(ddof=1) / 4) ** 2 / 3)
    assert found.interval.value == pytest.approx(x.mean() - y.mean())
    assert found.interval.high - found.interval.value == pytest.approx(t.ppf(0.975, freedom) * error)
    assert found.interval.value - found.interval.low == pytest.approx(t.ppf(0.975, freedom) * error)
    assert found.welch == pytest.approx(2.0 * t.sf((x.mean() - y.mean()) / error, freedom))
    both = np.concatenate([x, y])
    splits = [[i for i in range(7) if i not in chosen] for chosen in itertools.combinations(range(7), 3)]
    wins = np.array([(np.delete(both, rest)[:, None] > both[rest][None]).sum() for rest in splits])
    seen = (x[:, None] > y[None]).sum()
    assert found.ranks == pytest.approx(min(1.0, 2.0 * (wins >= seen).mean()))
    assert difference(y, x).interval.value == -found.interval.value
    with pytest.raises(ValueError, match="a difference of 1 and 4 runs has no interval; it takes at least two each"):
        difference(x[:1], y)


@pytest.mark.filterwarnings("error")
def test_samples_that_do_not_vary_differ_or_do_not():
    ones = np.ones(4)
    assert difference(ones, ones)[:2] == (Interval(0.0, 0.0, 0.0), 1.0)
    assert difference(3.0 * ones, ones)[:2] == (Interval(2.0, 2.0, 2.0), 0.0)
    half = difference(np.arange(4.0), ones)
    assert half.interval.value == 0.5
    assert half.interval.high - 0.5 == pytest.approx(t.ppf(0.975, 3) * np.arange(4.0).std(ddof=1) / 2.0)


def test_a_difference_over_splits_that_share_rows_has_the_corrected_variance():
    x, y = np.array([3.0, 5.0, 8.0, 4.0]), np.array([1.0, 4.0, 2.0, 2.5])
    plain = ttest_rel(x, y)
    found, p = resampled(x, y, 0.0)
    assert found.value == pytest.approx((x - y).mean())
    assert (found.low, found.high) == pytest.approx(tuple(plain.confidence_interval(0.95)))
    assert p == pytest.approx(plain.pvalue)
    wide, p = resampled(x, y, 0.75)  # 1/4 + 3/4: twice the error
    assert wide.high - wide.value == pytest.approx(2.0 * (found.high - found.value))
    assert wide.value - wide.low == pytest.approx(2.0 * (found.value - found.low))
    assert p == pytest.approx(2.0 * t.sf(plain.statistic / 2.0, 3))
    assert resampled(y, x, 0.75)[1] == pytest.approx(p)
    assert resampled(x, x, 0.1)[1] == 1.0
    assert resampled(x + 1.0, x, 0.1)[1] == 0.0


def test_holm_multiplies_the_least_p_by_their_number_and_never_falls():
    assert holm([0.03, 0.001, 0.02, 0.6]) == pytest.approx([0.06, 0.004, 0.06, 0.6])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
