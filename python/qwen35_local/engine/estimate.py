"""Means, ratios and quantiles over tokens, with standard errors over windows.

Tokens of one window have their context in common and are correlated; windows are independent of each other. They are
the clusters of a cluster sample of unequal sizes: Cochran, Sampling Techniques, chapters 6 (ratios) and 9A (clusters).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUGH_BELOW = 8
"""An error over fewer windows than this is itself uncertain by a quarter and more."""

BOOTSTRAP_ROUNDS = 200


@dataclass(frozen=True)
class Estimate:
    """A measured value and its standard error; None where one window alone was measured."""

    value: float
    error: float | None


def ratio(above: ArrayLike, below: ArrayLike, window: NDArray[Any]) -> Estimate | None:
    """Sum of `above` over sum of `below`, both one value per token, of window `window` [T]; None where the latter is 0.

    With r the ratio and A, B a window's own sums, the error is that of the sum of A - r B, which varies around 0.
    """
    _, number = np.unique(window, return_inverse=True)
    own_above, own_below = (np.bincount(number, np.broadcast_to(x, number.shape)) for x in (above, below))
    total = float(own_below.sum())
    if total == 0:
        return None
    value, n = float(own_above.sum()) / total, len(own_above)
    if n < 2:
        return Estimate(value, None)
    spread = float(((own_above - value * own_below) ** 2).sum())
    return Estimate(value, math.sqrt(spread * n / (n - 1)) / abs(total))


def mean(values: ArrayLike, window: NDArray[Any]) -> Estimate:
    """Of one value per token; of flags, their share."""
    found = ratio(values, 1.0, window)
    assert found is not None
    return found


def exponential(of: Estimate) -> Estimate:
    """The error by the delta method."""
    value = math.exp(min(of.value, 700.0))
    return Estimate(value, None if of.error is None else value * of.error)


def quantile(values: NDArray[np.float64], share: float, window: NDArray[Any]) -> Estimate:
    """The error by a seeded bootstrap that draws whole windows. Far into the tail, where few windows have a token, it
    is too small."""
    value = float(np.quantile(values, share))
    own = [values[window == number] for number in np.unique(window)]
    if len(own) < 2:
        return Estimate(value, None)
    random = np.random.default_rng(0)
    drawn = random.integers(len(own), size=(BOOTSTRAP_ROUNDS, len(own)))
    rounds = [np.quantile(np.concatenate([own[i] for i in picked]), share) for picked in drawn]
    return Estimate(value, float(np.std(rounds, ddof=1)))
