"""Standard errors over windows: by hand, and against how much estimates really vary from sample to sample."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from qwen35_local.engine.estimate import Estimate, exponential, mean, quantile, ratio

N_WINDOWS, LENGTH, SAMPLES = 24, 40, 400


def samples(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[samples, tokens] whose windows differ by as much as the tokens in one do, and the tokens' windows."""
    random = np.random.default_rng(seed)
    own = random.normal(size=(SAMPLES, N_WINDOWS, 1))
    tokens = np.exp((own + random.normal(size=(SAMPLES, N_WINDOWS, LENGTH))) / 2)
    return tokens.reshape(SAMPLES, -1), np.arange(N_WINDOWS).repeat(LENGTH)


def error(of: Estimate | None) -> float:
    assert of is not None and of.error is not None
    return of.error


def test_a_mean_over_equal_windows_varies_as_the_means_of_windows_do() -> None:
    values, window = np.array([1.0, 3, 4, 8, 0, 2]), np.array([5, 5, 6, 6, 7, 7])
    found = mean(values, window)
    assert found.value == 3
    assert error(found) == pytest.approx(np.std([2, 6, 1], ddof=1) / math.sqrt(3))


def test_windows_of_unequal_size_by_hand() -> None:
    """Sums less the mean of 2 times the count: 4 - 6, 5 - 2 and 3 - 4; their squares add up to 14."""
    found = mean([1.0, 1, 2, 5, 1, 2], np.array([0, 0, 0, 1, 2, 2]))
    assert found.value == 2
    assert error(found) == pytest.approx(math.sqrt(14 * 3 / 2) / 6)


def test_a_ratio_of_sums_by_hand() -> None:
    """Sums 4, 9 and 3, 3: 13 / 6; residuals of 4 - 6.5 and 9 - 6.5."""
    found = ratio([1.0, 3, 9], [2.0, 1, 3], np.array([0, 0, 1]))
    assert found is not None and found.value == pytest.approx(13 / 6)
    assert error(found) == pytest.approx(math.sqrt(2 * 2.5**2 * 2) / 6)
    assert ratio([1.0, 2], [0.0, 0], np.array([0, 1])) is None


def test_a_ratio_that_holds_in_every_window_is_exact() -> None:
    below = np.random.default_rng(1).random(60)
    found = ratio(0.25 * below, below, np.arange(60) // 7)
    assert found is not None and found.value == pytest.approx(0.25)
    assert error(found) == pytest.approx(0, abs=1e-15)


def test_the_exponential_carries_its_error_over() -> None:
    found = exponential(Estimate(2.0, 0.01))
    assert (found.value, found.error) == (pytest.approx(math.e**2), pytest.approx(0.01 * math.e**2))


def test_one_window_has_no_error() -> None:
    values, window = np.array([1.0, 2, 3]), np.zeros(3, int)
    assert mean(values, window) == Estimate(2.0, None)
    assert quantile(values, 0.5, window) == Estimate(2.0, None)
    assert exponential(mean(values, window)).error is None


def test_errors_of_means_are_as_large_as_their_spread() -> None:
    """Per token they would be less than a quarter of it."""
    values, window = samples(3)
    spread = values.mean(axis=1).std()
    assert np.mean([error(mean(one, window)) for one in values]) == pytest.approx(spread, rel=0.1)
    assert np.mean(values.std(axis=1)) / math.sqrt(values.shape[1]) < spread / 4


def test_errors_of_shares_are_as_large_as_their_spread() -> None:
    values, window = samples(4)
    flags = values < 1.5
    spread = flags.mean(axis=1).std()
    assert np.mean([error(mean(one, window)) for one in flags]) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_errors_of_quantiles_are_as_large_as_their_spread(share: float) -> None:
    values, window = samples(5)
    spread = np.quantile(values, share, axis=1).std()
    assert np.mean([error(quantile(one, share, window)) for one in values[:40]]) == pytest.approx(spread, rel=0.2)


def test_a_bootstrap_is_the_same_every_time() -> None:
    values, window = samples(6)
    assert quantile(values[0], 0.99, window) == quantile(values[0], 0.99, window)


def test_windows_need_not_be_numbered_from_0_or_in_order() -> None:
    values, window = samples(7)
    mixed = np.random.default_rng(8).permutation(len(window))
    one, other = mean(values[0], window), mean(values[0][mixed], 3 * window[mixed] + 100)
    assert error(one) == pytest.approx(error(other))
    assert one.value == pytest.approx(other.value)
