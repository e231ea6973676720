"""Taking models off this disk: our own ones, and nothing that another program keeps."""

import shutil
from contextlib import suppress
from pathlib import Path

from qwen35_local.errors import InputError
from qwen35_local.hub import contents, disk, hub_cache, lm_studio, ollama, pulled
from qwen35_local.hub.names import parse
from qwen35_local.hub.resolve import ambiguous, described, searched, whose
from qwen35_local.hub.stored import Stored


def to_remove(text: str) -> Stored:
    """The one model of ours that `text` names, as `list` shows it or by its path. Where several answer nothing is
    guessed, even when one of them has the usual type. Raises InputError."""
    models = disk.models()
    found = [model for model in models if model.is_called(text)] or [m for m in models if _is_at(m, Path(text))]
    if not found:
        name = parse(text)
        found = [model for model in models if model.answers_to(name)]
    if not found:
        raise InputError(
            f"{text}: only what this program made or downloaded can be removed, and this is none of it; looked in "
            f"{searched()}"
        )
    if len(found) > 1:
        raise ambiguous(text, [described(model) for model in found])
    if not found[0].is_ours:
        raise InputError(f"{text}: lies in {whose(found[0].store)} and is not ours to remove; {_instead(found[0])}")
    return found[0]


def remove(model: Stored) -> None:
    """Deletes the files of a model of ours. In the hub's cache the content goes with its last name. Raises OSError."""
    if model.store != hub_cache.STORE:
        for path in model.files:
            path.unlink(missing_ok=True)
        return
    files = {path.absolute() for path in model.files}
    if model.is_checkpoint:
        files |= {path for path in pulled.entries() if path.parent == model.path.absolute()}
    for path in files:
        blob = _blob(path)
        path.unlink(missing_ok=True)
        if blob is not None and not _has_name(blob):
            blob.unlink(missing_ok=True)
    pulled.forget(files)
    _prune(model.path if model.is_checkpoint else model.path.parent)


def _blob(path: Path) -> Path | None:
    """What a name in a snapshot links to, if that is a blob of the same repository."""
    target = path.resolve()
    held = target.parent.parent
    return target if target.parent.name == "blobs" and held / "snapshots" in path.parent.resolve().parents else None


def _has_name(blob: Path) -> bool:
    """Whether a snapshot of the repository still links to it."""
    snapshots = blob.parent.parent / "snapshots"
    return any(path.resolve() == blob for path in contents.files_below(snapshots, depth=8))


def _prune(folder: Path) -> None:
    """Removes a folder of a snapshot and those above it while they are empty, and the repository's with the last."""
    held = next(parent for parent in folder.parents if parent.name.startswith("models--"))
    with suppress(OSError):
        while folder != held:
            folder.rmdir()
            folder = folder.parent
        shutil.rmtree(held / "refs", ignore_errors=True)
        (held / "blobs").rmdir()
        held.rmdir()


def _instead(model: Stored) -> str:
    """What its owner offers for it."""
    if model.store == ollama.STORE:
        return f"`ollama rm {model.name}` does"
    if model.store == lm_studio.STORE:
        return "LM Studio removes it under My Models"
    return f"`hf cache rm model/{model.repository}` does, with all of that repository"


def _is_at(model: Stored, path: Path) -> bool:
    try:
        return model.path.samefile(path.expanduser())
    except (OSError, ValueError, RuntimeError):
        return False
