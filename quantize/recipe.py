"""Which type each tensor gets.

A preset has the name, and at most the bytes, of the file that llama.cpp's `llama-quantize` makes of the model with an
importance matrix. `llama` gives its types too; `qwen35` spends the same bytes where this architecture loses most, by
sensitivities that were measured one kind of tensor at a time on another model, or on this one (sensitivity.py).
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
    """A named preset: its number in `general.file_type`, the type it is named for, those that tensors may get which
    lose more than others, what kinds of tensors have in place of the first, and the most bits that those beside routed
    experts get."""

    number: int
    base: str
    more: tuple[str, ...] = ()
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside_experts: str = "Q6_K"

    def ladder(self, kind: str, model: Model) -> tuple[str, ...]:
        """The types that tensors of this kind may get, of rising numbers of bits."""
        is_beside = model.is_moe and not kind.endswith("_exps")
        more = self.more[: self.more.index(self.beside_experts) + 1] if is_beside else self.more
        return (*self.instead.get(_of_dense(kind), (self.base,)), *more)


# Routed experts are nearly all of a file and little of what a token reads, so that a byte of the rest takes away more
# loss than one of theirs, up to 8 bits. In a file of four bits the last two would take away a tenth of the loss and, on
# a card, as much of the speed: `beside_experts`.
_K = ("Q5_K", "Q6_K", "Q8_0")
# What loses least pays for the rest, which Q4_K_S has no bytes for. Not with Q3_K, which this program holds in 6 bits
# (docs/memory.md); and not in Q4_K_M, where it is worth 7 % of the loss and IQ4_XS is slower to compute with.
_FEWER = dict.fromkeys(("attn_q", "ffn_gate", "ffn_up"), ("IQ4_XS", "Q4_K"))
# As many bits, and as fast, as Q4_0, whose even steps lose half as much again where few weights are large.
_UNEVEN = dict.fromkeys(("ssm_out", "attn_qkv", "attn_gate", "attn_q", "attn_k", "attn_v", "attn_output"), ("IQ4_NL",))
FILE_TYPES = {
    "F32": FileType(0, "F32"),
    "F16": FileType(1, "F16"),
    "BF16": FileType(32, "BF16"),
    "Q8_0": FileType(7, "Q8_0"),
    "Q6_K": FileType(18, "Q6_K"),
    "Q5_K_M": FileType(17, "Q5_K", _K[1:], beside_experts="Q8_0"),
    "Q4_K_M": FileType(15, "Q4_K", _K),
    "Q4_K_S": FileType(14, "Q4_K", _K, _FEWER),
    "Q4_0": FileType(2, "Q4_0", _K, _UNEVEN),
    "IQ4_XS": FileType(30, "IQ4_XS", ("Q4_K", *_K)),
    "Q3_K_M": FileType(12, "Q3_K", ("IQ4_XS", "Q4_K", *_K)),
}

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
# For a size of one's own.
_FREE = FileType(15, "Q4_K", _K, dict.fromkeys(_SENSITIVITY, ("Q3_K", "IQ4_XS", "Q4_K")), beside_experts="Q8_0")
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
    counts. `target_bytes`, `target_bpw`: of all tensors together, at most one of them, instead of the preset's own.
    `sensitivity`: of each kind of tensor, as it was measured on this model."""

    preset: str = DEFAULT_TYPE
    recipe: Recipe = "qwen35"
    overrides: Mapping[str, str] = field(default_factory=dict)
    target_bytes: int | None = None
    target_bpw: float | None = None
    sensitivity: Mapping[str, float] | None = None

    def assign(self, tensors: Tensors, model: Model) -> dict[str, str]:
        """Tensor name to type. Raises InputError."""
        kind, preset = file_type(self.preset), self.preset.upper()
        if self.recipe not in get_args(Recipe):
            raise InputError(f"unknown recipe {self.recipe!r}; choose qwen35 or llama.")
        given = _overridden(tensors, self.overrides)
        types = llama_types(tensors, preset, kind.base, model, has_importance=True)
        if self.has_target:
            return self._mixture(tensors, types, given, _FREE, model, self.bytes_wanted(tensors))
        if kind.more and self.recipe == "qwen35":
            budget = sum(n_bytes(types[name], _count(shape)) for name, shape in tensors)
            return self._mixture(tensors, types, given, kind, model, budget)
        return {**types, **given}

    @property
    def has_target(self) -> bool:
        return self.target_bytes is not None or self.target_bpw is not None

    def bytes_wanted(self, tensors: Tensors) -> int:
        """Of all tensors, where a target was given."""
        if self.target_bytes is not None:
            return self.target_bytes
        assert self.target_bpw is not None
        return int(self.target_bpw * sum(_count(shape) for _, shape in tensors) / 8)

    def _mixture(
        self,
        tensors: Tensors,
        llama: Mapping[str, str],
        given: Mapping[str, str],
        preset: FileType,
        model: Model,
        budget: int,
    ) -> dict[str, str]:
        """Types of at most `budget` bytes. The table of embeddings, which nothing is multiplied with, and the output
        keep what llama-quantize gives them unless it was measured what they lose."""
        least, choices, drafts = {**llama, **given}, list[Choice](), dict[str, int]()
        for name, shape in tensors:
            if name in given or not may_shrink(name, shape):
                continue
            n, layer, kind = _count(shape), layer_of(name), part_of(name).removesuffix(".weight")
            if layer >= 0 and shape[-1] % 256:
                least[name] = fit(preset.base, shape[-1])
            elif layer >= 0 and part_of(name) in _STATE:
                choices.append(Choice(name, n, _OF_STATE, (preset.base, "Q8_0", "F32")))
            elif layer >= model.layers:
                drafts[name] = n
                least[name] = preset.base
            elif layer >= 0 or self.sensitivity:
                choices.append(Choice(name, n, self._sensitivity(kind, layer, model), preset.ladder(kind, model)))
        least |= {choice.name: choice.types[0] for choice in choices}
        left = budget - sum(n_bytes(least[name], _count(shape)) for name, shape in tensors)
        if self.has_target and left < 0:
            raise InputError(
                f"{budget:,} bytes are too few: the smallest mixture of this model takes {budget - left:,}."
            )
        more = sum(n_bytes(_OF_DRAFTS, n) - n_bytes(preset.base, n) for n in drafts.values())
        if 2 * more <= left and more <= _LARGEST_PART_OF_DRAFTS * budget:
            least |= dict.fromkeys(drafts, _OF_DRAFTS)
            left -= more
        return least | allocate(choices, left + sum(n_bytes(choice.types[0], choice.n_values) for choice in choices))

    def _sensitivity(self, kind: str, layer: int, model: Model) -> float:
        of_kind = self.sensitivity[kind] if self.sensitivity else _sensitivity_of(kind, model)
        return of_kind * (_depth(layer, model.layers) if layer >= 0 else 1.0)


