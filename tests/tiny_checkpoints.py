"""Tiny random Hugging Face folders in every layout the family is published in, written without the code under test."""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_TOKENS = [chr(b) for b in PRINTABLE] + [chr(256 + n) for n in range(256 - len(PRINTABLE))]
MERGES = [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"]]
ADDED = [("<|endoftext|>", True), ("<|im_end|>", True), ("<think>", False), ("<|fim_prefix|>", False)]
N_TOKENS = 256 + len(MERGES) + len(ADDED)


@dataclass
class Tiny:
    """How a folder looks. Sizes keep every row a multiple of 256 so that no type falls back."""

    is_moe: bool = False
    ratio: int = 2
    is_tied: bool = True
    has_mtp: bool = True
    dtype: str = "BF16"
    is_nested: bool = False
    has_vision: bool = False
    has_fused_experts: bool = True
    n_shards: int = 1
    layers: int = 4
    hidden: int = 256
    ffn: int = 256
    vocab: int = 320
    experts: int = 4
    seed: int = 0
    changes: dict[str, Any] = field(default_factory=dict)

    key_heads = 2
    heads = 2
    kv_heads = 1

    @property
    def prefix(self) -> str:
        return "model.language_model." if self.has_vision else "model."

    def config(self) -> dict[str, Any]:
        kind = "qwen3_5_moe" if self.is_moe else "qwen3_5"
        text: dict[str, Any] = {
            "model_type": f"{kind}_text",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": 256,
            "linear_num_key_heads": self.key_heads,
            "linear_num_value_heads": self.key_heads * self.ratio,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_conv_kernel_dim": 4,
            "full_attention_interval": 4,
            "rms_norm_eps": 1e-6,
            "mtp_num_hidden_layers": int(self.has_mtp),
            "max_position_embeddings": 4096,
            "eos_token_id": 260,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e7,
                "partial_rotary_factor": 0.25,
                "mrope_section": [11, 11, 10],
                "mrope_interleaved": True,
            },
        }
        if self.is_moe:
            text |= {
                "num_experts": self.experts,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": self.ffn,
                "shared_expert_intermediate_size": self.ffn,
            }
        else:
            text["intermediate_size"] = self.ffn
        text |= self.changes
        if self.is_nested:
            return {"model_type": kind, "text_config": text, "tie_word_embeddings": self.is_tied, "vision_config": {}}
        return {**text, "tie_word_embeddings": self.is_tied}


def shapes(tiny: Tiny) -> dict[str, tuple[int, ...]]:
    """Every tensor of the folder, names as published, in HF's own layout."""
    d, p = tiny.hidden, tiny.prefix
    found: dict[str, tuple[int, ...]] = {f"{p}embed_tokens.weight": (tiny.vocab, d), f"{p}norm.weight": (d,)}
    if not tiny.is_tied:
        found["lm_head.weight"] = (tiny.vocab, d)
    blocks = [(f"{p}layers.{n}.", (n + 1) % 4 == 0) for n in range(tiny.layers)]
    if tiny.has_mtp:
        blocks.append(("mtp.layers.0.", True))
        found |= {"mtp.fc.weight": (d, 2 * d), "mtp.norm.weight": (d,)}
        found |= {f"mtp.pre_fc_norm_{part}.weight": (d,) for part in ("embedding", "hidden")}
    for block, attends in blocks:
        found |= {f"{block}input_layernorm.weight": (d,), f"{block}post_attention_layernorm.weight": (d,)}
        mixer = _attention(tiny) if attends else _delta_net(tiny)
        found |= {block + name: shape for name, shape in (mixer | _feed_forward(tiny)).items()}
    if tiny.has_vision:
        found |= {"model.visual.patch_embed.proj.weight": (8, 3, 2, 4, 4), "model.visual.blocks.0.norm1.bias": (8,)}
    return found


def _attention(tiny: Tiny) -> dict[str, tuple[int, ...]]:
    d = tiny.hidden
    return {
        "self_attn.q_proj.weight": (2 * tiny.heads * 256, d),
        "self_attn.k_proj.weight": (tiny.kv_heads * 256, d),
        "self_attn.v_proj.weight": (tiny.kv_heads * 256, d),
        "self_attn.o_proj.weight": (d, tiny.heads * 256),
        "self_attn.q_norm.weight": (256,),
        "self_attn.k_norm.weight": (256,),
    }


