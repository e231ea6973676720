"""A model on this machine, as the options of `chat` and `serve` say it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen35_local.engine.engine import Engine
    from qwen35_local.models.drafts import Drafts
    from qwen35_local.models.kv import KvChoice


@dataclass(frozen=True)
class Local:
    """`cache` and `cache_disk` in GiB."""

    model: str | None
    ctx: int
    memory: str | None
    kv: "KvChoice"
    cache: float | None
    cache_disk: float
    draft: "Drafts"
    threads: int
    device: str

    def open(self, home: Path | None, **more: Any) -> "Engine":
        """`home`: where points to go back to are kept on disk; None: nowhere. `more`: of a `Wish`. Raises InputError,
        and what `cli.model.open_engine` raises."""
        from qwen35_local.api.opening import Wish
        from qwen35_local.cli.keep import scratch_folder
        from qwen35_local.cli.model import open_engine
        from qwen35_local.units import parse_bytes

        wish = Wish(
            device=self.device,
            context_tokens=self.ctx,
            threads=self.threads,
            kv=self.kv,
            memory_bytes=None if self.memory is None else parse_bytes("--memory", self.memory),
            cache_bytes=None if self.cache is None else int(self.cache * 2**30),
            disk_folder=None if home is None or not self.cache_disk else scratch_folder(home),
            disk_bytes=int(self.cache_disk * 2**30),
            draft=self.draft,
            **more,
        )
        return open_engine(self.model, wish)
