"""What fixes a model of the family: read from a Hugging Face `config.json` or from GGUF metadata, validated once.

The GGUF keys are those of architectures `qwen35` and `qwen35moe` as llama.cpp writes and reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qwen35_local.fields import integer as an_integer
from qwen35_local.models import bounds, huggingface
from qwen35_local.models.bounds import Source, refuse
from qwen35_local.models.rope import Yarn

GgufValue: TypeAlias = str | np.uint32 | np.float32 | NDArray[np.int32]

_GGUF_COUNTS = {
    "context_tokens": "context_length",
    "hidden": "embedding_length",
    "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "head_width": "attention.key_length",
    "rope_width": "rope.dimension_count",
    "conv_taps": "ssm.conv_kernel",
    "delta_key_width": "ssm.state_size",
    "delta_key_heads": "ssm.group_count",
    "delta_value_heads": "ssm.time_step_rank",
    "full_attention_interval": "full_attention_interval",
}
_GGUF_EXPERTS = {
    "experts": "expert_count",
    "experts_per_token": "expert_used_count",
    "expert_feed_forward": "expert_feed_forward_length",
    "shared_expert_feed_forward": "expert_shared_feed_forward_length",
}
_GGUF_DENSE = {"feed_forward": "feed_forward_length"}
_GGUF_DEFAULTS = {"rope_width": 64, "full_attention_interval": 4}
_GGUF_KEYS = {
    **_GGUF_COUNTS,
    **_GGUF_EXPERTS,
    **_GGUF_DENSE,
    "vocabulary": "vocab_size",
    "delta_value_width": "ssm.inner_size / ssm.time_step_rank",
    "rope_sections": "rope.dimension_sections",
}

DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Every number the forward pass depends on. Counts and widths are in elements, contexts in tokens.

    Letters: T tokens, D hidden, F feed-forward width, V vocabulary, L layers, H query heads, G KV heads, A attention
    head width, Hk / Hv delta key / value heads, Dk / Dv their widths, C = 2 Hk Dk + Hv Dv convolution channels,
    E experts, K experts per token. Raises `FormatError` on values that no model of the family can have.
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
    keys: InitVar[Mapping[str, str] | None] = None  # what the source calls the fields, for errors

    def __post_init__(self, keys: Mapping[str, str] | None) -> None:
        names = {entry.name: (keys or {}).get(entry.name, entry.name) for entry in fields(self)}
        for name in names:
            value = getattr(self, name)
            if name in bounds.INTEGERS or name in bounds.FLOATS:
                for item in value if isinstance(value, tuple) else (value,):
                    bounds.check(name, item, names[name])
        self._check_heads(names)
        self._check_feed_forward(names)
        if any(token >= self.vocabulary for token in self.eos_ids):
            raise refuse(names["eos_ids"], list(self.eos_ids), f"token ids below the vocabulary's {self.vocabulary}")
        if self.dtype not in DTYPES:
            raise refuse(names["dtype"], self.dtype, " or ".join(DTYPES))

    def _check_heads(self, names: Mapping[str, str]) -> None:
        for name, part in (("heads", "kv_heads"), ("delta_value_heads", "delta_key_heads")):
            count = getattr(self, part)
            if getattr(self, name) % count:
                raise refuse(names[name], getattr(self, name), f"a multiple of {names[part]} = {count}")
        if self.rope_width % 2 or self.rope_width > self.head_width:
            expected = f"an even number up to {names['head_width']} = {self.head_width}"
            raise refuse(names["rope_width"], self.rope_width, expected)
        if len(self.rope_sections) != 3 or sum(self.rope_sections) < self.rope_width // 2:
            expected = f"three counts that cover the {self.rope_width // 2} pairs of {names['rope_width']}"
            raise refuse(names["rope_sections"], list(self.rope_sections), expected)

    def _check_feed_forward(self, names: Mapping[str, str]) -> None:
        routed = ("experts_per_token", "expert_feed_forward", "shared_expert_feed_forward")
        present, absent = (routed, ("feed_forward",)) if self.is_moe else (("feed_forward",), routed)
        kind = "with" if self.is_moe else "without"
        for name in present:
            if not getattr(self, name):
                raise refuse(names[name], 0, f"a positive number in a model {kind} experts")
        for name in absent:
            if getattr(self, name):
                raise refuse(names[name], getattr(self, name), f"0 in a model {kind} experts")
        if self.experts_per_token > self.experts:
            expected = f"at most {names['experts']} = {self.experts}"
            raise refuse(names["experts_per_token"], self.experts_per_token, expected)

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

    @classmethod
    def from_hf(cls, config: Mapping[str, object]) -> ModelConfig:
        """A parsed `config.json`, its text settings flat or under `text_config`. Raises `FormatError`."""
        return cls(**huggingface.fields(config), keys=huggingface.KEYS)

    @classmethod
    def from_gguf(
        cls, metadata: Mapping[str, object], *, vocabulary: int | None = None, embeddings_are_tied: bool = False
    ) -> ModelConfig:
        """GGUF metadata by full key (`general.architecture`, `qwen35.block_count`, ...), as `GgufFile` gives them: one
        number where a file has a list of them, one per block. Raises `FormatError`.

        `vocabulary` is the row count of `token_embd.weight`; without it the token list of the file is counted.
        `embeddings_are_tied` says that the file has no `output.weight`. Neither is in the metadata of every file.
        """
        architecture = metadata.get("general.architecture")
        if architecture not in ("qwen35", "qwen35moe"):
            raise refuse("general.architecture", architecture, "'qwen35' or 'qwen35moe'")
        prefix = f"{architecture}."
        own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
        source = Source({key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in own.items()}, prefix)
        source.expect("ssm.v_head_reordered", True)
        if vocabulary is None:
            tokens = metadata.get("tokenizer.ggml.tokens")
            counted = len(tokens) if isinstance(tokens, list | tuple | np.ndarray) else None
            vocabulary = source.integer("vocab_size", "vocabulary", counted)
        tokenizer, token_id = Source(metadata), an_integer(0, vocabulary - 1)
        ends = [tokenizer.find(f"tokenizer.ggml.{name}_token_id", token_id) for name in ("eos", "eot")]
        eos_ids = dict.fromkeys(int(end) for end in ends if end is not None)
        common: dict[str, Any] = {
            "vocabulary": vocabulary,
            "embeddings_are_tied": embeddings_are_tied,
            "eos_ids": tuple(eos_ids),
        }
        named = {name: source.name(key) for name, key in _GGUF_KEYS.items()}
        return cls(**common, **_gguf_widths(source, architecture == "qwen35moe"), **_gguf_rope(source), keys=named)

    @property
    def _gguf_feed_forward(self) -> dict[str, str]:
        return _GGUF_EXPERTS if self.is_moe else _GGUF_DENSE

    def to_gguf(self) -> dict[str, GgufValue]:
        """`general.architecture` and every `{architecture}.*` key, as values of the type that GGUF stores.

        numpy.uint32 and numpy.float32 scalars, an int32 array for the RoPE sections, plain strings. Tokenizer and
        `general.*` descriptions are the converter's to add.
        """
        integers = {key: getattr(self, name) for name, key in {**_GGUF_COUNTS, **self._gguf_feed_forward}.items()}
        integers |= {
            "block_count": self.block_count,
            "attention.value_length": self.head_width,
            "ssm.inner_size": self.delta_value_heads * self.delta_value_width,
        }
        floats = {"attention.layer_norm_rms_epsilon": self.rms_eps, "rope.freq_base": self.rope_theta}
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
    if blocks <= mtp_layers:
        raise source.refuse("block_count", f"more than {source.name('nextn_predict_layers')} = {mtp_layers}")
    if is_moe and not source.integer("expert_count", "experts"):
        raise source.refuse("expert_count", "a positive number in a mixture of experts")
    value_heads = source.integer("ssm.time_step_rank", "delta_value_heads")
    inner = source.integer("ssm.inner_size", "delta_inner_width")
    if inner % value_heads:
        raise source.refuse("ssm.inner_size", f"a multiple of {source.name('ssm.time_step_rank')} = {value_heads}")
    source.expect("attention.value_length", source.integer("attention.key_length", "head_width"))
    keys = _GGUF_COUNTS | (_GGUF_EXPERTS if is_moe else _GGUF_DENSE)
    return {
        **{name: source.integer(key, name, _GGUF_DEFAULTS.get(name)) for name, key in keys.items()},
        "layers": blocks - mtp_layers,
        "mtp_layers": mtp_layers,
        "delta_value_width": inner // value_heads,
        "rms_eps": _gguf_number(source, "attention.layer_norm_rms_epsilon", "rms_eps"),
    }


def _gguf_rope(source: Source) -> dict[str, Any]:
    context = source.integer("context_length", "context_tokens")
    sections = source.get("rope.dimension_sections")
    source.expect("rope.scaling.type", "none", "yarn")
    yarn = None
    if source.get("rope.scaling.type") == "yarn":
        yarn = Yarn(
            keys={"beta_fast": source.name("rope.scaling.yarn_beta_fast")},
            factor=_gguf_number(source, "rope.scaling.factor", "factor"),
            original_context_tokens=source.integer("rope.scaling.original_context_length", "context_tokens", context),
            beta_fast=_gguf_number(source, "rope.scaling.yarn_beta_fast", "beta", 32.0),
            beta_slow=_gguf_number(source, "rope.scaling.yarn_beta_slow", "beta", 1.0),
            attention_factor=_gguf_number(source, "rope.scaling.yarn_attn_factor", "magnitude", 1.0),
        )
    return {
        "rope_theta": _gguf_number(source, "rope.freq_base", "rope_theta", 1e7),
        "rope_sections": (
            (11, 11, 10) if sections is None else source.integers("rope.dimension_sections", "rope_sections", 4)[:3]
        ),
        "yarn": yarn,
    }
