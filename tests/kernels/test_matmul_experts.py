"""Products with the chosen experts, against the dense products they are made of, in any company."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, agree, device_of, same_bits
from matrices import Array, Matrix, activations, product, ragged
from numpy.typing import NDArray

from qwen35_local._core import kernels
from qwen35_local.errors import InputError

E, K, D, F = 7, 3, 64, 40  # F in the middle of a panel
TYPES = ["Q4_0", "Q8_0", "F32"]


class Experts:
    def __init__(self, rng: np.random.Generator, dtype: str, width: int = F, hidden: int = D) -> None:
        self.width = width
        self.gate, self.up = (Matrix(rng, dtype, E * width, hidden, E) for _ in range(2))
        self.down = Matrix(rng, dtype, E * hidden, (width + 31) // 32 * 32, E)

    def pack(self, device: kernels.Device) -> kernels.Experts:
        return kernels.Experts(self.gate.pack(device), self.up.pack(device), self.down.pack(device), E)

    def one(self, matrix: Matrix, expert: int) -> Matrix:
        part = object.__new__(Matrix)
        part.__dict__.update(matrix.__dict__)
        part.rows, part.groups = matrix.rows // E, 1
        part.data = matrix.data.reshape(E, -1)[expert].copy()
        return part


def choose(rng: np.random.Generator, tokens: int) -> NDArray[np.int32]:
    return np.stack([rng.permutation(E)[:K] for _ in range(tokens)]).astype(np.int32)


def gather(device: kernels.Device, e: Experts, h: Array, experts: NDArray[np.int32]) -> Array:
    out = ragged(len(h) * K, e.width)
    device.moe_gather(out, h, e.pack(device), experts)
    return out


def combine(
    device: kernels.Device, e: Experts, x: Array, h: Array, experts: NDArray[np.int32], weights: Array
) -> Array:
    out = ragged(*x.shape)
    out[:] = x
    device.moe_combine(out, h, e.pack(device), experts, weights)
    return out


@pytest.mark.parametrize("dtype", TYPES)
def test_gather_is_swiglu_with_the_chosen_expert(dtype: str, name: str) -> None:
    rng = np.random.default_rng(1)
    e, tokens = Experts(rng, dtype), 60
    h, experts = activations(rng, tokens, D), choose(rng, tokens)
    got = gather(device_of(name, 2), e, h, experts).reshape(tokens, K, F)
    device = device_of(REFERENCE, 1)
    for expert in range(E):
        token, slot = np.nonzero(experts == expert)
        expected = ragged(len(token), F)
        gate, up = e.one(e.gate, expert).pack(device), e.one(e.up, expert).pack(device)
        device.swiglu(expected, np.ascontiguousarray(h[token]), gate, up)
        assert agree(name, got[token, slot], expected, "quantised")


@pytest.mark.parametrize("dtype", TYPES)
def test_combine_adds_slots_in_order(dtype: str, name: str) -> None:
    rng = np.random.default_rng(2)
    e, tokens = Experts(rng, dtype, 64), 60
    experts, h = choose(rng, tokens), activations(rng, tokens * K, 64)
    x = rng.standard_normal((tokens, D)).astype(np.float32)
    weights = rng.random((tokens, K)).astype(np.float32)
    got = combine(device_of(name, 2), e, x, h, experts, weights)
    products = np.empty((tokens, K, D), np.float32)
    by_slot = h.reshape(tokens, K, 64)
    for expert in range(E):
        token, slot = np.nonzero(experts == expert)
        rows = np.ascontiguousarray(by_slot[token, slot])
        [products[token, slot]] = product(device_of(REFERENCE, 1), rows, e.one(e.down, expert))
    total = np.zeros_like(x)
    for slot in range(K):
        total += weights[:, slot, None] * products[:, slot]
    assert agree(name, got, x + total, "quantised")


# 100 tokens take one panel of outputs through the experts at a time; a few, three of thirteen, and at last one.
@pytest.mark.parametrize(("hidden", "tokens"), [(D, 40), (13 * 32, 100)])
def test_a_token_does_not_see_its_neighbours(hidden: int, tokens: int, name: str) -> None:
    rng = np.random.default_rng(3)
    e = Experts(rng, "Q4_0", 64, hidden)
    h, experts = activations(rng, tokens, hidden), choose(rng, tokens)
    x, weights = activations(rng, tokens, hidden), rng.random((tokens, K)).astype(np.float32)
    inner = gather(device_of(name, 1), e, h, experts)
    outer = combine(device_of(name, 1), e, x, inner, experts, weights)
    for count in (1, 2, 5, 12, 17):
        first = int(rng.integers(0, tokens - count + 1))
        some, pairs = slice(first, first + count), slice(first * K, (first + count) * K)
        for threads in (1, 3):
            part = gather(device_of(name, threads), e, h[some], experts[some])
            assert same_bits(part, inner[pairs])
            part = combine(device_of(name, threads), e, x[some], inner[pairs], experts[some], weights[some])
            assert same_bits(part, outer[some])


@pytest.mark.parametrize(("dtype", "width"), [("Q4_0", 96), ("F16", 96), ("Q6_K", 256)])
@pytest.mark.parametrize("tokens", [1, 3, 40, 230])
def test_the_shared_expert_is_its_own_products(dtype: str, width: int, tokens: int, name: str) -> None:
    rng = np.random.default_rng(6)
    d, inner = (256, 64) if dtype == "Q6_K" else (D, 64)
    gates, ups = (Matrix(rng, "Q4_0", E * inner, d, E) for _ in range(2))
    downs = Matrix(rng, "Q4_0", E * d, inner, E)
    gate, up = Matrix(rng, dtype, width, d), Matrix(rng, dtype, width, d)
    down = Matrix(rng, dtype, d, width)
    x, h, experts = activations(rng, tokens, d), activations(rng, tokens, d), choose(rng, tokens)
    weights = rng.random((tokens, K)).astype(np.float32)

    def run(device: kernels.Device, together: bool) -> tuple[Array, Array, Array]:
        routed, act, out = ragged(tokens * K, inner), ragged(tokens, width), ragged(tokens, d)
        out[:] = x
        matrices = gate.pack(device), up.pack(device), down.pack(device)
        packed = [matrix.pack(device) for matrix in (gates, ups, downs)]
        mixture = kernels.Experts(*packed, E, matrices if together else None)
        device.moe_gather(routed, h, mixture, experts, act if together else None)
        if not together:
            device.swiglu(act, h, *matrices[:2])
        device.moe_combine(out, routed, mixture, experts, weights, act if together else None)
        if not together:
            device.matmul_add(out, act, matrices[2])
        return routed, act, out

    expected = run(device_of(REFERENCE, 1), together=False)
    for threads in (1, 3):
        got = run(device_of(name, threads), together=True)
        assert all(agree(name, a, b, "quantised") for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("tokens", [1, 9, 40])
def test_the_shared_expert_passes_its_gate(tokens: int, name: str) -> None:
    rng = np.random.default_rng(8)
    e, device = Experts(rng, "Q4_0", 64), device_of(name, 2)
    shared = tuple(Matrix(rng, "Q8_0", *shape).pack(device) for shape in ((96, D), (96, D), (D, 96)))
    mixture = kernels.Experts(e.gate.pack(device), e.up.pack(device), e.down.pack(device), E, shared)
    h, experts = activations(rng, tokens, D), choose(rng, tokens)
    gate = ragged(tokens, 1)
    gate[:] = 4 * rng.standard_normal(gate.shape)
    routed, whole, gated = ragged(tokens * K, 64), ragged(tokens, 96), ragged(tokens, 96)
    device.moe_gather(routed, h, mixture, experts, whole)
    device.moe_gather(routed, h, mixture, experts, gated, gate)
    exact = whole.astype(np.float64) / (1 + np.exp(-gate.astype(np.float64)))
    np.testing.assert_allclose(gated, exact, rtol=4e-7, atol=1e-30)


@pytest.mark.parametrize(("width", "groups"), [(40, 2 * E), (64, 2 * E), (64, E)])
def test_gate_and_up_in_one_matrix(width: int, groups: int, name: str) -> None:
    rng = np.random.default_rng(4)
    e, tokens = Experts(rng, "Q4_0", width), 9
    h, experts = activations(rng, tokens, D), choose(rng, tokens)
    device = device_of(name, 2)
    both = np.stack([e.gate.data.reshape(E, -1), e.up.data.reshape(E, -1)], axis=1).ravel()
    packed = device.pack(both, "Q4_0", 2 * E * width, D, groups)
    out = ragged(tokens * K, width)
    device.moe_gather(out, h, kernels.Experts(packed, None, e.down.pack(device), E), experts)
    assert agree(name, out, gather(device, e, h, experts), "quantised")


def test_wrong_experts_are_named() -> None:
    rng = np.random.default_rng(5)
    e, device = Experts(rng, "Q4_0"), device_of(REFERENCE, 1)
    experts = np.array([[0, 1, E]], np.int32)
    with pytest.raises(InputError, match="outside the 7 experts"):
        gather(device, e, activations(rng, 1, D), experts)
    flat = device.pack(e.gate.data, "Q4_0", E * F, D)
    with pytest.raises(InputError, match="one group per expert"):
        device.moe_gather(ragged(K, F), ragged(1, D), kernels.Experts(flat, flat, e.down.pack(device), E), experts)


def test_a_shared_expert_that_does_not_fit_is_named() -> None:
    rng = np.random.default_rng(7)
    e, device = Experts(rng, "Q4_0"), device_of(REFERENCE, 1)
    gate, up, down = Matrix(rng, "Q4_0", 32, D), Matrix(rng, "Q4_0", 32, D), Matrix(rng, "Q4_0", D, 64)
    packed = [matrix.pack(device) for matrix in (e.gate, e.up, e.down)]
    mixture = kernels.Experts(*packed, E, (gate.pack(device), up.pack(device), down.pack(device)))
    with pytest.raises(InputError, match="shared expert"):
        device.moe_gather(ragged(K, F), activations(rng, 1, D), mixture, choose(rng, 1), ragged(1, 32))
