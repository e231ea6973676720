"""The numpy page against the goldens from transformers, against itself, and against hand-checked numbers."""

from dataclasses import replace

import numpy as np
import pytest
from golden_models import CONFIGS, golden_model, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qwen35_local.errors import FormatError, InputError
from qwen35_local.models import reference
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.reference import Reference
from qwen35_local.models.rope import Yarn, inverse_frequencies

TINY = ModelConfig(
    vocabulary=40,
    hidden=32,
    layers=3,
    heads=4,
    kv_heads=2,
    head_width=16,
    delta_key_heads=2,
    delta_value_heads=6,
    delta_key_width=8,
    delta_value_width=12,
    full_attention_interval=3,
    experts=5,
    experts_per_token=2,
    expert_feed_forward=16,
    shared_expert_feed_forward=24,
    rope_width=4,
    mtp_layers=1,
)


def relative_error(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Largest difference over largest magnitude."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def tiny() -> Reference:
    return Reference(random_weights(TINY, 7), TINY)


@pytest.mark.parametrize("name", CONFIGS)
def test_matches_transformers_golden(name: str) -> None:
    golden = golden_model(name)
    page = Reference(golden.weights, golden.config)
    state = page.new_state()
    hidden = page.hidden(golden.tokens, state)
    # transformers keeps the frequencies of YaRN in fp32, which costs 2e-8
    tolerance = 1e-7 if golden.config.yarn else 1e-11
    assert relative_error(page.logits(hidden[golden.rows]), golden.logits) < tolerance
    if golden.draft_logits is not None:
        logits, _ = page.draft([*golden.tokens[1:], 0], hidden, state)
        assert relative_error(logits[golden.rows], golden.draft_logits) < tolerance


def test_goldens_are_not_trivial() -> None:
    """A golden that a wrong head order, a dropped expert or a wrong rotation still met would be worth nothing."""
    golden = golden_model("moe-ratio2")
    few = golden.tokens[:4]
    rows = golden.rows < len(few)

    def error(config: ModelConfig, **tensors: NDArray[np.float32]) -> float:
        page = Reference({**golden.weights, **tensors}, config)
        return relative_error(page.forward(few)[golden.rows[rows]], golden.logits[rows])

    assert error(golden.config) < 1e-11
    assert error(replace(golden.config, experts_per_token=3)) > 1e-2
    assert error(replace(golden.config, rope_theta=1e4)) > 1e-3
    order = [0, 2, 1, 3]
    assert error(golden.config, **{"blk.0.ssm_a": golden.weights["blk.0.ssm_a"][order]}) > 1e-3


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=6), st.integers(0, 2**20))
def test_cuts_do_not_change_logits(cuts: list[int], start: int) -> None:
    page = Reference(random_weights(TINY, 7), TINY)
    tokens = [int(t) for t in np.random.RandomState(1).randint(0, TINY.vocabulary, sum(cuts))]
    whole = page.forward(tokens, start=start)
    state, parts, first = page.new_state(start), [], 0
    for cut in cuts:
        parts.append(page.forward(tokens[first : first + cut], state))
        first += cut
    assert relative_error(np.concatenate(parts), whole) < 1e-11
    assert state.tokens == len(tokens)


def test_start_alone_does_not_change_logits(tiny: Reference) -> None:
    """RoPE is relative: only distances between tokens matter."""
    tokens = [1, 2, 3, 4, 5]
    assert relative_error(tiny.forward(tokens, start=1000), tiny.forward(tokens)) < 1e-10


def test_last_row_only(tiny: Reference) -> None:
    tokens = [3, 1, 4, 1, 5]
    last = tiny.forward(tokens, all_logits=False)
    assert last.shape == (1, TINY.vocabulary)
    assert relative_error(last, tiny.forward(tokens)[-1:]) < 1e-13


def test_a_copied_state_is_independent(tiny: Reference) -> None:
    state = tiny.new_state()
    tiny.forward([1, 2, 3], state)
    kept = state.copy()
    expected = tiny.forward([4, 5], state)
    tiny.forward([6], state)
    assert np.array_equal(tiny.forward([4, 5], kept), expected)


def test_draft_cuts_do_not_change_logits(tiny: Reference) -> None:
    tokens = [5, 4, 3, 2, 1, 0]
    whole, cut = tiny.new_state(), tiny.new_state()
    hidden = tiny.hidden(tokens, whole)
    cut_hidden = tiny.hidden(tokens, cut)
    following = [*tokens[1:], 9]
    expected, _ = tiny.draft(following, hidden, whole)
    parts = [tiny.draft(following[a:b], cut_hidden[a:b], cut)[0] for a, b in ((0, 1), (1, 4), (4, 6))]
    assert relative_error(np.concatenate(parts), expected) < 1e-12


