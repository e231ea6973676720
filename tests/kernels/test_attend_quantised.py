"""attend over a cache in 8 or 4 bits: which form of a page a row reads, what a packed page holds, and that nothing but
positions decides it."""

from dataclasses import dataclass

import numpy as np
import pytest
from kernel_cases import REFERENCE, agree, cuts, device_of, empty, rows, same_bits, sigmoid

from qwen35_local import _core
from qwen35_local._core import kernels
from qwen35_local.errors import InputError

PAGE, BLOCK = 256, 32
TYPES = {"q8": ("Q8_0", "Q8_0"), "q4": ("IQ4_NL", "IQ4_NL"), "k8v4": ("Q8_0", "IQ4_NL")}
SHAPES = [(1, 1, 32), (4, 2, 64), (6, 1, 96), (2, 1, 256)]


def hadamard(width):
    """Blocks of the largest power of two dividing the width, orthonormal."""
    order = width & -width
    block = np.ones((1, 1))
    while len(block) < order:
        block = np.block([[block, block], [block, -block]])
    return np.kron(np.eye(width // order), block / np.sqrt(order))


def stored(values, dtype):
    """[n, m] as a cache that encodes its rows gives them back; m whole blocks."""
    flat = np.ascontiguousarray(values, np.float32)
    blocks = kernels.encode_iq4_nl_in_passing(flat) if dtype == "IQ4_NL" else _core.encode(flat, dtype).reshape(-1)
    return _core.decode(blocks, dtype, flat.size).reshape(flat.shape).astype(np.float64)


@dataclass
class Case:
    """`count` tokens of one sequence, appended in calls of `pieces`. Nothing is turned and norm weights are 1."""

    device: kernels.Device
    shape: tuple[int, int, int]
    kv: str
    count: int
    seed: int = 0
    pieces: tuple[int, ...] = ()
    damage: int = -1  # a token whose value is an infinity

    def __post_init__(self):
        heads, kv_heads, width = self.shape
        rng = np.random.default_rng(self.seed)
        self.q_gate = rows(rng, self.count, heads * 2 * width, 2.0)
        self.k, self.v = rows(rng, self.count, kv_heads * width), rows(rng, self.count, kv_heads * width)
        if self.damage >= 0:
            self.v[self.damage, 0] = np.inf
        self.cache = kernels.KvCache(self.device, self.kv, self.shape, -(-self.count // PAGE))
        self.k_given, ones, at = np.array(self.k), np.ones(width, np.float32), 0
        for n in self.pieces or (self.count,):
            part = slice(at, at + n)
            self.device.norm_rope_append(
                self.q_gate[part], self.k[part], self.v[part], ones, ones, 1e-6, [], 1.0, self.shape, [(0, n, at)],
                [self.cache],
            )  # fmt: skip
            at += n

    def attend(self, first, pieces):
        out, at = empty(sum(pieces), self.shape[0] * self.shape[2]), 0
        for n in pieces:
            part = self.q_gate[first + at : first + at + n]
            self.device.attend(out[at : at + n], part, self.shape, [(0, n, first + at)], [self.cache])
            at += n
        return out

    def formula(self, row):
        """The result of a row in fp64 over what the cache holds, and how far the kernel may be from it: queries and
        shares are rounded to 8 bits, each block of 32 to within 1/254 of its largest."""
        heads, kv_heads, width = self.shape
        query, gate = self.q_gate[row].reshape(heads, 2, width).transpose(1, 0, 2).astype(np.float64)
        out, bound = np.empty((heads, width)), np.empty((heads, width))
        for h in range(heads):
            part = slice(h * kv_heads // heads * width, (h * kv_heads // heads + 1) * width)
            keys, values = (x[: row + 1, part].astype(np.float16).astype(np.float64) for x in (self.k, self.v))
            for page in range(1, row // PAGE - 1):
                held = slice(page * PAGE, (page + 1) * PAGE)
                keys[held] = stored(keys[held], TYPES[self.kv][0])
                values[held] = stored(values[held].T, TYPES[self.kv][1]).T
            score = keys @ query[h] / np.sqrt(width)
            share = np.exp(score - score.max())
            share /= share.sum()
            out[h] = share @ values
            slip = (np.abs(keys).reshape(row + 1, -1, BLOCK).sum(2) * blockmax(query[h]) / 254).sum(1) / np.sqrt(width)
            share_slip = np.repeat(blockmax(np.pad(share, (0, -(row + 1) % BLOCK))), BLOCK)[: row + 1] / 254
            bound[h] = (np.expm1(2 * slip.max() + 1e-4) * share + share_slip) @ np.abs(values)
        turn = hadamard(width)
        gated = (out @ turn) * sigmoid(gate)
        return gated.reshape(-1), (bound @ np.abs(turn) * sigmoid(gate)).reshape(-1)


def blockmax(x):
    return np.abs(x).reshape(-1, BLOCK).max(1)


@pytest.mark.parametrize("kv", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_formula(device, shape, kv):
    case = Case(device, shape, kv, 1300)
    for row in (0, 255, 300, 767, 768, 1023, 1299):
        wanted, bound = case.formula(row)
        found = case.attend(row, [1])[0]
        assert np.all(np.abs(found - wanted) <= bound)
        assert np.abs(found - wanted).mean() <= 0.02 * np.abs(wanted).mean()


def test_rotation_changes_no_score(device):
    case = Case(device, (2, 1, 64), "q8", 40)
    given = case.k_given.astype(np.float64)
    normed = given / np.sqrt((given * given).mean(1, keepdims=True) + 1e-6)
    assert np.allclose(case.k, normed @ hadamard(64), atol=2e-6)
    assert np.allclose(np.abs(hadamard(96) @ hadamard(96)), np.eye(96), atol=1e-12)


@pytest.mark.parametrize("kv", TYPES)
def test_pages_read_open_are_as_good_as_f16(device, kv):
    """Up to the third page nothing is packed: only the rotation is there."""
    case = Case(device, (4, 2, 64), kv, 768)
    for row in (5, 400, 767):
        heads, kv_heads, width = case.shape
        query, gate = case.q_gate[row].reshape(heads, 2, width).transpose(1, 0, 2).astype(np.float64)
        for h in range(heads):
            part = slice(h * kv_heads // heads * width, (h * kv_heads // heads + 1) * width)
            keys, values = (x[: row + 1, part].astype(np.float16).astype(np.float64) for x in (case.k, case.v))
            score = keys @ query[h] / np.sqrt(width)
            share = np.exp(score - score.max())
            wanted = (share / share.sum()) @ values @ hadamard(width) * sigmoid(gate[h])
            assert np.allclose(case.attend(row, [1])[0, h * width : (h + 1) * width], wanted, atol=1e-5)


@pytest.mark.parametrize("kv", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_devices_agree(other_name, shape, kv):
    ours, twin = Case(device_of(other_name, 2), shape, kv, 1100), Case(device_of(REFERENCE, 1), shape, kv, 1100)
    for first, count in ((760, 20), (1021, 5), (1040, 33), (1099, 1)):
        assert agree(other_name, ours.attend(first, [count]), twin.attend(first, [count]), "quantised")


@pytest.mark.parametrize("kv", TYPES)
def test_pages_of_the_cpu_hold_the_bytes_of_the_scalar_kernels(vector_isa, kv):
    ours, twin = (Case(device_of(f"cpu-{isa}", 2), (4, 2, 64), kv, 1100) for isa in (vector_isa, "reference"))
    for page in range(1, 4):
        assert ours.cache.quantised_bytes(page) == twin.cache.quantised_bytes(page)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(4, 2, 32), (6, 1, 64)])
def test_cuts_do_not_matter(name, threads, shape):
    count = 1180
    whole = Case(device_of(name, 1), shape, "q4", count)
    expected = whole.attend(740, [440])
    rng = np.random.default_rng(threads)
    appended = tuple(int(n) for n in np.diff([0, *sorted(rng.choice(np.arange(1, count), 9, False)), count]))
    case = Case(device_of(name, threads), shape, "q4", count, pieces=appended)
    for page in range(1, count // PAGE):
        assert case.cache.quantised_bytes(page) == whole.cache.quantised_bytes(page)
    for pieces in cuts(rng, 440):
        if len(pieces) < 100:
            assert same_bits(case.attend(740, pieces), expected)
    for first in (767, 768, 1023, 1024, 1179):
        assert same_bits(case.attend(first, [1])[0], expected[first - 740])


def test_formats_do_not_see_each_other(name):
    device, shape = device_of(name, 2), (4, 2, 32)
    cases = [Case(device, shape, kv, 1100, seed) for seed, kv in enumerate(TYPES)]
    alone = [case.attend(1090, [10]) for case in cases]
    out = empty(30, 4 * 32)
    q_gate = np.concatenate([case.q_gate[1090:1100] for case in cases])
    device.attend(out, q_gate, shape, [(10 * i, 10, 1090) for i in range(3)], [case.cache for case in cases])
    assert same_bits(out, np.concatenate(alone))


def test_damage_shows_where_it_is_read(name):
    """An infinite value makes its block NaN, whoever reads it; rows before it are clean."""
    case = Case(device_of(name, 1), (2, 1, 32), "q4", 1100, damage=300)
    assert np.isfinite(case.attend(299, [1])).all()
    assert not np.isfinite(case.attend(1099, [1])).all()


def test_width_that_is_no_whole_block(device):
    with pytest.raises(InputError, match=r"width 48 .* multiple of 32; use kv f16"):
        kernels.KvCache(device, "q4", (1, 1, 48), 1)
