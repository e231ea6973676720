"""GGUFs of one model as other programs write them: what changes in tensors and metadata, out of what llama.cpp has."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from random_model import TOKENS_USED, Weights, fuse_experts

from qwen35_local.models.config import ModelConfig

_OLLAMA_MTP = {
    "nextn.eh_proj.weight": "fc.weight",
    "nextn.enorm.weight": "pre_fc_norm_embedding.weight",
    "nextn.hnorm.weight": "pre_fc_norm_hidden.weight",
    "nextn.shared_head_norm.weight": "norm.weight",
}


@dataclass
class Written:
    """What goes into a file. Keys are without their architecture; None drops one."""

    weights: Weights
    keys: dict[str, Any] = field(default_factory=dict)

    def metadata(self, config: ModelConfig) -> dict[str, Any]:
        return {k if k.startswith("tokenizer.") else f"{config.architecture}.{k}": v for k, v in self.keys.items()}


Dialect = Callable[[ModelConfig, Weights], Written]


def without_mtp(config: ModelConfig, weights: Weights) -> Weights:
    return {name: w for name, w in weights.items() if not name.startswith(f"blk.{config.layers}.")}


def plain(config: ModelConfig, weights: Weights) -> Written:
    return Written(weights)


def mtp_gone(config: ModelConfig, weights: Weights) -> Written:
    return Written(without_mtp(config, weights))


def mtp_gone_and_blocks_counted_down(config: ModelConfig, weights: Weights) -> Written:
    return Written(without_mtp(config, weights), {"block_count": np.uint32(config.layers)})


def mtp_gone_and_its_key(config: ModelConfig, weights: Weights) -> Written:
    return Written(without_mtp(config, weights), {"nextn_predict_layers": None})


def mtp_layer_left_alone(config: ModelConfig, weights: Weights) -> Written:
    """Its own tensors and its key gone, those that it has like any layer still there, and not counted."""
    return Written(
        {name: w for name, w in weights.items() if ".nextn." not in name},
        {"nextn_predict_layers": None, "block_count": np.uint32(config.layers)},
    )


def mtp_layer_left_and_counted(config: ModelConfig, weights: Weights) -> Written:
    written = mtp_layer_left_alone(config, weights)
    del written.keys["block_count"]
    return written


def mtp_half_gone(config: ModelConfig, weights: Weights) -> Written:
    gone = (f"blk.{config.layers}.attn_k.weight", f"blk.{config.layers}.nextn.enorm.weight")
    return Written({name: w for name, w in weights.items() if name not in gone})


def mtp_not_counted(config: ModelConfig, weights: Weights) -> Written:
    return Written(weights, {"block_count": np.uint32(config.layers)})


def mtp_counted_without_its_key(config: ModelConfig, weights: Weights) -> Written:
    return Written(weights, {"nextn_predict_layers": None})


def mtp_without_any_count(config: ModelConfig, weights: Weights) -> Written:
    return Written(weights, {"nextn_predict_layers": None, "block_count": np.uint32(config.layers)})


def ollama_name(layers: int) -> Callable[[str], str]:
    """As its first converter of the family named tensors, the MTP block's and all."""
    mtp = f"blk.{layers}."

    def name(n: str) -> str:
        if n.startswith(mtp):
            part = n.removeprefix(mtp)
            return f"mtp.{_OLLAMA_MTP[part]}" if part in _OLLAMA_MTP else f"mtp.layers.0.{part}"
        return n.replace("ssm_dt.bias", "ssm_dt")

    return name


def vision() -> Weights:
    return {"v.blk.0.attn_q.weight": np.ones((8, 8), np.float32), "mm.0.weight": np.ones((8, 8), np.float32)}


