"""Every number of rows at which a device may take another kernel: the bits of all rows at once, and those of the
scalar kernels within the tolerance between devices."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, agree, device_of, same_bits
from matrices import Matrix, activations, product, ragged
from test_attend import Case as Attention
from test_gated_delta_net import Case as DeltaNet
from test_gated_delta_net import run as run_delta
from test_matmul_experts import D, Experts, K, choose, combine, gather

ALL = 300
ROWS = [*range(1, 10), 17, 64]


def each_count(name, run, arithmetic):
    """`run(device, rows)` gives their results."""
    whole = run(device_of(name, 1), ALL)
    assert agree(name, whole, run(device_of(REFERENCE, 1), ALL), arithmetic)
    for count in ROWS:
        assert same_bits(run(device_of(name, 2), count), whole[:count]), count


@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_K", "Q6_K", "F16"])
def test_matmul(name, dtype):
    rng = np.random.default_rng(1)
    matrix = Matrix(rng, dtype, 72, 768)  # six stages of gemm's
    x = activations(rng, ALL, matrix.cols)

    def run(device, count):
        return product(device, x[:count], matrix)[0]

    each_count(name, run, "quantised")


@pytest.mark.parametrize("types", [("Q4_0", "Q4_0"), ("Q4_K", "Q6_K"), ("F16", "F16")])
def test_swiglu(name, types):
    rng = np.random.default_rng(2)
    gate, up = (Matrix(rng, dtype, 40, 256) for dtype in types)
    h = activations(rng, ALL, 256)

    def run(device, count):
        out = ragged(count, 40)
        device.swiglu(out, h[:count], gate.pack(device), up.pack(device))
        return out

    each_count(name, run, "quantised")


@pytest.mark.parametrize("dtype", ["Q4_0", "F32"])
def test_experts(name, dtype):
    rng = np.random.default_rng(3)
    e, h, chosen = Experts(rng, dtype, 64), activations(rng, ALL, D), choose(rng, ALL)
    x, weights = activations(rng, ALL, D), rng.random((ALL, K)).astype(np.float32)

    def gathered(device, count):
        return gather(device, e, h[:count], chosen[:count])

    inner = gathered(device_of(REFERENCE, 1), ALL)

    def run(device, count):
        made = gathered(device, count).reshape(count, -1)
        out = combine(device, e, x[:count], inner[: count * K], chosen[:count], weights[:count])
        return np.concatenate([made, out], axis=1)

    each_count(name, run, "quantised")


def test_gated_delta_net(name):
    case = DeltaNet.of(4, ALL, 1, 2, 16, 32)

    def run(device, count):
        return run_delta(device, case, [count])

    each_count(name, run, "fp32")


@pytest.mark.parametrize(("kv", "arithmetic"), [("f16", "fp32"), ("q4", "quantised")])
@pytest.mark.parametrize("first", [0, 760])
def test_attend(name, kv, arithmetic, first):
    """From the first row on, and on both sides of position 768, from which a quantised page is read."""
    case = Attention(5, first + ALL, 4, 2, 32)

    def run(device, count):
        return case.attend(device, case.cache(device, kv, first + count), first, [count])

    each_count(name, run, arithmetic)
