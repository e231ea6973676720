"""gated_rms_norm: rms_norm(x) * weight * silu(z) of one head, row by row."""

import numpy as np
import pytest
from kernel_cases import U, empty, rms, rows, same_bits, silu, vector

from qwen35_local._core import kernels

EPS = 1e-6


def gated(isa, x, z, weight):
    out = empty(*x.shape)
    kernels.gated_rms_norm(isa, out, x, z, weight, EPS)
    return out


@pytest.mark.parametrize("width", [4, 20, 33, 128])
def test_formula(isa, width):
    rng = np.random.default_rng(width)
    x, z, weight = rows(rng, 5, width, gap=0), rows(rng, 5, width, 4.0), vector(rng, width)
    wanted = rms(x.astype(np.float64), EPS) * weight * silu(z.astype(np.float64))
    # silu has a relative error of 2.0e-7 (devices/cpu/math.h); four more roundings.
    assert np.all(np.abs(gated(isa, x, z, weight) - wanted) <= (2.0e-7 + 4.01 * U) * np.abs(wanted) + 1e-45)


@pytest.mark.parametrize("width", [1, 7, 16, 20, 33, 128])
def test_vector_kernels_have_the_bits_of_the_scalar_twin(vector_isa, width):
    rng = np.random.default_rng(width)
    x, z, weight = rows(rng, 3, width, gap=0), rows(rng, 3, width, 30.0), vector(rng, width)
    assert same_bits(gated(vector_isa, x, z, weight), gated("reference", x, z, weight))
