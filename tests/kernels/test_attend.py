"""attend: out = softmax(q k^T / sqrt(A)) v * sigmoid(gate) over the positions up to the row's own; specification 3."""

import numpy as np
import pytest
from kernel_cases import U, cpu_of, cuts, empty, rows, same_bits, sigmoid

from qwen35_local._core import kernels

PAGE = 256


class Case:
    """`count` tokens of one sequence. Norm weights are 1 and nothing is turned, so the cache holds rms_norm(k)."""

    def __init__(self, seed, count, heads, kv_heads, width, sharpness=1.0):
        rng = np.random.default_rng(seed)
        self.shape = (heads, kv_heads, width)
        self.q_gate = rows(rng, count, heads * 2 * width, sharpness)
        self.k, self.v = rows(rng, count, kv_heads * width), rows(rng, count, kv_heads * width)

    def cache(self, cpu, name, count=None):
        count = len(self.k) if count is None else count
        cache = kernels.KvCache(cpu, name, self.shape, -(-len(self.k) // PAGE))
        ones = np.ones(self.shape[2], np.float32)
        self.keys = np.array(self.k)
        cpu.norm_rope_append(np.array(self.q_gate[:count]), self.keys[:count], self.v[:count], ones, ones, 1e-6, [],
                             1.0, self.shape, [(0, count, 0)], [cache])  # fmt: skip
        return cache

    def attend(self, cpu, cache, first, pieces):
        """Rows from `first` in calls of `pieces` rows."""
        heads, _, width = self.shape
        out, at = empty(sum(pieces), heads * width), 0
        for count in pieces:
            rows_ = self.q_gate[first + at : first + at + count]
            cpu.attend(out[at : at + count], rows_, self.shape, [(0, count, first + at)], [cache])
            at += count
        return out

    def formula(self, first, count, dtype):
        heads, kv_heads, width = self.shape
        keys = self.keys.astype(dtype).astype(np.float64).reshape(-1, kv_heads, width)
        values = np.array(self.v).astype(dtype).astype(np.float64).reshape(-1, kv_heads, width)
        q_gate = self.q_gate[first : first + count].astype(np.float64).reshape(count, heads, 2, width)
        out = np.empty((count, heads, width))
        bound = np.empty((count, heads, 1))
        for t in range(count):
            for h in range(heads):
                k, v = keys[: first + t + 1, h * kv_heads // heads], values[: first + t + 1, h * kv_heads // heads]
                score = k @ q_gate[t, h, 0] / np.sqrt(width)
                share = np.exp(score - score.max())
                share /= share.sum()
                out[t, h] = share @ v * sigmoid(q_gate[t, h, 1])
                # A score is a chain of A products; an absolute error of s in scores moves the result by at most
                # 2 s max|v|. Then exp (1.3e-7), and the sums over keys: a chain of at most kKeySpan = 1024 terms
                # whose roundings add like a random walk, sqrt(1024) = 32 of them.
                size = (np.abs(k) @ np.abs(q_gate[t, h, 0])).max() / np.sqrt(width)
                chain = (np.sqrt(width) + 3) * U * size
                bound[t, h] = (2 * chain + 2 * 1.3e-7 + 32 * U) * np.abs(v).max()
        return out.reshape(count, -1), np.broadcast_to(bound, out.shape).reshape(count, -1)


SHAPES = [(1, 1, 16), (4, 1, 32), (6, 2, 48), (8, 2, 64), (3, 3, 80), (10, 2, 256)]
FORMATS = [("f32", np.float32), ("f16", np.float16)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "dtype"), FORMATS)
def test_formula(cpu, shape, name, dtype):
    case = Case(1, 150, *shape)
    cache = case.cache(cpu, name)
    for first, count in ((0, 5), (60, 9), (149, 1)):
        wanted, bound = case.formula(first, count, dtype)
        assert np.all(np.abs(case.attend(cpu, cache, first, [count]) - wanted) <= bound)


@pytest.mark.parametrize("sharpness", [0.0, 100.0])
def test_flat_and_sharp(cpu, sharpness):
    case = Case(2, 70, 4, 2, 32, sharpness)
    cache = case.cache(cpu, "f32")
    wanted, bound = case.formula(66, 4, np.float32)
    assert np.all(np.abs(case.attend(cpu, cache, 66, [4]) - wanted) <= bound)


def test_several_spans(cpu):
    """More than two spans of 1024 keys, which are merged in order."""
    case = Case(3, 2200, 4, 1, 32)
    cache = case.cache(cpu, "f16")
    for first, count in ((1022, 4), (2046, 5), (2199, 1)):
        wanted, bound = case.formula(first, count, np.float16)
        assert np.all(np.abs(case.attend(cpu, cache, first, [count]) - wanted) <= bound)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["f32", "f16"])
def test_vector_kernels_have_the_bits_of_the_scalar_twin(vector_isa, shape, name):
    case = Case(4, 140, *shape)
    ours, twin = cpu_of(vector_isa, 1), cpu_of("reference", 1)
    cache, twin_cache = case.cache(ours, name), case.cache(twin, name)
    for first, count in ((0, 3), (61, 7), (139, 1)):
        assert same_bits(case.attend(ours, cache, first, [count]), case.attend(twin, twin_cache, first, [count]))


def test_vector_kernels_have_the_bits_of_the_scalar_twin_over_spans(vector_isa):
    case = Case(5, 2100, 4, 1, 16)
    ours, twin = cpu_of(vector_isa, 3), cpu_of("reference", 1)
    cache, twin_cache = case.cache(ours, "f16"), case.cache(twin, "f16")
    for first, count in ((1020, 8), (2099, 1)):
        assert same_bits(case.attend(ours, cache, first, [count]), case.attend(twin, twin_cache, first, [count]))


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(4, 2, 32), (3, 1, 48)])
def test_cuts_do_not_matter(isa, threads, shape):
    case = Case(6, 140, *shape)
    cache = case.cache(cpu_of(isa, 1), "f16")
    whole = case.attend(cpu_of(isa, 1), cache, 0, [140])
    for first, count in ((0, 140), (50, 41)):
        for pieces in cuts(np.random.default_rng(first), count):
            assert same_bits(case.attend(cpu_of(isa, threads), cache, first, pieces), whole[first : first + count])


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_sharing_out_spans_does_not_matter(isa, threads):
    """Few rows over a long context: the workers share the spans of one row instead of the rows."""
    case = Case(7, 3100, 4, 1, 16)
    cache = case.cache(cpu_of(isa, 1), "f32")
    whole = case.attend(cpu_of(isa, 1), cache, 3060, [40])
    assert same_bits(case.attend(cpu_of(isa, threads), cache, 3060, [1] * 20 + [9, 11]), whole)
    early = case.attend(cpu_of(isa, 1), cache, 1020, [6])
    assert same_bits(case.attend(cpu_of(isa, threads), cache, 1020, [6]), early)


