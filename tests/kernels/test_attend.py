"""attend: out = softmax(q k^T / sqrt(A)) v * sigmoid(gate) over positions up to the row's; docs/architecture.md 3."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, U, agree, cuts, device_of, empty, rows, same_bits, sigmoid, vector

from qwen35_local._core import kernels

PAGE = 256


class Case:
    """`count` tokens of one sequence. Norm weights are 1 and nothing is turned, so the cache holds rms_norm(k)."""

    def __init__(self, seed, count, heads, kv_heads, width, sharpness=1.0):
        rng = np.random.default_rng(seed)
        self.shape = (heads, kv_heads, width)
        self.q_gate = rows(rng, count, heads * 2 * width, sharpness)
        self.k, self.v = rows(rng, count, kv_heads * width), rows(rng, count, kv_heads * width)

    def cache(self, device, kv, count=None):
        count = len(self.k) if count is None else count
        cache = kernels.KvCache(device, kv, self.shape, -(-len(self.k) // PAGE))
        ones = np.ones(self.shape[2], np.float32)
        self.keys = np.array(self.k)
        device.norm_rope_append(np.array(self.q_gate[:count]), self.keys[:count], np.array(self.v[:count]), ones, ones,
                             1e-6, [], 1.0, self.shape, [(0, count, 0)], [cache])  # fmt: skip
        return cache

    def attend(self, device, cache, first, pieces):
        """Rows from `first` in calls of `pieces` rows."""
        heads, _, width = self.shape
        out, at = empty(sum(pieces), heads * width), 0
        for count in pieces:
            rows_ = self.q_gate[first + at : first + at + count]
            device.attend(out[at : at + count], rows_, self.shape, [(0, count, first + at)], [cache])
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
@pytest.mark.parametrize(("kv", "dtype"), FORMATS)
def test_formula(device, shape, kv, dtype):
    case = Case(1, 150, *shape)
    cache = case.cache(device, kv)
    for first, count in ((0, 5), (60, 9), (149, 1)):
        wanted, bound = case.formula(first, count, dtype)
        assert np.all(np.abs(case.attend(device, cache, first, [count]) - wanted) <= bound)


@pytest.mark.parametrize("sharpness", [0.0, 100.0])
def test_flat_and_sharp(device, sharpness):
    case = Case(2, 70, 4, 2, 32, sharpness)
    cache = case.cache(device, "f32")
    wanted, bound = case.formula(66, 4, np.float32)
    assert np.all(np.abs(case.attend(device, cache, 66, [4]) - wanted) <= bound)


def test_several_spans(device):
    """More than two spans of 1024 keys, which are merged in order."""
    case = Case(3, 2200, 4, 1, 32)
    cache = case.cache(device, "f16")
    for first, count in ((1022, 4), (2046, 5), (2199, 1)):
        wanted, bound = case.formula(first, count, np.float16)
        assert np.all(np.abs(case.attend(device, cache, first, [count]) - wanted) <= bound)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kv", ["f32", "f16"])
def test_devices_agree(other_name, shape, kv):
    case = Case(4, 140, *shape)
    ours, twin = device_of(other_name, 1), device_of(REFERENCE, 1)
    cache, twin_cache = case.cache(ours, kv), case.cache(twin, kv)
    for first, count in ((0, 3), (61, 7), (139, 1)):
        found, expected = case.attend(ours, cache, first, [count]), case.attend(twin, twin_cache, first, [count])
        assert agree(other_name, found, expected)


def test_devices_agree_over_spans(other_name):
    case = Case(5, 2100, 4, 1, 16)
    ours, twin = device_of(other_name, 3), device_of(REFERENCE, 1)
    cache, twin_cache = case.cache(ours, "f16"), case.cache(twin, "f16")
    for first, count in ((1020, 8), (2099, 1)):
        found, expected = case.attend(ours, cache, first, [count]), case.attend(twin, twin_cache, first, [count])
        assert agree(other_name, found, expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(4, 2, 32), (3, 1, 48)])
def test_cuts_do_not_matter(name, threads, shape):
    case = Case(6, 140, *shape)
    one, several = device_of(name, 1), device_of(name, threads)
    whole = case.attend(one, case.cache(one, "f16"), 0, [140])
    cache = case.cache(several, "f16")
    for first, count in ((0, 140), (50, 41)):
        for pieces in cuts(np.random.default_rng(first), count):
            assert same_bits(case.attend(several, cache, first, pieces), whole[first : first + count])


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_sharing_out_spans_does_not_matter(name, threads):
    """Few rows over a long context: the workers share the spans of one row instead of the rows."""
    case = Case(7, 3100, 4, 1, 16)
    one, several = device_of(name, 1), device_of(name, threads)
    cache, shared_cache = case.cache(one, "f32"), case.cache(several, "f32")
    whole = case.attend(one, cache, 3060, [40])
    assert same_bits(case.attend(several, shared_cache, 3060, [1] * 20 + [9, 11]), whole)
    early = case.attend(one, cache, 1020, [6])
    assert same_bits(case.attend(several, shared_cache, 1020, [6]), early)


def test_later_keys_do_not_matter(name):
    """What lies behind a row's own position in a page may be anything, NaN included."""
    case = Case(8, 100, 4, 2, 32)
    device = device_of(name, 1)
    short = case.attend(device, case.cache(device, "f32", count=41), 40, [1])
    case.k[41:], case.v[41:] = np.nan, np.nan
    assert same_bits(case.attend(device, case.cache(device, "f32"), 36, [10])[4:5], short)


