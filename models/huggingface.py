"""Reading a Hugging Face `config.json` of the family, in every spelling its checkpoints use.

Sources: the transformers 5.23 configuration classes `qwen3_5` and `qwen3_5_moe` and the published `config.json` files
of Qwen3.5, Qwen3.6 and Qwen3.8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qwen35_local.fields import TEXT, list_of
from qwen35_local.models.bounds import Source, refuse
from qwen35_local.models.rope import Yarn, default_magnitude

FAMILY = re.compile(r"qwen3_[568](_moe)?(_text)?|Qwen3_[568](Moe)?(ForConditionalGeneration|ForCausalLM|(Text)?Model)")
FAMILY_NAMES = "qwen3_5 or qwen3_5_moe (Qwen3.5, Qwen3.6 or Qwen3.8)"


_COUNTS = {
    "vocabulary": "vocab_size",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "delta_value_heads": "linear_num_value_heads",
    "delta_key_heads": "linear_num_key_heads",
    "delta_key_width": "linear_key_head_dim",
    "delta_value_width": "linear_value_head_dim",
    "conv_taps": "linear_conv_kernel_dim",
    "context_tokens": "max_position_embeddings",
    "head_width": "head_dim",
}
_DENSE = {"feed_forward": "intermediate_size"}
_EXPERTS = {
    "experts_per_token": "num_experts_per_tok",
    "expert_feed_forward": "moe_intermediate_size",
    "shared_expert_feed_forward": "shared_expert_intermediate_size",
}
_DEFAULTS = {
    "delta_key_heads": 16,
    "delta_key_width": 128,
    "delta_value_width": 128,
    "conv_taps": 4,
    "context_tokens": 262144,
    "head_width": 256,
}
KEYS = {
    **_COUNTS,
    **_DENSE,
    **_EXPERTS,
    "experts": "num_experts",
    "eos_ids": "eos_token_id",
    "rope_width": "head_dim * partial_rotary_factor",
    "rope_sections": "mrope_section",
}
"""What a `config.json` calls the fields of `ModelConfig`."""


def fields(config: Mapping[str, object]) -> dict[str, Any]:
    """The arguments of `ModelConfig` that a parsed `config.json` gives. Raises `FormatError`."""
    nested = config.get("text_config")
    if nested is not None and not isinstance(nested, Mapping):
        raise refuse("text_config", nested, "an object")
    top = Source(config)
    text = top if nested is None else Source(nested, "text_config.")
    return _identity(top, text) | _layers(text) | _widths(text) | _rope(text)


def _identity(top: Source, text: Source) -> dict[str, Any]:
    """Checks that the checkpoint is of the family and does nothing unknown; reads what may stand at the top level."""
    architectures = top.get("architectures")
    listed = architectures if isinstance(architectures, list) else []
    names = [n for n in (top.get("model_type"), text.get("model_type"), *listed[:4]) if n is not None]
    matches = [FAMILY.fullmatch(n) if isinstance(n, str) else None for n in names]
    if not names or None in matches:
        raise refuse("model_type", names or None, FAMILY_NAMES)
    is_moe = any(m is not None and "moe" in m.group().lower() for m in matches)
    experts = _experts(text)
    if is_moe != (experts > 0):
        raise refuse(text.name("num_experts"), experts, "a positive number" if is_moe else f"0 in a {names[0]} model")
    text.expect("attention_bias", False)
    text.expect("attn_output_gate", True)
    text.expect("output_gate_type", "silu", "swish")
    text.expect("hidden_act", "silu")
    text.expect("mlp_only_layers", [])
    text.expect("decoder_sparse_step", 1)
    text.expect("norm_topk_prob", True)
    text.expect("mtp_use_dedicated_embeddings", False)
    tie = top if top.get("tie_word_embeddings") is not None else text
    eos = text if text.get("eos_token_id") is not None else top
    stated = [source.get(key) for source in (text, top) for key in ("dtype", "torch_dtype")]
    return {
        "embeddings_are_tied": tie.flag("tie_word_embeddings", False),
        "eos_ids": () if eos.get("eos_token_id") is None else eos.integers("eos_token_id", "eos_ids", 64),
        "dtype": str(next(filter(None, stated), "bfloat16")).removeprefix("torch."),
    }


def _experts(text: Source) -> int:
    """Under either of transformers' names for it; both may be there when they agree."""
    if text.get("num_local_experts") is None:
        return text.integer("num_experts", "experts", 0)
    experts = text.integer("num_local_experts", "experts")
    text.expect("num_experts", experts)
    return experts


