"""What fixes a model of the family: read from a Hugging Face `config.json` or from GGUF metadata, validated once.

The GGUF keys are those of architectures `qwen35` and `qwen35moe` as llama.cpp writes and reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qwen35_local.models import bounds, huggingface
from qwen35_local.models.bounds import Source, refuse
from qwen35_local.models.rope import Yarn

GgufValue: TypeAlias = str | np.uint32 | np.float32 | NDArray[np.int32]

DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Every number the forward pass depends on. Counts and widths are in elements, contexts in tokens.

    Letters: T tokens, D hidden, F feed-forward width, V vocabulary, L layers, H query heads, G KV heads, A attention
    head width, Hk / Hv delta key / value heads, Dk / Dv their widths, C = 2 Hk Dk + Hv Dv convolution channels,
    E experts, K experts per token. Raises `FileFormatError` on values that no model of the family can have.
    """

    vocabulary: int  # V, rows of the embedding table (padding rows included)
    hidden: int  # D
    layers: int  # L, main decoder layers; the MTP block is not counted
    heads: int  # H
    kv_heads: int  # G
    delta_value_heads: int  # Hv
    head_width: int = 256  # A
    delta_key_heads: int = 16  # Hk
    delta_key_width: int = 128  # Dk
    delta_value_width: int = 128  # Dv
    conv_taps: int = 4
    feed_forward: int = 0  # F of a dense model, 0 in a mixture of experts
    experts: int = 0  # E, 0 in a dense model
    experts_per_token: int = 0  # K
    expert_feed_forward: int = 0  # F of one routed expert
    shared_expert_feed_forward: int = 0  # F of the shared expert
    full_attention_interval: int = 4  # layer i attends when (i + 1) % interval == 0, and is a delta layer otherwise
    rms_eps: float = 1e-6
    rope_theta: float = 1e7
    rope_width: int = 64  # rotated leading dimensions of a head
    rope_sections: tuple[int, ...] = (11, 11, 10)  # pairs that follow time, height, width; interleaved
    yarn: Yarn | None = None
    context_tokens: int = 262144
    embeddings_are_tied: bool = False  # the output matrix is the embedding table
    mtp_layers: int = 0  # multi-token-prediction blocks after the main layers, 0 or 1
    eos_ids: tuple[int, ...] = ()  # as the source lists them
    dtype: str = field(default="bfloat16", compare=False)  # how the checkpoint says it stores its weights

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in bounds.INTEGERS:
                for item in value if isinstance(value, tuple) else (value,):
                    bounds.integer(entry.name, item)
            elif entry.name in bounds.FLOATS:
                bounds.number(entry.name, value)
        self._check_heads()
        self._check_feed_forward()
        if any(token >= self.vocabulary for token in self.eos_ids):
            raise refuse("eos_ids", self.eos_ids, f"token ids below vocabulary = {self.vocabulary}")
        if self.dtype not in DTYPES:
            raise refuse("dtype", self.dtype, " or ".join(DTYPES))

    def _check_heads(self) -> None:
        if self.heads % self.kv_heads:
            raise refuse("heads", self.heads, f"a multiple of kv_heads = {self.kv_heads}")
        if self.delta_value_heads % self.delta_key_heads:
            expected = f"a multiple of delta_key_heads = {self.delta_key_heads}"
            raise refuse("delta_value_heads", self.delta_value_heads, expected)
        if self.rope_width % 2 or self.rope_width > self.head_width:
            raise refuse("rope_width", self.rope_width, f"an even number up to head_width = {self.head_width}")
        if len(self.rope_sections) != 3 or sum(self.rope_sections) < self.rope_width // 2:
            raise refuse("rope_sections", self.rope_sections, f"three counts that cover {self.rope_width // 2} pairs")

    def _check_feed_forward(self) -> None:
        routed = ("experts_per_token", "expert_feed_forward", "shared_expert_feed_forward")
        present, absent = (routed, ("feed_forward",)) if self.is_moe else (("feed_forward",), routed)
        kind = "with" if self.is_moe else "without"
        for name in present:
            if not getattr(self, name):
                raise refuse(name, 0, f"a positive number in a model {kind} experts")
        for name in absent:
            if getattr(self, name):
                raise refuse(name, getattr(self, name), f"0 in a model {kind} experts")
        if self.experts_per_token > self.experts:
            raise refuse("experts_per_token", self.experts_per_token, f"at most experts = {self.experts}")

    @property
    def is_moe(self) -> bool:
        return self.experts > 0

    @property
    def architecture(self) -> str:
        """GGUF `general.architecture`: "qwen35" or "qwen35moe"."""
        return "qwen35moe" if self.is_moe else "qwen35"

    @property
    def conv_channels(self) -> int:
        """C = 2 Hk Dk + Hv Dv, in the order q, k, v."""
        return 2 * self.delta_key_heads * self.delta_key_width + self.delta_value_heads * self.delta_value_width

    @property
    def block_count(self) -> int:
        """Blocks of the GGUF: the main layers, then the MTP block."""
        return self.layers + self.mtp_layers

    def is_full_attention(self, block: int) -> bool:
        """Whether `block` (0 to block_count - 1) attends; the MTP block does, whatever its index."""
        return block >= self.layers or (block + 1) % self.full_attention_interval == 0

    @property
    def full_attention_layers(self) -> tuple[int, ...]:
        """The main layers that keep keys and values."""
        return tuple(i for i in range(self.layers) if self.is_full_attention(i))

    def with_yarn(self, factor: float) -> ModelConfig:
        """The same model, its context extended `factor` times. YaRN is static: it acts at every length."""
        return replace(self, yarn=Yarn(factor=factor, original_context_tokens=self.context_tokens))

    @classmethod
    def from_hf(cls, config: Mapping[str, object]) -> ModelConfig:
        """A parsed `config.json`, its text settings flat or under `text_config`. Raises `FileFormatError`."""
        return cls(**huggingface.fields(config))

    @classmethod
    def from_gguf(
        cls, metadata: Mapping[str, object], *, vocabulary: int | None = None, embeddings_are_tied: bool = False
    ) -> ModelConfig:
        """GGUF metadata by full key (`general.architecture`, `qwen35.block_count`, ...), as `GgufFile` gives them: one
        number where a file has a list of them, one per block. Raises `FileFormatError`.

        `vocabulary` is the row count of `token_embd.weight`; without it the token list of the file is counted.
        `embeddings_are_tied` says that the file has no `output.weight`. Neither is in the metadata of every file.
        """
        architecture = metadata.get("general.architecture")
        if architecture not in ("qwen35", "qwen35moe"):
            raise refuse("general.architecture", architecture, "'qwen35' or 'qwen35moe'")
        prefix = f"{architecture}."
        source = Source({k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}, prefix)
        source.expect("ssm.v_head_reordered", True)
        if vocabulary is None:
            tokens = metadata.get("tokenizer.ggml.tokens")
            counted = len(tokens) if isinstance(tokens, list | tuple | np.ndarray) else None
            vocabulary = source.integer("vocab_size", "vocabulary", counted)
        ends = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
        eos_ids = dict.fromkeys(bounds.integer("eos_ids", end) for end in ends if end is not None)
        common: dict[str, Any] = {
            "vocabulary": vocabulary,
            "embeddings_are_tied": embeddings_are_tied,
            "eos_ids": tuple(eos_ids),
        }
        return cls(**common, **_gguf_widths(source, architecture == "qwen35moe"), **_gguf_rope(source))

    def to_gguf(self) -> dict[str, GgufValue]:
        """`general.architecture` and every `{architecture}.*` key, as values of the type that GGUF stores.

        numpy.uint32 and numpy.float32 scalars, an int32 array for the RoPE sections, plain strings. Tokenizer and
        `general.*` descriptions are the converter's to add.
        """
        integers = {
            "block_count": self.block_count,
            "context_length": self.context_tokens,
            "embedding_length": self.hidden,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head_width,
            "attention.value_length": self.head_width,
            "rope.dimension_count": self.rope_width,
            "ssm.conv_kernel": self.conv_taps,
            "ssm.state_size": self.delta_key_width,
            "ssm.group_count": self.delta_key_heads,
            "ssm.time_step_rank": self.delta_value_heads,
            "ssm.inner_size": self.delta_value_heads * self.delta_value_width,
            "full_attention_interval": self.full_attention_interval,
        }
        floats = {"attention.layer_norm_rms_epsilon": self.rms_eps, "rope.freq_base": self.rope_theta}
        if self.is_moe:
            integers["expert_count"] = self.experts
            integers["expert_used_count"] = self.experts_per_token
            integers["expert_feed_forward_length"] = self.expert_feed_forward
            integers["expert_shared_feed_forward_length"] = self.shared_expert_feed_forward
        else:
            integers["feed_forward_length"] = self.feed_forward
        if self.mtp_layers:
            integers["nextn_predict_layers"] = self.mtp_layers
        values: dict[str, GgufValue] = {"rope.dimension_sections": np.array([*self.rope_sections, 0], np.int32)}
        if self.yarn:
            values["rope.scaling.type"] = "yarn"
            integers["rope.scaling.original_context_length"] = self.yarn.original_context_tokens
            floats["rope.scaling.factor"] = self.yarn.factor
            floats["rope.scaling.yarn_beta_fast"] = self.yarn.beta_fast
            floats["rope.scaling.yarn_beta_slow"] = self.yarn.beta_slow
            floats["rope.scaling.yarn_attn_factor"] = self.yarn.attention_factor
        values |= {key: np.uint32(value) for key, value in integers.items()}
        values |= {key: np.float32(value) for key, value in floats.items()}
        named: dict[str, GgufValue] = {f"{self.architecture}.{key}": values[key] for key in sorted(values)}
        return {"general.architecture": self.architecture, **named}


