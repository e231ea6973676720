"""conv_silu: silu of a causal depthwise convolution of four taps over [window; x]; docs/architecture.md 2.2."""

import numpy as np
import pytest
from kernel_cases import U, cuts, empty, rows, same_bits, silu, vector

from qwen35_local._core import kernels

TAPS = 4


def convolve(isa, x, kernel, window, pieces):
    """The sequence x in calls of `pieces` rows; returns the result and the window left behind."""
    out, window, at = empty(*x.shape), window.copy(), 0
    for count in pieces:
        kernels.conv_silu(isa, out[at : at + count], x[at : at + count], kernel, window)
        at += count
    return out, window


def case(seed, count, channels):
    rng = np.random.default_rng(seed)
    kernel = vector(rng, channels * TAPS).reshape(channels, TAPS)
    return rng, rows(rng, count, channels), kernel, vector(rng, 3 * channels).reshape(3, channels)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("channels", [5, 64, 67, 200])
def test_formula(isa, count, channels):
    _, x, kernel, window = case(count, count, channels)
    out, left = convolve(isa, x, kernel, window, [count])
    extended = np.concatenate([window, x]).astype(np.float64)
    terms = np.stack([extended[j : j + count] * kernel[:, j] for j in range(TAPS)])
    wanted = silu(terms.sum(0))
    # Four roundings of the sum through a slope of at most 1.1, then silu's own 2.0e-7.
    bound = 1.1 * 4 * U * np.abs(terms).sum(0) + 2.1e-7 * np.abs(wanted)
    assert np.all(np.abs(out - wanted) <= bound)
    assert np.array_equal(left, extended[-3:])


@pytest.mark.parametrize("channels", [1, 8, 15, 16, 63, 64, 65, 130])
def test_vector_kernels_have_the_bits_of_the_scalar_twin(vector_isa, channels):
    _, x, kernel, window = case(channels, 9, channels)
    ours, our_window = convolve(vector_isa, x, kernel, window, [2, 7])
    twin, twin_window = convolve("reference", x, kernel, window, [2, 7])
    assert same_bits(ours, twin)
    assert same_bits(our_window, twin_window)


def test_cuts_do_not_matter(isa):
    rng, x, kernel, window = case(7, 23, 300)
    whole, left = convolve(isa, x, kernel, window, [23])
    for pieces in cuts(rng, 23):
        out, window_after = convolve(isa, x, kernel, window, pieces)
        assert same_bits(out, whole), pieces
        assert same_bits(window_after, left), pieces
