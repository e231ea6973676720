"""Will it fit: a published size, a checkpoint folder or a GGUF in so much memory, and the nearest choice that does."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qwen35_local.errors import InputError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.kv import KvChoice
from qwen35_local.models.memory import (
    KV_FORMATS,
    LEAST_CONTEXT_TOKENS,
    Plan,
    solve,
)
from qwen35_local.models.registry import SIZES, Size
from qwen35_local.models.tensors import tensor_table
from qwen35_local.plan.footprint import DeviceFootprint, Stored
from qwen35_local.plan.subject import Extras, Subject, of_file
from qwen35_local.quantize import recipe
from qwen35_local.units import spelled

if TYPE_CHECKING:
    from qwen35_local import _core

# What is worth choosing from: checkpoints are bfloat16, so F32 and F16 hold no more than BF16 does.
TYPES = ("BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_XS")

_BLOCK = "multi-token-prediction block"
_VISION_VALUE_BYTES = 2  # image encoders are published as F16


@dataclass(frozen=True)
class Question:
    """What has to fit: a context (None: the longest), a KV format or "auto", into `budget` bytes, of so many
    conversations side by side: one of all of the context, the others with what is left."""

    budget: int
    context_tokens: int | None = None
    kv: KvChoice = "auto"
    option: str = "--ctx"  # as a message names it
    parallel: int = 1

    def plan(self, subject: Subject) -> Plan:
        """Raises InputError for a context that the model cannot have."""
        most = subject.footprint.most_context
        if self.context_tokens is not None and self.context_tokens > most:
            raise InputError(
                f"{self.option} is {self.context_tokens:,}; expected at most {most:,} tokens for {subject.name}"
            )
        return solve(
            subject.footprint, self.budget, context_tokens=self.context_tokens, kv=self.kv, parallel=self.parallel
        )


@dataclass(frozen=True)
class Choice:
    """Something else that fits, and what it changes."""

    change: Literal["draft", "kv", "ctx", "type", "size"]
    subject: Subject
    plan: Plan


def types_of(preset: str | None) -> tuple[str, ...]:
    return TYPES if preset is None else (preset,)


def size_named(published: str) -> Size:
    """Of one of the registry's own names."""
    return next(size for size in SIZES.values() if published in (size.name, *size.also))


def short(name: str) -> str:
    return name.lower().removeprefix("qwen3.5-")


def of_size(size: Size, preset: str, extras: Extras) -> Subject:
    return of_config(size.name, short(size.name), size.config, preset, extras)


def of_config(name: str, argument: str, config: ModelConfig, preset: str, extras: Extras) -> Subject:
    """As `quantize` would write it, or without the block that drafts. Raises InputError."""
    vision = vision_bytes(name, config) if extras.vision else 0
    if extras.mtp and not config.mtp_layers:
        raise InputError(f"--mtp: {name} has no {_BLOCK}")
    if extras.mtp is False:
        config = replace(config, mtp_layers=0)
    listed = [(spec.name, spec.shape) for spec in tensor_table(config)]
    model = recipe.Model.of(config)
    types = recipe.assign(listed, preset, model)
    tensors = tuple(Stored(tensor, shape, types[tensor]) for tensor, shape in listed)
    footprint = DeviceFootprint(
        config,
        tensors,
        config.vocabulary,
        vision,
        drafts=extras.drafts,
        threads=extras.threads,
        device=extras.device,
    )
    return Subject(name, argument, preset.upper(), False, footprint)


def with_extras(path: Path, file: "_core.GgufFile", extras: Extras) -> Subject:
    """Raises InputError, FormatError."""
    number = file.metadata.get("general.file_type")
    types = {entry.number: label for label, entry in recipe.FILE_TYPES.items()}
    label = types.get(number, "mixed") if isinstance(number, int) else "mixed"
    subject = of_file(path, file, extras, type=label)
    config = subject.footprint.config
    if extras.mtp is not None and extras.mtp != bool(config.mtp_layers):
        raise InputError(f"--{'' if extras.mtp else 'no-'}mtp: {path} has {'no' if extras.mtp else 'a'} {_BLOCK}")
    if not extras.vision:
        return subject
    inside = sum(tensor.n_bytes for tensor in file.vision)
    return of_file(path, file, extras, type=label, vision_bytes=inside or vision_bytes(subject.name, config))


