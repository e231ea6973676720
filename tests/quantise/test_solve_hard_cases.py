"""Moments and weights at the edge of what there is, and what is refused."""

import numpy as np
import pytest

from qwen35_local import _core
from qwen35_local.errors import InputError

SOLVED = ["Q4_0", "Q4_1", "IQ4_NL", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"]
COLS = 256


def weights(rows: int = 6, size: float = 0.02) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal((rows, COLS)) * size).astype(np.float32)


def moments(tokens: int = 2000) -> np.ndarray:
    x = np.random.default_rng(2).standard_normal((tokens, COLS)) @ np.random.default_rng(3).standard_normal(
        (COLS, COLS)
    )
    h = x.T @ x / tokens
    return ((h + h.T) / 2).astype(np.float32)


def relative_error(w: np.ndarray, data: np.ndarray, dtype: str) -> float:
    x = w.astype(np.float64)
    return float(np.sqrt(((_core.decode(data.ravel(), dtype, w.size).reshape(w.shape) - x) ** 2).sum() / (x**2).sum()))


@pytest.mark.parametrize("dtype", SOLVED)
def test_without_inputs_every_column_counts_alike(dtype: str) -> None:
    w = weights()
    solved = _core.solve(w, dtype, _core.Factor(np.zeros((COLS, COLS), np.float32), tokens=10))
    assert relative_error(w, solved, dtype) <= relative_error(w, _core.encode(w, dtype), dtype) * 1.001


@pytest.mark.parametrize("dtype", SOLVED)
def test_one_direction_only(dtype: str) -> None:
    """Rank one: the direction is met almost exactly, and the rest stays within the format's reach."""
    direction = np.random.default_rng(4).standard_normal(COLS)
    h = np.outer(direction, direction).astype(np.float32)
    w = weights()
    solved = _core.solve(w, dtype, _core.Factor(h, tokens=1))
    plain = _core.encode(w, dtype)
    assert _core.weighted_error(w, solved, dtype, h) < 0.05 * _core.weighted_error(w, plain, dtype, h)
    assert relative_error(w, solved, dtype) < 2 * relative_error(w, plain, dtype)


@pytest.mark.parametrize("dtype", SOLVED)
def test_a_column_without_inputs(dtype: str) -> None:
    h, w = moments(), weights()
    h[77] = h[:, 77] = 0
    out = _core.decode(_core.solve(w, dtype, _core.Factor(h, tokens=2000)).ravel(), dtype, w.size).reshape(w.shape)
    assert np.abs(out[:, 77] - w[:, 77]).max() < 0.03


@pytest.mark.parametrize("dtype", SOLVED)
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_the_size_of_moments_does_not_matter(dtype: str, size: float) -> None:
    h, w = np.eye(COLS, dtype=np.float32) + 0.5, weights()
    expected = _core.solve(w, dtype, _core.Factor(h, tokens=2000))
    data = _core.solve(w, dtype, _core.Factor(h * np.float32(size), tokens=2000))
    assert relative_error(w, data, dtype) == pytest.approx(relative_error(w, expected, dtype), rel=0.01)


@pytest.mark.parametrize("dtype", SOLVED)
@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-30, 1e-6, 65504.0])
def test_weights_of_any_size(dtype: str, size: float) -> None:
    w = np.clip(weights(size=1.0), -1, 1) * np.float32(size)
    w[0] = size
    w[1] = -size
    w[2, 5:] = 0
    out = _core.decode(_core.solve(w, dtype, _core.Factor(moments(), tokens=2000)).ravel(), dtype, w.size)
    assert np.isfinite(out).all()
    if size == 0:
        assert (out == 0).all()
    elif size >= 1:
        assert np.abs(out.reshape(w.shape) - w).max() <= 1.01 * size


def test_damping() -> None:
    h = moments()
    assert _core.Factor(h, tokens=1e6).damping == pytest.approx(0.01)
    assert _core.Factor(h, tokens=2 * COLS).damping == pytest.approx(0.1)
    assert _core.Factor(h, tokens=1).damping == pytest.approx(0.3)
    assert _core.Factor(h, tokens=1, damping=0.5).damping == pytest.approx(0.5)
    assert _core.Factor(h, tokens=1, damping=0).damping == 0
    singular = np.ones((COLS, COLS), np.float32)
    assert 0 < _core.Factor(singular, tokens=1, damping=0).damping < 0.01


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({(3, 5): np.nan, (5, 3): np.nan}, r"\[3, 5\] is nan; moments must be finite"),
        ({(7, 7): np.inf}, r"\[7, 7\] is inf; a mean of squares must be finite"),
        ({(7, 7): -1.0}, r"\[7, 7\] is -1\.0+; a mean of squares .*not negative"),
        ({(200, 9): 0.5}, r"\[200, 9\] is 0\.50*; the one across the diagonal is 0\.0+, and moments are symmetric"),
        ({(9, 200): 1.5, (200, 9): 1.5}, r"\[9, 200\] is 1\.50*; .* not positive"),
    ],
)
def test_refuses_what_cannot_be_moments(change: dict[tuple[int, int], float], says: str) -> None:
    h = np.eye(COLS, dtype=np.float32)
    for at, value in change.items():
        h[at] = value
    with pytest.raises(InputError, match=says):
        _core.Factor(h, tokens=5)


def test_refuses_a_matrix_that_is_far_from_positive() -> None:
    h = np.full((COLS, COLS), -0.9, np.float32)
    np.fill_diagonal(h, 1.0)
    with pytest.raises(InputError, match="not positive, even with its mean diagonal added"):
        _core.Factor(h, tokens=5)


def test_refuses_bad_arguments() -> None:
    h = np.eye(COLS, dtype=np.float32)
    for bad, says in ((h[:, :5], "expected"), (h[0], "expected"), (h[:0, :0], "at least one column")):
        with pytest.raises(InputError, match=says):
            _core.Factor(bad, tokens=1)
    for tokens in (0, -1, float("nan")):
        with pytest.raises(InputError, match="tokens"):
            _core.Factor(h, tokens=tokens)
    for damping in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="damping"):
            _core.Factor(h, tokens=1, damping=damping)
    factor = _core.Factor(h, tokens=1)
    with pytest.raises(InputError, match="rows of 256 values"):
        _core.solve(np.zeros((2, 255), np.float32), "Q4_K", factor)
    with pytest.raises(InputError, match="no encoder"):
        _core.solve(weights(), "Q2_K", factor)
    with pytest.raises(InputError, match="sweeps"):
        _core.solve(weights(), "Q4_K", factor, sweeps=-1)
    with pytest.raises(InputError, match="blocks of 256"):
        _core.solve(np.zeros((2, 32), np.float32), "Q4_K", _core.Factor(h[:32, :32], tokens=1))
    for bad_value, says in ((np.nan, "only finite"), (1e6, "65504")):
        w = weights()
        w[4, 200] = bad_value
        with pytest.raises(InputError, match=rf"row 4, column 200 .*{says}"):
            _core.solve(w, "Q4_0", factor)
    data = _core.encode(weights(), "Q4_0")
    with pytest.raises(InputError, match="bytes are not 5 rows"):
        _core.weighted_error(weights(5), data, "Q4_0", h)
    with pytest.raises(InputError, match="expected"):
        _core.weighted_error(weights(), data, "Q4_0", h[0])