def _gguf_number(source: Source, key: str, bound: str, default: float | None = None) -> float:
    """A float as its shortest decimal, so that the f32 of 1e-6 reads as the 1e-6 that was meant."""
    return float(str(np.float32(source.number(key, bound, default))))


def _gguf_widths(source: Source, is_moe: bool) -> dict[str, Any]:
    blocks = source.integer("block_count", "block_count")
    mtp_layers = source.integer("nextn_predict_layers", "mtp_layers", 0)
    value_heads = source.integer("ssm.time_step_rank", "delta_value_heads")
    inner = source.integer("ssm.inner_size", "delta_inner_width")
    if inner % value_heads:
        raise refuse(source.name("ssm.inner_size"), inner, f"a multiple of ssm.time_step_rank = {value_heads}")
    head_width = source.integer("attention.key_length", "head_width")
    source.expect("attention.value_length", head_width)
    feed_forward: dict[str, Any] = (
        {
            "experts": source.integer("expert_count", "experts"),
            "experts_per_token": source.integer("expert_used_count", "experts_per_token"),
            "expert_feed_forward": source.integer("expert_feed_forward_length", "expert_feed_forward"),
            "shared_expert_feed_forward": source.integer(
                "expert_shared_feed_forward_length", "shared_expert_feed_forward"
            ),
        }
        if is_moe
        else {"feed_forward": source.integer("feed_forward_length", "feed_forward")}
    )
    return {
        "layers": blocks - mtp_layers,
        "mtp_layers": mtp_layers,
        "hidden": source.integer("embedding_length", "hidden"),
        "heads": source.integer("attention.head_count", "heads"),
        "kv_heads": source.integer("attention.head_count_kv", "kv_heads"),
        "head_width": head_width,
        "delta_key_heads": source.integer("ssm.group_count", "delta_key_heads"),
        "delta_value_heads": value_heads,
        "delta_key_width": source.integer("ssm.state_size", "delta_key_width"),
        "delta_value_width": inner // value_heads,
        "conv_taps": source.integer("ssm.conv_kernel", "conv_taps"),
        "full_attention_interval": source.integer("full_attention_interval", "full_attention_interval", 4),
        "rms_eps": _gguf_number(source, "attention.layer_norm_rms_epsilon", "rms_eps"),
        **feed_forward,
    }


def _gguf_rope(source: Source) -> dict[str, Any]:
    context = source.integer("context_length", "context_tokens")
    sections = source.get("rope.dimension_sections")
    source.expect("rope.scaling.type", "none", "yarn")
    yarn = None
    if source.get("rope.scaling.type") == "yarn":
        yarn = Yarn(
            factor=_gguf_number(source, "rope.scaling.factor", "factor"),
            original_context_tokens=source.integer("rope.scaling.original_context_length", "context_tokens", context),
            beta_fast=_gguf_number(source, "rope.scaling.yarn_beta_fast", "beta", 32.0),
            beta_slow=_gguf_number(source, "rope.scaling.yarn_beta_slow", "beta", 1.0),
            attention_factor=_gguf_number(source, "rope.scaling.yarn_attn_factor", "magnitude", 1.0),
        )
    return {
        "context_tokens": context,
        "rope_theta": _gguf_number(source, "rope.freq_base", "rope_theta", 1e7),
        "rope_width": source.integer("rope.dimension_count", "rope_width", 64),
        "rope_sections": (
            (11, 11, 10) if sections is None else source.integers("rope.dimension_sections", "rope_sections", 4)[:3]
        ),
        "yarn": yarn,
    }