def test_chunk_is_the_recurrence() -> None:
    """The chunked delta rule against its definition, with decays from none to e^-50 per token."""
    rng = np.random.default_rng(3)
    for tokens in (1, 2, 5, 64):
        q, k = (reference.unit(rng.standard_normal((tokens, 3, 8))) for _ in range(2))
        v, memory = rng.standard_normal((tokens, 3, 12)), rng.standard_normal((3, 8, 12))
        g = -np.array([0.0, 0.1, 50.0]) * rng.random((tokens, 3))
        beta = rng.random((tokens, 3))
        out, after = reference.delta_step(q, k, v, g, beta, memory)
        chunk_out, chunk_after = reference.delta_chunk(q, k, v, g, beta, memory)
        assert relative_error(chunk_out, out) < 1e-12
        assert relative_error(chunk_after, after) < 1e-12


def test_conv_carries_windows_shorter_than_its_taps() -> None:
    rng = np.random.default_rng(4)
    rows, kernel, window = rng.standard_normal((5, 6)), rng.standard_normal((6, 4)), np.zeros((3, 6))
    whole, after = reference.conv_silu(rows, kernel, window)
    parts = []
    for row in rows:
        part, window = reference.conv_silu(row[None], kernel, window)
        parts.append(part)
    assert np.allclose(np.concatenate(parts), whole, rtol=1e-13)
    assert np.array_equal(window, after)
    assert np.array_equal(after, rows[-3:])


def test_route_breaks_ties_downwards_and_renormalises() -> None:
    experts, weights = reference.route(np.array([[0.0, 2.0, 2.0, 1.0]]), 2)
    assert experts.tolist() == [[1, 2]]
    assert weights.tolist() == [[0.5, 0.5]]


def test_no_gate_overflows() -> None:
    extreme = np.array([-1e4, 0.0, 1e4])
    with np.errstate(all="raise", under="ignore"):
        assert reference.sigmoid(extreme).tolist() == [0.0, 0.5, 1.0]
        assert reference.softplus(extreme).tolist() == [0.0, float(np.log(2.0)), 1e4]


def test_yarn_frequencies() -> None:
    """docs/architecture.md 7: with 4x over 262144 positions the blend runs from pair 14 to pair 22."""
    plain, yarn = inverse_frequencies(64, 1e7), Yarn(factor=4.0, original_context_tokens=262144)
    blended = inverse_frequencies(64, 1e7, yarn)
    assert yarn.magnitude == pytest.approx(1.138629436, rel=1e-9)
    assert plain[1] == pytest.approx(1e7 ** (-1 / 32))
    assert np.array_equal(blended[:15], plain[:15])
    assert np.allclose(blended[22:], plain[22:] / 4.0, rtol=1e-15)
    assert blended[18] == pytest.approx(plain[18] * 0.625)


def test_single_precision(tiny: Reference) -> None:
    single = Reference(random_weights(TINY, 7), TINY, np.float32)
    tokens = list(range(40))
    logits = single.forward(tokens)
    assert logits.dtype == np.float32
    assert relative_error(logits, tiny.forward(tokens)) < 1e-4


@pytest.mark.parametrize(("tokens", "message"), [([], "no tokens"), ([40], "token id 40"), ([-1], "token id -1")])
def test_refuses_tokens(tiny: Reference, tokens: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny.forward(tokens)


def test_refuses_a_draft_it_cannot_make(tiny: Reference) -> None:
    with pytest.raises(InputError, match="hidden has shape"):
        tiny.draft([1, 2], np.zeros((1, TINY.hidden)), tiny.new_state())
    config = replace(TINY, mtp_layers=0)
    with pytest.raises(InputError, match="no multi-token-prediction"):
        Reference(random_weights(config, 7), config).draft([1], np.zeros((1, TINY.hidden)), tiny.new_state())


def test_refuses_weights() -> None:
    weights = random_weights(TINY, 7)
    with pytest.raises(FormatError, match=r"blk\.1\.ssm_a is missing"):
        Reference({name: a for name, a in weights.items() if name != "blk.1.ssm_a"}, TINY)
    with pytest.raises(FormatError, match=r"output_norm.weight has shape \[31\]; expected \[32\]"):
        Reference({**weights, "output_norm.weight": np.ones(31)}, TINY)
