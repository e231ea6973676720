"""The numpy page against transformers 5.23, widened to fp64, on tiny random models."""

from dataclasses import replace

import numpy as np
import pytest
from extended import with_yarn
from golden_models import random_weights

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.positions import InputRows, call_positions, grid_positions, next_position
from qwen35_local.models.reference import Reference
from qwen35_local.models.tensors import Change, canonical_name, tensor_table

pytest.importorskip("torch", reason="needs the [oracle] extra: torch is missing")
transformers = pytest.importorskip("transformers", reason="needs the [oracle] extra: transformers is missing")
if not transformers.__version__.startswith("5.23."):
    pytest.skip(f"needs transformers 5.23, found {transformers.__version__}", allow_module_level=True)

import transformers_oracle  # noqa: E402

pytestmark = pytest.mark.oracle

DENSE = ModelConfig(
    vocabulary=320,
    hidden=64,
    layers=4,
    heads=6,
    kv_heads=2,
    delta_key_heads=2,
    delta_value_heads=6,
    delta_key_width=32,
    delta_value_width=32,
    feed_forward=96,
    mtp_layers=1,
)
MODELS = {
    "dense": DENSE,
    "dense, tied, one value head per key head": replace(
        DENSE, delta_value_heads=2, embeddings_are_tied=True, mtp_layers=0
    ),
    "dense, unequal key and value widths": replace(DENSE, delta_key_width=16, delta_value_width=24, mtp_layers=0),
    "dense, every second layer attends": replace(DENSE, full_attention_interval=2, mtp_layers=0),
    "moe": replace(
        DENSE,
        feed_forward=0,
        experts=16,
        experts_per_token=4,
        expert_feed_forward=32,
        shared_expert_feed_forward=48,
        mtp_layers=1,
    ),
}
PIECES = [70, 1, 1, 5, 1, 66, 1, 1, 4]
TOLERANCE = 1e-10


def tokens_of(config: ModelConfig) -> list[int]:
    return [int(t) for t in np.random.RandomState(5).randint(0, config.vocabulary, sum(PIECES))]


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_prefill_and_decode(name: str) -> None:
    config = MODELS[name]
    weights, tokens = random_weights(config, 11), tokens_of(config)
    model, page = transformers_oracle.build(weights, config), Reference(weights, config)
    assert error(page.forward(tokens), transformers_oracle.logits(model, tokens)) < TOLERANCE
    state, parts, first = page.new_state(), [], 0
    for piece in PIECES:
        parts.append(page.forward(tokens[first : first + piece], state))
        first += piece
    assert error(np.concatenate(parts), transformers_oracle.logits(model, tokens, PIECES)) < TOLERANCE


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_draft(name: str) -> None:
    config = MODELS[name]
    weights, tokens = random_weights(config, 12), tokens_of(config)
    model, page = transformers_oracle.build(weights, config), Reference(weights, config)
    state = page.new_state()
    hidden = page.hidden(tokens, state)
    found, _ = page.draft(tokens[1:], hidden[:-1], state)
    assert error(found, transformers_oracle.draft_logits(model, weights, config, tokens)) < TOLERANCE


@pytest.mark.parametrize("sections", [(11, 11, 10), (24, 6, 2), (12, 3, 17)])
def test_images(sections: tuple[int, ...]) -> None:
    """An image and a video of two frames: positions as `get_rope_index` gives them, logits with rows of their own."""
    config = replace(DENSE, mtp_layers=0, rope_sections=sections)
    weights, tokens = random_weights(config, 15), tokens_of(config)
    grids, places = [(1, 8, 12), (1, 2, 6), (1, 2, 6)], [5, 40, 44]
    inputs, is_image = [], np.zeros(len(tokens), bool)
    for (_, height, width), first in zip(grids, places, strict=True):
        positions = grid_positions(height // 2, width // 2)
        rows = np.random.RandomState(first).standard_normal((len(positions), config.hidden)).astype(np.float32)
        inputs.append(InputRows(first, rows, positions))
        is_image[first : first + len(positions)] = True
    expected, delta = transformers_oracle.rope_index(is_image.tolist(), grids, 2)
    found = call_positions(0, len(tokens), inputs)
    assert np.array_equal(found, expected)
    assert next_position(found) - len(tokens) == delta
    model, page = transformers_oracle.build(weights, config), Reference(weights, config)
    logits = transformers_oracle.mixed_logits(model, tokens, {rows.first: rows.embeddings for rows in inputs}, expected)
    assert error(page.forward(tokens, inputs=inputs), logits) < TOLERANCE


def test_yarn() -> None:
    """transformers keeps YaRN's frequencies in fp32, so agreement ends there."""
    config = with_yarn(replace(DENSE, mtp_layers=0), 4.0)
    weights, tokens = random_weights(config, 13), tokens_of(config)
    model = transformers_oracle.build(weights, config)
    page = Reference(weights, config)
    assert error(page.forward(tokens), transformers_oracle.logits(model, tokens)) < 1e-6
    rotary = model.model.rotary_emb
    assert page.magnitude == pytest.approx(rotary.attention_scaling, rel=1e-7)
    assert np.allclose(page.inv_freq, rotary.inv_freq.numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_reads_what_transformers_writes(name: str) -> None:
    """A configuration that transformers saved reads back as the model it was made from, but for what it cannot say."""
    config = replace(MODELS[name], mtp_layers=0)
    assert ModelConfig.from_hf(transformers_oracle.hf_config(config).to_dict()) == config


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_tensor_table_restores_gguf_weights(name: str) -> None:
    """The tensor table, applied to a checkpoint that transformers runs, gives the weights that the page runs."""
    config = MODELS[name]
    weights = random_weights(config, 14)
    state = transformers_oracle.hf_state(weights, config)
    checkpoint = {canonical_name(source): values for source, values in state.items()}
    for spec in tensor_table(config):
        values = checkpoint[spec.source]
        assert values.shape in spec.source_shapes
        if spec.half is not None:
            values = np.split(values, 2, axis=1)[spec.half]
        values = values.reshape(spec.shape)
        if spec.tiling is not None:
            kept, heads = np.split(values, [spec.tiling.start], axis=spec.tiling.axis)
            columns = np.arange(heads.shape[spec.tiling.axis]).reshape(-1, spec.tiling.width)
            tiled = heads.take(columns[spec.tiling.source_heads()].ravel(), axis=spec.tiling.axis)
            values = np.concatenate([kept, tiled], axis=spec.tiling.axis)
        if spec.change is Change.PLUS_ONE:
            values = values + 1.0
        elif spec.change is Change.NEGATIVE_EXPONENTIAL:
            values = -np.exp(values)
        assert np.allclose(values, weights[spec.name], rtol=1e-6, atol=1e-7), spec.name
    assert {spec.source for spec in tensor_table(config)} == set(checkpoint)
