"""route: top K of softmax(logits) per row, ties to the lower index, weights renormalised; docs/architecture.md 4."""

import numpy as np
import pytest
from kernel_cases import REFERENCE, U, agree, device_of, rows, same_bits
from matrices import Matrix, activations, product

from qwen35_local.errors import InputError


def route(device, logits, top_k):
    """Of these logits: row t of h is the t-th unit vector, and column t of the router row t of the logits."""
    router = device.pack(np.ascontiguousarray(logits.T).view(np.uint8).ravel(), "F32", logits.shape[1], len(logits))
    picked, weights, _ = device.route(np.eye(len(logits), dtype=np.float32), router, top_k)
    return picked, weights


@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (4, 4), (7, 2), (256, 8), (512, 10)])
def test_formula(device, experts, top_k):
    logits = rows(np.random.default_rng(experts), 9, experts, 3.0)
    picked, weights = route(device, logits, top_k)
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
    picked, weights = route(device, logits, 4)
    assert picked.tolist() == [[1, 2, 4, 0], [0, 1, 2, 3], [1, 4, 0, 2]]
    assert np.array_equal(weights[1], [0.25] * 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_never_leaves_the_range(name, bad):
    rng = np.random.default_rng(0)
    logits = np.array(rows(rng, 40, 20))
    logits[rng.random(logits.shape) < 0.5] = bad
    logits[0] = bad
    picked = np.concatenate([route(device_of(name, 2), row[None], 6)[0] for row in logits])
    assert picked.min() >= 0
    assert picked.max() < 20
    assert all(len(set(row)) == 6 for row in picked.tolist())


def test_nan_is_chosen_last(device):
    picked, weights = route(device, np.array([[np.nan, -9, np.nan, 3, 2]], np.float32), 3)
    assert picked.tolist() == [[3, 4, 1]]
    assert np.isfinite(weights).all()


def test_rows_and_threads_do_not_matter(name):
    logits = rows(np.random.default_rng(1), 600, 64)
    picked, weights = route(device_of(name, 1), logits, 8)
    for threads in (2, 4):
        got, got_weights = route(device_of(name, threads), logits, 8)
        assert np.array_equal(got, picked)
        assert same_bits(got_weights, weights)
    few, few_weights = route(device_of(name, 1), logits[100:103], 8)
    assert np.array_equal(few, picked[100:103])
    assert same_bits(few_weights, weights[100:103])


def test_devices_agree(other_name):
    logits = rows(np.random.default_rng(2), 100, 64)
    (picked, weights), (expected, expected_weights) = (
        route(device_of(n, 1), logits, 8) for n in (other_name, REFERENCE)
    )
    assert np.array_equal(picked, expected)
    assert agree(other_name, weights, expected_weights)


@pytest.mark.parametrize("dtype", ["F32", "Q8_0"])
@pytest.mark.parametrize("tokens", [1, 2, 7, 40])
def test_logits_are_the_router_s_and_the_shared_expert_has_its_gate(name, dtype, tokens):
    rng = np.random.default_rng(3)
    router, gate = Matrix(rng, dtype, 48, 64), Matrix(rng, dtype, 1, 64)
    h, device = activations(rng, tokens, 64), device_of(name, 2)
    logits, wanted = product(device, h, router, gate)
    picked, weights, shared = device.route(h, router.pack(device), 5, gate.pack(device))
    from_logits, their_weights = route(device, np.ascontiguousarray(logits), 5)
    assert np.array_equal(picked, from_logits)
    assert same_bits(weights, their_weights)
    assert same_bits(shared, wanted)


@pytest.mark.parametrize("top_k", [0, 5])
def test_impossible_choices_are_refused(device, top_k):
    with pytest.raises(InputError, match="num_experts_per_tok"):
        route(device, np.zeros((1, 4), np.float32), top_k)
