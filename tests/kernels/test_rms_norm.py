"""rms_norm: out = x / sqrt(mean(x^2) + eps) * weight."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, U, agree, device_of, empty, rms, rows, same_bits, vector
from matrices import Matrix

EPS = 1e-6


def norm(device, x, weight):
    out = empty(*x.shape)
    device.rms_norm(out, x, weight, EPS)
    return out


@pytest.mark.parametrize("cols", [1, 7, 16, 31, 33, 64, 100, 256, 1024, 2056])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 300.0])
def test_formula(device, cols, scale):
    rng = np.random.default_rng(cols)
    x, weight = rows(rng, 3, cols, scale), vector(rng, cols)
    wanted = rms(x.astype(np.float64), np.float64(np.float32(EPS))) * weight
    # Statistics in double; then the scale, x * scale and * weight are rounded once each.
    assert np.all(np.abs(norm(device, x, weight) - wanted) <= 3.01 * U * np.abs(wanted) + 1e-45)


@pytest.mark.parametrize("cols", [1, 5, 8, 9, 15, 16, 17, 40, 129, 1024])
def test_devices_agree(other_name, cols):
    rng = np.random.default_rng(cols)
    x, weight = rows(rng, 4, cols), vector(rng, cols)
    assert agree(other_name, norm(device_of(other_name, 1), x, weight), norm(device_of(REFERENCE, 1), x, weight))


def test_rows_and_threads_do_not_matter(name):
    rng = np.random.default_rng(0)
    x, weight = rows(rng, 37, 1000), vector(rng, 1000)
    one_by_one = np.concatenate([norm(device_of(name, 1), x[t : t + 1], weight) for t in range(len(x))])
    for threads in (1, 2, 3, 4):
        assert same_bits(norm(device_of(name, threads), x, weight), one_by_one)


@pytest.mark.parametrize("dtype", ["Q4_0", "Q8_0", "F16"])
@pytest.mark.parametrize("lines", [(40,), (70, 33), (4000, 300)])
def test_with_the_products_that_follow(device, dtype, lines):
    """Of one row a device may take the norm in the kernel of the products; of two it does not. The most lines are more
    panels than the card of tests/simt has blocks of threads for."""
    rng = np.random.default_rng(len(lines))
    x, weight = rows(rng, 2, 96), vector(rng, 96)
    matrices = [Matrix(rng, dtype, n, 96, 1).pack(device) for n in lines]
    found = []
    for count in (1, 2):
        h, outs = empty(count, 96), [empty(count, n) for n in lines]
        device.normed_matmul(h, x[:count], weight, EPS, list(zip(outs, matrices, strict=True)))
        assert same_bits(h, norm(device, x[:count], weight))
        apart = [empty(count, n) for n in lines]
        device.matmul(h, list(zip(apart, matrices, strict=True)))
        assert all(same_bits(a, b) for a, b in zip(outs, apart, strict=True))
        found.append(outs)
    assert all(same_bits(a, b[:1]) for a, b in zip(*found, strict=True))


def test_in_place(device):
    rng = np.random.default_rng(1)
    x, weight = rows(rng, 2, 77), vector(rng, 77)
    wanted = norm(device, x, weight)
    device.rms_norm(x, x, weight, EPS)
    assert same_bits(x, wanted)


def test_zero_row_stays_zero(device):
    assert not norm(device, np.zeros((1, 50), np.float32), np.ones(50, np.float32)).any()
