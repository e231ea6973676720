"""Perplexity and divergence against their definitions, on logits made up here."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from qwen35_local.engine import quality
from qwen35_local.errors import InputError

V = 11


class Rows:
    """Logits by position in the text; begin() is told apart by counting."""

    n_vocab = V

    def __init__(self, rows: NDArray[np.float32], window: int) -> None:
        self.rows, self.window, self.begun, self.at = rows, window, -1, 0

    def begin(self) -> None:
        self.begun += 1
        self.at = self.begun * self.window

    def read(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        self.at += len(tokens)
        return self.rows[self.at - len(tokens) : self.at]


def example(n: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    here = random.normal(size=(n, V)).astype(np.float32) * 3
    there = here + random.normal(size=(n, V)).astype(np.float32) / 4
    return random.integers(0, V, n).astype(np.int32), here, there


def log_probability(row: NDArray[np.float32], token: int) -> float:
    return float(row[token]) - math.log(sum(math.exp(float(x)) for x in row))


@pytest.mark.parametrize(("n", "window"), [(2, 64), (100, 128), (300, 300), (300, 100), (301, 50)])
def test_perplexity_is_the_exponential_of_the_mean_loss(n: int, window: int) -> None:
    tokens, here, _ = example(n, n)
    result = quality.measure(Rows(here, window), tokens, window=window)
    losses = []
    for start, end, first in quality.windows(n, window):
        losses += [-log_probability(here[t], int(tokens[t + 1])) for t in range(start + first, end - 1)]
    assert result.scored == len(losses)
    assert result.perplexity.value == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-9)


def test_divergence_matches_its_definition() -> None:
    tokens, here, there = example(150, 3)
    result = quality.measure(Rows(here, 150), tokens, window=150, base=Rows(there, 150))
    kl = []
    for t in range(149):
        p = [math.exp(log_probability(there[t], v)) for v in range(V)]
        kl.append(sum(p[v] * (math.log(p[v]) - log_probability(here[t], v)) for v in range(V)))
    assert result.distance is not None
    assert result.distance.kl_mean.value == pytest.approx(np.mean(kl), rel=1e-6)
    assert result.distance.kl_mean.error == pytest.approx(np.std(kl, ddof=1) / math.sqrt(149), rel=1e-6)
    assert result.distance.kl_999.value == pytest.approx(np.quantile(kl, 0.999), rel=1e-6)
    same = np.mean(here[:149].argmax(axis=1) == there[:149].argmax(axis=1))
    assert result.distance.top1_agreement.value == pytest.approx(same)


def test_a_model_is_at_no_distance_from_itself() -> None:
    tokens, here, _ = example(80, 5)
    distance = quality.measure(Rows(here, 80), tokens, window=80, base=Rows(here, 80)).distance
    assert distance is not None
    assert distance.kl_max == 0.0
    assert distance.top1_agreement.value == 1.0


def test_every_row_is_kept_in_order() -> None:
    tokens, here, _ = example(130, 6)
    kept: list[NDArray[np.float32]] = []
    quality.measure(Rows(here, 130), tokens, window=130, keep=kept.append)
    np.testing.assert_array_equal(np.concatenate(kept), here)


def test_a_text_of_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        quality.measure(Rows(np.zeros((1, V), np.float32), 8), np.zeros(1, np.int32), window=8)
