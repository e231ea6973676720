"""The model whose memory is asked about."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.memory import Footprint, Stored

if TYPE_CHECKING:
    from qwen35_local import _core

_VISION = ("v.", "mm.")


@dataclass(frozen=True)
class Subject:
    """A model in one type. `argument` is what names it on the command line; `is_file` says that the tensors are a
    GGUF's own, so that its type is what it is."""

    name: str
    argument: str
    type: str
    is_file: bool
    footprint: Footprint


@dataclass(frozen=True)
class Extras:
    """Parts that are not always there."""

    vision: bool = False
    mtp: bool = False
    threads: int = 2


def of_file(path: Path, file: "_core.GgufFile", extras: Extras, *, type: str = "", vision_bytes: int = 0) -> Subject:
    """A GGUF, of which the header is enough. Raises FileFormatError."""
    metadata = file.metadata
    tensors = [tensor for tensor in file.tensors if not tensor.name.startswith(_VISION)]
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    embedding = shapes.get("token_embd.weight")
    config = ModelConfig.from_gguf(
        metadata,
        vocabulary=embedding[0] if embedding else None,
        embeddings_are_tied="output.weight" not in shapes,
    )
    tokens = metadata.get("tokenizer.ggml.tokens")
    footprint = Footprint(
        config,
        tuple(Stored(tensor.name, tensor.shape, tensor.dtype) for tensor in tensors),
        vocabulary=len(tokens) if isinstance(tokens, list) else 0,
        vision_bytes=vision_bytes,
        predicts=extras.mtp,
        threads=extras.threads,
    )
    return Subject(str(metadata.get("general.name") or path.stem), str(path), type, True, footprint)
