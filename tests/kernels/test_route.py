"""route: the K largest of softmax(logits) per row, ties to the lower index, weights renormalised; specification 4."""

import numpy as np
import pytest
from kernel_cases import U, cpu_of, rows, same_bits

from qwen35_local.errors import Qwen35Error


@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (4, 4), (7, 2), (256, 8), (512, 10)])
def test_formula(cpu, experts, top_k):
    logits = rows(np.random.default_rng(experts), 9, experts, 3.0)
    picked, weights = cpu.route(logits, top_k)
    wide = np.array(logits, np.float64)
    shares = np.exp(wide - wide.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    wanted = np.argsort(-shares, axis=-1, kind="stable")[:, :top_k]
    top = np.take_along_axis(shares, wanted, -1)
    top /= top.sum(-1, keepdims=True)
    assert np.array_equal(picked, wanted)
    # logit - largest is rounded once, relative to at most 30; exp, K additions and the division.
    assert np.all(np.abs(weights - top) <= (30 * U + 1.3e-7 + (top_k + 1) * U) * top)


def test_ties_go_to_the_lower_index(cpu):
    logits = np.array([[1, 2, 2, 1, 2, 0], [0, 0, 0, 0, 0, 0], [-1, 5, -1, -1, 5, -1]], np.float32)
    picked, weights = cpu.route(logits, 4)
    assert picked.tolist() == [[1, 2, 4, 0], [0, 1, 2, 3], [1, 4, 0, 2]]
    assert np.array_equal(weights[1], [0.25] * 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_never_leaves_the_range(isa, bad):
    rng = np.random.default_rng(0)
    logits = np.array(rows(rng, 40, 20))
    logits[rng.random(logits.shape) < 0.5] = bad
    logits[0] = bad
    picked, _ = cpu_of(isa, 2).route(logits, 6)
    assert picked.min() >= 0
    assert picked.max() < 20
    assert all(len(set(row)) == 6 for row in picked.tolist())


def test_nan_is_chosen_last(cpu):
    picked, weights = cpu.route(np.array([[np.nan, -9, np.nan, 3, 2]], np.float32), 3)
    assert picked.tolist() == [[3, 4, 1]]
    assert np.isfinite(weights).all()


def test_rows_threads_and_isas_do_not_matter(isa):
    logits = rows(np.random.default_rng(1), 600, 64)
    picked, weights = cpu_of("reference", 1).route(logits, 8)
    for threads in (1, 2, 4):
        got, got_weights = cpu_of(isa, threads).route(logits, 8)
        assert np.array_equal(got, picked)
        assert same_bits(got_weights, weights)


@pytest.mark.parametrize("top_k", [0, 5])
def test_impossible_choices_are_refused(cpu, top_k):
    with pytest.raises(Qwen35Error, match="num_experts_per_tok"):
        cpu.route(np.zeros((1, 4), np.float32), top_k)
