"""A Hugging Face folder: configuration, safetensors shards, and which tensor lies where. No pickles, no code."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwen35_local import json_file
from qwen35_local.errors import FormatError, naming
from qwen35_local.models import huggingface
from qwen35_local.models.checkpoint_name import checkpoint_name, repository_of
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.tensors import Change, TensorSpec, canonical_name, is_ignored, is_vision, tensor_table
from qwen35_local.quantize import fp8, gains, quantised, settle, weight_files
from qwen35_local.quantize.rows import Entry, Run


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that has been read but for the weights. `entries` are by canonical name; `left_out` lists the names of
    tensors that a text model does not use."""

    folder: Path
    raw_config: dict[str, object]
    config: ModelConfig
    entries: dict[str, Entry]
    stored_gains: gains.Stored = gains.Stored.OFFSET
    vision: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def repository(self) -> str | None:
        """`owner/name` when the folder lies in a Hugging Face cache."""
        return repository_of(self.folder)

    @property
    def name(self) -> str:
        """What the model is called."""
        return checkpoint_name(self.folder, self.raw_config)

    def runs(self, spec: TensorSpec) -> tuple[Run, ...]:
        """Where the rows of a tensor come from, in GGUF order. Raises FormatError when they are missing or their
        shape or dtype is wrong."""
        fused = self.entries.get(spec.source)
        if fused is None and spec.stack in self.entries:
            return (Run(self.entry(spec.stack, (spec.shape,)), 0, _rows(spec)),)
        if fused is None and spec.member is not None:
            experts, rows, cols = spec.shape
            return tuple(Run(self.entry(spec.member.format(e=e), ((rows, cols),)), 0, rows) for e in range(experts))
        entry = self.entry(spec.source, spec.source_shapes)
        if spec.half is not None:
            experts, rows, _ = spec.shape
            return tuple(Run(entry, (2 * e + spec.half) * rows, rows) for e in range(experts))
        tiling = spec.tiling
        if tiling is None or tiling.axis != 0:
            return (Run(entry, 0, _rows(spec)),)
        start, width = tiling.start, tiling.width
        untouched = [Run(entry, 0, start)] if start else []
        return (*untouched, *(Run(entry, start + head * width, width) for head in tiling.source_heads()))

    def entry(self, name: str, shapes: tuple[tuple[int, ...], ...]) -> Entry:
        """The tensor called `name`, in one of `shapes`. Raises FormatError."""
        entry = self.entries[name]
        if entry.shape not in shapes:
            raise FormatError(
                f"{entry.path}: tensor {entry.name} has shape {list(entry.shape)}; config.json makes it "
                f"{list(shapes[0])}."
            )
        return entry


def _rows(spec: TensorSpec) -> int:
    """Rows of a tensor as they are read: a vector whose heads move has one value a row, any other is one row."""
    if len(spec.shape) == 1:
        return spec.shape[0] if spec.tiling else 1
    rows = 1
    for size in spec.shape[:-1]:
        rows *= size
    return rows


def open_checkpoint(folder: Path, *, allow_rounded: bool = False) -> Checkpoint:
    """Reads and checks everything but the weights. `allow_rounded`: accept norms that another tool has rounded.

    Raises FormatError."""
    raw = _read_config(folder)
    with naming(folder / "config.json"):
        fields = huggingface.fields(raw)
    found = _Tensors()
    warnings: list[str] = []
    for entry in weight_files.find(folder, warnings):
        found.add(entry)
    quantised.attach_scales(found.entries, found.scales)
    quantised.check(found.entries, raw, warnings)
    text = raw.get("text_config")
    is_stated = any(isinstance(s, dict) and s.get("tie_word_embeddings") is not None for s in (raw, text))
    config = settle.settle_rows(fields, found.entries, warnings)
    config = settle.settle_mtp(config, found.entries, warnings)
    config = settle.settle_head(config, is_stated, found.entries, found.left_out, warnings)
    checkpoint = Checkpoint(
        folder, raw, config, found.entries, vision=found.vision, left_out=found.left_out, warnings=warnings
    )
    table = tensor_table(config)
    _check_complete(checkpoint, table)
    return replace(checkpoint, stored_gains=_stored_gains(checkpoint, table, allow_rounded))


