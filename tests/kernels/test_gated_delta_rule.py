"""gated_delta_rule: the recurrence of specification 2.3 to 2.6, in GGUF head order."""

from dataclasses import dataclass

import numpy as np
import pytest
from kernel_cases import cpu_of, cuts, rows, same_bits, sigmoid, softplus, vector

from qwen35_local import _core

TILE = 32


@dataclass
class Case:
    shape: tuple[int, int, int, int]  # Hk, Hv, Dk, Dv
    qkv: np.ndarray
    a: np.ndarray
    b: np.ndarray
    a_neg: np.ndarray
    dt_bias: np.ndarray
    memory: np.ndarray  # [Hv, Dk, Dv]

    @classmethod
    def of(cls, seed, count, hk, hv, dk, dv):
        rng = np.random.default_rng(seed)
        return cls(
            (hk, hv, dk, dv),
            rows(rng, count, 2 * hk * dk + hv * dv),
            rows(rng, count, hv, 2.0),
            rows(rng, count, hv, 2.0),
            -np.exp(vector(rng, hv)),
            vector(rng, hv),
            vector(rng, hv * dk * dv, 0.1).reshape(hv, dk, dv),
        )


def tiled(memory):
    hv, dk, dv = memory.shape
    return np.array(memory.reshape(hv, dk, dv // TILE, TILE).transpose(0, 2, 1, 3), order="C")


def untiled(memory):
    hv, tiles, dk, _ = memory.shape
    return memory.transpose(0, 2, 1, 3).reshape(hv, dk, tiles * TILE)


def run(cpu, case, pieces):
    hk, hv, dk, dv = case.shape
    out = np.full((len(case.qkv), hv * dv), np.nan, np.float32)
    memory, at = tiled(case.memory), 0
    for count in pieces:
        part = slice(at, at + count)
        cpu.gated_delta_rule(out[part], case.qkv[part], case.a[part], case.b[part], case.a_neg, case.dt_bias,
                             [hk, hv, dk, dv, 4], [(0, count, at)], [memory])  # fmt: skip
        at += count
    return out, memory


def formula(case):
    hk, hv, dk, dv = case.shape
    count = len(case.qkv)
    wide = case.qkv.astype(np.float64)
    q = wide[:, : hk * dk].reshape(count, hk, dk)
    k = wide[:, hk * dk : 2 * hk * dk].reshape(count, hk, dk)
    v = wide[:, 2 * hk * dk :].reshape(count, hv, dv)
    q = q / np.sqrt((q * q).sum(-1, keepdims=True) + 1e-6) * dk**-0.5
    k = k / np.sqrt((k * k).sum(-1, keepdims=True) + 1e-6)
    heads = np.arange(hv) % hk
    q, k = q[:, heads], k[:, heads]
    decay = np.exp(case.a_neg * softplus(case.a.astype(np.float64) + case.dt_bias))
    beta = sigmoid(case.b.astype(np.float64))
    s = case.memory.astype(np.float64)
    out = np.empty((count, hv, dv))
    for t in range(count):
        s = decay[t][:, None, None] * s
        error = beta[t][:, None] * (v[t] - np.einsum("hkv,hk->hv", s, k[t]))
        s = s + k[t][:, :, None] * error[:, None, :]
        out[t] = np.einsum("hkv,hk->hv", s, q[t])
    return out.reshape(count, -1), s


SHAPES = [(1, 1, 4, 32), (2, 4, 20, 64), (3, 9, 128, 32), (2, 2, 128, 128)]


@pytest.mark.parametrize("shape", SHAPES)
def test_formula(cpu, shape):
    case = Case.of(1, 70, *shape)
    out, memory = run(cpu, case, [70])
    wanted, wanted_memory = formula(case)
    # A chain of Dk <= 128 roundings of 2^-24 grows as a random walk, about 12 of them; the decay forgets what earlier
    # tokens added, so the whole run stays within a few such steps of the largest value: 64 * 2^-24.
    assert np.abs(out - wanted).max() <= 4e-6 * np.abs(wanted).max()
    assert np.abs(untiled(memory) - wanted_memory).max() <= 4e-6 * np.abs(wanted_memory).max()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pieces", [[1], [2], [9], [1, 5, 3]])
def test_vector_kernels_have_the_bits_of_the_scalar_twin(vector_isa, shape, pieces):
    case = Case.of(2, sum(pieces), *shape)
    out, memory = run(cpu_of(vector_isa, 1), case, pieces)
    twin, twin_memory = run(cpu_of("reference", 1), case, pieces)
    assert same_bits(out, twin)
    assert same_bits(memory, twin_memory)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_cuts_do_not_matter(isa, threads):
    case = Case.of(3, 33, 2, 4, 64, 64)
    whole, left = run(cpu_of(isa, 1), case, [33])
    for pieces in cuts(np.random.default_rng(threads), 33):
        out, memory = run(cpu_of(isa, threads), case, pieces)
        assert same_bits(out, whole), pieces
        assert same_bits(memory, left), pieces


def test_segments_do_not_see_each_other(isa):
    cases = [Case.of(10 + i, n, 2, 6, 32, 32) for i, n in enumerate([1, 8, 3])]
    together = Case(cases[0].shape, *(np.concatenate([getattr(c, f) for c in cases]) for f in ("qkv", "a", "b")),
                    cases[0].a_neg, cases[0].dt_bias, cases[0].memory)  # fmt: skip
    for c in cases:  # one model, so one set of gates
        c.a_neg, c.dt_bias = together.a_neg, together.dt_bias
    alone = [run(cpu_of(isa, 1), c, [len(c.qkv)]) for c in cases]
    for threads in (1, 3):
        memories = [tiled(c.memory) for c in cases]
        out = np.empty((12, 6 * 32), np.float32)
        cpu_of(isa, threads).gated_delta_rule(out, together.qkv, together.a, together.b, together.a_neg,
                                              together.dt_bias, [2, 6, 32, 32, 4], [(0, 1, 5), (1, 8, 0), (9, 3, 77)],
                                              memories)  # fmt: skip
        assert same_bits(out, np.concatenate([a[0] for a in alone]))
        assert all(same_bits(m, a[1]) for m, a in zip(memories, alone, strict=True))


def test_extreme_gates(isa):
    """Decay 0 and 1, beta 0 and 1: nothing overflows, nothing is lost."""
    case = Case.of(4, 4, 1, 1, 16, 32)
    case.a[:] = [[200.0], [-200.0], [200.0], [-200.0]]
    case.b[:] = [[200.0], [200.0], [-200.0], [-200.0]]
    out, memory = run(cpu_of(isa, 1), case, [4])
    wanted, _ = formula(case)
    assert np.isfinite(memory).all()
    assert np.abs(out - wanted).max() <= 4e-6 * np.abs(wanted).max()


def test_zero_rows_are_harmless(cpu):
    case = Case.of(5, 2, 1, 2, 8, 32)
    case.qkv[:] = 0.0
    out, memory = run(cpu, case, [2])
    assert not out.any()
    assert np.isfinite(memory).all()


def test_ragged_value_width_is_refused(cpu):
    case = Case.of(6, 1, 1, 1, 8, 32)
    with pytest.raises(_core.CoreError, match="multiple of 32"):
        cpu.gated_delta_rule(case.qkv, case.qkv, case.a, case.b, case.a_neg, case.dt_bias, [1, 1, 8, 40, 4],
                             [(0, 1, 0)], [case.memory])  # fmt: skip
