"""From a file to an engine: the vocabulary is read while the weights are packed."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qwen35_local import _core
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.spill import Spill
from qwen35_local.errors import naming
from qwen35_local.text.tokenizer import Tokenizer


def load(
    path: Path,
    metadata: Mapping[str, Any],
    *,
    context_tokens: int = 0,
    threads: int = 0,
    kv: str = "f16",
    cache_bytes: int = 1 << 30,
    disk_folder: Path | None = None,
    disk_bytes: int = 0,
) -> Engine:
    """`metadata` is that of the GGUF at `path`. Raises _core.FormatError, _core.InputError, FileFormatError and
    TemplateError."""
    with ThreadPoolExecutor(max_workers=1) as beside:
        tokenizer = beside.submit(Tokenizer, metadata)
        model = _core.Model(path, context_tokens=context_tokens, threads=threads)
        disk = None if disk_folder is None else Spill(disk_folder, model, kv, disk_bytes)
    with naming(path):
        return Engine(model, kv=kv, disk=disk, metadata=metadata, tokenizer=tokenizer.result(), cache_bytes=cache_bytes)
