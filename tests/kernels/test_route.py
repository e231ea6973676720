"""route: top K of softmax(logits) per row, ties to the lower index, weights renormalised; docs/architecture.md 4."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, U, agree, device_of, rows, same_bits

from qwen35_local.errors import InputError


@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (4, 4), (7, 2), (256, 8), (512, 10)])
def test_formula(device, experts, top_k):
    logits = rows(np.random.default_rng(experts), 9, experts, 3.0)
    picked, weights = device.route(logits, top_k)
    wide = np.array(logits, np.float64)
    shares = np.exp(wide - wide.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    wanted = np.argsort(-shares, axis=-1, kind="stable")[:, :top_k]
    top = np.take_along_axis(shares, wanted, -1)
    top /= top.sum(-1, keepdims=True)
    assert np.array_equal(picked, wanted)
    # logit - largest is rounded once, relative to at most 30; exp, K additions and the division.
    assert np.all(np.abs(weights - top) <= (30 * U + 1.3e-7 + (top_k + 1) * U) * top)


def test_ties_go_to_the_lower_index(device):
    logits = np.array([[1, 2, 2, 1, 2, 0], [0, 0, 0, 0, 0, 0], [-1, 5, -1, -1, 5, -1]], np.float32)
    picked, weights = device.route(logits, 4)
    assert picked.tolist() == [[1, 2, 4, 0], [0, 1, 2, 3], [1, 4, 0, 2]]
    assert np.array_equal(weights[1], [0.25] * 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_never_leaves_the_range(name, bad):
    rng = np.random.default_rng(0)
    logits = np.array(rows(rng, 40, 20))
    logits[rng.random(logits.shape) < 0.5] = bad
    logits[0] = bad
    picked, _ = device_of(name, 2).route(logits, 6)
    assert picked.min() >= 0
    assert picked.max() < 20
    assert all(len(set(row)) == 6 for row in picked.tolist())


def test_nan_is_chosen_last(device):
    picked, weights = device.route(np.array([[np.nan, -9, np.nan, 3, 2]], np.float32), 3)
    assert picked.tolist() == [[3, 4, 1]]
    assert np.isfinite(weights).all()


def test_rows_and_threads_do_not_matter(name):
    logits = rows(np.random.default_rng(1), 600, 64)
    picked, weights = device_of(name, 1).route(logits, 8)
    for threads in (2, 4):
        got, got_weights = device_of(name, threads).route(logits, 8)
        assert np.array_equal(got, picked)
        assert same_bits(got_weights, weights)
    few, few_weights = device_of(name, 1).route(logits[100:103], 8)
    assert np.array_equal(few, picked[100:103])
    assert same_bits(few_weights, weights[100:103])


def test_devices_agree(other_name):
    logits = rows(np.random.default_rng(2), 100, 64)
    (picked, weights), (expected, expected_weights) = (
        device_of(n, 1).route(logits, 8) for n in (other_name, REFERENCE)
    )
    assert np.array_equal(picked, expected)
    assert agree(other_name, weights, expected_weights)


@pytest.mark.parametrize("top_k", [0, 5])
def test_impossible_choices_are_refused(device, top_k):
    with pytest.raises(InputError, match="num_experts_per_tok"):
        device.route(np.zeros((1, 4), np.float32), top_k)