def _layers(text: Source) -> dict[str, Any]:
    """Layer counts and the one pattern that a GGUF can express: every interval-th layer attends."""
    layers = text.integer("num_hidden_layers", "layers")
    interval = text.integer("full_attention_interval", "full_attention_interval", 4)
    if text.get("layer_types") is not None:
        kinds = text.need("layer_types", list_of(TEXT))
        if "full_attention" in kinds:
            interval = kinds.index("full_attention") + 1
        pattern = ["linear_attention" if (i + 1) % interval else "full_attention" for i in range(layers)]
        if kinds != pattern:
            expected = f"{layers} entries, 'linear_attention' but for every {interval}th, which is 'full_attention'"
            raise text.refuse("layer_types", expected)
    key = "mtp_num_hidden_layers" if text.get("num_nextn_predict_layers") is None else "num_nextn_predict_layers"
    mtp_layers = text.integer(key, "mtp_layers", 0)
    return {"layers": layers, "full_attention_interval": interval, "mtp_layers": mtp_layers}


def _widths(text: Source) -> dict[str, Any]:
    experts = _experts(text)
    keys = _COUNTS | (_EXPERTS if experts else _DENSE)
    return {"experts": experts} | {name: text.integer(key, name, _DEFAULTS.get(name)) for name, key in keys.items()}


def _rope(text: Source) -> dict[str, Any]:
    """RoPE settings lie flat, under `rope_scaling` (older) or under `rope_parameters` (transformers 5)."""
    rope = Source(dict(text.values), text.prefix)
    for key in ("rope_scaling", "rope_parameters"):
        inner = text.get(key)
        if isinstance(inner, Mapping):
            rope = Source({**rope.values, **{k: v for k, v in inner.items() if v is not None}}, text.name(f"{key}."))
        elif inner is not None:
            raise refuse(text.name(key), inner, "an object")
    head_width = text.integer("head_dim", "head_width", 256)
    context = text.integer("max_position_embeddings", "context_tokens", 262144)
    rope.expect("mrope_interleaved", True)
    kind = "rope_type" if rope.get("rope_type") is not None else "type"
    rope.expect(kind, "default", "mrope", "yarn")
    yarn = None
    if rope.get(kind) == "yarn":
        for key in ("mscale", "mscale_all_dim"):
            rope.expect(key)
        rope.expect("truncate", True)
        factor = rope.number("factor", "factor")
        # attention_factor replaces YaRN's own magnitude; ours multiplies it, as GGUF's yarn_attn_factor does.
        magnitude = rope.number("attention_factor", "magnitude", default_magnitude(factor))
        yarn = Yarn(
            factor=factor,
            original_context_tokens=rope.integer("original_max_position_embeddings", "context_tokens", context),
            beta_fast=rope.number("beta_fast", "beta", 32.0),
            beta_slow=rope.number("beta_slow", "beta", 1.0),
            attention_factor=magnitude / default_magnitude(factor),
        )
    sections = rope.integers("mrope_section", "rope_sections", 4) if rope.get("mrope_section") is not None else None
    return {
        "rope_width": int(head_width * rope.number("partial_rotary_factor", "partial_rotary_factor", 0.25)),
        "rope_theta": rope.number("rope_theta", "rope_theta", 1e7),
        "rope_sections": (sections or (11, 11, 10))[:3],
        "rms_eps": text.number("rms_norm_eps", "rms_eps", 1e-6),
        "yarn": yarn,
    }