def test_later_keys_do_not_matter(isa):
    """What lies behind a row's own position in a page may be anything, NaN included."""
    case = Case(8, 100, 4, 2, 32)
    cpu = cpu_of(isa, 1)
    short = case.attend(cpu, case.cache(cpu, "f32", count=41), 40, [1])
    case.k[41:], case.v[41:] = np.nan, np.nan
    assert same_bits(case.attend(cpu, case.cache(cpu, "f32"), 36, [10])[4:5], short)


def test_segments_do_not_see_each_other(isa):
    cases = [Case(20 + i, n, 4, 2, 32) for i, n in enumerate([300, 7, 80])]
    parts = [(299, 1), (0, 7), (69, 11)]  # first row, rows
    caches = [c.cache(cpu_of(isa, 1), name) for c, name in zip(cases, ["f16", "f32", "f16"], strict=True)]
    alone = [c.attend(cpu_of(isa, 1), cache, f, [n]) for c, cache, (f, n) in zip(cases, caches, parts, strict=True)]
    q_gate = np.concatenate([c.q_gate[f : f + n] for c, (f, n) in zip(cases, parts, strict=True)])
    for threads in (1, 2, 4):
        out = empty(19, 4 * 32)
        cpu_of(isa, threads).attend(out, q_gate, cases[0].shape, [(0, 1, 299), (1, 7, 0), (8, 11, 69)], caches)
        assert same_bits(out, np.concatenate(alone))


def test_a_nan_stays_in_its_row(isa):
    case = Case(9, 30, 4, 2, 32)
    cpu = cpu_of(isa, 1)
    cache = case.cache(cpu, "f32")
    clean = case.attend(cpu, cache, 20, [10])
    case.q_gate[24, :32] = np.nan
    out = case.attend(cpu, cache, 20, [10])
    assert np.isnan(out[4, :32]).all()
    out[4, :32] = clean[4, :32]
    assert same_bits(out, clean)