def largest_preset_within(mixture: Mixture, tensors: Tensors, model: Model) -> list[Mixture]:
    """The preset of the most bytes that a mixture's target leaves room for, if there is one."""

    def size(preset: Mixture) -> int:
        types = preset.assign(tensors, model)
        return sum(n_bytes(types[name], _count(shape)) for name, shape in tensors)

    presets = [Mixture(name, overrides=mixture.overrides) for name, kind in FILE_TYPES.items() if kind.more]
    within = {size(preset): preset for preset in presets if size(preset) <= mixture.bytes_wanted(tensors)}
    return [within[max(within)]] if within else []


def kind_of(name: str, shape: tuple[int, ...], model: Model) -> str | None:
    """What tensors of the same use in other layers share; None for those whose type is not chosen by what they lose."""
    part = part_of(name)
    if not may_shrink(name, shape) or part in _STATE or layer_of(name) >= model.layers:
        return None
    return part.removesuffix(".weight")


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


def _sensitivity_of(kind: str, model: Model) -> float:
    """By other models' measure. Experts count by how often they are used."""
    return _SENSITIVITY[_of_dense(kind)] * (model.share_of_experts if kind.endswith("_exps") else 1.0)


def _of_dense(kind: str) -> str:
    return kind.removesuffix("_exps").removesuffix("_shexp")


def _depth(layer: int, layers: int) -> float:
    """The last quarter and the first sixteenth of layers count a little more."""
    return 1.2 if layer >= layers * 3 // 4 else 1.1 if layer < layers // 16 else 1.0
