"""What the cache of `huggingface_hub` holds: `models--OWNER--NAME`, whose snapshots are links to blobs.

Where it is and how it is laid out: huggingface_hub, "Understand caching" and `constants.py`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from qwen35_local.hub import contents, pulled
from qwen35_local.hub.names import size_named
from qwen35_local.hub.places import user_folder
from qwen35_local.hub.stored import Stored
from qwen35_local.models.checkpoint_name import repository_of

STORE = "hub cache"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def folder() -> Path:
    """HF_HUB_CACHE, `hub` in HF_HOME, or `huggingface/hub` in the user's cache, as huggingface_hub finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return _expanded(os.environ[variable])
    if os.environ.get("HF_HOME"):
        return _expanded(os.environ["HF_HOME"]) / "hub"
    if os.environ.get("XDG_CACHE_HOME"):
        return _expanded(os.environ["XDG_CACHE_HOME"]) / "huggingface" / "hub"
    return (user_folder() or Path()) / ".cache" / "huggingface" / "hub"


def _expanded(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()


def models() -> Iterator[Stored]:
    """GGUFs and the checkpoint of each repository: of the revision that `refs/main` names, then what others have beyond
    it, for a download of one type moves `main` on and leaves the other types in the revision before."""
    ours = pulled.entries()
    for held in contents.entries(folder()):
        repository = repository_of(held)
        if repository is None or not held.name.startswith("models--"):
            continue
        seen: set[Path] = set()  # within their snapshots
        for snapshot in contents.snapshots(held):
            for model in contents.ggufs(contents.files_below(snapshot)):
                if model.path.relative_to(snapshot) not in seen:
                    seen.add(model.path.relative_to(snapshot))
                    yield _gguf(repository, snapshot, model, ours)
            if contents.is_checkpoint(snapshot) and Path("config.json") not in seen:
                seen.add(Path("config.json"))
                yield _checkpoint(repository, snapshot, ours)


def _gguf(repository: str, snapshot: Path, model: contents.Gguf, ours: set[Path]) -> Stored:
    file = f"{repository}/{model.path.relative_to(snapshot).as_posix()}"
    blob = model.path.resolve().name
    return Stored(
        STORE,
        f"{repository}:{model.type}" if model.type else file,
        model.path,
        model.files,
        type=model.type,
        size=size_named(repository.partition("/")[2]),
        repository=repository,
        also=(file, model.path.name),
        is_ours=all(path.absolute() in ours for path in model.files),
        digest=blob if len(model.files) == 1 and _SHA256.fullmatch(blob) else None,
        problem=model.problem,
    )


def _checkpoint(repository: str, snapshot: Path, ours: set[Path]) -> Stored:
    weights = [path for path in contents.entries(snapshot) if path.name.endswith(".safetensors")]
    missing = contents.missing_shards(snapshot)
    return Stored(
        STORE,
        repository,
        snapshot,
        tuple(weights),
        size=size_named(repository.partition("/")[2]),
        repository=repository,
        is_checkpoint=True,
        is_ours=all(path.absolute() in ours for path in weights),
        problem=f"weight files that it lists are missing ({len(missing)}), first {missing[0]}" if missing else None,
    )
