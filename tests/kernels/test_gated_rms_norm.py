"""gated_rms_norm: rms_norm(x) * weight * silu(z) of one head, row by row."""

import numpy as np
import pytest
from kernel_cases import U, cpu_of, empty, rms, rows, same_bits, silu, vector

EPS = 1e-6


def gated(cpu, x, z, weight):
    out = empty(*x.shape)
    cpu.gated_rms_norm(out, x, z, weight, EPS)
    return out


@pytest.mark.parametrize("width", [4, 20, 33, 128])
def test_formula(cpu, width):
    rng = np.random.default_rng(width)
    x, z, weight = rows(rng, 5, width, gap=0), rows(rng, 5, width, 4.0), vector(rng, width)
    wanted = rms(x.astype(np.float64), EPS) * weight * silu(z.astype(np.float64))
    # silu has a relative error of 2.0e-7 (devices/cpu/math.h); four more roundings.
    assert np.all(np.abs(gated(cpu, x, z, weight) - wanted) <= (2.0e-7 + 4.01 * U) * np.abs(wanted) + 1e-45)


@pytest.mark.parametrize("width", [1, 7, 16, 20, 33, 128])
def test_vector_kernels_have_the_bits_of_the_scalar_twin(vector_isa, width):
    rng = np.random.default_rng(width)
    x, z, weight = rows(rng, 3, width, gap=0), rows(rng, 3, width, 30.0), vector(rng, width)
    assert same_bits(gated(cpu_of(vector_isa, 1), x, z, weight), gated(cpu_of("reference", 1), x, z, weight))
