"""Products with the chosen experts, against the dense products they are made of: the same bits, in any company."""

import numpy as np
import pytest
from kernel_cases import cpu_of
from matrices import Array, Matrix, activations, bits, product, ragged
from numpy.typing import NDArray

from qwen35_local._core import kernels
from qwen35_local.errors import InputError

E, K, D, F = 7, 3, 64, 40  # F in the middle of a panel
TYPES = ["Q4_0", "Q8_0", "F32"]


class Experts:
    def __init__(self, rng: np.random.Generator, dtype: str, width: int = F) -> None:
        self.width = width
        self.gate, self.up = (Matrix(rng, dtype, E * width, D, E) for _ in range(2))
        self.down = Matrix(rng, dtype, E * D, (width + 31) // 32 * 32, E)

    def one(self, matrix: Matrix, expert: int) -> Matrix:
        part = object.__new__(Matrix)
        part.__dict__.update(matrix.__dict__)
        part.rows, part.groups = matrix.rows // E, 1
        part.data = matrix.data.reshape(E, -1)[expert].copy()
        return part


def choose(rng: np.random.Generator, tokens: int) -> NDArray[np.int32]:
    return np.stack([rng.permutation(E)[:K] for _ in range(tokens)]).astype(np.int32)


def gather(cpu: kernels.Cpu, e: Experts, h: Array, experts: NDArray[np.int32]) -> Array:
    out = ragged(len(h) * K, e.width)
    kernels.moe_gather(cpu, out, h, e.gate.pack(cpu), e.up.pack(cpu), experts, E)
    return out


def combine(cpu: kernels.Cpu, e: Experts, x: Array, h: Array, experts: NDArray[np.int32], weights: Array) -> Array:
    out = ragged(*x.shape)
    out[:] = x
    kernels.moe_combine(cpu, out, h, e.down.pack(cpu), experts, weights, E)
    return out


@pytest.mark.parametrize("dtype", TYPES)
def test_gather_is_swiglu_with_the_chosen_expert(dtype: str, isa: str) -> None:
    rng = np.random.default_rng(1)
    e, tokens = Experts(rng, dtype), 60
    h, experts = activations(rng, tokens, D), choose(rng, tokens)
    got = gather(cpu_of(isa, 2), e, h, experts).reshape(tokens, K, F)
    cpu = cpu_of("reference", 1)
    for expert in range(E):
        token, slot = np.nonzero(experts == expert)
        expected = ragged(len(token), F)
        gate, up = e.one(e.gate, expert).pack(cpu), e.one(e.up, expert).pack(cpu)
        kernels.swiglu(cpu, expected, np.ascontiguousarray(h[token]), gate, up)
        assert (bits(got[token, slot]) == bits(expected)).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_combine_adds_slots_in_order(dtype: str, isa: str) -> None:
    rng = np.random.default_rng(2)
    e, tokens = Experts(rng, dtype, 64), 60
    experts, h = choose(rng, tokens), activations(rng, tokens * K, 64)
    x = rng.standard_normal((tokens, D)).astype(np.float32)
    weights = rng.random((tokens, K)).astype(np.float32)
    got = combine(cpu_of(isa, 2), e, x, h, experts, weights)
    products = np.empty((tokens, K, D), np.float32)
    by_slot = h.reshape(tokens, K, 64)
    for expert in range(E):
        token, slot = np.nonzero(experts == expert)
        rows = np.ascontiguousarray(by_slot[token, slot])
        [products[token, slot]] = product(cpu_of("reference", 1), rows, e.one(e.down, expert))
    total = np.zeros_like(x)
    for slot in range(K):
        total += weights[:, slot, None] * products[:, slot]
    assert (bits(got) == bits(x + total)).all()


def test_a_token_does_not_see_its_neighbours(isa: str) -> None:
    rng = np.random.default_rng(3)
    e, tokens = Experts(rng, "Q4_0", 64), 13
    h, experts = activations(rng, tokens, D), choose(rng, tokens)
    x, weights = activations(rng, tokens, D), rng.random((tokens, K)).astype(np.float32)
    inner = gather(cpu_of(isa, 1), e, h, experts)
    outer = combine(cpu_of(isa, 1), e, x, inner, experts, weights)
    for count in (1, 2, 5, 12):
        first = int(rng.integers(0, tokens - count + 1))
        some, pairs = slice(first, first + count), slice(first * K, (first + count) * K)
        part = gather(cpu_of(isa, 3), e, h[some], experts[some])
        assert (bits(part) == bits(inner[pairs])).all()
        part = combine(cpu_of(isa, 3), e, x[some], inner[pairs], experts[some], weights[some])
        assert (bits(part) == bits(outer[some])).all()


@pytest.mark.parametrize(("dtype", "width"), [("Q4_0", 96), ("F16", 96), ("Q6_K", 256)])
@pytest.mark.parametrize("tokens", [1, 3, 40, 230])
def test_the_shared_expert_has_the_bits_of_its_own_products(dtype: str, width: int, tokens: int, isa: str) -> None:
    rng = np.random.default_rng(6)
    d, inner = (256, 64) if dtype == "Q6_K" else (D, 64)
    gates, ups = (Matrix(rng, "Q4_0", E * inner, d, E) for _ in range(2))
    downs = Matrix(rng, "Q4_0", E * d, inner, E)
    gate, up = Matrix(rng, dtype, width, d), Matrix(rng, dtype, width, d)
    down = Matrix(rng, dtype, d, width)
    x, h, experts = activations(rng, tokens, d), activations(rng, tokens, d), choose(rng, tokens)
    weights = rng.random((tokens, K)).astype(np.float32)

    def run(cpu: kernels.Cpu, together: bool) -> tuple[Array, Array, Array]:
        routed, act, out = ragged(tokens * K, inner), ragged(tokens, width), ragged(tokens, d)
        out[:] = x
        matrices = gate.pack(cpu), up.pack(cpu), down.pack(cpu)
        shared = (act, *matrices) if together else None
        kernels.moe_gather(cpu, routed, h, gates.pack(cpu), ups.pack(cpu), experts, E, shared)
        if not together:
            kernels.swiglu(cpu, act, h, *matrices[:2])
        kernels.moe_combine(cpu, out, routed, downs.pack(cpu), experts, weights, E, shared)
        if not together:
            kernels.matmul_add(cpu, out, act, matrices[2])
        return routed, act, out

    expected = run(cpu_of("reference", 1), together=False)
    for threads in (1, 3):
        got = run(cpu_of(isa, threads), together=True)
        assert all((bits(a) == bits(b)).all() for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(("width", "groups"), [(40, 2 * E), (64, 2 * E), (64, E)])
def test_gate_and_up_in_one_matrix(width: int, groups: int) -> None:
    rng = np.random.default_rng(4)
    e, tokens = Experts(rng, "Q4_0", width), 9
    h, experts = activations(rng, tokens, D), choose(rng, tokens)
    cpu = cpu_of(kernels.isas()[-1], 2)
    both = np.stack([e.gate.data.reshape(E, -1), e.up.data.reshape(E, -1)], axis=1).ravel()
    packed = kernels.pack(cpu, both, "Q4_0", 2 * E * width, D, groups)
    out = ragged(tokens * K, width)
    kernels.moe_gather(cpu, out, h, packed, None, experts, E)
    assert (bits(out) == bits(gather(cpu, e, h, experts))).all()


def test_wrong_experts_are_named() -> None:
    rng = np.random.default_rng(5)
    e, cpu = Experts(rng, "Q4_0"), cpu_of("reference", 1)
    experts = np.array([[0, 1, E]], np.int32)
    with pytest.raises(InputError, match="outside the 7 experts"):
        gather(cpu, e, activations(rng, 1, D), experts)
    flat = kernels.pack(cpu, e.gate.data, "Q4_0", E * F, D)
    with pytest.raises(InputError, match="one group per expert"):
        kernels.moe_gather(cpu, ragged(K, F), ragged(1, D), flat, flat, experts, E)


def test_a_shared_expert_that_does_not_fit_is_named() -> None:
    rng = np.random.default_rng(7)
    e, cpu = Experts(rng, "Q4_0"), cpu_of("reference", 1)
    gate, up, down = Matrix(rng, "Q4_0", 32, D), Matrix(rng, "Q4_0", 32, D), Matrix(rng, "Q4_0", D, 64)
    shared = ragged(1, 32), gate.pack(cpu), up.pack(cpu), down.pack(cpu)
    with pytest.raises(InputError, match="shared expert"):
        h, experts = activations(rng, 1, D), choose(rng, 1)
        kernels.moe_gather(cpu, ragged(K, F), h, e.gate.pack(cpu), e.up.pack(cpu), experts, E, shared)
