"""The solver's matrix product on every instruction set, and second moments, against numpy in float64."""

import numpy as np
import pytest

from qwen35_local import _core

SETS = _core.kernels.gemm_sets()
SIZES = [(1, 1, 1), (5, 3, 7), (12, 32, 256), (13, 33, 257), (64, 64, 600), (200, 530, 40), (193, 513, 300), (7, 0, 4)]


def random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kernels", SETS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("m", "n", "depth"), SIZES)
def test_product(kernels: str, transposed: bool, m: int, n: int, depth: int) -> None:
    rng = np.random.default_rng(m * n + depth)
    a, b, c = random(rng, m, depth), random(rng, depth, n), random(rng, m, n + 3)[:, :n]
    if transposed:
        a, b = np.ascontiguousarray(a.T).T, np.ascontiguousarray(b.T).T
    product = a.astype(np.float64) @ b.astype(np.float64)
    bound = 1e-6 * (np.abs(a).astype(np.float64) @ np.abs(b) + np.abs(c))
    for subtract, expected in ((False, c + product), (True, c - product)):
        whole = np.full((m, n + 3), 7.0, np.float32)
        out = whole[:, :n]
        out[:] = c
        _core.kernels.gemm(kernels, out, a, b, subtract=subtract)
        assert (np.abs(out - expected) <= bound).all()
        assert (whole[:, n:] == 7).all()


@pytest.mark.parametrize("kernels", SETS)
def test_an_element_has_its_bits_in_any_company(kernels: str) -> None:
    rng = np.random.default_rng(1)
    a, b = random(rng, 70, 300), random(rng, 300, 90)
    whole = np.zeros((70, 90), np.float32)
    _core.kernels.gemm(kernels, whole, a, b)
    for i, j, m, n in ((0, 0, 1, 1), (3, 5, 20, 40), (69, 89, 1, 1), (11, 31, 50, 33)):
        part = np.zeros((m, n), np.float32)
        _core.kernels.gemm(kernels, part, a[i : i + m], b[:, j : j + n])
        assert (part == whole[i : i + m, j : j + n]).all()


@pytest.mark.parametrize("kernels", SETS)
@pytest.mark.parametrize("depth", [0, 1, 7, 64])
def test_combination_of_rows(kernels: str, depth: int) -> None:
    rng = np.random.default_rng(depth)
    a, rows = random(rng, depth, 3)[:, 1], random(rng, depth, _core.kernels.row_tile)
    expected = a.astype(np.float64) @ rows.astype(np.float64)
    assert np.abs(_core.kernels.combine(kernels, a, rows) - expected).max() <= 1e-5


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 31), (700, 96), (257, 300), (40, 640)])
def test_gram(rows: int, cols: int) -> None:
    rng = np.random.default_rng(rows)
    x = random(rng, rows, cols + 5)[:, :cols] * np.exp(rng.standard_normal(cols)).astype(np.float32)
    expected = x.astype(np.float64).T @ x.astype(np.float64)
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    upper = np.zeros((cols, cols), np.float32)
    _core.kernels.add_gram(upper, x, threads=2)
    assert (np.abs(np.triu(upper - expected)) <= 1e-5 * size).all()
    h = np.zeros((cols, cols), np.float32)
    _core.kernels.add_gram(h, x[: rows // 2], threads=1)
    _core.kernels.add_gram(h, x[rows // 2 :], threads=1, mirror=True)
    assert (np.abs(h - expected) <= 1e-5 * size).all()
    assert (h == h.T).all()


def test_gram_has_the_same_bits_for_any_threads() -> None:
    x = random(np.random.default_rng(2), 300, 900)
    grams = []
    for threads in (1, 2, 3):
        h = np.zeros((900, 900), np.float32)
        _core.kernels.add_gram(h, x, threads=threads, mirror=True)
        grams.append(h)
    assert (grams[0] == grams[1]).all()
    assert (grams[0] == grams[2]).all()
