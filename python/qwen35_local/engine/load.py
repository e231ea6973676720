"""From a file to an engine: the vocabulary is read while the weights are packed."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qwen35_local import _core
from qwen35_local.engine import store
from qwen35_local.engine.drafting import Drafting
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.limits import ONE_AT_A_TIME, Limits
from qwen35_local.engine.live import Loaded
from qwen35_local.engine.spill import Spill
from qwen35_local.errors import FormatError, naming
from qwen35_local.models.draft_vocabulary import draft_tokens
from qwen35_local.models.drafts import Drafts, most_drafts
from qwen35_local.models.kv import KvFormat
from qwen35_local.text.tokenizer import Tokenizer


def load(
    file: _core.GgufFile,
    *,
    device: str = "auto",
    context_tokens: int = 0,
    threads: int = 0,
    pass_rows: int | None = None,
    kv: KvFormat = "f16",
    cache_bytes: int = 1 << 30,
    host_cache_bytes: int | None = None,
    disk_folder: Path | None = None,
    disk_bytes: int = 0,
    limits: Limits = ONE_AT_A_TIME,
    draft: Drafts = "auto",
) -> Engine:
    """Everything is read from `file` as it was opened, whatever its path has come to name since. `device`: "auto" or
    one of `_core.devices()`. `pass_rows`: as many tokens of a prompt share a pass. `draft`: how much is drafted. Raises
    FormatError, InputError, Unavailable and TemplateError."""

    def load_model(file: _core.GgufFile, content: Callable[[], bytes]) -> Loaded:
        model = _core.Model(
            file,
            device=device,
            context_tokens=context_tokens,
            threads=threads,
            drafts=most_drafts(draft),
            draft_tokens=_draft_tokens(file),
            pass_rows=pass_rows,
        )
        disk = None if disk_folder is None else Spill(disk_folder, model, kv, disk_bytes)
        return Loaded(model, disk, store.identity(content(), model), device_note(device))

    def load_again() -> Loaded:
        again = _core.GgufFile(path)
        if store.content(again) != content:
            raise FormatError(f"{path}: was changed since it was loaded; start again to use it")
        return load_model(again, lambda: content)

    path, metadata = Path(file.paths[0]), file.metadata
    with ThreadPoolExecutor(max_workers=1) as beside:
        tokenizer = beside.submit(Tokenizer, metadata)
        digest = beside.submit(store.content, file)
        loaded = load_model(file, digest.result)
    content = digest.result()
    with naming(path):
        return Engine(
            loaded.model,
            kv=kv,
            disk=loaded.disk,
            metadata=metadata,
            tokenizer=tokenizer.result(),
            cache_bytes=cache_bytes,
            host_cache_bytes=host_cache_bytes,
            limits=limits,
            identity=loaded.identity,
            device_note=loaded.device_note,
            reload=load_again,
            drafting=Drafting(draft) if most_drafts(draft) else None,
        )


def _draft_tokens(file: _core.GgufFile) -> int:
    metadata = file.metadata
    chosen = metadata.get(f"{metadata.get('general.architecture')}.expert_used_count")
    return draft_tokens(file.tensors, chosen if isinstance(chosen, int) else 1)


_BEST_KIND = "metal" if sys.platform == "darwin" else "cuda"


def device_note(device: str) -> str:
    """Why "auto" is no better device than it is; empty for the best, and for a device that was asked for."""
    return (_core.devices()[_BEST_KIND] or "") if device == "auto" else ""


def is_passed_over(device: str) -> bool:
    """Whether `device_note` is of a device that this machine has a driver for."""
    return bool(device_note(device)) and "driver" in dict(_core.kind_facts(_BEST_KIND))
