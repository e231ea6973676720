"""Solved tensors, kept beside the output until it is whole, so that an interrupted conversion goes on where it was.

`.<name>.qwen35-conversion/` holds a file for each tensor that was solved, and what the steps between layers need.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qwen35_local import json_file
from qwen35_local.errors import FormatError
from qwen35_local.partial_file import remove_stale, write_whole

_STATE = "state.json"


class KeptTensors:
    """The folder of one conversion to `target`. What another conversion left in it is removed."""

    def __init__(self, target: Path, what: Mapping[str, object]) -> None:
        """`what` tells the conversion from any that would give other bytes. Raises OSError."""
        self.folder = target.with_name(f".{target.name}.qwen35-conversion")
        self._key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        self.folder.mkdir(exist_ok=True)
        remove_stale(self.folder)
        if self._stored(_STATE).get("key") == self._key:
            return
        for path in self.folder.iterdir():
            path.unlink()
        self._store(_STATE, {"key": self._key})

    def find(self, name: str) -> tuple[NDArray[np.uint8], dict[str, object]] | None:
        """The blocks of a tensor that was kept, and what was noted with them."""
        notes = self._stored(f"{name}.json")
        return (np.fromfile(self.folder / f"{name}.blocks", np.uint8), notes) if notes else None

    def keep(self, name: str, blocks: NDArray[np.uint8], notes: Mapping[str, object]) -> None:
        """Raises OSError."""
        write_whole(self.folder / f"{name}.blocks", [blocks.data])
        self._store(f"{name}.json", notes)

    def remove(self) -> None:
        """The conversion is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stored(self, name: str) -> dict[str, object]:
        try:
            return dict(json_file.read_object(self.folder / name))
        except (OSError, FormatError):
            return {}

    def _store(self, name: str, value: Mapping[str, object]) -> None:
        write_whole(self.folder / name, [json.dumps(value).encode()])
