"""What a token costs, against counts made another way: the registry's, and the packed bytes of whole models."""

from dataclasses import replace
from pathlib import Path

import pytest
from random_model import super_block_config, tiny_config

from qwen35_local import _core
from qwen35_local.engine.cost import Cost, cost
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import parameters
from qwen35_local.models.tensors import tensor_table
from qwen35_local.quantize.synthetic import of_config

CONFIGS = {
    "dense": super_block_config(),
    "tied": super_block_config(tied=True),
    "moe": super_block_config(moe=True),
    "odd widths": tiny_config(ratio=3),
}
VECTORS = ("norm.weight", "ssm_a", "ssm_dt.bias", "ssm_conv1d.weight")


def load(config: ModelConfig, folder: Path, preset: str = "Q4_K_M") -> _core.Model:
    made = of_config("tiny", config, preset)
    made.write_header(folder / "header.gguf")
    return _core.Model(folder / "header.gguf", threads=1, tensors=made.pattern)


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return CONFIGS[request.param]


def test_weights_of_a_prompt_are_the_active_ones(config: ModelConfig, tmp_path: Path) -> None:
    found = cost(load(config, tmp_path))
    vectors = 0
    for spec in tensor_table(config):
        if spec.name.endswith(VECTORS):
            vectors += spec.shape[0] * (spec.shape[1] if len(spec.shape) > 1 else 1)
    active = parameters(config).active - vectors
    assert found.prefill_operations(1) == 2 * active
    assert found.prefill_operations(10, logit_rows=0) == 20 * (active - config.vocabulary * config.hidden)


def test_bytes_of_a_token_are_the_packed_ones(config: ModelConfig, tmp_path: Path) -> None:
    model = load(config, tmp_path)
    found = cost(model)
    sizes = {weight.name: weight.n_bytes for weight in model.weights}
    assert sum(sizes.values()) == model.weight_bytes
    row = sizes["token_embd.weight"] // config.vocabulary
    streamed = model.weight_bytes + row
    if not config.embeddings_are_tied:
        streamed -= sizes["token_embd.weight"]
    for name, size in sizes.items():
        if name.endswith("_exps.weight"):
            streamed -= size - size * config.experts_per_token // config.experts
    delta_layers = config.layers - len(config.full_attention_layers)
    memory = config.delta_value_heads * config.delta_key_width * config.delta_value_width + 3 * config.conv_channels
    memory += 4 * (config.delta_key_heads * config.delta_key_width)
    memory += 4 * (config.delta_value_heads * (config.delta_value_width + 1))
    positions = 2 * 2 * len(config.full_attention_layers) * config.kv_heads * config.head_width
    state = 1.25 * 4 * delta_layers * memory  # read by every token, written by every fourth
    rounding = 1.25 * 5 * 64 * delta_layers  # parts of the state begin on cache lines
    assert streamed + state + positions <= found.decode_bytes(0) <= streamed + state + positions + rounding
    assert found.decode_bytes(100) - found.decode_bytes(0) == pytest.approx(100 * positions)
    if not config.is_moe:
        side_by_side = found.decode_bytes(7, sequences=3)
        least = streamed + 2 * row + 3 * (state + 8 * positions)
        assert least <= side_by_side <= least + 3 * rounding


def test_state_is_what_a_sequence_holds(config: ModelConfig, tmp_path: Path) -> None:
    model = load(config, tmp_path)
    found = cost(model)
    sequence = _core.Sequence(model)
    assert sequence.state_bytes == found.state_bytes
    before = sequence.state_bytes
    sequence.append([1])
    assert sequence.state_bytes - before == found.page_tokens * found.kv_token_bytes["f16"]


def test_a_narrow_cache_is_read_packed_but_for_three_pages() -> None:
    kv = {"f16": 128, "q8": 68, "k8v4": 52, "q4": 36}
    found = Cost(0, 0, 0, 0, 0, 0, 0, experts=0, top_k=0, state_bytes=0, kv_token_bytes=kv, page_tokens=256)
    assert found.kv_bytes(1000, "f16") == 1000 * 128
    assert found.kv_bytes(768, "q8") == 768 * 128  # page 2 is its own, 1 the one before it, 0 the first
    assert found.kv_bytes(769, "q8") == 256 * 68 + 513 * 128
    assert found.kv_bytes(2048, "q4") == 5 * 256 * 36 + 768 * 128
    assert found.decode_bytes(2047, kv="k8v4") == found.kv_bytes(2048, "k8v4") == 5 * 256 * 52 + 768 * 128


def test_blocks_that_predict_are_not_read(tmp_path: Path) -> None:
    config = super_block_config(mtp=True)
    (tmp_path / "with").mkdir()
    with_mtp = cost(load(config, tmp_path / "with", "Q8_0"))
    assert with_mtp == cost(load(replace(config, mtp_layers=0), tmp_path, "Q8_0"))


def test_experts_that_many_tokens_choose() -> None:
    moe = Cost(0, 0, 0, 0, 0, 0, 0, experts=256, top_k=8, state_bytes=0, kv_token_bytes={}, page_tokens=256)
    assert moe.distinct_experts(1) == pytest.approx(8)
    assert 15 < moe.distinct_experts(2) < 16
    assert moe.distinct_experts(10_000) == pytest.approx(256)
