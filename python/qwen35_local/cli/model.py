"""From a name on the command line to a loaded model; a checkpoint folder is converted once, into the cache."""

from pathlib import Path
from typing import TYPE_CHECKING

from qwen35_local import hub
from qwen35_local.cli.terminal import notice, printable_line

if TYPE_CHECKING:
    from qwen35_local import _core
    from qwen35_local.engine.engine import Engine


def open_core(name: str | None, *, context_tokens: int = 0, threads: int = 0) -> "_core.Model":
    """Raises InputError, _core.FormatError, _core.InputError."""
    from qwen35_local import _core

    return _core.Model(model_path(name), context_tokens=context_tokens, threads=threads)


def open_engine(
    name: str | None,
    *,
    context_tokens: int = 0,
    threads: int = 0,
    cache_bytes: int = 1 << 30,
    disk_folder: Path | None = None,
    disk_bytes: int = 0,
) -> "Engine":
    """`disk_folder`: where snapshots go beyond `cache_bytes`, up to `disk_bytes`. Raises what open_core raises, and
    FileFormatError when the file has no usable tokenizer."""
    from qwen35_local.engine.engine import Engine
    from qwen35_local.engine.spill import Spill

    model = open_core(name, context_tokens=context_tokens, threads=threads)
    disk = None if disk_folder is None else Spill(disk_folder, model, "f16", disk_bytes)
    return Engine(model, cache_bytes=cache_bytes, disk=disk)


def model_path(name: str | None) -> Path:
    """The GGUF that `name` means, converting a checkpoint folder if that was not done yet."""
    found = hub.resolve(name)
    if isinstance(found, hub.ModelFile):
        return found.path
    if not found.cached.is_file():
        from qwen35_local.cli.quantize import conversion_bar
        from qwen35_local.quantize import convert

        notice(f"converting {printable_line(str(found.folder))} to {found.type}, once, into {found.cached.parent}")
        found.cached.parent.mkdir(parents=True, exist_ok=True)
        with conversion_bar() as progress:
            convert(found.folder, found.cached, found.type, progress=progress)
    return found.cached