def test_segments_do_not_see_each_other(name):
    cases = [Case(20 + i, n, 4, 2, 32) for i, n in enumerate([300, 7, 80])]
    parts = [(299, 1), (0, 7), (69, 11)]  # first row, rows
    q_gate = np.concatenate([c.q_gate[f : f + n] for c, (f, n) in zip(cases, parts, strict=True)])
    for threads in (1, 2, 4):
        device = device_of(name, threads)
        caches = [c.cache(device, kv) for c, kv in zip(cases, ["f16", "f32", "f16"], strict=True)]
        alone = [c.attend(device, cache, f, [n]) for c, cache, (f, n) in zip(cases, caches, parts, strict=True)]
        out = empty(19, 4 * 32)
        device.attend(out, q_gate, cases[0].shape, [(0, 1, 299), (1, 7, 0), (8, 11, 69)], caches)
        assert same_bits(out, np.concatenate(alone))


def test_a_nan_stays_in_its_row(name):
    case = Case(9, 30, 4, 2, 32)
    device = device_of(name, 1)
    cache = case.cache(device, "f32")
    clean = case.attend(device, cache, 20, [10])
    case.q_gate[24, :32] = np.nan
    out = case.attend(device, cache, 20, [10])
    assert np.isnan(out[4, :32]).all()
    out[4, :32] = clean[4, :32]
    assert same_bits(out, clean)


@pytest.mark.parametrize("kv", ["f32", "f16", "q8", "q4", "k8v4"])
@pytest.mark.parametrize("shape", [(4, 2, 32), (8, 1, 64), (6, 2, 96), (12, 1, 32), (16, 1, 256)])
@pytest.mark.parametrize("lengths", [(0, 254), (520, 0)], ids=["a page fills", "three are read"])
def test_appended_in_the_same_pass(name, kv, shape, lengths):
    """A device may do both in one kernel: the same bits, in the results and in the pages that the next rows read."""
    heads, kv_heads, width = shape
    rng, device = np.random.default_rng(11), device_of(name, 2)
    norms, inv_freq = (vector(rng, width), vector(rng, width)), [0.7**i for i in range(width // 4)]
    total = 4
    texts = [[rows(rng, n + total, heads * 2 * width), *(rows(rng, n + total, kv_heads * width) for _ in "kv")]
             for n in lengths]  # fmt: skip
    results = []
    for together in (False, True):
        caches = [kernels.KvCache(device, kv, shape, 3) for _ in texts]

        def append(parts, caches, attended=None):
            """Rows [first, last) of each text; the queries as they are left."""
            given = [np.concatenate([text[i][a:b] for text, (a, b) in parts]) for i in range(3)]
            ends = np.cumsum([0, *(b - a for _, (a, b) in parts)])
            ranges = [(int(at), b - a, a) for at, (_, (a, b)) in zip(ends, parts, strict=False)]
            places = [(a + i, 2 * i, 3) for _, (a, b) in parts for i in range(b - a)]
            device.norm_rope_append(*given, *norms, 1e-6, inv_freq, 1.25, shape, ranges, caches, positions=places,
                                    attended=attended)  # fmt: skip
            return given[0], ranges

        for text, cache, n in zip(texts, caches, lengths, strict=True):
            if n > 0:
                append([(text, (0, n))], [cache])
        results.append([])
        for i in range(total):
            parts = [(text, (n + i, n + i + 1)) for text, n in zip(texts, lengths, strict=True)]
            out = empty(len(lengths), heads * width)
            if together:
                append(parts, caches, out)
            else:
                queries, ranges = append(parts, caches)
                device.attend(out, queries, shape, ranges, caches)
            results[-1].append(out)
    assert same_bits(np.stack(results[0]), np.stack(results[1]))