def padded(config: ModelConfig) -> dict[str, Any]:
    """Ollama's tokens: those beyond the vocabulary have a name and a kind as users give them."""
    used = TOKENS_USED
    names = [f"t{i}" for i in range(used)] + [f"[PAD{i}]" for i in range(config.vocabulary - used)]
    return {
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [np.int32(1 if i < used else 4) for i in range(config.vocabulary)],
        "tokenizer.ggml.scores": [np.float32(0 if i < used else -1) for i in range(config.vocabulary)],
    }


def ollama(config: ModelConfig, weights: Weights) -> Written:
    sections = [np.int32(n) for n in config.rope_sections]
    per_layer = [np.uint32(config.kv_heads if config.is_full_attention(i) else 0) for i in range(config.layers)]
    name = ollama_name(config.layers)
    return Written(
        {name(n): w[None] if n.endswith("gate_inp_shexp.weight") else w for n, w in weights.items()} | vision(),
        {
            "block_count": np.uint32(config.layers),
            "nextn_predict_layers": None,
            "attention.head_count_kv": per_layer,
            "feed_forward_length": np.uint32(config.feed_forward),
            "rope.dimension_sections": sections,
            "mrope_sections": sections,
            "rope.mrope_interleaved": True,
            "ssm.v_head_reordered": True,
            "vision.block_count": np.uint32(1),
            "image_token_id": np.uint32(7),
            **padded(config),
        },
    )


def ollama_counting_mtp(config: ModelConfig, weights: Weights) -> Written:
    written = ollama(config, weights)
    del written.keys["block_count"], written.keys["nextn_predict_layers"]
    return written


def bare_dt_bias_everywhere(config: ModelConfig, weights: Weights) -> Written:
    return Written({n.replace("ssm_dt.bias", "ssm_dt"): w for n, w in weights.items()})


def other_section_keys(config: ModelConfig, weights: Weights) -> Written:
    sections = [np.uint32(n) for n in config.rope_sections]
    return Written(weights, {"rope.dimension_sections": None, "mrope_sections": sections})


def lists_of_another_integer(config: ModelConfig, weights: Weights) -> Written:
    blocks = range(config.block_count)
    heads = [np.int32(config.heads if config.is_full_attention(i) else 0) for i in blocks]
    kv_heads = [np.uint64(config.kv_heads if config.is_full_attention(i) else 0) for i in blocks]
    return Written(weights, {"attention.head_count": heads, "attention.head_count_kv": kv_heads})


def no_interval(config: ModelConfig, weights: Weights) -> Written:
    return Written(weights, {"full_attention_interval": None, "rope.scaling.type": "default"})


def ones_kept(config: ModelConfig, weights: Weights) -> Written:
    """Vectors as matrices of one row, the convolution with its middle dimension."""

    def shaped(name: str, w: Any) -> Any:
        return w[None] if w.ndim == 1 else w[:, None] if name.endswith("conv1d.weight") else w

    return Written({name: shaped(name, w) for name, w in weights.items()})


def fused(config: ModelConfig, weights: Weights) -> Written:
    return Written(fuse_experts(weights))


def experts_unmeasured(config: ModelConfig, weights: Weights) -> Written:
    return Written(weights, {"expert_feed_forward_length": None, "expert_shared_feed_forward_length": None})


# With the MTP block, and without it.
WITH_MTP: dict[str, Dialect] = {
    f.__name__: f
    for f in (
        mtp_not_counted,
        mtp_counted_without_its_key,
        mtp_without_any_count,
        ollama,
        ollama_counting_mtp,
        bare_dt_bias_everywhere,
        other_section_keys,
        lists_of_another_integer,
        no_interval,
        ones_kept,
    )
}
EXPERTS: dict[str, Dialect] = {f.__name__: f for f in (fused, experts_unmeasured)}
LOSING_MTP: dict[str, Dialect] = {
    f.__name__: f
    for f in (
        mtp_gone,
        mtp_gone_and_blocks_counted_down,
        mtp_gone_and_its_key,
        mtp_half_gone,
        mtp_layer_left_alone,
        mtp_layer_left_and_counted,
    )
}
