"""Which type each tensor gets: the file types of llama.cpp's `llama-quantize`, without an importance matrix.

Source: the selection rules of llama.cpp `src/llama-quant.cpp` at 007dbbf3 (docs/architecture.md 8.5). Two deliberate
differences. `ssm_alpha` and `ssm_beta` are Q8_0 in every preset below that, because their error enters the recurrent
state at every token and they are under 0.2 % of the bytes. The rules for eight experts, which no model of the family
has, are left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qwen35_local.errors import InputError
from qwen35_local.quantize.rows import FLOATS

DEFAULT_TYPE = "Q4_K_M"


@dataclass(frozen=True, slots=True)
class FileType:
    """A named preset: its number in `general.file_type` and the type most tensors get."""

    number: int
    base: str


FILE_TYPES = {
    "F32": FileType(0, "F32"),
    "F16": FileType(1, "F16"),
    "BF16": FileType(32, "BF16"),
    "Q8_0": FileType(7, "Q8_0"),
    "Q6_K": FileType(18, "Q6_K"),
    "Q5_K_M": FileType(17, "Q5_K"),
    "Q4_K_M": FileType(15, "Q4_K"),
    "Q4_K_S": FileType(14, "Q4_K"),
    "Q4_0": FileType(2, "Q4_0"),
    "IQ4_XS": FileType(30, "IQ4_XS"),
}

_BLOCK = {"Q4_K": 256, "Q5_K": 256, "Q6_K": 256, "IQ4_XS": 256}  # all other block types: 32
_NARROWER = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Model:
    """What the rules look at besides names and shapes. `blocks` counts the MTP block."""

    blocks: int
    queries_per_kv_head: int
    is_moe: bool


def file_type(name: str) -> FileType:
    """The preset called `name`, in any case. Raises InputError."""
    found = FILE_TYPES.get(name.upper())
    if found is None:
        raise InputError(f"unknown type {name!r}; choose one of {', '.join(FILE_TYPES)}.")
    return found


def assign(tensors: Sequence[tuple[str, tuple[int, ...]]], preset: str, model: Model) -> dict[str, str]:
    """Tensor name to type for tensors given as (name, shape), shapes slowest dimension first. Raises InputError."""
    base = file_type(preset).base
    names = {name for name, _ in tensors}
    values = sorted((n for n, _ in tensors if _is_value(n)), key=_layer)
    downs = sorted((n for n, _ in tensors if _part(n).startswith("ffn_down")), key=_layer)
    value_rank = {name: rank for rank, name in enumerate(values)}
    down_rank = {name: _layer(name) if model.is_moe else rank for rank, name in enumerate(downs)}
    types = {}
    for name, shape in tensors:
        if not _may_shrink(name, shape):
            types[name] = "F32"
        elif base in FLOATS:
            types[name] = base
        else:
            wanted = base
            if name == "output.weight" or (name == "token_embd.weight" and "output.weight" not in names):
                wanted = "Q8_0" if base == "Q8_0" else "Q6_K"
            elif _part(name) in ("ssm_alpha.weight", "ssm_beta.weight"):
                wanted = "Q8_0"
            elif name in value_rank:
                wanted = _value_type(preset.upper(), base, value_rank[name], len(values), model)
            elif name in down_rank:
                wanted = _down_type(preset.upper(), base, down_rank[name], model.blocks)
            types[name] = _fit(wanted, shape[-1])
    return types


def _part(name: str) -> str:
    return _LAYER.sub("", name)


def _layer(name: str) -> int:
    found = _LAYER.match(name)
    return int(found[1]) if found else -1


def _is_value(name: str) -> bool:
    return _part(name) in ("attn_v.weight", "attn_qkv.weight")


def _may_shrink(name: str, shape: tuple[int, ...]) -> bool:
    part = _part(name)
    if len(shape) < 2 or not part.endswith("weight") or part.endswith("_norm.weight"):
        return False
    return part not in ("ffn_gate_inp.weight", "ssm_conv1d.weight")


def _more_bits(rank: int, count: int) -> bool:
    return rank < count // 8 or rank >= 7 * count // 8 or (rank - count // 8) % 3 == 2


def _value_type(preset: str, base: str, rank: int, count: int, model: Model) -> str:
    """`attn_v` and `attn_qkv`, which one KV head's worth of errors reaches every query head through."""
    if preset in ("Q4_K_M", "Q5_K_M") and _more_bits(rank, count):
        return "Q6_K"
    if (preset == "Q4_K_S" and rank < 4) or (preset == "IQ4_XS" and model.queries_per_kv_head >= 4):
        return "Q5_K"
    return base


def _down_type(preset: str, base: str, rank: int, blocks: int) -> str:
    if preset in ("Q4_K_M", "Q5_K_M") and _more_bits(rank, blocks):
        return "Q6_K"
    if preset in ("Q4_K_S", "IQ4_XS") and rank < blocks // 8:
        return "Q5_K"
    return base


def _fit(wanted: str, cols: int) -> str:
    """`wanted`, or what stands in for it when rows are not whole blocks."""
    if cols % _BLOCK.get(wanted, 32) == 0:
        return wanted
    narrower = _NARROWER.get(wanted, wanted)
    return narrower if cols % 32 == 0 else "F16"
