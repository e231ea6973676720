"""Which type each tensor gets.

A preset has the name, and at most the bytes, of the file that llama.cpp's `llama-quantize` makes of the model with an
importance matrix. `llama` gives its types too; `qwen35` spends the same bytes where this architecture loses most:
sensitivities were measured one kind of tensor at a time (docs/quality.md).
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from qwen35_local.errors import InputError
from qwen35_local.quantize.allocate import Choice, allocate, n_bytes
from qwen35_local.quantize.llama_types import Model as Model
from qwen35_local.quantize.llama_types import fit, layer_of, llama_types, may_shrink, part_of

DEFAULT_TYPE = "Q4_K_M"
Recipe: TypeAlias = Literal["qwen35", "llama"]
Tensors: TypeAlias = Sequence[tuple[str, tuple[int, ...]]]  # name and shape, slowest dimension first


@dataclass(frozen=True, slots=True)
class FileType:
    """A named preset: its number in `general.file_type`, the type most tensors get, and those that others may get."""

    number: int
    base: str
    more: tuple[str, ...] = ()


_K = ("Q5_K", "Q6_K", "Q8_0")
FILE_TYPES = {
    "F32": FileType(0, "F32"),
    "F16": FileType(1, "F16"),
    "BF16": FileType(32, "BF16"),
    "Q8_0": FileType(7, "Q8_0"),
    "Q6_K": FileType(18, "Q6_K"),
    "Q5_K_M": FileType(17, "Q5_K", _K[1:]),
    "Q4_K_M": FileType(15, "Q4_K", _K),
    "Q4_K_S": FileType(14, "Q4_K", _K),
    "Q4_0": FileType(2, "Q4_0", ("Q4_1", *_K)),
    "IQ4_XS": FileType(30, "IQ4_XS", ("Q4_K", *_K)),
    "Q3_K_M": FileType(12, "Q3_K", ("IQ4_XS", "Q4_K", *_K)),
}
_ALL = ("Q3_K", "IQ4_XS", "Q4_K", *_K)  # for a size of one's own

# Of KL divergence, per value and unit of relative squared error of one kind of tensor at a time.
_SENSITIVITY = {
    "ssm_out": 2.0,
    "attn_v": 1.84,
    "attn_k": 1.23,
    "attn_qkv": 0.90,
    "attn_gate": 0.78,
    "ffn_down": 0.56,
    "attn_output": 0.40,
    "ffn_gate": 0.24,
    "ffn_up": 0.22,
    "attn_q": 0.15,
}
# Their error enters the state at every token, and they are few: before all others.
_STATE, _OF_STATE = ("ssm_alpha.weight", "ssm_beta.weight"), 1e6
# The block that drafts: no text shows what it loses, and it drafts badly if it loses much. Where half of what can be
# spent is enough, and a small part of the whole.
_OF_DRAFTS, _LARGEST_PART_OF_DRAFTS = "Q8_0", 1 / 32


def file_type(name: str) -> FileType:
    """The preset called `name`, in any case. Raises InputError."""
    found = FILE_TYPES.get(name.upper())
    if found is None:
        raise InputError(f"unknown type {name!r}; choose one of {', '.join(FILE_TYPES)}.")
    return found


@dataclass(frozen=True, slots=True)
class Mixture:
    """What was asked of the types of a file. `overrides`: pattern of names, with `*`, to a type; the last that matches
    counts. `target_bytes`, `target_bpw`: of all tensors together, at most one of them, instead of the preset's own."""

    preset: str = DEFAULT_TYPE
    recipe: Recipe = "qwen35"
    overrides: Mapping[str, str] = field(default_factory=dict)
    target_bytes: int | None = None
    target_bpw: float | None = None

    def assign(self, tensors: Tensors, model: Model) -> dict[str, str]:
        """Tensor name to type. Raises InputError."""
        kind, preset = file_type(self.preset), self.preset.upper()
        if self.recipe not in get_args(Recipe):
            raise InputError(f"unknown recipe {self.recipe!r}; choose qwen35 or llama.")
        given = _overridden(tensors, self.overrides)
        types = llama_types(tensors, preset, kind.base, model, has_importance=True)
        target = self._target(tensors)
        if target is not None:
            return _mixture(tensors, types, given, _ALL, model, target, is_free=True)
        if kind.more and self.recipe == "qwen35":
            budget = sum(n_bytes(types[name], _count(shape)) for name, shape in tensors)
            types = _mixture(tensors, types, given, (kind.base, *kind.more), model, budget, is_free=False)
        return {**types, **given}

    def _target(self, tensors: Tensors) -> int | None:
        if self.target_bpw is None:
            return self.target_bytes
        return int(self.target_bpw * sum(_count(shape) for _, shape in tensors) / 8)


