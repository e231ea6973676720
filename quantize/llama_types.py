"""The types that llama.cpp's `llama-quantize` gives the tensors of this family.

Source: the selection rules of llama.cpp `src/llama-quant.cpp` at 007dbbf3 (docs/architecture.md 8.5). The rules for
eight experts, which no model of the family has, are left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from qwen35_local.models.config import ModelConfig
from qwen35_local.quantize.rows import FLOATS

BLOCK = {"Q3_K": 256, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256, "IQ4_XS": 256}  # all other block types: 32
_NARROWER = {"Q3_K": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Model:
    """What the rules look at besides names and shapes. `blocks` counts the MTP block, `layers` does not."""

    blocks: int
    layers: int
    queries_per_kv_head: int
    share_of_experts: float  # that a token goes through; 0 without experts

    @classmethod
    def of(cls, config: ModelConfig) -> Self:
        share = config.experts_per_token / config.experts if config.is_moe else 0.0
        return cls(config.block_count, config.layers, config.heads // config.kv_heads, share)

    @property
    def is_moe(self) -> bool:
        return self.share_of_experts > 0


def llama_types(
    tensors: Sequence[tuple[str, tuple[int, ...]]], preset: str, base: str, model: Model, *, has_importance: bool
) -> dict[str, str]:
    """Tensor name to type for tensors given as (name, shape), shapes slowest dimension first. `has_importance`: some
    rules depend on whether there is an importance matrix."""
    names = {name for name, _ in tensors}
    values = sorted((n for n, _ in tensors if _is_value(n)), key=layer_of)
    downs = sorted((n for n, _ in tensors if part_of(n).startswith("ffn_down")), key=layer_of)
    value_rank = {name: rank for rank, name in enumerate(values)}
    down_rank = {name: layer_of(name) if model.is_moe else rank for rank, name in enumerate(downs)}
    types = {}
    for name, shape in tensors:
        if not may_shrink(name, shape):
            types[name] = "F32"
        elif base in FLOATS:
            types[name] = base
        else:
            wanted = base
            if name == "output.weight" or (name == "token_embd.weight" and "output.weight" not in names):
                wanted = "Q8_0" if base == "Q8_0" else "Q6_K"
            elif name in value_rank:
                wanted = _value_type(preset, base, value_rank[name], len(values), model)
            elif name in down_rank:
                wanted = _down_type(preset, base, down_rank[name], model.blocks, has_importance)
            elif preset == "Q3_K_M" and part_of(name) == "attn_output.weight":
                wanted = "Q4_K"
            types[name] = fit(wanted, shape[-1])
    return types


def part_of(name: str) -> str:
    """Without the layer."""
    return _LAYER.sub("", name)


def layer_of(name: str) -> int:
    """-1 for a tensor outside of the layers."""
    found = _LAYER.match(name)
    return int(found[1]) if found else -1


def _is_value(name: str) -> bool:
    return part_of(name) in ("attn_v.weight", "attn_qkv.weight")


def may_shrink(name: str, shape: tuple[int, ...]) -> bool:
    part = part_of(name)
    if len(shape) < 2 or not part.endswith("weight") or part.endswith("_norm.weight"):
        return False
    return part not in ("ffn_gate_inp.weight", "ssm_conv1d.weight")


def _more_bits(rank: int, count: int) -> bool:
    return rank < count // 8 or rank >= 7 * count // 8 or (rank - count // 8) % 3 == 2


def _value_type(preset: str, base: str, rank: int, count: int, model: Model) -> str:
    """`attn_v` and `attn_qkv`, which one KV head's worth of errors reaches every query head through."""
    if preset in ("Q4_K_M", "Q5_K_M") and _more_bits(rank, count):
        return "Q6_K"
    if preset == "Q3_K_M":
        return "Q5_K" if rank < 2 else "Q4_K"
    if (preset == "Q4_K_S" and rank < 4) or (preset == "IQ4_XS" and model.queries_per_kv_head >= 4):
        return "Q5_K"
    return base


def _down_type(preset: str, base: str, rank: int, blocks: int, has_importance: bool) -> str:
    if preset in ("Q4_K_M", "Q5_K_M") and _more_bits(rank, blocks):
        return "Q6_K"
    if preset == "Q3_K_M":
        return "Q5_K" if rank < blocks // 16 else "Q4_K"
    if rank < blocks // 8:
        if preset == "Q4_K_S" or (preset == "IQ4_XS" and not has_importance):
            return "Q5_K"
        if preset == "Q4_0" and has_importance:
            return "Q4_1"
    return base


def fit(wanted: str, cols: int) -> str:
    """`wanted`, or what stands in for it when rows are not whole blocks."""
    if cols % BLOCK.get(wanted, 32) == 0:
        return wanted
    narrower = _NARROWER.get(wanted, wanted)
    return narrower if cols % 32 == 0 else "F16"
