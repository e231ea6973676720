"""Our own models: conversions of checkpoints, made once and kept."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from qwen35_local import json_file
from qwen35_local.errors import FormatError
from qwen35_local.hub import contents
from qwen35_local.hub.names import size_named
from qwen35_local.hub.places import home
from qwen35_local.hub.stored import Stored
from qwen35_local.models.checkpoint_name import checkpoint_name

STORE = "ours"
_NAMED = re.compile(r"(?P<name>.+)-[0-9a-f]{12}-(?P<type>[A-Z0-9_]+)", re.DOTALL)


def folder() -> Path:
    return home() / "models"


def conversion(checkpoint: Path, type: str) -> Path:
    """The GGUF that a conversion of a checkpoint folder to `type` belongs in."""
    try:
        config = json_file.read_object_if_there(checkpoint / "config.json")
    except FormatError:
        config = {}  # converting it will say what is wrong
    return folder() / f"{checkpoint_name(checkpoint, config)}-{fingerprint(checkpoint)}-{type}.gguf"


def models() -> Iterator[Stored]:
    for path in contents.entries(folder()):
        found = _NAMED.fullmatch(path.stem)
        if not contents.is_file(path) or path.suffix != ".gguf" or path.name.startswith("."):
            continue
        yield Stored(
            STORE,
            path.stem,
            path,
            (path,),
            type=found["type"] if found else None,
            size=size_named(found["name"]) if found else None,
            also=(path.name,),
            is_ours=True,
        )


def fingerprint(folder: Path) -> str:
    """Twelve hex digits that change when a file of the checkpoint does: names, sizes and modification times."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in {".json", ".safetensors", ".jinja", ".model"}:
            status = path.stat()
            digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    digest.update(str(folder.resolve()).encode())
    return digest.hexdigest()[:12]
