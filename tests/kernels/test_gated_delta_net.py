"""gated_delta_net: convolution, delta rule and gated norm of docs/architecture.md 2.2 to 2.8, in GGUF head order."""

from dataclasses import dataclass

import numpy as np
import pytest
from kernel_cases import (
    REFERENCE,
    agree,
    cuts,
    device_of,
    empty,
    rms,
    rows,
    same_bits,
    sigmoid,
    silu,
    softplus,
    vector,
)

from qwen35_local._core import kernels
from qwen35_local.errors import InputError

TAPS = 4
EPS = 1e-6


@dataclass
class Case:
    """A sequence from its first token on, in one layer."""

    shape: tuple[int, int, int, int]  # Hk, Hv, Dk, Dv
    qkv: np.ndarray
    z: np.ndarray
    a: np.ndarray
    b: np.ndarray
    conv: np.ndarray  # [C, TAPS]
    ssm_a: np.ndarray
    dt_bias: np.ndarray
    norm: np.ndarray

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
        )

    @property
    def parameters(self):
        return self.conv, self.ssm_a, self.dt_bias, self.norm

    def state(self, device):
        return kernels.DeltaState(device, [*self.shape, TAPS])

    def go_on(self, device, state, first, pieces):
        """The outputs of the tokens from `first` on, in calls of `pieces` tokens."""
        out, at = empty(sum(pieces), self.shape[1] * self.shape[3]), first
        for count in pieces:
            part = slice(at, at + count)
            device.gated_delta_net(out[at - first : at - first + count], self.qkv[part], self.z[part], self.a[part],
                                   self.b[part], self.parameters, [*self.shape, TAPS], EPS, [(0, count, at)],
                                   [state])  # fmt: skip
            at += count
        return out


def run(device, case, pieces):
    return case.go_on(device, case.state(device), 0, pieces)


def formula(case):
    """In double: the outputs of the delta rule, and those after the gated norm."""
    hk, hv, dk, dv = case.shape
    count = len(case.qkv)
    extended = np.concatenate([np.zeros((TAPS - 1, case.qkv.shape[1])), case.qkv]).astype(np.float64)
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
    s = np.zeros((hv, dk, dv))
    out = np.empty((count, hv, dv))
    for t in range(count):
        s = decay[t][:, None, None] * s
        error = beta[t][:, None] * (v[t] - np.einsum("hkv,hk->hv", s, k[t]))
        s = s + k[t][:, :, None] * error[:, None, :]
        out[t] = np.einsum("hkv,hk->hv", s, q[t])
    gated = rms(out, EPS) * case.norm * silu(case.z.astype(np.float64)).reshape(out.shape)
    return out, gated.reshape(count, -1)


def check_outputs(case, out):
    plain, wanted = formula(case)
    # A chain of Dk <= 128 roundings of 2^-24 grows as a random walk, about 12 of them; the decay forgets what earlier
    # tokens added, so an output of the delta rule stays within a few such steps of the largest: 64 * 2^-24. The norm
    # divides that by the root mean square of its head, and the gate and weight scale it; its own roundings are 3e-7.
    scale = np.sqrt((plain * plain).mean(-1, keepdims=True) + EPS)
    gate = np.abs(case.norm * silu(case.z.astype(np.float64)).reshape(plain.shape))
    bound = (4e-6 * np.abs(plain).max() / scale * gate * 2).reshape(wanted.shape) + 3e-7 * np.abs(wanted)
    assert np.all(np.abs(out - wanted) <= bound)


SHAPES = [(1, 1, 4, 32), (2, 4, 20, 64), (3, 9, 128, 32), (2, 2, 128, 128)]


@pytest.mark.parametrize("shape", SHAPES)
def test_formula(device, shape):
    case = Case.of(1, 72, *shape)
    check_outputs(case, run(device, case, [72]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pieces", [[1], [2], [9], [1, 5, 3], [3, 70]])
def test_devices_agree(other_name, shape, pieces):
    case = Case.of(2, sum(pieces), *shape)
    assert agree(other_name, run(device_of(other_name, 1), case, pieces), run(device_of(REFERENCE, 1), case, pieces))


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_cuts_do_not_matter(name, threads):
    count = 131  # two of the CPU's blocks of tokens, and a chunk that stays open
    case = Case.of(3, count, 2, 4, 16, 64)
    whole = run(device_of(name, 1), case, [count])
    assert np.isfinite(whole).all()
    for pieces in cuts(np.random.default_rng(threads), count):
        assert same_bits(run(device_of(name, threads), case, pieces), whole), pieces


@pytest.mark.parametrize("first", range(1, 9))
def test_a_copy_goes_on_as_its_original(device, first):
    """At every token of a chunk: all that a later token depends on is in the state."""
    case = Case.of(7, 12, 1, 2, 20, 32)
    whole, state = run(device, case, [12]), case.state(device)
    case.go_on(device, state, 0, [first])
    for _ in range(2):
        copy = case.state(device)
        copy.copy_from(state)
        assert same_bits(case.go_on(device, copy, first, [12 - first]), whole[first:])


def test_segments_do_not_see_each_other(name):
    counts, firsts = [1, 8, 3], [4, 0, 77]
    cases = [Case.of(10 + i, f + n, 2, 6, 32, 32) for i, (f, n) in enumerate(zip(firsts, counts, strict=True))]
    for c in cases:  # one model
        c.conv, c.ssm_a, c.dt_bias, c.norm = cases[0].parameters
    alone = [run(device_of(name, 1), c, [len(c.qkv)])[f:] for c, f in zip(cases, firsts, strict=True)]
    new = [
        np.concatenate([getattr(c, part)[f:] for c, f in zip(cases, firsts, strict=True)])
        for part in ("qkv", "z", "a", "b")
    ]
    ranges = [(sum(counts[:i]), n, f) for i, (n, f) in enumerate(zip(counts, firsts, strict=True))]
    for threads in (1, 3):
        device, out = device_of(name, threads), empty(sum(counts), 6 * 32)
        states = [c.state(device) for c in cases]
        for c, state, first in zip(cases, states, firsts, strict=True):
            c.go_on(device, state, 0, [first] if first else [])
        device.gated_delta_net(out, *new, cases[0].parameters, [2, 6, 32, 32, TAPS], EPS, ranges, states)
        assert same_bits(out, np.concatenate(alone))


def test_extreme_gates(device):
    """Decay 0 and 1, beta 0 and 1: nothing overflows, nothing is lost."""
    case = Case.of(4, 8, 1, 1, 16, 32)
    case.a[:] = np.resize([200.0, -200.0, 200.0, -200.0, -200.0, -200.0, 200.0, 200.0], (8, 1))
    case.b[:] = np.resize([200.0, 200.0, -200.0, -200.0], (8, 1))
    out = run(device, case, [8])
    assert np.isfinite(out).all()
    check_outputs(case, out)


def test_zero_rows_are_harmless(device):
    case = Case.of(5, 4, 1, 2, 8, 32)
    case.qkv[:] = 0.0
    assert not run(device, case, [4]).any()


def refused(device, case, shape):
    device.gated_delta_net(case.z, case.qkv, case.z, case.a, case.b, case.parameters, shape, EPS, [(0, 1, 0)],
                           [case.state(device)])  # fmt: skip


def test_other_shapes_are_refused(device):
    case = Case.of(6, 1, 1, 1, 8, 32)
    with pytest.raises(InputError, match="multiple of"):
        refused(device, case, [1, 1, 8, 40, 4])
    with pytest.raises(InputError, match="linear_conv_kernel_dim is 3"):
        refused(device, case, [1, 1, 8, 32, 3])