def vision_bytes(name: str, config: ModelConfig) -> int:
    """Of the image encoder of the size that has these shapes. Raises InputError."""
    size = size_of(config)
    if size is None:
        raise InputError(f"--vision: {name} has the shapes of no published size, so its image encoder is not known")
    return _VISION_VALUE_BYTES * size.vision.parameters


def size_of(config: ModelConfig) -> Size | None:
    def shape(c: ModelConfig) -> tuple[int, ...]:
        return c.hidden, c.layers, c.heads, c.delta_value_heads, c.feed_forward, c.experts, c.expert_feed_forward

    return next((size for size in SIZES.values() if shape(size.config) == shape(config)), None)


def nearest(subject: Subject, question: Question, extras: Extras, preset: str = "") -> list[Choice]:
    """What fits where `subject` does not, at most one of a kind: no drafts, a narrower cache, a shorter context, a
    smaller type, a smaller size (of type `preset`, or the subject's own)."""
    choices = []
    if subject.footprint.drafts:
        plain = subject.with_drafts(0)
        if (plan := question.plan(plain)).fits:
            choices.append(Choice("draft", plain, plan))
    asked = question.context_tokens
    if asked is not None:
        if question.kv != "auto":
            for kv in KV_FORMATS[KV_FORMATS.index(question.kv) + 1 :]:
                plan = replace(question, kv=kv).plan(subject)
                if plan.fits:
                    choices.append(Choice("kv", subject, plan))
                    break
        narrowest = KV_FORMATS[-1] if question.kv == "auto" else question.kv
        plan = replace(question, context_tokens=None, kv=narrowest).plan(subject)
        if plan.fits and LEAST_CONTEXT_TOKENS <= plan.context_tokens < asked:
            choices.append(Choice("ctx", subject, plan))
    for other in smaller_types(subject, extras):
        plan = question.plan(other)
        if plan.fits:
            choices.append(Choice("type", other, plan))
            break
    for other in smaller_sizes(subject, extras, preset):
        if asked is None or asked <= other.footprint.most_context:
            plan = question.plan(other)
            if plan.fits:
                choices.append(Choice("size", other, plan))
                break
    return choices


def smaller_types(subject: Subject, extras: Extras) -> list[Subject]:
    """The same model in the types that take less than it does now, the largest first."""
    footprint = subject.footprint
    size = size_of(footprint.config)
    has_mtp = replace(extras, mtp=footprint.config.mtp_layers > 0)
    found = []
    for preset in TYPES:
        if size is not None:
            other = of_size(size, preset, has_mtp)
        else:
            other = of_config(subject.name, subject.argument, footprint.config, preset, has_mtp)
        if other.footprint.weight_bytes < footprint.weight_bytes:
            found.append(other)
    return sorted(found, key=lambda other: -other.footprint.weight_bytes)


def smaller_sizes(subject: Subject, extras: Extras, preset: str) -> Iterator[Subject]:
    """The largest first, in the subject's type where that has a name."""
    preset = preset or (subject.type if subject.type in recipe.FILE_TYPES else recipe.DEFAULT_TYPE)
    for size in reversed(SIZES.values()):
        other = of_size(size, preset, extras)
        if other.footprint.n_values < subject.footprint.n_values and size != size_of(subject.footprint.config):
            yield other


def command(choice: Choice, question: Question, extras: Extras) -> list[str]:
    """What to type after `qwen35` to see a choice."""
    words = ["plan", choice.subject.argument]
    if not choice.subject.is_file:
        words += ["--type", choice.subject.type]
    words += ["--ctx", str(choice.plan.context_tokens), "--kv", choice.plan.kv, "--memory", spelled(question.budget)]
    if question.parallel > 1:
        words += ["--parallel", str(question.parallel)]
    if extras.device != "auto":
        words += ["--device", extras.device]
    footprint = choice.subject.footprint
    if not (choice.subject.is_file or footprint.config.mtp_layers):
        words.append("--no-mtp")
    return words + ["--draft", "off"] * (not footprint.drafts) + ["--vision"] * extras.vision
