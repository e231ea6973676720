"""From what a person typed to a file: the embedded model, a GGUF, or a Hugging Face folder; and where our cache is."""

import hashlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from qwen35_local.errors import InputError

EMBEDDED_NAME = "qwen35-demo-Q4_K_M.gguf"


@dataclass(frozen=True)
class ModelFile:
    """A GGUF ready to load."""

    path: Path
    is_embedded: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face folder, and the GGUF in the cache that a conversion of it to `type` belongs in."""

    folder: Path
    type: str
    cached: Path


def embedded_model() -> Path:
    """The demonstration model that ships with the package. Raises InputError when the package lacks it."""
    path = Path(str(resources.files("qwen35_local.models").joinpath("demo", EMBEDDED_NAME)))
    if not path.is_file():
        raise InputError(f"the embedded model is missing ({path}); reinstall the package or name a GGUF file")
    return path


def home() -> Path:
    """Folder for converted models, history and saved conversations: QWEN35_HOME, or the platform's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("QWEN35_HOME")
    return Path(chosen).expanduser() if chosen else user_cache_path("qwen35")


def resolve(name: str | None, type: str = "Q4_K_M") -> ModelFile | Checkpoint:
    """Nothing is the embedded model; a file is a GGUF; a folder with config.json is a checkpoint. Raises InputError."""
    if name is None:
        return ModelFile(embedded_model(), is_embedded=True)
    path = Path(name).expanduser()
    if path.is_file():
        return ModelFile(path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: a folder without config.json; expected a Hugging Face checkpoint or a GGUF file")
        return Checkpoint(path, type, home() / "models" / f"{path.resolve().name}-{fingerprint(path)}-{type}.gguf")
    raise InputError(f"{name}: no such file or folder; expected a GGUF file or a Hugging Face checkpoint folder")


def fingerprint(folder: Path) -> str:
    """Twelve hex digits that change when a file of the checkpoint does: names, sizes and modification times."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in {".json", ".safetensors", ".jinja", ".model"}:
            status = path.stat()
            digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    digest.update(str(folder.resolve()).encode())
    return digest.hexdigest()[:12]
