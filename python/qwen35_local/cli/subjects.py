"""The models that a question about memory is about, from what a person typed."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen35_local import json_file
from qwen35_local.cli.model import header_of
from qwen35_local.errors import InputError, naming
from qwen35_local.models.checkpoint_name import checkpoint_name
from qwen35_local.models.config import ModelConfig
from qwen35_local.plan import fit
from qwen35_local.plan.subject import Extras, Subject

if TYPE_CHECKING:
    from qwen35_local.hub.resolve import Absent, Checkpoint, ModelFile


def subjects_of(
    found: "ModelFile | Checkpoint | Absent", argument: str, preset: str | None, extras: Extras
) -> list[Subject]:
    """A GGUF in its own type; a checkpoint, or a published size that is not on this disk, in the type given or in every
    one of `TYPES`. Of a repository that is not on this disk the headers are fetched.

    Raises InputError, FormatError, OSError."""
    from qwen35_local import _core
    from qwen35_local.hub.names import SizeName
    from qwen35_local.hub.resolve import Checkpoint, ModelFile

    if isinstance(found, ModelFile):
        if preset is not None and found.stored is None:
            raise InputError(f"--type: {argument} is a file, whose tensors have their types; leave it out")
        return [fit.with_extras(found.path, _core.GgufFile(found.path, header=True), extras)]
    if isinstance(found, Checkpoint):
        name, config, notices = _of_folder(found.folder)
        said = preset or (found.type if found.is_type_said else None)
        made = [fit.of_config(name, argument, config, each, extras) for each in fit.types_of(said)]
        return [replace(subject, notices=notices) for subject in made]
    if isinstance(found.name, SizeName):
        size = fit.size_named(found.name.size)
        return [fit.of_size(size, each, extras) for each in fit.types_of(found.name.type)]
    header, _ = header_of(found)
    if isinstance(header, Checkpoint):
        config = ModelConfig.from_hf(json_file.read_object(header.folder / "config.json"))
        name = found.name.name
        return [fit.of_config(name, argument, config, each, extras) for each in fit.types_of(found.name.type)]
    return [replace(fit.with_extras(header.path, _core.GgufFile(header.path, header=True), extras), argument=argument)]


def _of_folder(folder: Path) -> tuple[str, ModelConfig, tuple[str, ...]]:
    """Name and configuration of a checkpoint, with what is odd about it. Without weights config.json is believed; with
    them, what a conversion would make of both. Raises FormatError."""
    from qwen35_local.quantize.checkpoint import open_checkpoint

    if any(folder.glob("*.safetensors")):
        checkpoint = open_checkpoint(folder, allow_rounded=True)
        return checkpoint.name, checkpoint.config, tuple(checkpoint.warnings)
    raw = json_file.read_object(folder / "config.json")
    with naming(folder / "config.json"):
        return checkpoint_name(folder, raw), ModelConfig.from_hf(raw), ()
