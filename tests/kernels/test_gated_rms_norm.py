"""gated_rms_norm: x <- rms_norm(x) * weight * silu(z), in groups of the weight's width."""

import numpy as np
import pytest
from kernel_cases import U, cpu_of, rms, rows, same_bits, silu, vector

EPS = 1e-6


def gated(cpu, x, z, weight):
    out = np.array(x)
    cpu.gated_rms_norm(out, z, weight, EPS)
    return out


@pytest.mark.parametrize(("groups", "width"), [(1, 4), (3, 20), (16, 128), (5, 33)])
def test_formula(cpu, groups, width):
    rng = np.random.default_rng(width)
    x, z, weight = rows(rng, 5, groups * width), rows(rng, 5, groups * width, 4.0), vector(rng, width)
    wide = rms(x.astype(np.float64).reshape(5, groups, width), EPS) * weight
    wanted = wide.reshape(5, -1) * silu(z.astype(np.float64))
    # silu has a relative error of 2.0e-7 (devices/cpu/math.h); four more roundings.
    assert np.all(np.abs(gated(cpu, x, z, weight) - wanted) <= (2.0e-7 + 4.01 * U) * np.abs(wanted) + 1e-45)


@pytest.mark.parametrize("width", [1, 7, 16, 20, 33, 128])
def test_vector_kernels_have_the_bits_of_the_scalar_twin(vector_isa, width):
    rng = np.random.default_rng(width)
    x, z, weight = rows(rng, 3, 4 * width), rows(rng, 3, 4 * width, 30.0), vector(rng, width)
    assert same_bits(gated(cpu_of(vector_isa, 1), x, z, weight), gated(cpu_of("reference", 1), x, z, weight))


def test_rows_and_threads_do_not_matter(isa):
    rng = np.random.default_rng(0)
    x, z, weight = rows(rng, 21, 16 * 128), rows(rng, 21, 16 * 128), vector(rng, 128)
    one_by_one = np.concatenate([gated(cpu_of(isa, 1), x[t : t + 1], z[t : t + 1], weight) for t in range(21)])
    for threads in (1, 2, 3, 4):
        assert same_bits(gated(cpu_of(isa, threads), x, z, weight), one_by_one)
