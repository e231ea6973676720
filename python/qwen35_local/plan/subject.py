"""The model whose memory is asked about."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen35_local.errors import FormatError, naming
from qwen35_local.fields import TEXT, TEXTS, Fields
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.drafts import MOST_DRAFTS
from qwen35_local.models.tensors import gguf_shapes
from qwen35_local.plan.footprint import DeviceFootprint, Stored
from qwen35_local.units import counted

if TYPE_CHECKING:
    from qwen35_local import _core


@dataclass(frozen=True)
class Subject:
    """A model in one type. `argument` is what names it on the command line; `is_file` says that the tensors are a
    GGUF's own, so that its type is what it is."""

    name: str
    argument: str
    type: str
    is_file: bool
    footprint: DeviceFootprint
    notices: tuple[str, ...] = ()  # what is odd about the file, and why it cannot be run

    def with_drafts(self, drafts: int) -> "Subject":
        return replace(self, footprint=replace(self.footprint, drafts=drafts))

    def on(self, device: str) -> "Subject":
        return replace(self, footprint=replace(self.footprint, device=device))


@dataclass(frozen=True)
class Extras:
    """Parts that are not always there, and where they are to be. `mtp`: whether the block that drafts is there; None:
    as the file or the checkpoint has it. `drafts`, of a pass."""

    vision: bool = False
    mtp: bool | None = None
    drafts: int = MOST_DRAFTS
    threads: int = 2
    device: str = "auto"


def of_file(path: Path, file: "_core.GgufFile", extras: Extras, *, type: str = "", vision_bytes: int = 0) -> Subject:
    """A GGUF, of which the header is enough. Raises FormatError."""
    if file.kind != "model":
        raise FormatError(f"{path}: {file.refusal}")
    metadata, tensors = file.metadata, file.tensors
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    embedding = shapes.get("token_embd.weight")
    with naming(path):
        try:
            config = ModelConfig.from_gguf(
                metadata,
                vocabulary=embedding[0] if embedding else None,
                embeddings_are_tied="output.weight" not in shapes,
            )
        except FormatError as error:
            raise FormatError(file.refusal or str(error)) from None
        tokens = Fields(metadata).find("tokenizer.ggml.tokens", TEXTS) or []
        name = Fields(metadata).find("general.name", TEXT) or path.stem
    footprint = DeviceFootprint(
        config,
        tuple(Stored(tensor.name, tensor.shape, tensor.dtype, tensor.n_bytes) for tensor in tensors),
        vocabulary=len(tokens),
        vision_bytes=vision_bytes,
        drafts=extras.drafts,
        threads=extras.threads,
        device=extras.device,
    )
    notices = (*file.notices, *([file.refusal] if file.refusal is not None else []), *_incomplete(config, shapes))
    return Subject(name, str(path), type, True, footprint, notices)


def _incomplete(config: ModelConfig, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """What keeps a file from being run although its configuration can be read."""
    expected = gguf_shapes(config, shapes).keys()
    found = {"missing": sorted(expected - shapes.keys()), "unexpected": sorted(shapes.keys() - expected)}
    return [
        f"this is no complete model: {counted(len(names), 'tensor')} {what}, first {names[0]}"
        for what, names in found.items()
        if names
    ]
