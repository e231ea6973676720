"""Reading, checking and writing model configurations."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extended import with_yarn
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_values import VALUES

from qwen35_local.errors import FormatError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import SIZES
from qwen35_local.models.rope import Yarn

PUBLISHED = Path(__file__).parents[1] / "golden/configs"

DENSE: dict[str, Any] = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "text_config": {
        "model_type": "qwen3_5_text",
        "dtype": "bfloat16",
        "eos_token_id": 248044,
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_hidden_layers": 24,
        "full_attention_interval": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "linear_num_value_heads": 16,
        "mtp_num_hidden_layers": 1,
        "vocab_size": 248320,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "mrope_section": [11, 11, 10]},
    },
    "tie_word_embeddings": True,
    "vision_config": {"depth": 12},
}
MOE: dict[str, Any] = {
    "architectures": ["Qwen3_5MoeForConditionalGeneration"],
    "model_type": "qwen3_5_moe",
    "text_config": {
        "model_type": "qwen3_5_moe_text",
        "eos_token_id": 248044,
        "hidden_size": 2048,
        "num_hidden_layers": 40,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "linear_num_value_heads": 32,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "mlp_only_layers": [],
        "mtp_num_hidden_layers": 1,
        "vocab_size": 248320,
    },
    "tie_word_embeddings": False,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 262144, "rope_theta": 1e7}
PATTERN = (["linear_attention"] * 3 + ["full_attention"]) * 6


def changed(config: dict[str, Any], **text: Any) -> dict[str, Any]:
    config = copy.deepcopy(config)
    config["text_config"].update(text)
    return config


def flat(**text: Any) -> dict[str, Any]:
    config = {**DENSE["text_config"], "tie_word_embeddings": True, "architectures": ["Qwen3_5ForCausalLM"], **text}
    return {key: value for key, value in config.items() if value is not ...}


SMALLEST = ModelConfig.from_hf(DENSE)


@pytest.mark.parametrize("name", ["27B", "35B-A3B", "122B-A10B", "397B-A17B"])
def test_published_files(name: str) -> None:
    config = ModelConfig.from_hf(json.loads((PUBLISHED / f"Qwen--Qwen3.5-{name}.json").read_text()))
    assert config == SIZES[f"Qwen3.5-{name}"].config


def test_nested() -> None:
    assert SIZES["Qwen3.5-0.8B"].config == SMALLEST
    assert ModelConfig.from_hf(MOE) == SIZES["Qwen3.5-35B-A3B"].config
    assert SMALLEST.architecture == "qwen35"
    assert ModelConfig.from_hf(MOE).architecture == "qwen35moe"


@pytest.mark.parametrize(
    "config",
    [
        flat(),
        flat(model_type="qwen3_5"),
        flat(model_type=..., architectures=["Qwen3_5ForCausalLM"]),
        flat(model_type="qwen3_6_text", architectures=None),
        flat(model_type="qwen3_8", architectures=["Qwen3_8ForConditionalGeneration"], output_gate_type="swish"),
        flat(full_attention_interval=..., layer_types=PATTERN),
        flat(full_attention_interval=8, layer_types=PATTERN),
        flat(rope_parameters=..., rope_theta=1e7, partial_rotary_factor=0.25, rope_scaling=None),
        flat(rope_parameters=..., rope_theta=1e7, rope_scaling={"type": "mrope", "mrope_section": [11, 11, 10]}),
        flat(rope_parameters=..., rope_theta=10000000, rope_type="default", mrope_section=[11, 11, 10]),
        flat(mtp_num_hidden_layers=..., num_nextn_predict_layers=1),
        flat(pad_token_id=None, num_experts=0, sliding_window=None, an_unknown_field={"x": 1}),
    ],
)
def test_spellings_of_one_model(config: dict[str, Any]) -> None:
    assert ModelConfig.from_hf(config) == SMALLEST


def test_what_is_missing_has_the_family_value() -> None:
    config = ModelConfig.from_hf(flat(rope_parameters=..., mtp_num_hidden_layers=..., eos_token_id=...))
    assert config == replace(SMALLEST, mtp_layers=0, eos_ids=())
    assert (config.rope_theta, config.rope_width, config.context_tokens) == (1e7, 64, 262144)


def test_top_level_tie_counts() -> None:
    config = changed(DENSE, tie_word_embeddings=True)
    config["tie_word_embeddings"] = False
    assert not ModelConfig.from_hf(config).embeddings_are_tied
    assert not ModelConfig.from_hf(flat(tie_word_embeddings=...)).embeddings_are_tied


def test_end_tokens_and_dtype() -> None:
    config = changed(DENSE, eos_token_id=None, dtype=None)
    config |= {"eos_token_id": [248046, 248044], "torch_dtype": "torch.float16"}
    read = ModelConfig.from_hf(config)
    assert read.eos_ids == (248046, 248044)
    assert read.dtype == "float16"
    assert read == replace(SMALLEST, eos_ids=(248046, 248044))


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_yarn(key: str) -> None:
    config = ModelConfig.from_hf(changed(DENSE, **{"rope_parameters": None, key: YARN}))
    assert config == with_yarn(SMALLEST, 4.0)
    assert config.yarn is not None
    assert config.yarn.magnitude == pytest.approx(1.138629436, rel=1e-9)
    stated = ModelConfig.from_hf(changed(DENSE, rope_parameters={**YARN, "attention_factor": 1.0}))
    assert stated.yarn is not None
    assert stated.yarn.magnitude == pytest.approx(1.0)


def test_which_blocks_attend() -> None:
    assert SMALLEST.full_attention_layers == (3, 7, 11, 15, 19, 23)
    assert SMALLEST.is_full_attention(24)  # the MTP block, though its index would make it a delta block
    assert SMALLEST.block_count == 25
    assert SMALLEST.conv_channels == 6144


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({}, "model_type is missing"),
    (flat(model_type="qwen3_next"), "model_type .*qwen3_next.*expected qwen3_5 or qwen3_5_moe"),
    (flat(architectures=["LlamaForCausalLM"]), "LlamaForCausalLM"),
    ({**DENSE, "text_config": [1]}, "text_config is"),
    (flat(model_type=["qwen3_5"]), "model_type"),
    (flat(hidden_size=...), "hidden_size is missing; expected an integer"),
    (flat(hidden_size=True), "hidden_size is True; expected an integer from 1"),
    (flat(hidden_size="1024"), "hidden_size is '1024'"),
    (flat(hidden_size=1024.0), r"hidden_size is 1024\.0"),
    (flat(hidden_size=10**400), "hidden_size is 1000"),
    (flat(num_hidden_layers=-1), "num_hidden_layers is -1"),
    (flat(num_hidden_layers=10**9), "num_hidden_layers is 1000000000; expected an integer from 1 to 1024"),
    (flat(num_key_value_heads=3), "num_attention_heads is 8; expected a multiple of num_key_value_heads = 3"),
    (flat(linear_num_value_heads=24), "linear_num_value_heads is 24; expected a multiple of linear_num_key_heads = 16"),
    (flat(intermediate_size=0), "intermediate_size is 0; expected a positive number in a model without experts"),
    (flat(rms_norm_eps=float("nan")), "rms_norm_eps is nan"),
    (flat(rms_norm_eps=0), "rms_norm_eps is 0"),
    (flat(rope_parameters={"rope_theta": float("inf")}), "rope_parameters.rope_theta is inf"),
    (flat(rope_parameters={"rope_theta": 10**400}), "rope_theta is 1000"),
    (flat(rope_parameters="default"), "rope_parameters is 'default'"),
    (flat(rope_parameters={"rope_type": "llama3"}), "rope_type is 'llama3'; expected 'default'"),
    (
        flat(rope_parameters={"mrope_section": [1, 1, 1]}),
        r"mrope_section is \[1, 1, 1\]; expected three counts that cover the 32 pairs",
    ),
    (flat(rope_parameters={"mrope_section": [11] * 9}), "a list of at most 4"),
    (flat(rope_parameters={"mrope_section": [11, 11, "10"]}), "mrope_section is a list of 3 entries"),
    (flat(rope_parameters={"mrope_section": [11, 11, [10]]}), "mrope_section is"),
    (flat(rope_parameters={**YARN, "factor": None}), "factor is missing"),
    (flat(rope_parameters={**YARN, "factor": 0.5}), "factor is 0.5"),
    (flat(rope_parameters={**YARN, "truncate": False}), "truncate is False"),
    (flat(rope_parameters={**YARN, "beta_fast": 1, "beta_slow": 2}), "yarn.beta_fast"),
    (flat(partial_rotary_factor=0.5, rope_parameters={"partial_rotary_factor": 2}), "partial_rotary_factor is 2"),
    (flat(head_dim=30), r"head_dim \* partial_rotary_factor is 7; expected an even number up to head_dim = 30"),
    (flat(layer_types=PATTERN[:-1]), "layer_types is"),
    (flat(layer_types=["linear_attention", *PATTERN[:-1]]), "every 5th"),
    (flat(layer_types=["linear_attention"] * 24), "layer_types is"),
    (flat(layer_types=["full_attention", {}] * 12), "layer_types is"),
    (flat(layer_types=7), "layer_types is 7"),
    (flat(eos_token_id=248320), "eos_token_id is"),
    (flat(eos_token_id=-1), "eos_token_id is -1"),
    (flat(eos_token_id=[[1]]), "eos_token_id is"),
    (flat(tie_word_embeddings=1), "tie_word_embeddings is 1; expected true or false"),
    (flat(mtp_num_hidden_layers=2), "mtp_num_hidden_layers is 2; expected an integer from 0 to 1"),
    (flat(dtype="int4"), "dtype is 'int4'"),
    (flat(hidden_act="gelu"), "hidden_act is 'gelu'; expected 'silu'"),
    (flat(attention_bias=True), "attention_bias is True"),
    (flat(attn_output_gate=False), "attn_output_gate is False"),
    (flat(output_gate_type="sigmoid"), "output_gate_type is 'sigmoid'"),
    (flat(mtp_use_dedicated_embeddings=True), "mtp_use_dedicated_embeddings"),
    (flat(num_experts=8), "num_experts is 8; expected 0 in a qwen3_5_text model"),
    (changed(MOE, num_experts=0), "text_config.num_experts is 0; expected a positive number"),
    (changed(MOE, num_experts_per_tok=257), "num_experts_per_tok is 257; expected at most num_experts = 256"),
    (changed(MOE, shared_expert_intermediate_size=0), "shared_expert_intermediate_size is 0"),
    (changed(MOE, mlp_only_layers=[1]), "mlp_only_layers"),
    (changed(MOE, norm_topk_prob=False), "norm_topk_prob is False"),
]


@pytest.mark.parametrize(("config", "message"), BROKEN)
def test_refuses(config: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        ModelConfig.from_hf(config)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TEXT_KEYS = sorted({*DENSE["text_config"], *MOE["text_config"], "layer_types", "rope_scaling", "head_dim", "dtype"})


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([DENSE, MOE]), st.dictionaries(st.sampled_from(TEXT_KEYS), JSON, min_size=1, max_size=3))
def test_any_json_is_read_or_refused(config: dict[str, Any], fields: dict[str, Any]) -> None:
    try:
        read = ModelConfig.from_hf(changed(config, **fields))
    except FormatError as error:
        assert len(str(error)) < 600
    else:
        assert read.layers >= 1


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(SIZES["Qwen3.5-35B-A3B"].config.to_gguf())), JSON)
def test_any_metadata_is_read_or_refused(key: str, value: Any) -> None:
    metadata = {**SIZES["Qwen3.5-35B-A3B"].config.to_gguf(), key: value}
    try:
        ModelConfig.from_gguf(metadata, vocabulary=248320)
    except FormatError as error:
        assert len(str(error)) < 600


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("extended", [False, True])
def test_gguf_round_trip(name: str, extended: bool) -> None:
    config = replace(SIZES[name].config, eos_ids=(248046,))
    if extended:
        assert config.yarn is None
        config = replace(config, yarn=Yarn(factor=3.7, original_context_tokens=262144, attention_factor=0.9))
    metadata = {**config.to_gguf(), "tokenizer.ggml.eos_token_id": np.uint32(248046)}
    tied = config.embeddings_are_tied
    assert ModelConfig.from_gguf(metadata, vocabulary=config.vocabulary, embeddings_are_tied=tied) == config


def test_gguf_types_and_names() -> None:
    metadata = SIZES["Qwen3.5-35B-A3B"].config.to_gguf()
    types = {key.removeprefix("qwen35moe."): type(value) for key, value in metadata.items()}
    sections = metadata["qwen35moe.rope.dimension_sections"]
    assert isinstance(sections, np.ndarray)
    assert sections.dtype == np.int32
    assert sections.tolist() == [11, 11, 10, 0]
    assert types.pop("general.architecture") is str
    assert types.pop("rope.dimension_sections") is np.ndarray
    assert types.pop("attention.layer_norm_rms_epsilon") is np.float32
    assert types.pop("rope.freq_base") is np.float32
    assert set(types.values()) == {np.uint32}
    assert metadata["qwen35moe.block_count"] == 41
    assert metadata["qwen35moe.nextn_predict_layers"] == 1
    assert metadata["qwen35moe.ssm.inner_size"] == 4096
    assert "qwen35moe.feed_forward_length" not in metadata
    assert "qwen35.nextn_predict_layers" not in replace(SMALLEST, mtp_layers=0).to_gguf()


def test_gguf_variants_of_other_writers() -> None:
    """Plain Python values, the vocabulary from the token list."""
    metadata: dict[str, object] = {
        key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for key, value in SMALLEST.to_gguf().items()
    }
    metadata["tokenizer.ggml.tokens"] = ["x"] * 248320
    metadata["tokenizer.ggml.eos_token_id"] = metadata["tokenizer.ggml.eot_token_id"] = 248044
    del metadata["qwen35.full_attention_interval"]
    assert ModelConfig.from_gguf(metadata, embeddings_are_tied=True) == SMALLEST


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("general.architecture", "llama", "general.architecture is 'llama'; expected 'qwen35' or 'qwen35moe'"),
        ("qwen35.block_count", None, "qwen35.block_count is missing"),
        ("qwen35.block_count", 1, "qwen35.block_count is 1; expected more than qwen35.nextn_predict_layers = 1"),
        ("qwen35.ssm.inner_size", 2049, "ssm.inner_size is 2049; expected a multiple"),
        ("qwen35.attention.value_length", 128, "attention.value_length is 128; expected 256"),
        ("qwen35.attention.head_count_kv", [2, 4], "head_count_kv is a list of 2 entries .int.; expected an integer"),
        ("qwen35.rope.scaling.type", "linear", "rope.scaling.type is 'linear'"),
        ("qwen35.rope.freq_base", float("nan"), "rope.freq_base is nan"),
        ("qwen35.ssm.v_head_reordered", False, "v_head_reordered is False; expected True"),
        (
            "tokenizer.ggml.eos_token_id",
            1 << 24,
            "tokenizer.ggml.eos_token_id is 16777216; expected an integer from 0 to 248319",
        ),
    ],
)
def test_refuses_gguf(key: str, value: object, message: str) -> None:
    metadata = {**SMALLEST.to_gguf(), key: value}
    with pytest.raises(FormatError, match=message):
        ModelConfig.from_gguf(metadata, vocabulary=248320)


ALL_KEYS = {
    "dense": {**with_yarn(SMALLEST, 4).to_gguf(), "qwen35.ssm.v_head_reordered": True},
    "moe": SIZES["Qwen3.5-35B-A3B"].config.to_gguf(),
}
TOKENS = {"tokenizer.ggml.eos_token_id": np.uint32(7), "tokenizer.ggml.eot_token_id": np.uint32(8)}


@pytest.mark.parametrize("kind", ALL_KEYS)
@pytest.mark.parametrize("value", [*VALUES, [11, 11, "10", 0], [11, 11, 10.0, 0], [0, 0, 0, 0], [1] * 5], ids=repr)
def test_each_key_with_each_type(kind: str, value: Any) -> None:
    """Another type is refused by the key that has it; a number that fits no other, by the key of one of them."""
    good = ALL_KEYS[kind] | TOKENS
    real = re.compile("|".join(map(re.escape, good)))
    for key in good:
        try:
            ModelConfig.from_gguf(good | {key: value}, vocabulary=248320)
        except FormatError as error:
            is_a_number = type(value) in (int, float)
            assert real.search(str(error)) if is_a_number else key in str(error), (key, str(error))
        else:
            is_number_or_one = type(value) in (int, float) or key.endswith("v_head_reordered") or value == [7]
            assert is_number_or_one, (key, value)


def test_gguf_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(FormatError, match=r"qwen35\.vocab_size is missing"):
        ModelConfig.from_gguf(SMALLEST.to_gguf())