def _delta_net(tiny: Tiny) -> dict[str, tuple[int, ...]]:
    d, heads = tiny.hidden, tiny.key_heads * tiny.ratio
    channels = 2 * tiny.key_heads * 128 + heads * 128
    return {
        "linear_attn.in_proj_qkv.weight": (channels, d),
        "linear_attn.in_proj_z.weight": (heads * 128, d),
        "linear_attn.in_proj_b.weight": (heads, d),
        "linear_attn.in_proj_a.weight": (heads, d),
        "linear_attn.conv1d.weight": (channels, 1, 4),
        "linear_attn.dt_bias": (heads,),
        "linear_attn.A_log": (heads,),
        "linear_attn.norm.weight": (128,),
        "linear_attn.out_proj.weight": (d, heads * 128),
    }


def _feed_forward(tiny: Tiny) -> dict[str, tuple[int, ...]]:
    d, f, e = tiny.hidden, tiny.ffn, tiny.experts
    one: dict[str, tuple[int, ...]] = {"gate_proj.weight": (f, d), "up_proj.weight": (f, d), "down_proj.weight": (d, f)}
    if not tiny.is_moe:
        return {f"mlp.{name}": shape for name, shape in one.items()}
    found = {f"mlp.shared_expert.{name}": shape for name, shape in one.items()}
    found |= {"mlp.gate.weight": (e, d), "mlp.shared_expert_gate.weight": (1, d)}
    if tiny.has_fused_experts:
        return found | {"mlp.experts.gate_up_proj": (e, 2 * f, d), "mlp.experts.down_proj": (e, d, f)}
    return found | {f"mlp.experts.{n}.{name}": shape for n in range(e) for name, shape in one.items()}


def values(tiny: Tiny) -> Arrays:
    """The weights as the folder's dtype holds them, drawn by name so that layouts of one model share their values."""
    found = {}
    for name, shape in shapes(tiny).items():
        stream = np.random.default_rng([tiny.seed, zlib.crc32(name.removeprefix(tiny.prefix).encode())])
        drawn = stream.standard_normal(shape, np.float32)
        scale = 0.3 if len(shape) == 1 else 1.2 / np.sqrt(shape[-1])
        found[name] = rounded(drawn * np.float32(scale), tiny.dtype)
    return found


def rounded(array: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """fp32 values that `dtype` represents exactly."""
    if dtype == "BF16":
        return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return array.astype(np.float16).astype(np.float32) if dtype == "F16" else array


def encoded(array: NDArray[np.float32], dtype: str) -> bytes:
    """The bytes of a safetensors tensor."""
    if dtype == "BF16":
        return (np.ascontiguousarray(array).view(np.uint32) >> 16).astype("<u2").tobytes()
    return array.astype("<f2" if dtype == "F16" else "<f4").tobytes()


def write_safetensors(path: Path, arrays: Arrays, dtype: str) -> None:
    """A safetensors file with a padded header, as the reference writes it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    blobs = []
    for name, array in arrays.items():
        blobs.append(encoded(array, dtype))
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def tokenizer() -> dict[str, Any]:
    """A byte-level tokenizer.json of 256 bytes, four merges and four added tokens."""
    tokens = BYTE_TOKENS + ["".join(pair) for pair in MERGES]
    added = [
        {"id": 256 + len(MERGES) + n, "content": content, "special": special, "normalized": False}
        for n, (content, special) in enumerate(ADDED)
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        },
        "model": {"type": "BPE", "vocab": {token: n for n, token in enumerate(tokens)}, "merges": MERGES},
    }


def write(folder: Path, tiny: Tiny) -> Arrays:
    """Writes the folder and returns its tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = values(tiny)
    if tiny.n_shards == 1:
        write_safetensors(folder / "model.safetensors", arrays, tiny.dtype)
    else:
        write_shards(folder, arrays, tiny)
    (folder / "config.json").write_text(json.dumps(tiny.config()))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    settings = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}, "bos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_k": 20, "top_p": 0.95}))
    return arrays


def write_shards(folder: Path, arrays: Arrays, tiny: Tiny) -> None:
    """Several files and their index."""
    names = list(arrays)
    weight_map: dict[str, str] = {}
    for n in range(tiny.n_shards):
        shard = f"model-{n + 1:05d}-of-{tiny.n_shards:05d}.safetensors"
        part = names[n :: tiny.n_shards]
        write_safetensors(folder / shard, {name: arrays[name] for name in part}, tiny.dtype)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
