"""gated_delta_net: convolution, delta rule and gated norm of specification 2.2 to 2.8, in GGUF head order."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from kernel_cases import cpu_of, cuts, empty, rms, rows, same_bits, sigmoid, silu, softplus, vector

from qwen35_local._core.kernels import Cpu
from qwen35_local.errors import Qwen35Error

TILE = 32
TAPS = 4
EPS = 1e-6
CHUNK = Cpu.DELTA_CHUNK


@dataclass
class Case:
    shape: tuple[int, int, int, int]  # Hk, Hv, Dk, Dv
    qkv: np.ndarray
    z: np.ndarray
    a: np.ndarray
    b: np.ndarray
    conv: np.ndarray  # [C, TAPS]
    ssm_a: np.ndarray
    dt_bias: np.ndarray
    norm: np.ndarray
    window: np.ndarray  # [TAPS - 1, C]
    memory: np.ndarray  # [Hv, Dk, Dv]

    @classmethod
    def of(cls, seed, count, hk, hv, dk, dv):
        rng = np.random.default_rng(seed)
        channels = 2 * hk * dk + hv * dv
        return cls(
            (hk, hv, dk, dv),
            rows(rng, count, channels),
            rows(rng, count, hv * dv, 2.0),
            rows(rng, count, hv, 2.0),
            rows(rng, count, hv, 2.0),
            vector(rng, channels * TAPS).reshape(channels, TAPS),
            -np.exp(vector(rng, hv)),
            vector(rng, hv),
            vector(rng, dv),
            vector(rng, (TAPS - 1) * channels).reshape(TAPS - 1, channels),
            vector(rng, hv * dk * dv, 0.1).reshape(hv, dk, dv),
        )

    @property
    def parameters(self):
        return self.conv, self.ssm_a, self.dt_bias, self.norm

    def state(self):
        """What a sequence keeps, before its first token; what waits is NaN, since nothing may be read of it."""
        hk, hv, dk, dv = self.shape
        waiting = [(hk, CHUNK, dk), (hv, dv // TILE, CHUNK, TILE), (hv, CHUNK)]
        return (self.window.copy(), tiled(self.memory), *(np.full(s, np.nan, np.float32) for s in waiting))


def tiled(memory):
    hv, dk, dv = memory.shape
    return np.array(memory.reshape(hv, dk, dv // TILE, TILE).transpose(0, 2, 1, 3), order="C")


def untiled(memory):
    hv, tiles, dk, _ = memory.shape
    return memory.transpose(0, 2, 1, 3).reshape(hv, dk, tiles * TILE)


def run(cpu, case, pieces, position=0):
    """The outputs, and what is kept after the last token. `position` is a multiple of CHUNK."""
    hk, hv, dk, dv = case.shape
    out, state, at = empty(len(case.qkv), hv * dv), case.state(), 0
    for count in pieces:
        part = slice(at, at + count)
        cpu.gated_delta_net(out[part], case.qkv[part], case.z[part], case.a[part], case.b[part], case.parameters,
                            [hk, hv, dk, dv, TAPS], EPS, [(0, count, position + at)], [state])  # fmt: skip
        at += count
    return out, state


def same_state(a, b):
    return all(same_bits(x, y) for x, y in zip(a, b, strict=True))


def formula(case):
    """In double: the outputs of the delta rule, those after the gated norm, and the memory."""
    hk, hv, dk, dv = case.shape
    count = len(case.qkv)
    extended = np.concatenate([case.window, case.qkv]).astype(np.float64)
    wide = silu(sum(extended[j : j + count] * case.conv[:, j] for j in range(TAPS)))
    q = wide[:, : hk * dk].reshape(count, hk, dk)
    k = wide[:, hk * dk : 2 * hk * dk].reshape(count, hk, dk)
    v = wide[:, 2 * hk * dk :].reshape(count, hv, dv)
    q = q / np.sqrt((q * q).sum(-1, keepdims=True) + 1e-6) * dk**-0.5
    k = k / np.sqrt((k * k).sum(-1, keepdims=True) + 1e-6)
    heads = np.arange(hv) % hk
    q, k = q[:, heads], k[:, heads]
    decay = np.exp(case.ssm_a * softplus(case.a.astype(np.float64) + case.dt_bias))
    beta = sigmoid(case.b.astype(np.float64))
    s = case.memory.astype(np.float64)
    out = np.empty((count, hv, dv))
    for t in range(count):
        s = decay[t][:, None, None] * s
        error = beta[t][:, None] * (v[t] - np.einsum("hkv,hk->hv", s, k[t]))
        s = s + k[t][:, :, None] * error[:, None, :]
        out[t] = np.einsum("hkv,hk->hv", s, q[t])
    gated = rms(out, EPS) * case.norm * silu(case.z.astype(np.float64)).reshape(out.shape)
    return out, gated.reshape(count, -1), s


def check_outputs(case, out):
    plain, wanted, memory = formula(case)
    # A chain of Dk <= 128 roundings of 2^-24 grows as a random walk, about 12 of them; the decay forgets what earlier
    # tokens added, so an output of the delta rule stays within a few such steps of the largest: 64 * 2^-24. The norm
    # divides that by the root mean square of its head, and the gate and weight scale it; its own roundings are 3e-7.
    scale = np.sqrt((plain * plain).mean(-1, keepdims=True) + EPS)
    gate = np.abs(case.norm * silu(case.z.astype(np.float64)).reshape(plain.shape))
    bound = (4e-6 * np.abs(plain).max() / scale * gate * 2).reshape(wanted.shape) + 3e-7 * np.abs(wanted)
    assert np.all(np.abs(out - wanted) <= bound)
    return memory


SHAPES = [(1, 1, 4, 32), (2, 4, 20, 64), (3, 9, 128, 32), (2, 2, 128, 128)]


@pytest.mark.parametrize("shape", SHAPES)
def test_formula(cpu, shape):
    case = Case.of(1, 72, *shape)
    out, (window, memory, *_) = run(cpu, case, [72])
    wanted_memory = check_outputs(case, out)
    assert np.abs(untiled(memory) - wanted_memory).max() <= 4e-6 * np.abs(wanted_memory).max()
    assert np.array_equal(window, case.qkv[-3:])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pieces", [[1], [2], [9], [1, 5, 3], [3, 70]])
def test_vector_kernels_have_the_bits_of_the_scalar_twin(vector_isa, shape, pieces):
    case = Case.of(2, sum(pieces), *shape)
    out, state = run(cpu_of(vector_isa, 1), case, pieces)
    twin, twin_state = run(cpu_of("reference", 1), case, pieces)
    assert same_bits(out, twin)
    assert same_state(state, twin_state)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_cuts_do_not_matter(isa, threads):
    count = 131  # two blocks of tokens, and a chunk that stays open
    case = Case.of(3, count, 2, 4, 16, 64)
    whole, left = run(cpu_of(isa, 1), case, [count])
    assert np.isfinite(whole).all()
    for pieces in cuts(np.random.default_rng(threads), count):
        out, state = run(cpu_of(isa, threads), case, pieces)
        assert same_bits(out, whole), pieces
        window, memory, keys, deltas, decays = state
        open_tokens = count % CHUNK  # beyond them lies what an earlier chunk left
        assert same_bits(window, left[0]), pieces
        assert same_bits(memory, left[1]), pieces
        assert same_bits(keys[:, :open_tokens], left[2][:, :open_tokens]), pieces
        assert same_bits(deltas[:, :, :open_tokens], left[3][:, :, :open_tokens]), pieces
        assert same_bits(decays[:, :open_tokens], left[4][:, :open_tokens]), pieces


@pytest.mark.parametrize("first", range(1, 2 * CHUNK + 1))
def test_a_copy_goes_on_as_its_original(isa, first):
    """Within a chunk too: everything that a later token depends on is in the arrays."""
    case = Case.of(7, 12, 1, 2, 20, 32)
    whole, _ = run(cpu_of(isa, 1), case, [12])
    rest = slice(first, None)
    _, state = run(cpu_of(isa, 1), replace(case, qkv=case.qkv[:first]), [first])
    for _ in range(2):
        copy, out = tuple(x.copy() for x in state), empty(12 - first, 64)
        cpu_of(isa, 1).gated_delta_net(out, case.qkv[rest], case.z[rest], case.a[rest], case.b[rest], case.parameters,
                                       [1, 2, 20, 32, TAPS], EPS, [(0, 12 - first, first)], [copy])  # fmt: skip
        assert same_bits(out, whole[rest])


def test_segments_do_not_see_each_other(isa):
    counts, positions = [1, 8, 3], [4, 0, 76]
    cases = [Case.of(10 + i, n, 2, 6, 32, 32) for i, n in enumerate(counts)]
    for c in cases:  # one model
        c.conv, c.ssm_a, c.dt_bias, c.norm = cases[0].parameters
    alone = [run(cpu_of(isa, 1), c, [len(c.qkv)], p) for c, p in zip(cases, positions, strict=True)]
    qkv, z, a, b = (np.concatenate([getattr(c, f) for c in cases]) for f in ("qkv", "z", "a", "b"))
    ranges = [(sum(counts[:i]), n, p) for i, (n, p) in enumerate(zip(counts, positions, strict=True))]
    for threads in (1, 3):
        states = [c.state() for c in cases]
        out = empty(sum(counts), 6 * 32)
        cpu_of(isa, threads).gated_delta_net(out, qkv, z, a, b, cases[0].parameters, [2, 6, 32, 32, TAPS], EPS, ranges,
                                             states)  # fmt: skip
        assert same_bits(out, np.concatenate([a[0] for a in alone]))
        assert all(same_state(s, a[1]) for s, a in zip(states, alone, strict=True))


def test_extreme_gates(isa):
    """Decay 0 and 1, beta 0 and 1: nothing overflows, nothing is lost."""
    case = Case.of(4, 8, 1, 1, 16, 32)
    case.a[:] = np.resize([200.0, -200.0, 200.0, -200.0, -200.0, -200.0, 200.0, 200.0], (8, 1))
    case.b[:] = np.resize([200.0, 200.0, -200.0, -200.0], (8, 1))
    out, (_, memory, *_) = run(cpu_of(isa, 1), case, [8])
    assert np.isfinite(memory).all()
    check_outputs(case, out)


def test_zero_rows_are_harmless(cpu):
    case = Case.of(5, 4, 1, 2, 8, 32)
    case.qkv[:], case.window[:] = 0.0, 0.0
    case.memory[:] = 0.0
    out, (_, memory, *_) = run(cpu, case, [4])
    assert not out.any()
    assert not memory.any()


def refused(cpu, case, shape):
    cpu.gated_delta_net(case.z, case.qkv, case.z, case.a, case.b, case.parameters, shape, EPS, [(0, 1, 0)],
                        [case.state()])  # fmt: skip


def test_other_shapes_are_refused(cpu):
    case = Case.of(6, 1, 1, 1, 8, 32)
    with pytest.raises(Qwen35Error, match="multiple of 32"):
        refused(cpu, case, [1, 1, 8, 40, 4])
    with pytest.raises(Qwen35Error, match="linear_conv_kernel_dim is 3"):
        refused(cpu, case, [1, 1, 8, 32, 3])
