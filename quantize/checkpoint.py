"""A Hugging Face folder: configuration, safetensors shards, and which tensor lies where. No pickles, no code."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwen35_local import json_file
from qwen35_local.errors import FileFormatError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.tensors import TensorSpec, canonical_name, is_ignored, is_vision, tensor_table
from qwen35_local.quantize.rows import FLOATS, Entry, Run
from qwen35_local.quantize.shard import read_shard

INDEX = "model.safetensors.index.json"
_CACHED = re.compile(r"^models--(?P<owner>[^/]+?)--(?P<name>.+)$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that has been read but for the weights. `entries` are by canonical name; `left_out` lists the names of
    tensors that a text model does not use."""

    folder: Path
    raw_config: dict[str, object]
    config: ModelConfig
    entries: dict[str, Entry]
    vision: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def repository(self) -> str | None:
        """`owner/name` when the folder lies in a Hugging Face cache."""
        for part in reversed(self.folder.resolve().parts):
            found = _CACHED.match(part)
            if found:
                return f"{found['owner']}/{found['name']}"
        return None

    @property
    def name(self) -> str:
        """The model's name: that of its repository or of its folder."""
        return (self.repository or "").rpartition("/")[2] or self.folder.resolve().name or "model"

    def runs(self, spec: TensorSpec) -> tuple[Run, ...]:
        """Where the rows of a tensor come from, in GGUF order. Raises FileFormatError when they are missing or their
        shape or dtype is wrong."""
        fused = self.entries.get(spec.source)
        if fused is None and spec.member is not None:
            experts, rows, cols = spec.shape
            return tuple(Run(self._entry(spec.member.format(e=e), ((rows, cols),)), 0, rows) for e in range(experts))
        entry = self._entry(spec.source, spec.source_shapes)
        if spec.half is not None:
            experts, rows, _ = spec.shape
            return tuple(Run(entry, (2 * e + spec.half) * rows, rows) for e in range(experts))
        tiling = spec.tiling
        if tiling is None or tiling.axis != 0:
            return (Run(entry, 0, _rows(spec)),)
        start, width = tiling.start, tiling.width
        untouched = [Run(entry, 0, start)] if start else []
        return (*untouched, *(Run(entry, start + head * width, width) for head in tiling.source_heads()))

    def _entry(self, name: str, shapes: tuple[tuple[int, ...], ...]) -> Entry:
        entry = self.entries[name]
        if entry.shape not in shapes:
            raise FileFormatError(
                f"{entry.path}: tensor {entry.name} has shape {list(entry.shape)}; config.json makes it "
                f"{list(shapes[0])}."
            )
        if entry.dtype not in FLOATS:
            raise FileFormatError(
                f"{entry.path}: tensor {entry.name} is {entry.dtype}; only F32, F16 and BF16 checkpoints can be "
                "converted. Start from the unquantised checkpoint of this model."
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


def open_checkpoint(folder: Path) -> Checkpoint:
    """Reads and checks everything but the weights. Raises FileFormatError."""
    config_path = folder / "config.json"
    if not config_path.exists():
        raise FileFormatError(f"{folder}: no config.json here; expected the folder of a Hugging Face checkpoint.")
    raw = json_file.read_object(config_path)
    for scope in (raw, raw.get("text_config")):
        method = scope.get("quantization_config") if isinstance(scope, dict) else None
        if method:
            kind = method.get("quant_method", "unknown") if isinstance(method, dict) else method
            raise FileFormatError(
                f"{config_path}: the checkpoint is already quantised ({str(kind)[:40]}); start from the "
                "bf16, f16 or f32 one."
            )
    config = ModelConfig.from_hf(raw)
    checkpoint = Checkpoint(folder, raw, config, {})
    for path in _shards(folder):
        for name, entry in read_shard(path).items():
            _sort_in(checkpoint, name, entry)
    checkpoint = _settle_mtp(checkpoint)
    _check_complete(checkpoint)
    return checkpoint


def _shards(folder: Path) -> list[Path]:
    """The safetensors files of the folder, each checked to exist and to be listed."""
    index_path = folder / INDEX
    if index_path.exists():
        weight_map = json_file.read_object(index_path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise FileFormatError(f"{index_path}: no weight_map.")
        names = sorted({_plain_name(index_path, name) for name in weight_map.values()})
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise FileFormatError(
                f"{folder}: {len(missing)} of {len(names)} shards are missing, first {missing[0]}; download them again."
            )
        paths = [folder / name for name in names]
        held = {name: path.name for path in paths for name in read_shard(path)}
        wrong = [name for name, shard in weight_map.items() if held.get(name) != shard]
        if wrong:
            raise FileFormatError(
                f"{index_path}: tensor {wrong[0][:120]} should be in {weight_map[wrong[0]]} but is not; "
                f"{len(wrong)} such entries. The index and the shards are of different downloads."
            )
        return paths
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        hint = f"; {pickled[0].name} is a pickle, which is never loaded" if pickled else ""
        raise FileFormatError(f"{folder}: no .safetensors file here{hint}.")
    numbered = {match[1]: match for p in paths if (match := re.search(r"-of-(\d{5})\.safetensors$", p.name))}
    for total in numbered:
        found = [p for p in paths if p.name.endswith(f"-of-{total}.safetensors")]
        if len(found) != int(total):
            raise FileFormatError(f"{folder}: {len(found)} of {int(total)} shards are here; download the others.")
    return paths


def _plain_name(index_path: Path, name: object) -> str:
    if not isinstance(name, str) or not name.endswith(".safetensors") or re.search(r"[/\\\0:]", name):
        raise FileFormatError(f"{index_path}: {str(name)[:80]!r} is not the name of a safetensors file in this folder.")
    return name


def _sort_in(checkpoint: Checkpoint, name: str, entry: Entry) -> None:
    if is_vision(name):
        checkpoint.vision.append(name)
        return
    canonical = canonical_name(name)
    if is_ignored(canonical) or (canonical == "lm_head.weight" and checkpoint.config.embeddings_are_tied):
        checkpoint.left_out.append(name)
        return
    if canonical in checkpoint.entries:
        first = checkpoint.entries[canonical]
        raise FileFormatError(
            f"{entry.path}: tensor {name} is there twice; {first.path.name} holds {first.name}, which is the same one."
        )
    checkpoint.entries[canonical] = entry


def _settle_mtp(checkpoint: Checkpoint) -> Checkpoint:
    """Whether there is an MTP block is what the tensors say; configurations of fine-tunes are often wrong about it."""
    present = any(name.startswith("mtp.") for name in checkpoint.entries)
    config = checkpoint.config
    if present == bool(config.mtp_layers):
        return checkpoint
    if config.mtp_layers:
        checkpoint.warnings.append("config.json announces an MTP block that the checkpoint lacks; converted without it")
    return replace(checkpoint, config=replace(config, mtp_layers=int(present)))


def _check_complete(checkpoint: Checkpoint) -> None:
    """Every tensor of the table is there and nothing else is."""
    wanted: set[str] = set()
    for spec in tensor_table(checkpoint.config):
        if spec.member is not None and spec.source not in checkpoint.entries:
            wanted.update(spec.member.format(e=e) for e in range(spec.shape[0]))
        else:
            wanted.add(spec.source)
    missing = sorted(wanted - checkpoint.entries.keys())
    if missing:
        raise FileFormatError(f"{checkpoint.folder}: {_some(missing)} missing from the checkpoint.")
    unknown = sorted(checkpoint.entries.keys() - wanted)
    quantised = [e for e in checkpoint.entries.values() if e.dtype not in FLOATS]
    if quantised:
        checkpoint._entry(canonical_name(quantised[0].name), (quantised[0].shape,))
    if unknown:
        raise FileFormatError(
            f"{checkpoint.folder}: {_some(unknown)} not part of the model that config.json describes; its layer count "
            "or architecture may be wrong."
        )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    listed = ", ".join(name[:120] for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{listed}{more} {'is' if len(names) == 1 else 'are'}"
