"""A GGUF of higher precision as the source: metadata kept, types chosen again."""

import re
from dataclasses import dataclass
from pathlib import Path

from qwen35_local import _core
from qwen35_local.errors import FileFormatError, InputError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.tensors import tensor_table
from qwen35_local.quantize import recipe
from qwen35_local.quantize.metadata import file_metadata
from qwen35_local.quantize.plan import Plan, PlannedTensor
from qwen35_local.quantize.rows import FLOATS, Entry, Run

_TYPE_SUFFIX = re.compile(r"[-.](F32|F16|BF16|I?Q\d\w*)$", re.IGNORECASE)
_DROPPED = ("split.", "GGUF.")


@dataclass(frozen=True, slots=True)
class GgufSource:
    """A complete model of the family in one GGUF file."""

    path: Path
    metadata: dict[str, object]
    config: ModelConfig
    entries: dict[str, Entry]

    @property
    def name(self) -> str:
        """The file's own name for the model, without a type at its end."""
        name = self.metadata.get("general.name")
        return _TYPE_SUFFIX.sub("", name if isinstance(name, str) and name else self.path.stem)


def open_gguf(path: Path) -> GgufSource:
    """Reads header and directory. Raises FileFormatError when it is not a whole text model of the family."""
    try:
        file = _core.GgufFile(path)
    except _core.CoreError as error:
        raise FileFormatError(str(error)) from error
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror}).") from error
    metadata: dict[str, object] = {key: value for key, value in file.metadata.items() if not key.startswith(_DROPPED)}
    if file.metadata.get("split.count", 1) not in (0, 1):
        raise FileFormatError(f"{path}: one part of a split GGUF; merge the parts first (llama-gguf-split --merge).")
    entries = {t.name: Entry(path, t.name, t.dtype, t.shape, t.offset, t.n_bytes) for t in file.tensors}
    embedding = entries.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise FileFormatError(f"{path}: no token_embd.weight; expected a complete text model.")
    config = ModelConfig.from_gguf(
        metadata, vocabulary=embedding.shape[0], embeddings_are_tied="output.weight" not in entries
    )
    source = GgufSource(path, metadata, config, entries)
    _check(source)
    return source


def _check(source: GgufSource) -> None:
    for entry in source.entries.values():
        if entry.dtype not in _core.block_types():
            raise FileFormatError(f"{source.path}: tensor {entry.name} is {entry.dtype}, which cannot be decoded.")
    for spec in tensor_table(source.config):
        found = source.entries.get(spec.name)
        if found is None:
            raise FileFormatError(f"{source.path}: tensor {spec.name} is missing.")
        if found.shape != spec.shape:
            raise FileFormatError(
                f"{source.path}: tensor {spec.name} has shape {list(found.shape)}; the metadata make it "
                f"{list(spec.shape)}."
            )


def plan_gguf(source: GgufSource, mixture: str, *, allow_requantize: bool) -> Plan:
    """The plan for another mixture of the same model; a tensor that already has its type is copied.

    Raises InputError when most weights would have to be turned into a type with more bits than they have."""
    config = source.config
    model = recipe.Model(config.block_count, config.heads // config.kv_heads, config.is_moe)
    types = recipe.assign([(e.name, e.shape) for e in source.entries.values()], mixture, model)
    warnings = _check_precision(source, mixture, allow_requantize)
    tensors = []
    for entry in source.entries.values():
        dtype = types[entry.name]
        grows = entry.dtype not in FLOATS and _bits(dtype) > _bits(entry.dtype)
        if grows and not allow_requantize:
            dtype = entry.dtype
        cols = entry.shape[-1]
        run = Run(entry, 0, entry.n_values // cols)
        tensors.append(PlannedTensor(entry.name, entry.shape, dtype, cols, (run,)))
    return Plan({**source.metadata, **file_metadata(mixture)}, tensors, [], warnings)


def _bits(dtype: str) -> float:
    block, n_bytes = _core.block_types()[dtype]
    return n_bytes * 8 / block


def _check_precision(source: GgufSource, mixture: str, allow_requantize: bool) -> list[str]:
    """Compares the type that holds most of the weights with the type they would get."""
    weights: dict[str, int] = {}
    for entry in source.entries.values():
        weights[entry.dtype] = weights.get(entry.dtype, 0) + entry.n_values
    main = max(weights, key=lambda dtype: weights[dtype])
    base = recipe.file_type(mixture).base
    if main in FLOATS:
        return []
    if _bits(main) < _bits(base) and not allow_requantize:
        raise InputError(
            f"{source.path}: most of its weights are {main}, which {mixture} cannot improve; start from a file of "
            "higher precision, or insist with --allow-requantize."
        )
    if _bits(main) < _bits("Q8_0"):
        return [f"the source is mostly {main}: rounding twice costs accuracy that a BF16 or Q8_0 source would keep"]
    return []
