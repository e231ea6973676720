"""The disk behind the cache: snapshots that left memory, in the form that conversations are saved in."""

from collections import Counter
from pathlib import Path
from typing import Any

from qwen35_local import _core
from qwen35_local.engine.cache import Entry
from qwen35_local.engine.store import SUFFIX, parts, read_snapshot, write_snapshot
from qwen35_local.errors import FormatError
from qwen35_local.models.kv import KvFormat


class Spill:
    """A folder of its own for one run of the program; whoever made it removes it."""

    def __init__(self, folder: Path, model: _core.Model, kv: KvFormat, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._folder = folder
        self._model = model
        self._kv = kv
        self._items: dict[Entry, dict[str, Any]] = {}
        self._users: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}

    @property
    def n_bytes(self) -> int:
        """What is on disk; a part that several snapshots share counts once."""
        return sum(self._sizes.values())

    def put(self, entry: Entry) -> bool:
        """Writes the entry's snapshot. False when the disk does not take it."""
        assert entry.snapshot is not None
        try:
            item = write_snapshot(self._folder, entry, entry.snapshot, {})
            for name in parts(item):
                self._sizes[name] = self._path(name).stat().st_size
        except OSError:
            return False
        self._items[entry] = item
        self._users.update(parts(item))
        return True

    def get(self, entry: Entry) -> _core.Snapshot | None:
        item = self._items.get(entry)
        try:
            return None if item is None else read_snapshot(self._folder, item, self._model, self._kv, {})[0]
        except (OSError, FormatError):
            return None

    def drop(self, entry: Entry) -> None:
        item = self._items.pop(entry, None)
        for name in parts(item) if item is not None else ():
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._sizes[name]
                self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{SUFFIX}"
