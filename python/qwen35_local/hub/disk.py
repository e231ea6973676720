"""Everything on this disk that has a name: our conversions, the hub's cache, Ollama's and LM Studio's folders."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from qwen35_local.hub import conversions, hub_cache, lm_studio, ollama
from qwen35_local.hub.stored import Stored


def models() -> list[Stored]:
    """In the order in which names are looked for. A name that another one has too is replaced by the path."""
    found = [*conversions.models(), *hub_cache.models(), *ollama.models(), *lm_studio.models()]
    times = Counter(name for model in found for name in model.names)
    return [replace(model, name=str(model.path)) if times[model.name.lower()] > 1 else model for model in found]


def places() -> list[tuple[str, list[Path]]]:
    """The stores and where each of them was looked for; no folder for a program that is not here."""
    return [
        (conversions.STORE, [conversions.folder()]),
        (hub_cache.STORE, [hub_cache.folder()]),
        (ollama.STORE, ollama.folders()),
        (lm_studio.STORE, lm_studio.folders()),
    ]
