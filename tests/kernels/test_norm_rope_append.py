"""norm_rope_append: q and k <- rope(rms_norm(.)) per head, k and v into the pages; docs/architecture.md 3."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, U, agree, cuts, device_of, empty, rms, rows, same_bits, vector

from qwen35_local._core import kernels
from qwen35_local.errors import InputError
from qwen35_local.models.rope import rope_axes

EPS = 1e-6
PAGE = 256
LANES = 16  # tokens whose keys lie side by side


class Case:
    def __init__(self, seed, count, heads, kv_heads, width, pairs):
        rng = np.random.default_rng(seed)
        self.shape = (heads, kv_heads, width)
        self.q_gate = rows(rng, count, heads * 2 * width)
        self.k = rows(rng, count, kv_heads * width)
        self.v = rows(rng, count, kv_heads * width)
        self.q_norm, self.k_norm = vector(rng, width), vector(rng, width)
        self.inv_freq = [1e7 ** (-i / max(pairs, 1)) for i in range(pairs)]
        self.magnitude = 1.125

    def run(self, device, pieces, position, caches, part=slice(None), **rope):
        """The rows `part` in calls of `pieces` rows from `position`; returns q_gate and k as they are left."""
        q_gate, k, at = np.array(self.q_gate[part]), np.array(self.k[part]), 0
        for count in pieces:
            rows_ = slice(at, at + count)
            device.norm_rope_append(q_gate[rows_], k[rows_], self.v[part][rows_], self.q_norm, self.k_norm, EPS,
                                 self.inv_freq, self.magnitude, self.shape, [(0, count, position + at)],
                                 caches, **rope)  # fmt: skip
            at += count
        return q_gate, k

    def read_back(self, device, pieces):
        """q_gate and k as they are left, and what attend then reads of the pages."""
        heads, _, width = self.shape
        cache = kernels.KvCache(device, "f16", self.shape, -(-len(self.k) // PAGE))
        q_gate, k = self.run(device, pieces, 0, [cache])
        out = empty(len(k), heads * width)
        device.attend(out, q_gate, self.shape, [(0, len(k), 0)], [cache])
        return q_gate, k, out

    def turned(self, x, weight, positions, axes=None):
        """[T, heads, width] in fp64, and the size of what was added up in every element. `positions` [T], or [T, 3] of
        which pair i takes part axes[i]."""
        pairs = len(self.inv_freq)
        y = rms(x.astype(np.float64), np.float64(np.float32(EPS))) * weight
        places = np.asarray(positions)[:, None]
        angle = (places[..., None] if axes is None else places[..., axes]) * np.array(self.inv_freq)
        c, s = np.cos(angle) * self.magnitude, np.sin(angle) * self.magnitude
        low, high = y[..., :pairs], y[..., pairs : 2 * pairs]
        out, size = y.copy(), np.abs(y)
        out[..., :pairs], out[..., pairs : 2 * pairs] = low * c - high * s, high * c + low * s
        size[..., :pairs] = size[..., pairs : 2 * pairs] = (np.abs(low) + np.abs(high)) * self.magnitude
        return out, size


def contents(cache, shape, slots, dtype):
    """Keys and values [slots, G, A] of a cache's first pages on the CPU."""
    _, heads, width = shape
    keys, values = [], []
    for page in range(-(-slots // PAGE)):
        data = np.frombuffer(cache.bytes(page), dtype)
        half = heads * PAGE * width
        keys.append(
            data[:half].reshape(heads, PAGE // LANES, width, LANES).transpose(1, 3, 0, 2).reshape(PAGE, heads, width)
        )
        values.append(data[half:].reshape(heads, PAGE, width).transpose(1, 0, 2))
    return np.concatenate(keys)[:slots], np.concatenate(values)[:slots]


def check(case, q_gate, k, positions, axes=None):
    heads, kv_heads, width = case.shape
    count = len(positions)
    before, after = case.q_gate.reshape(count, heads, 2, width), q_gate.reshape(count, heads, 2, width)
    keys_before, keys_after = case.k.reshape(count, kv_heads, width), k.reshape(count, kv_heads, width)
    for got, (wanted, size) in (
        (after[:, :, 0], case.turned(before[:, :, 0], case.q_norm, positions, axes)),
        (keys_after, case.turned(keys_before, case.k_norm, positions, axes)),
    ):
        # Three roundings of the norm, one of cos or sin, two of the turn; angles are exact to fp64.
        assert np.all(np.abs(got - wanted) <= 6.01 * U * size + 1e-45)
    assert same_bits(after[:, :, 1], before[:, :, 1])  # the gate is not touched


SHAPES = [(4, 2, 32, 7), (2, 1, 16, 8), (6, 3, 48, 0), (2, 2, 256, 32)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("position", [0, 250, 200_003, 1_009_990])
def test_formula(device, shape, position):
    case = Case(1, 9, *shape)
    pages = (position + 8) // PAGE + 1
    cache = kernels.KvCache(device, "f32", case.shape, pages, blank=position // PAGE)
    q_gate, k = case.run(device, [9], position, [cache])
    check(case, q_gate, k, np.arange(position, position + 9))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sections", [(11, 11, 10), (3, 1, 2), (0, 9, 0)])
def test_three_positions(device, shape, sections):
    """Each pair by its own part: rows of an image stand elsewhere in height and width than in time."""
    case = Case(7, 9, *shape)
    positions = np.random.default_rng(8).integers(0, 300_000, (9, 3))
    cache = kernels.KvCache(device, "f32", case.shape, 1)
    q_gate, k = case.run(device, [9], 20, [cache], positions=positions.tolist(), sections=sections)
    check(case, q_gate, k, positions, rope_axes(sections, shape[3]))


def test_equal_positions_are_one(device):
    """Bit by bit: text does not depend on the sections."""
    case = Case(9, 9, 2, 1, 128, 32)
    results = []
    for rope in ({}, {"sections": (32, 0, 0)}, {"positions": [(n, n, n) for n in range(1000, 1009)]}):
        cache = kernels.KvCache(device, "f32", case.shape, 4)
        results.append(case.run(device, [9], 1000, [cache], **rope))
    for q_gate, k in results[1:]:
        assert same_bits(q_gate, results[0][0])
        assert same_bits(k, results[0][1])


@pytest.mark.parametrize(("kv", "dtype"), [("f32", np.float32), ("f16", np.float16)])
def test_pages_of_the_cpu_hold_keys_and_values(isa, kv, dtype):
    case, device = Case(2, 270, 2, 2, 32, 4), device_of(f"cpu-{isa}", 1)
    cache = kernels.KvCache(device, kv, case.shape, 2)
    _, k = case.run(device, [3, 260, 7], 0, [cache])
    keys, values = contents(cache, case.shape, 270, dtype)
    assert same_bits(keys, k.reshape(270, 2, 32).astype(dtype))  # rounded to the nearest, ties to even
    assert same_bits(values, np.array(case.v).reshape(270, 2, 32).astype(dtype))


@pytest.mark.parametrize("shape", SHAPES)
def test_devices_agree(other_name, shape):
    case = Case(3, 6, *shape)
    ours, twin = (case.read_back(device_of(name, 1), [6]) for name in (other_name, REFERENCE))
    for found, expected in zip(ours, twin, strict=True):
        assert agree(other_name, found, expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_cuts_do_not_matter(name, threads):
    count = 275  # into the second page
    case = Case(4, count, 4, 2, 32, 8)
    whole = case.read_back(device_of(name, 1), [count])
    for pieces in cuts(np.random.default_rng(0), count):
        parts = case.read_back(device_of(name, threads), pieces)
        assert all(same_bits(part, expected) for part, expected in zip(parts, whole, strict=True))


def test_angles_follow_frequencies_and_segments(device):
    """The kept table of angles must go when positions or frequencies change."""
    case = Case(5, 4, 2, 1, 32, 8)
    cache = kernels.KvCache(device, "f32", case.shape, 1)
    for position, magnitude, shift in ((7, 1.0, 1.0), (8, 1.0, 1.0), (8, 1.5, 1.0), (8, 1.5, 0.5), (7, 1.0, 1.0)):
        case.magnitude, case.inv_freq = magnitude, [shift * 0.7**i for i in range(8)]
        q_gate, k = case.run(device, [4], position, [cache])
        check(case, q_gate, k, np.arange(position, position + 4))


def test_too_few_pages_are_refused(device):
    case = Case(6, 4, 2, 1, 16, 2)
    cache = kernels.KvCache(device, "f32", case.shape, 1)
    with pytest.raises(InputError, match="positions up to 258 need page 1, which is not there"):
        case.run(device, [4], 254, [cache])
