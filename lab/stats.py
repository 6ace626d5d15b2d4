"""Statistics over repetitions: pure functions, seeded where they draw.

For a geometric mean take statistics.geometric_mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

RESAMPLES = 10_000
#: Up to so many divisions of the pooled values Mann-Whitney's p is counted out (10 against 10).
MAX_EXACT = 200_000


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval; no interval (None) for fewer than 2 repetitions."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """Mann-Whitney's U of the first sample and its two-sided p; `exact` or by normal curve."""

    u: float
    p: float
    exact: bool


def mean_ci(values: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate the mean by bootstrap over repetitions; ValueError without values.

    The interval lies within the values, whose range holds the true mean less often than asked where
    they are few: of normal values and 95%, 3 repetitions hold it 75% of the time, 4 87%, 5 92%, 7
    94%, 10 95% (simulated).
    """
    return _bootstrap(np.asarray(values, dtype=float), _row_means, confidence, seed)


def paired_ratio(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate the median of a[i] / b[i] by bootstrap over the pairs (interleaved measurements).

    Raises ValueError where lengths differ, nothing is given, or a divisor is not positive.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, not {len(a)} and {len(b)}")
    if any(divisor <= 0 for divisor in b):
        raise ValueError("a ratio needs positive divisors")
    ratios = np.asarray(a, dtype=float) / np.asarray(b, dtype=float)
    return _bootstrap(ratios, _row_medians, confidence, seed)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Test whether one sample tends to larger values; ties count half.

    The p is exact, by counting all divisions of the pooled values, where there are at most
    MAX_EXACT; else it comes from the normal curve, corrected for ties. Raises ValueError for an
    empty sample.
    """
    if not a or not b:
        raise ValueError("Mann-Whitney needs a value in each sample")
    ranks = _mid_ranks([*a, *b])
    least = len(a) * (len(a) + 1) / 2
    u = sum(ranks[: len(a)]) - least
    if math.comb(len(ranks), len(a)) > MAX_EXACT:
        return Comparison(u, _normal_p(u, len(a), len(b), ranks), exact=False)
    middle = len(a) * len(b) / 2
    distance = abs(u - middle) - 1e-9
    sums = [sum(chosen) - least for chosen in combinations(ranks, len(a))]
    as_far = sum(abs(other - middle) >= distance for other in sums)
    return Comparison(u, as_far / len(sums), exact=True)


def _bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], confidence: float, seed: int
) -> Estimate:
    n = len(values)
    if n == 0:
        raise ValueError("no values to estimate from")
    value = float(statistic(values[np.newaxis, :])[0])
    if n < 2:
        return Estimate(value, None, None, n)
    draws = np.random.default_rng(seed).integers(0, n, size=(RESAMPLES, n))
    tail = _expanded_tail((1 - confidence) / 2, n)
    low, high = np.quantile(statistic(values[draws]), [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n)


def _row_means(rows: np.ndarray) -> np.ndarray:
    return np.mean(rows, axis=1)


def _row_medians(rows: np.ndarray) -> np.ndarray:
    return np.median(rows, axis=1)


def _expanded_tail(tail: float, n: int) -> float:
    """Give the tail to cut off so that a small sample's interval is not too narrow.

    The plain percentile interval of 5 values holds the mean 84% of the time instead of 95%.
    Expanded percentile interval: Hesterberg, "What Teachers Should Know About the Bootstrap", The
    American Statistician 69(4), 2015, section 4.2.
    """
    expanded = math.sqrt(n / (n - 1)) * -_student_quantile(tail, n - 1)
    return NormalDist().cdf(-expanded)


def _student_quantile(p: float, df: int) -> float:
    """Give Student's t below which lies the share p < 0.5, by bisection."""
    low, high = -1e4, 0.0
    for _ in range(100):
        middle = (low + high) / 2
        if _student_tail(-middle, df) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_tail(t: float, df: int) -> float:
    """Give the share of Student's t above t >= 0: Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term = cosine if odd else 1.0
    total = term if df > 1 else 0.0
    for k in range(3 if odd else 2, df, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    inside = (2 / math.pi) * (angle + sine * total) if odd else sine * total
    return (1 - inside) / 2


def _mid_ranks(values: list[float]) -> list[float]:
    """Rank from 1; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [ordered.index(v) + (ordered.count(v) + 1) / 2 for v in values]


def _normal_p(u: float, n_a: int, n_b: int, ranks: list[float]) -> float:
    n = n_a + n_b
    ties = sum(count**3 - count for count in (ranks.count(rank) for rank in set(ranks)))
    variance = n_a * n_b / 12 * (n + 1 - ties / (n * (n - 1)))
    if variance <= 0:
        return 1.0
    z = (abs(u - n_a * n_b / 2) - 0.5) / math.sqrt(variance)
    return min(1.0, 2 * (1 - NormalDist().cdf(z)))
