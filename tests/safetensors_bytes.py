"""Safetensors files as their bytes: what tests need to save a checkpoint again as another tool would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Tensor(NamedTuple):
    """A tensor as it lies in the file."""

    dtype: str
    shape: list[int]
    data: bytes

    def values(self) -> NDArray[np.float32]:
        """fp32, of BF16, F16 or F32."""
        if self.dtype == "BF16":
            found = (np.frombuffer(self.data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            found = np.frombuffer(self.data, {"F16": "<f2", "F32": "<f4"}[self.dtype]).astype(np.float32)
        return found.reshape(self.shape)


Tensors = dict[str, Tensor]


def tensor(values: NDArray[Any], dtype: str) -> Tensor:
    """Values rounded to nearest even."""
    array = np.ascontiguousarray(values, np.float32)
    if dtype == "BF16":
        bits = array.view(np.uint32)
        data = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    else:
        data = array.astype({"F16": "<f2", "F32": "<f4"}[dtype]).tobytes()
    return Tensor(dtype, list(array.shape), data)


def read(path: Path) -> Tensors:
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    return {
        name: Tensor(t["dtype"], t["shape"], raw[start + t["data_offsets"][0] : start + t["data_offsets"][1]])
        for name, t in header.items()
    }


def write(path: Path, tensors: Tensors) -> None:
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [at, at + len(t.data)]}
        at += len(t.data)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(t.data for t in tensors.values()))


def change(folder: Path, edit: Callable[[Tensors], Tensors | None], name: str = "model.safetensors") -> None:
    """Writes a file of a folder again, after `edit` in place or into what it returns."""
    tensors = read(folder / name)
    write(folder / name, edit(tensors) or tensors)


def change_json(folder: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((folder / name).read_text())
    edit(value)
    (folder / name).write_text(json.dumps(value))
