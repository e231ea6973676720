"""The solver: what it gains, that it stands where no single code can be better, and that rows do not see each other."""

from itertools import pairwise

import numpy as np
import pytest

from qwen35_local import _core

NIBBLES = {"Q4_0": 2, "Q4_1": 4, "IQ4_NL": 2, "Q4_K": 16, "IQ4_XS": 8}  # and where a block's codes start
SOLVED = [*NIBBLES, "Q3_K", "Q5_K", "Q6_K"]
PLAIN = ["Q8_0", "Q5_0", "Q5_1", "F16", "BF16", "F32"]


def inputs(rng: np.random.Generator, rows: int, cols: int, decay: float = 1.0, spread: float = 0.5) -> np.ndarray:
    """Rows whose moments have a power-law spectrum, in channels of log-normal size."""
    basis = np.linalg.qr(rng.standard_normal((cols, cols)))[0]
    mix = np.arange(1, cols + 1)[:, None] ** (-decay / 2) * basis * np.exp(spread * rng.standard_normal(cols))
    return rng.standard_normal((rows, cols)) @ mix


def moments(x: np.ndarray) -> np.ndarray:
    h = x.T @ x / len(x)
    return ((h + h.T) / 2).astype(np.float32)


def weights(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    return (rng.standard_t(5, (rows, cols)) * 0.02).astype(np.float32)


def decoded(data: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return _core.decode(data.ravel(), dtype, int(np.prod(shape))).reshape(shape)


def error(w: np.ndarray, data: np.ndarray, dtype: str, h: np.ndarray) -> float:
    d = w.astype(np.float64) - decoded(data, dtype, w.shape)
    return float(((d @ h.astype(np.float64)) * d).sum())


@pytest.mark.parametrize("dtype", SOLVED)
def test_a_quarter_less_error_than_with_importance(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for decay, spread in ((0.7, 0.3), (1.0, 0.5), (1.3, 1.0)):
        x = inputs(rng, 5 * 512, 512, decay, spread)
        h, unseen = moments(x[: 4 * 512]), moments(x[4 * 512 :])
        w = weights(rng, 64, 512)
        plain = _core.encode(w, dtype, importance=np.ascontiguousarray(np.diag(h)))
        solved = _core.solve(w, dtype, _core.Factor(h, tokens=4 * 512))
        assert solved.shape == plain.shape
        assert error(w, solved, dtype, h) <= 0.75 * error(w, plain, dtype, h)
        assert error(w, solved, dtype, unseen) <= 0.85 * error(w, plain, dtype, unseen)


def test_few_tokens_are_damped_and_still_help() -> None:
    rng = np.random.default_rng(2)
    x = inputs(rng, 3 * 512, 512)
    h, unseen = moments(x[:512]), moments(x[512:])
    factor = _core.Factor(h, tokens=512)
    assert factor.damping == pytest.approx(0.2)
    w = weights(rng, 64, 512)
    plain = _core.encode(w, "Q4_K", importance=np.ascontiguousarray(np.diag(h)))
    assert error(w, _core.solve(w, "Q4_K", factor), "Q4_K", unseen) <= 0.9 * error(w, plain, "Q4_K", unseen)


@pytest.mark.parametrize("dtype", SOLVED)
def test_each_sweep_lowers_the_error(dtype: str) -> None:
    rng = np.random.default_rng(3)
    h, w = moments(inputs(rng, 2000, 256)), weights(rng, 20, 256)
    factor = _core.Factor(h, tokens=1e9, damping=0.0)
    errors = [error(w, _core.solve(w, dtype, factor, sweeps=n), dtype, h) for n in (0, 1, 2, 3, 8)]
    assert all(after < before for before, after in pairwise(errors))


@pytest.mark.parametrize("dtype", sorted(NIBBLES))
def test_no_single_code_could_be_better(dtype: str) -> None:
    """After sweeps enough: every code of every weight is tried, in what decoding makes of it."""
    rng = np.random.default_rng(4)
    h, w = moments(inputs(rng, 2000, 256)), weights(rng, 10, 256)
    data = _core.solve(w, dtype, _core.Factor(h, tokens=1e9, damping=0.0), sweeps=60)
    value = decoded(data, dtype, w.shape).astype(np.float64)
    slope = (w - value) @ h.astype(np.float64)
    block_bytes = _core.block_types()[dtype][1]
    for code in range(16):
        blocks = data.reshape(-1, block_bytes).copy()
        blocks[:, NIBBLES[dtype] :] = code * 17
        step = decoded(blocks, dtype, w.shape) - value
        change = step * step * np.diag(h) - 2 * step * slope
        assert change.min() >= -1e-6 * np.diag(h).max() * np.abs(w).max() ** 2


def upper_inverse_factor(h: np.ndarray) -> np.ndarray:
    """U of GPTQ: the inverse of h is U^T U, U upper triangular."""
    return np.linalg.cholesky(np.linalg.inv(h)).T


def rounded(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x / scale), -8, 7)


def test_feedback_and_a_sweep_as_numpy_does_them() -> None:
    """GPTQ by its own formulas (arXiv:2210.17323), then coordinate descent in the open, for Q4_0 in float64."""
    rng = np.random.default_rng(5)
    rows, cols, damping = 7, 96, 0.02
    h, w = moments(inputs(rng, 500, cols)), weights(rng, rows, cols)
    damped = h + damping * np.diag(h).mean(dtype=np.float64) * np.eye(cols)
    u = upper_inverse_factor(damped)
    rest, value, scales = w.astype(np.float64), np.zeros((rows, cols)), np.zeros((rows, cols // 32))
    codes = np.zeros((rows, cols))
    for block in range(cols // 32):
        at = slice(32 * block, 32 * block + 32)
        importance = (1 / np.diag(u)[at] ** 2).astype(np.float32)
        encoded = _core.encode(rest[:, at].astype(np.float32), "Q4_0", importance=importance)
        scales[:, block] = encoded[:, :2].copy().view(np.float16)[:, 0]
        for j in range(at.start, at.stop):
            codes[:, j] = rounded(rest[:, j], scales[:, block])
            value[:, j] = codes[:, j] * scales[:, block]
            rest[:, j:] -= np.outer((rest[:, j] - value[:, j]) / u[j, j], u[j, j:])
    factor = _core.Factor(h, tokens=500, damping=damping)
    first = _core.solve(w, "Q4_0", factor, sweeps=0)
    assert np.abs(decoded(first, "Q4_0", w.shape) - value).max() <= 1e-7

    for block in range(cols // 32):
        at = slice(32 * block, 32 * block + 32)
        slope = (w - value) @ damped
        quadratic = ((codes[:, at] @ damped[at, at]) * codes[:, at]).sum(1)
        scales[:, block] += (codes[:, at] * slope[:, at]).sum(1) / quadratic
        scales[:, block] = scales[:, block].astype(np.float16)
        value[:, at] = codes[:, at] * scales[:, block, None]
        for j in range(at.start, at.stop):
            best = value[:, j] + ((w - value) @ damped[:, j]) / damped[j, j]
            codes[:, j] = rounded(best, scales[:, block])
            value[:, j] = codes[:, j] * scales[:, block]
    second = _core.solve(w, "Q4_0", factor, sweeps=1)
    assert np.abs(decoded(second, "Q4_0", w.shape) - value).max() <= 1e-7
    assert (first != second).any()


@pytest.mark.parametrize("dtype", SOLVED)
def test_rows_do_not_see_each_other(dtype: str) -> None:
    rng = np.random.default_rng(6)
    cols = 288 if _core.block_types()[dtype][0] == 32 else 512
    h, w = moments(inputs(rng, 1500, cols)), weights(rng, 133, cols)
    factor = _core.Factor(h, tokens=1500)
    whole = _core.solve(w, dtype, factor, sweeps=2, threads=1)
    for threads in (2, 3):
        assert (_core.solve(w, dtype, factor, sweeps=2, threads=threads) == whole).all()
        assert (_core.solve(w, dtype, _core.Factor(h, tokens=1500, threads=threads), sweeps=2) == whole).all()
    for first, last in ((0, 1), (1, 66), (66, 133)):
        assert (_core.solve(w[first:last], dtype, factor, sweeps=2) == whole[first:last]).all()


@pytest.mark.parametrize("dtype", PLAIN)
def test_other_types_are_encoded_with_importance(dtype: str) -> None:
    rng = np.random.default_rng(7)
    h, w = moments(inputs(rng, 500, 64)), weights(rng, 5, 64)
    expected = _core.encode(w, dtype, importance=np.ascontiguousarray(np.diag(h)))
    assert (_core.solve(w, dtype, _core.Factor(h, tokens=500)) == expected).all()


def test_shapes() -> None:
    factor = _core.Factor(np.eye(256, dtype=np.float32), tokens=1)
    assert factor.cols == 256
    assert _core.solve(np.zeros((0, 256), np.float32), "Q4_K", factor).shape == (0, 144)
    assert _core.solve(np.zeros(256, np.float32), "Q4_K", factor).shape == (144,)
    experts = weights(np.random.default_rng(8), 6, 256).reshape(2, 3, 256)
    solved = _core.solve(experts, "Q6_K", factor)
    assert solved.shape == (2, 3, 210)
    assert (solved.reshape(6, 210) == _core.solve(experts.reshape(6, 256), "Q6_K", factor)).all()


def test_weighted_error() -> None:
    rng = np.random.default_rng(9)
    h, w = moments(inputs(rng, 900, 288)), weights(rng, 70, 288)
    data = _core.encode(w, "Q4_0")
    expected = error(w, data, "Q4_0", h)
    assert _core.weighted_error(w, data, "Q4_0", h, threads=1) == pytest.approx(expected, rel=1e-5)
    assert _core.weighted_error(w, data, "Q4_0", h, threads=3) == _core.weighted_error(w, data, "Q4_0", h, threads=1)
    assert _core.weighted_error(w, _core.encode(w, "F32"), "F32", h) == 0
    assert _core.weighted_error(w[:0], data[:0], "Q4_0", h) == 0
