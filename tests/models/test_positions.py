"""Positions of three parts on the numpy page: against transformers' goldens, and against numbers checked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from golden_images import N_DECODED, N_TOKENS, NAMES, GoldenImages, golden_images
from golden_models import CONFIGS, random_weights
from numpy.typing import NDArray

from qwen35_local.models import reference
from qwen35_local.models.positions import InputRows, call_positions, grid_positions, next_position, text_positions
from qwen35_local.models.reference import Reference
from qwen35_local.models.rope import inverse_frequencies, rope_axes


@pytest.fixture(scope="module", params=NAMES)
def golden(request: pytest.FixtureRequest) -> GoldenImages:
    return golden_images(request.param)


def error(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_positions_match_transformers(golden: GoldenImages) -> None:
    found = call_positions(0, N_TOKENS, golden.inputs)
    assert np.array_equal(found, golden.positions)
    assert next_position(found) - N_TOKENS == golden.rope_delta < 0


def test_logits_match_transformers(golden: GoldenImages) -> None:
    """The prompt in one call, then tokens one by one, which stand where the images have left the position."""
    page, written = Reference(golden.weights, golden.config), N_TOKENS - N_DECODED
    state = page.new_state()
    parts = [page.forward(golden.tokens[:written], state, inputs=golden.inputs)]
    parts += [page.forward([token], state) for token in golden.tokens[written:]]
    assert error(np.concatenate(parts)[golden.rows], golden.logits) < 1e-11


def test_goldens_are_not_trivial() -> None:
    """Sections laid out one behind the other, text positions for images, or other rows miss the goldens."""
    golden = golden_images("dense-ratio1-tied")
    page, image = Reference(golden.weights, golden.config), golden.inputs[0]
    count = image.first + len(image)
    kept = (golden.rows > image.first) & (golden.rows < count)

    def wrong(inputs: InputRows) -> float:
        return error(page.forward(golden.tokens[:count], inputs=[inputs])[golden.rows[kept]], golden.logits[kept])

    assert wrong(image) < 1e-11
    assert wrong(replace(image, positions=text_positions(0, len(image)))) > 1e-3
    assert wrong(replace(image, embeddings=image.embeddings[::-1])) > 1e-2
    page.axes = np.repeat([0, 1, 2], [11, 11, 10])
    assert wrong(image) > 1e-3


def test_axes_of_the_family() -> None:
    """docs/architecture.md 3.1: time, height, width in turns, 11, 11 and 10 pairs."""
    axes = rope_axes((11, 11, 10), 32)
    assert axes.tolist() == [0, 1, 2] * 10 + [0, 1]
    assert np.bincount(axes).tolist() == [11, 11, 10]
    assert rope_axes((4, 1, 2), 7).tolist() == [0, 1, 2, 0, 0, 2, 0]


def test_text_turns_as_with_one_position() -> None:
    """Bit by bit: three equal parts are one position."""
    x = np.random.default_rng(1).standard_normal((5, 2, 80))
    inv_freq = inverse_frequencies(64, 1e7)
    positions = np.arange(1_000_003, 1_000_008)
    angle = positions[:, None, None] * inv_freq
    low, high = x[..., :32], x[..., 32:64]
    cos, sin = np.cos(angle), np.sin(angle)
    expected = np.concatenate([low * cos - high * sin, high * cos + low * sin, x[..., 64:]], axis=-1)
    axes = rope_axes((11, 11, 10), 32)
    assert np.array_equal(reference.rope(x, text_positions(1_000_003, 5), axes, inv_freq, 1.0), expected)


def test_grid_positions_go_line_by_line() -> None:
    assert grid_positions(2, 3).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2]]


def test_a_call_goes_on_behind_an_image() -> None:
    """Two rows of text from 5, an image of 2 x 3 from 7, and text from 7 + 3."""
    image = InputRows(2, np.zeros((6, 4)), grid_positions(2, 3))
    found = call_positions(5, 9, [image])
    assert found[:2].tolist() == [[5, 5, 5], [6, 6, 6]]
    assert found[2:8].tolist() == (grid_positions(2, 3) + 7).tolist()
    assert found[8].tolist() == [10, 10, 10]
    assert next_position(found) == 11
    assert next_position(text_positions(3, 0), 3) == 3


def test_drafts_stand_where_their_hidden_rows_do() -> None:
    """A draft of rows behind an image has their positions; chained ones go on as text, in one call or in two."""
    config = CONFIGS["dense-ratio3-mtp"]
    page = Reference(random_weights(config, 4), config)
    image = InputRows(2, np.full((6, config.hidden), 0.25), grid_positions(2, 3))
    tokens = list(range(9))
    one, two = page.new_state(), page.new_state()
    hidden = page.hidden(tokens, one, [image])
    assert np.array_equal(page.hidden(tokens, two, [image]), hidden)
    following, chained = [*tokens[1:], 20, 21], np.concatenate([hidden, hidden[-1:]])
    expected, _ = page.draft(following, chained, one)
    parts = [page.draft(following[a:b], chained[a:b], two)[0] for a, b in ((0, 4), (4, 9), (9, 10))]
    assert error(np.concatenate(parts), expected) < 1e-12
