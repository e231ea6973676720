"""A GGUF of higher precision as the source: metadata kept, types chosen again."""

import re
from dataclasses import dataclass
from pathlib import Path

from qwen35_local import _core
from qwen35_local.errors import FormatError, InputError, naming
from qwen35_local.fields import TEXT, Fields
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.tensors import gguf_shapes
from qwen35_local.quantize import recipe
from qwen35_local.quantize.metadata import file_metadata
from qwen35_local.quantize.plan import Plan, PlannedTensor
from qwen35_local.quantize.rows import FLOATS, Entry, Run

_TYPE_SUFFIX = re.compile(r"[-.](F32|F16|BF16|I?Q\d\w*)$", re.IGNORECASE)
_DROPPED = ("split.", "GGUF.")
# Ollama's own, of the image encoder and of positions: in a file of the language model they would say that it sees.
_OLLAMA_KEYS = (
    "vision.",
    "image_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "mrope_sections",
    "rope.mrope_section",
    "rope.mrope_interleaved",
    "ssm.v_head_reordered",
)
_FUSED = "ffn_gate_up_exps.weight"


@dataclass(frozen=True, slots=True)
class GgufSource:
    """A complete model of the family in one GGUF file."""

    path: Path
    metadata: dict[str, object]
    config: ModelConfig
    entries: dict[str, Entry]
    vision: list[str]
    notices: list[str]

    @property
    def name(self) -> str:
        """The file's own name for the model, without a type at its end."""
        with naming(self.path):
            name = Fields(self.metadata).find("general.name", TEXT) or self.path.stem
        return _TYPE_SUFFIX.sub("", name)


def open_gguf(path: Path) -> GgufSource:
    """Reads header and directory. Raises FormatError when it is not a whole text model of the family."""
    try:
        file = _core.GgufFile(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}).") from error
    if file.refusal is not None:
        raise FormatError(f"{path}: {file.refusal}")
    dropped = (*_DROPPED, *(f"{file.metadata['general.architecture']}.{key}" for key in _OLLAMA_KEYS))
    metadata: dict[str, object] = {key: value for key, value in file.metadata.items() if not key.startswith(dropped)}
    entries = {
        t.name: Entry(Path(t.path), t.name, t.dtype, t.shape, t.offset, t.n_bytes, source=file) for t in file.tensors
    }
    embedding = entries.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise FormatError(f"{path}: no token_embd.weight; expected a complete text model.")
    with naming(path):
        config = ModelConfig.from_gguf(
            metadata, vocabulary=embedding.shape[0], embeddings_are_tied="output.weight" not in entries
        )
    if "general.parameter_count" in metadata:
        metadata["general.parameter_count"] = sum(entry.n_values for entry in entries.values())
    source = GgufSource(path, metadata, config, entries, [t.name for t in file.vision], file.notices)
    _check(source)
    return source


def _check(source: GgufSource) -> None:
    shapes = gguf_shapes(source.config, source.entries)
    for name, shape in shapes.items():
        found = source.entries.get(name)
        if found is None:
            raise FormatError(f"{source.path}: tensor {name} is missing.")
        if found.shape != shape:
            raise FormatError(
                f"{source.path}: tensor {name} has shape {list(found.shape)}; the metadata make it {list(shape)}."
            )
    for name in source.entries:
        if name not in shapes:
            raise FormatError(f"{source.path}: tensor {name} is none of the model that its metadata describe.")


_FEWEST_BITS = 5.0  # of a source that is rounded again


def plan_gguf(source: GgufSource, mixture: recipe.Mixture, *, allow_requantize: bool) -> Plan:
    """The plan for another mixture of the same model; a tensor that already has its type is copied.

    Raises InputError when most weights have fewer bits than they would get, or four bits already and would be rounded
    again."""
    model = recipe.Model.of(source.config)
    parts = [part for entry in source.entries.values() for part in _parts(entry)]
    types = mixture.assign([(part.name, part.shape) for part in parts], model)
    tensors, changed = [], set[str]()
    for part in parts:
        dtype, stored = types[part.name], part.runs[0].entry.dtype
        grows = stored not in FLOATS and _bits(dtype) > _bits(stored)
        if grows and not allow_requantize:
            dtype = stored
        if dtype != stored:
            changed.add(stored)
        tensors.append(PlannedTensor(part.name, part.shape, dtype, part.shape[-1], part.runs))
    warnings = source.notices + _check_precision(source, mixture.preset, changed, allow_requantize)
    return Plan({**source.metadata, **file_metadata(mixture.preset)}, tensors, model, source.vision, warnings)


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor of the output, and the rows that it is made of."""

    name: str
    shape: tuple[int, ...]
    runs: tuple[Run, ...]


def _parts(entry: Entry) -> list[_Part]:
    """A tensor as it is; the experts' gate and up, where they are one, apart, which every program reads."""
    if not entry.name.endswith(_FUSED):
        return [_Part(entry.name, entry.shape, (Run(entry, 0, entry.n_values // entry.shape[-1]),))]
    experts, rows, cols = entry.shape
    width = rows // 2
    return [
        _Part(
            entry.name.replace("gate_up", part),
            (experts, width, cols),
            tuple(Run(entry, expert * rows + half * width, width) for expert in range(experts)),
        )
        for half, part in enumerate(("gate", "up"))
    ]


def _bits(dtype: str) -> float:
    block, n_bytes = _core.block_types()[dtype]
    return n_bytes * 8 / block


def _check_precision(source: GgufSource, preset: str, changed: set[str], allow_requantize: bool) -> list[str]:
    """Compares the type that holds most of the weights with the type they would get. `changed`: types of which some
    tensors would get another."""
    weights: dict[str, int] = {}
    for entry in source.entries.values():
        weights[entry.dtype] = weights.get(entry.dtype, 0) + entry.n_values
    main = max(weights, key=lambda dtype: weights[dtype])
    base = recipe.file_type(preset).base
    if main in FLOATS:
        return []
    is_rounded_again = main != base or main in changed
    is_coarse = _bits(main) < _bits(base) or (_bits(main) < _FEWEST_BITS and is_rounded_again)
    if is_coarse and not allow_requantize:
        raise InputError(
            f"{source.path}: most of its weights are {main}, which {preset} cannot improve; start from a file of "
            "higher precision, or insist with --allow-requantize."
        )
    return [f"the source is mostly {main}: rounding twice costs accuracy that a BF16 source would keep"]
