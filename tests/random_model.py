"""Tiny random models of the family as GGUF files, every variety of them, from a seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.reference import Reference
from qwen35_local.models.tensors import tensor_table

Weights = dict[str, NDArray[np.float32]]

TOKENS_USED = 290
ALWAYS_F32 = ("ffn_gate_inp.weight", "ssm_conv1d.weight")
UNUSED, NORMAL = 5, 1


def tiny_config(
    *, moe: bool = False, ratio: int = 2, tied: bool = False, mtp: bool = False, **changes: Any
) -> ModelConfig:
    """Four layers, the last one attention; `ratio` value heads per key head; widths as odd as the formats allow."""
    values: dict[str, Any] = {
        "vocabulary": 300,
        "hidden": 96,
        "layers": 4,
        "heads": 4,
        "kv_heads": 2,
        "head_width": 32,
        "delta_key_heads": 2,
        "delta_value_heads": 2 * ratio,
        "delta_key_width": 32,
        "delta_value_width": 32,
        "rope_width": 16,
        "rope_sections": (3, 3, 2),
        "context_tokens": 4096,
        "embeddings_are_tied": tied,
        "mtp_layers": int(mtp),
    }
    if moe:
        values |= {"experts": 6, "experts_per_token": 2, "expert_feed_forward": 32, "shared_expert_feed_forward": 64}
    else:
        values["feed_forward"] = 160
    return ModelConfig(**(values | changes))


def super_block_config(**changes: Any) -> ModelConfig:
    """Every row a multiple of 256, for the types with super-blocks."""
    widths = {"hidden": 256, "head_width": 64, "delta_key_heads": 4, "delta_value_width": 64}
    if changes.get("moe"):
        widths |= {"expert_feed_forward": 256, "shared_expert_feed_forward": 256}
    else:
        widths["feed_forward"] = 256
    ratio = changes.get("ratio", 2)
    return tiny_config(**(widths | {"delta_value_heads": 4 * ratio} | changes))


def random_weights(config: ModelConfig, seed: int = 0) -> Weights:
    """Values of the sizes that trained models have: memories that fade over a few to a few hundred tokens."""
    random = np.random.default_rng(seed)
    weights: Weights = {}
    for spec in tensor_table(config):
        name = spec.name
        if name.endswith("ssm_a"):
            value = -np.exp(random.uniform(-3.0, 1.0, spec.shape))
        elif name.endswith("ssm_dt.bias"):
            value = random.uniform(-4.0, 0.5, spec.shape)
        elif name.endswith("norm.weight"):
            value = 1.0 + 0.2 * random.standard_normal(spec.shape)
        elif name.endswith("ssm_conv1d.weight"):
            value = 0.5 * random.standard_normal(spec.shape)
        elif name == "token_embd.weight":  # as large as what the blocks add, so that no block alone makes the logits
            value = random.standard_normal(spec.shape)
        else:
            value = random.standard_normal(spec.shape) * spec.shape[-1] ** -0.5
        weights[name] = value.astype(np.float32)
    return weights


def tokenizer_metadata(vocabulary: int) -> dict[str, Any]:
    """As converters write it: rows beyond the tokenizer are listed as unused."""
    used = min(TOKENS_USED, vocabulary)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": [f"t{i}" if i < used else f"[PAD{i}]" for i in range(vocabulary)],
        "tokenizer.ggml.token_type": [NORMAL if i < used else UNUSED for i in range(vocabulary)],
        "tokenizer.ggml.merges": ["t 0"],
        "tokenizer.ggml.eos_token_id": np.uint32(1),
    }


# Types that nobody encodes here: byte offsets of their half-precision scales, and what scale makes one code's step
# a third of a standard deviation.
SCALES_OF_RANDOM_BLOCKS = {
    "Q2_K": (84, {80: 0.06, 82: 0.1}),
    "Q3_K": (110, {108: 0.03}),
    "IQ2_S": (82, {0: 0.02}),
    "IQ3_XXS": (98, {0: 0.0075}),
}


def random_blocks(values: NDArray[np.float32], dtype: str) -> NDArray[np.uint8]:
    """Blocks of any codes, as many and about as large as the values."""
    size, scales = SCALES_OF_RANDOM_BLOCKS[dtype]
    seed = int(np.abs(values).sum())
    blocks = np.random.default_rng(seed).integers(0, 256, (values.size // 256, size), np.uint8)
    for offset, scale in scales.items():
        blocks[:, offset : offset + 2] = np.frombuffer(np.float16(scale * values.std()).tobytes(), np.uint8)
    return blocks.reshape(*values.shape[:-1], -1)


def encode(values: NDArray[np.float32], dtype: str) -> NDArray[np.uint8]:
    """[..., cols] to encoded rows, by the `gguf` package where it can."""
    if dtype in SCALES_OF_RANDOM_BLOCKS:
        return random_blocks(values, dtype)
    try:
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType[dtype])
    except NotImplementedError:
        rows = np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
        return _core.encode(rows, dtype, threads=1).reshape(*values.shape[:-1], -1)


def decode(encoded: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    return gguf.quants.dequantize(encoded, gguf.GGMLQuantizationType[dtype])


def fuse_experts(weights: Weights) -> Weights:
    """Gate and up of every expert in one tensor."""
    fused = dict(weights)
    for name in weights:
        if name.endswith("ffn_gate_exps.weight"):
            up = name.replace("gate", "up")
            fused[name.replace("gate", "gate_up")] = np.concatenate([fused.pop(name), fused.pop(up)], axis=1)
    return fused


def write_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {
        np.uint32: gguf.GGUFValueType.UINT32,
        np.int32: gguf.GGUFValueType.INT32,
        np.uint64: gguf.GGUFValueType.UINT64,
        np.float32: gguf.GGUFValueType.FLOAT32,
        str: gguf.GGUFValueType.STRING,
        bool: gguf.GGUFValueType.BOOL,
    }
    if isinstance(value, list | np.ndarray):
        writer.add_array(key, [v.item() if isinstance(v, np.generic) else v for v in value])
    else:
        kind = kinds[type(value)]
        writer.add_key_value(key, value.item() if isinstance(value, np.generic) else value, kind)


def write_gguf(
    path: Path,
    config: ModelConfig,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    dtype: str = "F32",
    metadata: Mapping[str, Any] | None = None,
) -> Weights:
    """Writes the file and returns the weights as they decode from it. `metadata` adds keys, or drops those of None."""
    writer = gguf.GGUFWriter(path, config.architecture)
    values = {**config.to_gguf(), **tokenizer_metadata(config.vocabulary), "general.name": "tiny", **(metadata or {})}
    if metadata and "general.architecture" in metadata:  # the writer has put its own first
        del writer.kv_data[0]["general.architecture"]
    else:
        del values["general.architecture"]
    for key, value in values.items():
        if value is not None:
            write_value(writer, key, value)
    stored: Weights = {}
    for name, weight in weights.items():
        kind = "F32" if weight.ndim == 1 or name.endswith(ALWAYS_F32) else dtype
        if kind == "F32":
            writer.add_tensor(name, weight)
            stored[name] = weight
        else:
            encoded = encode(weight, kind)
            writer.add_tensor(name, encoded, raw_dtype=gguf.GGMLQuantizationType[kind])
            stored[name] = decode(encoded, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


@dataclass(frozen=True)
class RandomModel:
    path: Path
    config: ModelConfig
    weights: Weights

    def reference(self) -> Reference:
        return Reference(self.weights, self.config)

    def logits(self, tokens: list[int]) -> NDArray[np.float64]:
        """[T, V], in double precision."""
        return self.reference().forward(tokens)


def random_model(
    folder: Path, config: ModelConfig, *, dtype: str = "F32", fused: bool = False, seed: int = 0, **options: Any
) -> RandomModel:
    weights = random_weights(config, seed)
    path = folder / "model.gguf"
    folder.mkdir(parents=True, exist_ok=True)
    stored = write_gguf(path, config, fuse_experts(weights) if fused else weights, dtype=dtype, **options)
    if fused:
        for name in list(stored):
            if name.endswith("ffn_gate_up_exps.weight"):
                gate, up = np.split(stored.pop(name), 2, axis=1)
                stored[name.replace("gate_up", "gate")], stored[name.replace("gate_up", "up")] = gate, up
    return RandomModel(path, config, stored)


def random_tokens(count: int, seed: int = 0) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, TOKENS_USED, count)]


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """max |found - expected| / max |expected|."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