def assign(tensors: Tensors, preset: str, model: Model) -> dict[str, str]:
    """Tensor name to type in a preset. Raises InputError."""
    return Mixture(preset).assign(tensors, model)


def _count(shape: tuple[int, ...]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


def _overridden(tensors: Tensors, overrides: Mapping[str, str]) -> dict[str, str]:
    types: dict[str, str] = {}
    for pattern, dtype in overrides.items():
        found = [
            (name, shape) for name, shape in tensors if fnmatch.fnmatchcase(name, pattern) and may_shrink(name, shape)
        ]
        if not found:
            raise InputError(
                f"no matrix is called {pattern!r}; names are like blk.0.ffn_down.weight, with * for parts."
            )
        types |= {name: fit(dtype, shape[-1]) for name, shape in found}
    return types


def _mixture(
    tensors: Tensors,
    llama: Mapping[str, str],
    given: Mapping[str, str],
    ladder: tuple[str, ...],
    model: Model,
    budget: int,
    *,
    is_free: bool,
) -> dict[str, str]:
    """Types of at most `budget` bytes. The table of embeddings, which nothing is multiplied with, and the output keep
    what llama-quantize gives them."""
    types = {**llama, **given}
    choices: list[Choice] = []
    drafts: list[Choice] = []
    for name, shape in tensors:
        if name in given or not may_shrink(name, shape) or layer_of(name) < 0:
            continue
        n = _count(shape)
        if shape[-1] % 256:
            types[name] = fit(ladder[0], shape[-1])
        elif part_of(name) in _STATE:
            choices.append(Choice(name, n, _OF_STATE, (ladder[0], "Q8_0", "F32")))
        elif layer_of(name) >= model.layers:
            drafts.append(Choice(name, n, 0.0, ("Q4_K" if is_free else ladder[0], _OF_DRAFTS)))
        else:
            choices.append(Choice(name, n, _sensitivity(name, model), ladder))
    least = {**types, **{choice.name: choice.types[0] for choice in (*choices, *drafts)}}
    left = budget - sum(n_bytes(least[name], _count(shape)) for name, shape in tensors)
    if is_free and left < 0:
        raise InputError(f"{budget:,} bytes are too few: the smallest mixture of this model takes {budget - left:,}.")
    more = sum(n_bytes(_OF_DRAFTS, choice.n_values) - n_bytes(choice.types[0], choice.n_values) for choice in drafts)
    if 2 * more <= left and more <= _LARGEST_PART_OF_DRAFTS * budget:
        least |= {choice.name: _OF_DRAFTS for choice in drafts}
        left -= more
    return least | allocate(choices, left + sum(n_bytes(choice.types[0], choice.n_values) for choice in choices))


def _sensitivity(name: str, model: Model) -> float:
    """Experts count by how often they are used; the last quarter and the first sixteenth of layers a little more."""
    part, layer = part_of(name).removesuffix(".weight"), layer_of(name)
    of_kind = _SENSITIVITY[part.removesuffix("_exps").removesuffix("_shexp")]
    depth = 1.2 if layer >= model.layers * 3 // 4 else 1.1 if layer < model.layers // 16 else 1.0
    return of_kind * depth * (model.share_of_experts if part.endswith("_exps") else 1.0)
