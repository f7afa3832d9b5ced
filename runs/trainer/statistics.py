"""Statistics of runs: interquartile mean, intervals, differences and tests of them, probability of improvement, episodes to a threshold."""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, trim_mean, ttest_ind
from scipy.stats import t as student

__all__ = [
    "COVERAGE", "TESTS", "Difference", "Interval", "Values", "band", "bootstrap", "difference", "episodes_to", "holm", "improvement",
    "interval", "iqm", "resampled",
]  # fmt: skip

Values = NDArray[np.float64]

# A bootstrap resamples the few seeds that there are, and so takes the spread between seeds for smaller than it is.
COVERAGE = "With five seeds, a 95 % bootstrap interval covers about 84 % (mean) to 89 % (interquartile mean) of the time."
TESTS = (
    "Differences of means have Welch's t-interval, which covers 95 % with few seeds too if returns are about normal. "
    "p: Welch's test, and Mann and Whitney's exact one on ranks; of several agents, both by Holm."
)


class Interval(NamedTuple):
    """A statistic with its 95 % bootstrap interval. **Limits** Over few runs it covers less than 95 %: see COVERAGE."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:,.4g} [{self.low:,.4g}, {self.high:,.4g}]"


def iqm(values: Values, axis: int = 0) -> Values:
    """Returns the interquartile mean over an axis: the mean without the lowest and the highest quarter, each rounded down."""
    return np.asarray(trim_mean(values, 0.25, axis=axis))


def bootstrap(statistic: Callable[..., float], *samples: Values, resamples: int = 2000) -> Interval:
    """Returns ``statistic(*samples)`` and its 2.5 and 97.5 percentiles over resamples of each sample (runs,), with replacement."""
    draw = np.random.default_rng(0)
    values = [statistic(*(x[draw.integers(0, len(x), len(x))] for x in samples)) for _ in range(resamples)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(statistic(*samples)), float(low), float(high))


def improvement(x: Values, y: Values) -> float:
    """Returns P(X > Y) + P(X = Y) / 2 over all pairs of runs: 1/2 where neither is better."""
    return float(((x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])).mean())


def band(curves: Values, resamples: int = 2000) -> tuple[Values, Values, Values]:
    """Returns the IQM of curves (runs, points) at each point, and the ends of its 95 % bootstrap band: three arrays (points,)."""
    picks = np.random.default_rng(0).integers(0, len(curves), (resamples, len(curves)))
    middles = np.concatenate([iqm(curves[part], 1) for part in np.array_split(picks, 20)])  # a twentieth at a time, for the memory
    low, high = np.percentile(middles, [2.5, 97.5], axis=0)
    return iqm(curves), low, high


def interval(values: Values) -> Interval:
    """Returns the IQM of values (runs,) with its 95 % bootstrap interval: the band of curves of one point."""
    return Interval(*(float(part[0]) for part in band(values[:, None])))


def episodes_to(returns: Values, threshold: float, window: int = 10) -> float:
    """Counts episodes until the mean of the last ``window`` training returns reaches ``threshold``; inf where it never does."""
    if len(returns) < window:
        return np.inf
    means = np.convolve(returns, np.ones(window), mode="valid") / window
    above = np.flatnonzero(means >= threshold)
    return float(above[0] + window) if len(above) else np.inf


class Difference(NamedTuple):
    """How much larger the mean of one sample is than that of another: with its 95 % interval, and two p-values of no difference."""

    interval: Interval
    welch: float
    ranks: float


def difference(x: Values, y: Values) -> Difference:
    """Returns mean(x) - mean(y) of independent runs (n,) and (m,), at least two each.

    Interval and ``welch``: Welch's t, variances that may differ. ``ranks``: Mann and Whitney's test, exact without ties: with five
    runs each it can say no less than 2 / 252 = 0.008. **Limits** Where neither sample varies, Welch's p is 1 or 0. **Raises** ValueError
    for fewer than two runs.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a difference of {len(x)} and {len(y)} runs has no interval; it takes at least two each")
    gap = float(x.mean() - y.mean())
    if np.ptp(x) == np.ptp(y) == 0.0:
        low, high, welch = gap, gap, float(gap == 0.0)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it remarks on a sample that does not vary
            found = ttest_ind(x, y, equal_var=False)
        (low, high), welch = found.confidence_interval(0.95), float(found.pvalue)
    method = "exact" if len({*x.tolist(), *y.tolist()}) == len(x) + len(y) else "auto"
    ranks = mannwhitneyu(x, y, alternative="two-sided", method=method).pvalue
    return Difference(Interval(gap, float(low), float(high)), welch, float(ranks))


def resampled(x: Values, y: Values, ratio: float) -> tuple[Interval, float]:
    """Returns mean(x - y) of two methods on the same n >= 2 random splits of one set, with its 95 % interval and its p-value.

    Splits share rows, so that the plain paired test takes chance for a difference too often. The variance of the mean difference is
    (1/n + ``ratio``) s^2, ratio the number of test rows over that of train rows, and its law Student's of n - 1.
    **Source** Nadeau & Bengio 2003, the corrected resampled t-test. **Limits** ratio = 0 is the paired test.
    """
    gap = x - y
    error = np.sqrt((1.0 / len(gap) + ratio) * gap.var(ddof=1))
    half, mean = student.ppf(0.975, len(gap) - 1) * error, float(gap.mean())
    p = 2.0 * student.sf(abs(mean) / error, len(gap) - 1) if error else float(mean == 0.0)
    return Interval(mean, mean - half, mean + half), float(p)


def holm(p: Sequence[float]) -> list[float]:
    """Returns p-values that hold for all comparisons of a table together: sorted, times n, n - 1, ... 1, each no less than those before.

    **Source** Holm 1979. All those below 0.05 are differences, with at most 5 % chance that any of them is none.
    """
    order, found, largest = np.argsort(p), [0.0] * len(p), 0.0
    for k, i in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(p) - k) * p[i]))
        found[i] = largest
    return found