def _read_config(folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    if path.exists():
        return json_file.read_object(path)
    if (folder / "adapter_config.json").exists():
        raise FormatError(f"{folder}: holds an adapter and no model; merge it into its base model first.")
    raise FormatError(f"{folder}: no config.json here; expected the folder of a Hugging Face checkpoint.")


@dataclass(slots=True)
class _Tensors:
    """The tensors of the files by what they are for: `entries` and their `scales` by canonical name."""

    entries: dict[str, Entry] = field(default_factory=dict)
    scales: dict[str, Entry] = field(default_factory=dict)
    vision: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Raises FormatError for a second tensor of the same canonical name."""
        name = entry.name
        if is_vision(name):
            self.vision.append(name)
            return
        is_scale = name.endswith(fp8.SCALE_SUFFIX)
        canonical = canonical_name(name.removesuffix(fp8.SCALE_SUFFIX))
        if is_ignored(canonical):
            self.left_out.append(name)
            return
        place = self.scales if is_scale else self.entries
        if canonical in place:
            first = place[canonical]
            raise FormatError(
                f"{entry.path}: tensor {name} is there twice; {first.path.name} holds {first.name}, which is the same "
                "one."
            )
        place[canonical] = entry


def _check_complete(checkpoint: Checkpoint, table: list[TensorSpec]) -> None:
    """Every tensor of the table is there, in a shape it can have, and nothing else is."""
    wanted: set[str] = set()
    for spec in table:
        if spec.source in checkpoint.entries or spec.member is None:
            wanted.add(spec.source)
        elif spec.stack in checkpoint.entries:
            wanted.add(spec.stack)
        else:
            wanted.update(spec.member.format(e=e) for e in range(spec.shape[0]))
    missing = sorted(wanted - checkpoint.entries.keys())
    unknown = sorted(checkpoint.entries[name].name for name in checkpoint.entries.keys() - wanted)
    if missing:
        instead = f"; {_some(unknown)} there, which no model of the family has" if unknown else ""
        raise FormatError(
            f"{checkpoint.folder}: {_some(missing)} missing from the checkpoint{instead}. Download the weights again, "
            "or save them again with save_pretrained of transformers."
        )
    if unknown:
        raise FormatError(
            f"{checkpoint.folder}: {_some(unknown)} not part of the model that config.json describes; its layer count "
            "or architecture may be wrong."
        )
    for spec in table:
        checkpoint.runs(spec)


def _stored_gains(checkpoint: Checkpoint, table: list[TensorSpec], allow_rounded: bool) -> gains.Stored:
    """Whether the norms still need their 1. Raises FormatError when they hold 1 + w in 16 bits, from which nobody
    gets w back, unless `allow_rounded`."""
    norms = {s.source: checkpoint.entry(s.source, s.source_shapes) for s in table if s.change is Change.PLUS_ONE}
    verdict = gains.judge(norms)
    checkpoint.warnings.extend(f"{name} may hold w or 1 + w: taken as w, like the others" for name in verdict.doubtful)
    traces = [e.name for name, e in checkpoint.entries.items() if _is_as_mlx_saves(name, e)]
    if verdict.doubtful and traces:
        raise FormatError(
            f"{checkpoint.folder}: {verdict.doubtful[0]} may hold w or 1 + w: {traces[0]} is named or laid out as MLX "
            "saves it, and no value of the norm speaks against it. Start from the original checkpoint."
        )
    if verdict.stored is gains.Stored.GAIN:
        if verdict.is_rounded and not allow_rounded:
            raise FormatError(
                f"{checkpoint.folder}: saved by MLX or a tool like it: the norms hold 1 + w rounded to 16 bits, an "
                "error of up to 0.4 %. Start from the original checkpoint, or accept this with "
                "`qwen35 quantize --allow-requantize`."
            )
        rounded = ", rounded to 16 bits" if verdict.is_rounded else ""
        checkpoint.warnings.append(f"the norms hold 1 + w{rounded}, as MLX saves them: taken as they are")
    return verdict.stored


def _is_as_mlx_saves(canonical: str, entry: Entry) -> bool:
    is_channels_last = canonical.endswith("conv1d.weight") and len(entry.shape) == 3 and entry.shape[-1] == 1
    return is_channels_last or entry.name.startswith("language_model.")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    listed = ", ".join(name[:120] for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{listed}{more} {'is' if len(names) == 1 else 'are'}"
