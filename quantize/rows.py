"""Encoded tensors inside files, read as fp32 rows through reused memory."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.errors import FormatError
from qwen35_local.quantize import fp8

FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a file: `n_bytes` of `dtype` (as GGUF spells it) at byte `offset`; shape slowest dimension first.

    `scales`: of an FP8 tensor, one per block. `source`: the open file of a GGUF's tensor, which is read instead of the
    path."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    scales: "Entry | None" = None
    source: _core.GgufFile | None = None

    @property
    def n_values(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive rows of an entry; the row length belongs to the tensor that is being put together."""

    entry: Entry
    first: int
    count: int


class RowReader:
    """Reads rows with plain file reads, so that resident memory is the buffers here and nothing else.

    One file is open at a time. Safe to call from several threads; reads are one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scratch = threading.local()
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._blocks = {**_core.block_types(), fp8.DTYPE: (1, 1)}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._path = self._file = None

    def row_bytes(self, dtype: str, cols: int) -> int:
        """Bytes of a row of `cols` values."""
        block, n_bytes = self._blocks[dtype]
        return cols // block * n_bytes

    def read_values(self, entry: Entry, first: int, out: NDArray[np.float32]) -> None:
        """Fills `out` [rows, cols] with the rows of `entry` from row `first` on. Raises FormatError."""
        raw = self.read_bytes(entry, first, out.shape[0], out.shape[1])
        match entry.dtype:
            case "F32":
                out[...] = raw.view(np.float32).reshape(out.shape)
            case "F16":
                out[...] = raw.view(np.float16).reshape(out.shape)
            case "BF16":
                half = raw.view(np.uint16).reshape(out.shape)
                np.left_shift(half, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32, casting="unsafe")
            case fp8.DTYPE:
                np.take(fp8.VALUES, raw.reshape(out.shape), out=out, mode="clip")
                self._scale(entry, first, out)
            case _:
                out[...] = _core.decode(raw, entry.dtype, out.size).reshape(out.shape)

    def _scale(self, entry: Entry, first: int, out: NDArray[np.float32]) -> None:
        """Multiplies rows of an FP8 tensor by the scales of their blocks."""
        assert entry.scales is not None
        index = fp8.scale_rows(first, out.shape[0], entry.shape[-2])
        scales = np.empty((index[-1] - index[0] + 1, entry.scales.shape[-1]), np.float32)
        self.read_values(entry.scales, int(index[0]), scales)
        with np.errstate(invalid="ignore", over="ignore"):  # whoever asked for the values checks that they are finite
            for block in range(scales.shape[1]):
                out[:, block * fp8.BLOCK : (block + 1) * fp8.BLOCK] *= scales[index - index[0], block, None]

    def read_bytes(self, entry: Entry, first: int, rows: int, cols: int) -> NDArray[np.uint8]:
        """The encoded rows as they are in the file; valid until this thread reads again. Raises FormatError."""
        row_bytes = self.row_bytes(entry.dtype, cols)
        size = rows * row_bytes
        buffer: NDArray[np.uint8] | None = getattr(self._scratch, "buffer", None)
        if buffer is None or buffer.size < size:
            buffer = self._scratch.buffer = np.empty(size, np.uint8)
        if entry.source is not None:
            entry.source.read_into(entry.name, first * row_bytes, buffer[:size])
            return buffer[:size]
        view = buffer.data[:size]
        with self._lock:
            file = self._open(entry.path)
            file.seek(entry.offset + first * row_bytes)
            done = 0
            while done < size:
                n = file.readinto(view[done:])  # type: ignore[attr-defined]
                if not n:
                    raise FormatError(f"{entry.path}: ends inside tensor {entry.name}; it changed meanwhile.")
                done += n
        return buffer[:size]

    def _open(self, path: Path) -> BinaryIO:
        if self._file is None or self._path != path:
            self.close()
            self._file = path.open("rb", buffering=0)
            self._path = path
        return self._file
