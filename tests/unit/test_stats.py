"""Statistics against known values."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from lab.stats import Estimate, _student_quantile, mann_whitney, mean_ci, paired_ratio


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def test_mean_interval_holds_the_mean_and_is_the_same_each_time():
    values = [10.0, 11.0, 9.5, 10.5, 10.2]
    estimate = mean_ci(values)
    assert estimate.value == pytest.approx(fmean(values))
    low, high = bounds(estimate)
    assert min(values) <= low < estimate.value < high <= max(values)
    assert mean_ci(values) == estimate
    assert bounds(mean_ci(values, confidence=0.5))[1] < high


def test_mean_of_one_value_has_no_interval():
    estimate = mean_ci([5.0])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (5, None, None, 1)


def test_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        mean_ci([])


def test_mean_interval_of_five_is_not_as_narrow_as_the_plain_bootstrap():
    """Of 300 samples of 5 normal values 92% hold the mean; by plain percentiles 84% would."""
    draw = random.Random(3)
    samples = [[draw.gauss(100, 10) for _ in range(5)] for _ in range(300)]
    held = sum(low <= 100 <= high for low, high in map(bounds, map(mean_ci, samples)))
    assert 0.88 < held / 300 < 0.96


@pytest.mark.parametrize(
    ("df", "expected"), [(1, -12.706), (2, -4.303), (3, -3.182), (4, -2.776), (9, -2.262)]
)
def test_student_quantiles_are_those_of_the_tables(df, expected):
    assert _student_quantile(0.025, df) == pytest.approx(expected, abs=0.001)


def test_paired_ratio_is_the_median_of_the_pairs():
    """Drift that both of a pair share does not count."""
    without = [100.0, 200.0, 300.0, 400.0, 500.0]
    estimate = paired_ratio([0.96 * w for w in without], without)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.96, 0.96, 0.96))
    assert paired_ratio([1, 9, 2], [1, 3, 1]).value == 2


def test_paired_ratio_refuses_what_is_no_pair():
    with pytest.raises(ValueError, match="equal lengths"):
        paired_ratio([1], [1, 2])
    with pytest.raises(ValueError, match="positive divisors"):
        paired_ratio([1], [0])


@pytest.mark.parametrize(("n", "p"), [(3, 0.1), (4, 2 / 70), (5, 2 / 252)])
def test_mann_whitney_smallest_p(n, p):
    """The smallest p of n against n, as counted by hand."""
    result = mann_whitney(list(range(n)), list(range(10, 10 + n)))
    assert (result.u, result.exact) == (0, True)
    assert result.p == pytest.approx(p)


def test_mann_whitney_of_equal_samples_says_nothing():
    assert mann_whitney([1, 2, 3], [1, 2, 3]).p == 1
    assert mann_whitney([7] * 3, [7] * 4).p == 1


def test_mann_whitney_is_symmetric():
    a, b = [1, 4, 6, 8], [2, 3, 9, 10, 11]
    assert mann_whitney(a, b).p == pytest.approx(mann_whitney(b, a).p)


def test_mann_whitney_of_many_values_uses_the_normal_curve():
    """Close to the exact value where both can be had."""
    draw = random.Random(4)
    a = [draw.gauss(0, 1) for _ in range(12)]
    b = [draw.gauss(1, 1) for _ in range(12)]
    many = mann_whitney(a, b)
    assert not many.exact
    assert many.p == pytest.approx(mann_whitney(a[:9], b[:9]).p, abs=0.2)
    assert mann_whitney(list(range(12)), list(range(50, 62))).p < 1e-4


def test_mann_whitney_refuses_an_empty_sample():
    with pytest.raises(ValueError, match="a value in each sample"):
        mann_whitney([], [1])
