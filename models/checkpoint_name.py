"""What a checkpoint is called, from where it lies and what its configuration says."""

import re
from collections.abc import Iterator
from pathlib import Path

_CACHED = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>.+)")
# Folders named for what is in them, not for the model: those of trainers, of exports, of revisions in a cache.
_SAYS_NOTHING = re.compile(
    r"(check-?points?|ckpts?|models?|outputs?|results?|final|best|last|latest|main|merged|exported|hf|safetensors|weights"
    r"|snapshots?|[0-9a-f]{40})([-_.]?(step[-_]?)?\d+)?",
    re.IGNORECASE,
)
_LONGEST = 96


def repository_of(folder: Path) -> str | None:
    """`owner/name` of a folder that is, or lies in, `models--owner--name` of a hub's cache."""
    for part in reversed((*folder.resolve().parts, *folder.absolute().parts)):
        found = _CACHED.fullmatch(part)
        if found:
            return f"{found['owner']}/{found['name']}"
    return None


def checkpoint_name(folder: Path, config: dict[str, object]) -> str:
    """That of the repository or of the folder; for a folder that is just called `checkpoint` or the like, the one in
    config.json (`_name_or_path`), or else that of the folder above."""
    return next(name for name in _names(folder, config) if name)


def _names(folder: Path, config: dict[str, object]) -> Iterator[str]:
    yield (repository_of(folder) or "").rpartition("/")[2]
    above = folder.resolve()
    yield _telling(above.name)
    stated = config.get("_name_or_path")
    yield _telling(re.split(r"[/\\]", stated.rstrip("/\\"))[-1]) if isinstance(stated, str) else ""
    for parent in above.parents[:2]:
        yield _telling(parent.name)
    yield above.name
    yield "model"


def _telling(name: str) -> str:
    says_nothing = _SAYS_NOTHING.fullmatch(name) or len(name) > _LONGEST or not name.isprintable()
    return "" if says_nothing else name
