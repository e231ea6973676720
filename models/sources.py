"""Where the published sizes can be had: `sources.json`, the official checkpoint and repositories of GGUFs, the best
first. What a repository holds is for its own list of files to say."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Source:
    """Repositories as OWNER/NAME."""

    checkpoint: str
    gguf: tuple[str, ...]


@cache
def sources() -> dict[str, Source]:
    """By published name, as in "Qwen3.5-9B"; every name of the registry has an entry."""
    text = resources.files("qwen35_local.models").joinpath("sources.json").read_text("utf-8")
    return {name: Source(entry["checkpoint"], tuple(entry["gguf"])) for name, entry in json.loads(text).items()}
