"""Perplexity and divergence against their definitions, on logits made up here."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qwen35_local.engine import npy_file, quality, saved_logits
from qwen35_local.engine.estimate import Estimate
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


def divergences(base: NDArray[np.float32], rows: NDArray[np.float32], places: list[int]) -> list[float]:
    found = []
    for t in places:
        p = [math.exp(log_probability(base[t], v)) for v in range(V)]
        found.append(sum(p[v] * (math.log(p[v]) - log_probability(rows[t], v)) for v in range(V)))
    return found


def scored_rows(n: int, window: int) -> list[int]:
    return [t for start, end, first in quality.windows(n, window) for t in range(start + first, end - 1)]


@pytest.mark.parametrize(("n", "window"), [(2, 64), (100, 128), (300, 300), (300, 100), (301, 50), (9, 3)])
def test_perplexity_is_the_exponential_of_the_mean_loss(n: int, window: int) -> None:
    tokens, here, _ = example(n, n)
    result = quality.summary(quality.score(Rows(here, window), tokens, window=window))
    losses = [-log_probability(here[t], int(tokens[t + 1])) for t in scored_rows(n, window)]
    assert result.scored == len(losses)
    assert result.windows == len(quality.windows(n, window))
    assert result.perplexity.value == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-9)


def test_divergence_matches_its_definition() -> None:
    tokens, here, there = example(150, 3)
    distance = quality.summary(quality.score(Rows(here, 150), tokens, window=150, base=Rows(there, 150))).distance
    kl = divergences(there, here, list(range(149)))
    assert distance is not None
    assert distance.kl_mean.value == pytest.approx(np.mean(kl), rel=1e-6)
    assert distance.kl_mean.error is None
    assert distance.kl_999.value == pytest.approx(np.quantile(kl, 0.999), rel=1e-6)
    same = np.mean(here[:149].argmax(axis=1) == there[:149].argmax(axis=1))
    assert distance.top1_agreement.value == pytest.approx(same)


def test_errors_are_from_window_to_window() -> None:
    tokens, here, there = example(200, 4)
    result = quality.summary(quality.score(Rows(here, 20), tokens, window=20, base=Rows(there, 20)))
    kl = np.reshape(divergences(there, here, scored_rows(200, 20)), (10, 9))
    assert result.distance is not None
    assert result.distance.kl_mean.error == pytest.approx(kl.mean(axis=1).std(ddof=1) / math.sqrt(10), rel=1e-6)
    rows = np.reshape(scored_rows(200, 20), (10, 9))
    same = (here.argmax(axis=1) == there.argmax(axis=1))[rows].mean(axis=1)
    assert result.distance.top1_agreement.error == pytest.approx(same.std(ddof=1) / math.sqrt(10))


def test_every_scored_token_has_its_record() -> None:
    tokens, here, there = example(300, 8)
    mask = tokens % 3 == 0
    scores = quality.score(
        Rows(here, 100), tokens, window=100, base=Rows(there, 100), other=Rows(there / 2, 100), targets=mask
    )
    rows = scored_rows(300, 100)
    assert scores["position"].tolist() == [t + 1 for t in rows]
    assert scores["window"].tolist() == [t // 100 for t in rows]
    np.testing.assert_array_equal(scores["token"], tokens[scores["position"]])
    np.testing.assert_array_equal(scores["target"], mask[scores["position"]])
    for name, logits in (("log_prob", here), ("base_log_prob", there), ("other_log_prob", there / 2)):
        np.testing.assert_allclose(scores[name], [log_probability(logits[t], int(tokens[t + 1])) for t in rows])
    np.testing.assert_allclose(scores["kl"], divergences(there, here, rows), rtol=1e-6)
    np.testing.assert_allclose(scores["other_kl"], divergences(there, there / 2, rows), rtol=1e-6)
    np.testing.assert_array_equal(scores["same_top"], (here.argmax(1) == there.argmax(1))[rows])
    assert scores["other_same_top"].all()


def test_two_models_are_compared_token_by_token() -> None:
    """The other is off as the model is and further: the difference is far better known than either."""
    tokens, here, there = example(600, 9)
    other = there + 1.5 * (here - there)
    scores = quality.score(Rows(here, 50), tokens, window=50, base=Rows(there, 50), other=Rows(other, 50))
    found = quality.summary(scores).comparison
    assert found is not None and found.kl_ratio is not None
    own = [scores[name].reshape(12, -1).mean(axis=1) for name in ("kl", "other_kl")]
    difference = own[0] - own[1]
    assert found.kl_difference.value == pytest.approx(difference.mean())
    assert found.kl_difference.error == pytest.approx(difference.std(ddof=1) / math.sqrt(12))
    assert found.kl_ratio.value == pytest.approx(own[0].sum() / own[1].sum())
    residual = own[0] - found.kl_ratio.value * own[1]
    assert found.kl_ratio.error == pytest.approx(residual.std(ddof=1) / math.sqrt(12) / own[1].mean(), rel=1e-6)
    assert found.kl_ratio.error < found.distance.kl_mean.error / found.distance.kl_mean.value / 3  # type: ignore[operator]
    assert found.distance.kl_mean.value == pytest.approx(own[1].mean())
    same = scores["same_top"].mean() - scores["other_same_top"].mean()
    assert found.top1_difference.value == pytest.approx(same)


def test_the_parts_of_a_mask_make_up_the_whole() -> None:
    tokens, here, there = example(400, 10)
    mask = tokens < 4
    scores = quality.score(Rows(here, 40), tokens, window=40, base=Rows(there, 40), targets=mask)
    whole, parts = quality.summary(scores), quality.halves(scores)
    for name, wanted in (("targets", mask), ("rest", ~mask)):
        kl = [x for x, t in zip(scores["kl"].tolist(), scores["position"].tolist(), strict=True) if wanted[t]]
        part = parts[name]
        assert part is not None and part.distance is not None
        assert (part.scored, part.distance.kl_mean.value) == (len(kl), pytest.approx(np.mean(kl)))
        assert part.distance.kl_mean.error is not None and part.distance.kl_mean.error > 0
    assert whole.scored == sum(part.scored for part in parts.values() if part)


def test_a_mask_that_is_set_everywhere_leaves_no_rest() -> None:
    tokens, here, _ = example(30, 11)
    parts = quality.halves(quality.score(Rows(here, 30), tokens, window=30, targets=np.ones(30, bool)))
    assert parts["rest"] is None and parts["targets"] is not None and parts["targets"].scored == 29


def test_a_model_is_at_no_distance_from_itself() -> None:
    tokens, here, _ = example(80, 5)
    rows = [Rows(here, 20) for _ in range(3)]
    found = quality.summary(quality.score(rows[0], tokens, window=20, base=rows[1], other=rows[2]))
    assert found.distance is not None and found.comparison is not None
    assert found.distance.kl_max == 0.0
    assert found.distance.top1_agreement == Estimate(1.0, 0.0)
    assert found.comparison.kl_difference == Estimate(0.0, 0.0)
    assert found.comparison.kl_ratio is None


def test_every_row_is_kept_in_order() -> None:
    tokens, here, _ = example(130, 6)
    kept: list[NDArray[np.float32]] = []
    quality.score(Rows(here, 130), tokens, window=130, keep=kept.append)
    np.testing.assert_array_equal(np.concatenate(kept), here)


@pytest.mark.parametrize(("n", "window"), [(0, 8), (1, 8), (5, 2)])
def test_where_nothing_can_be_scored(n: int, window: int) -> None:
    with pytest.raises(InputError, match=f"{n} tokens in windows of {window}"):
        quality.score(Rows(np.zeros((n, V), np.float32), window), np.zeros(n, np.int32), window=window)


@pytest.mark.parametrize("window", [100, 30])
def test_saved_logits_are_what_was_kept(tmp_path: Path, window: int) -> None:
    tokens, here, there = example(100, 12)
    spans, path = quality.windows(100, window), tmp_path / "a.npy"
    with npy_file.Writer(path) as writer:
        writer.begin("<f4", saved_logits.shape(spans, V))
        quality.score(Rows(there, window), tokens, window=window, keep=writer.add)
    assert np.load(path).shape == (len(spans), window, V)
    expected = quality.score(Rows(here, window), tokens, window=window, base=Rows(there, window))
    found = quality.score(Rows(here, window), tokens, window=window, base=saved_logits.SavedLogits(path, spans))
    np.testing.assert_array_equal(found, expected)


def test_logits_of_others_are_one_window(tmp_path: Path) -> None:
    tokens, here, there = example(64, 13)
    np.save(tmp_path / "a.npy", there.astype(np.float64))
    base = saved_logits.SavedLogits(tmp_path / "a.npy", quality.windows(64, 512))
    np.testing.assert_array_equal(
        quality.score(Rows(here, 64), tokens, window=512, base=base)["kl"],
        quality.score(Rows(here, 64), tokens, window=512, base=Rows(there, 64))["kl"],
    )


@pytest.mark.parametrize(
    ("shape", "said"),
    [((3, 30, V), "3 windows of 30 tokens"), ((100, V), "1 window of 100 tokens"), ((2, 25, V), "2 windows of 25 tok")],
)
def test_saved_logits_of_other_windows_are_refused(tmp_path: Path, shape: tuple[int, ...], said: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    with pytest.raises(InputError, match=rf"a\.npy: logits of {said}.*--ctx make 4 windows of 25 tokens"):
        saved_logits.SavedLogits(tmp_path / "a.npy", quality.windows(100, 25))


def test_an_array_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), npy_file.Writer(tmp_path / "a.npy") as writer:
        writer.begin("<f4", (4, 2))
        writer.add(np.zeros((2, 2), np.float32))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match=r"nowhere/a\.npy"), npy_file.Writer(tmp_path / "nowhere" / "a.npy"):
        pass
