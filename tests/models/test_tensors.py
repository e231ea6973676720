"""The tensor table against published counts and the order of value heads."""

import math

import pytest

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import SIZES
from qwen35_local.models.tensors import HeadTiling, canonical_name, is_ignored, is_vision, tensor_table

# docs/architecture.md 8.2, without and with the MTP block; the 753 is a published file's.
COUNTS = {
    "0.8B": (320, 335),
    "2B": (320, 335),
    "4B": (426, 441),
    "9B": (427, 442),
    "27B": (851, 866),
    "35B-A3B": (733, 753),
    "122B-A10B": (879, 899),
    "397B-A17B": (1098, 1118),
}
CONFIGS = {next(short for short in COUNTS if size.name.endswith(f"-{short}")): size.config for size in SIZES.values()}


@pytest.mark.parametrize("size", COUNTS)
def test_tensor_counts(size: str) -> None:
    config = CONFIGS[size]
    table = tensor_table(config)
    mtp = [spec for spec in table if spec.name.startswith(f"blk.{config.layers}.")]
    assert (len(table) - len(mtp), len(table)) == COUNTS[size]
    assert len({spec.name for spec in table}) == len(table)


@pytest.mark.parametrize("size", COUNTS)
def test_sources_hold_as_many_values_as_the_tensors_made_of_them(size: str) -> None:
    table = tensor_table(CONFIGS[size])
    wanted: dict[str, int] = {}
    for spec in table:
        wanted[spec.source] = wanted.get(spec.source, 0) + math.prod(spec.shape)
        assert len({math.prod(shape) for shape in spec.source_shapes}) == 1
    for spec in table:
        assert math.prod(spec.source_shapes[0]) == wanted[spec.source], spec.name


def test_value_head_order() -> None:
    """New head j belongs to key head j % Hk and is its member j // Hk."""
    tiling = HeadTiling(axis=0, start=0, width=128, key_heads=16, members=3)
    for new, old in enumerate(tiling.source_heads()):
        assert (old // 3, old % 3) == (new % 16, new // 16)


def test_models_with_one_value_head_per_key_head_are_not_tiled() -> None:
    assert not any(spec.tiling for spec in tensor_table(CONFIGS["0.8B"]))
    tiled = {spec.name.split(".", 2)[2] for spec in tensor_table(CONFIGS["4B"]) if spec.tiling}
    assert tiled == {
        *("attn_qkv.weight", "attn_gate.weight", "ssm_alpha.weight", "ssm_beta.weight"),
        *("ssm_conv1d.weight", "ssm_dt.bias", "ssm_a", "ssm_out.weight"),
    }


def test_the_mtp_block_attends_whatever_its_index() -> None:
    config = ModelConfig(
        vocabulary=64, hidden=64, layers=4, heads=2, kv_heads=1, delta_value_heads=16, feed_forward=64, mtp_layers=1
    )
    names = {spec.name for spec in tensor_table(config)}
    assert {"blk.4.attn_q.weight", "blk.4.nextn.eh_proj.weight", "output.weight"} <= names
    assert "blk.4.ssm_a" not in names


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("model.layers.0.input_layernorm.weight", "layers.0.input_layernorm.weight"),
        ("model.language_model.layers.0.input_layernorm.weight", "layers.0.input_layernorm.weight"),
        ("language_model.model.layers.0.input_layernorm.weight", "layers.0.input_layernorm.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("mtp.fc.weight", "mtp.fc.weight"),
        ("model.mtp.fc.weight", "mtp.fc.weight"),
        ("mtp.layers.0.mlp.experts.gate_up_proj.weight", "mtp.layers.0.mlp.experts.gate_up_proj"),
        ("model.layers.3.mlp.experts.7.down_proj.weight", "layers.3.mlp.experts.7.down_proj.weight"),
    ],
)
def test_canonical_names(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical
    assert not is_vision(name)


@pytest.mark.parametrize("name", ["model.visual.blocks.0.norm1.bias", "visual.merger.norm.weight", "vision_tower.x"])
def test_vision_names(name: str) -> None:
    assert is_vision(name)


def test_ignored_names() -> None:
    assert is_ignored("layers.0.self_attn.rotary_emb.inv_freq")
    assert not is_ignored("layers.0.self_attn.q_proj.weight")
