"""Tensors to encoded blocks, slice by slice on every core, with the error each one takes."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.errors import FormatError, InputError
from qwen35_local.models.tensors import Change, HeadTiling
from qwen35_local.quantize.plan import PlannedTensor
from qwen35_local.quantize.rows import FLOATS, RowReader, Run

# In flight over all threads; about 24 bytes each (read, fp32, permuted, encoded, decoded), so 400 MB at most.
_VALUES_IN_FLIGHT = 1 << 24
_SLICE_VALUES = 1 << 21


@dataclass(frozen=True, slots=True)
class Slice:
    """Encoded rows with the sums of squares of the values and of their errors."""

    data: NDArray[np.uint8]
    source_bytes: int
    power: float
    error: float


class Encoding(Protocol):
    """A way to encode planned tensors."""

    def encode(self, tensor: PlannedTensor) -> Iterator[Slice]:
        """The slices of a tensor in order. Raises FormatError when a value is not finite or does not fit."""
        ...


# Weights [cols] of the squared errors of the columns of one expert's matrix (0 without experts), or None.
ImportanceOf = Callable[[PlannedTensor, int], NDArray[np.float32] | None]


class Encoder:
    """Encodes planned tensors in order. Each worker reads, converts, encodes and measures its own slice."""

    def __init__(self, reader: RowReader, threads: int = 0, importance: ImportanceOf | None = None) -> None:
        """`threads` 0: as many as this process may use."""
        self._reader = reader
        self._importance = importance
        self._threads = threads or usable_cores()
        self._slice_values = min(_SLICE_VALUES, _VALUES_IN_FLIGHT // self._threads)
        self._pool = ThreadPoolExecutor(self._threads, "encode")
        self._scratch = threading.local()

    def close(self) -> None:
        """Finishes the slices in progress and drops the rest."""
        self._pool.shutdown(cancel_futures=True)

    def encode(self, tensor: PlannedTensor) -> Iterator[Slice]:
        """The slices of a tensor in order. Raises FormatError when a value is not finite or does not fit."""
        waiting: deque[Future[Slice]] = deque()
        for expert in range(tensor.experts):
            for runs in self.slices(tensor, expert):
                waiting.append(self._pool.submit(self._encode_slice, tensor, expert, runs))
                if len(waiting) > self._threads:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def slices(self, tensor: PlannedTensor, expert: int) -> Iterator[list[Run]]:
        """The rows of one expert's matrix, of the only one without experts, in parts that are read at a time."""
        rows = tensor.rows // tensor.experts
        limit = max(1, self._slice_values // tensor.cols)
        batch: list[Run] = []
        room = limit
        for run in _rows_within(tensor.runs, expert * rows, rows):
            first, left = run.first, run.count
            while left:
                n = min(left, room)
                batch.append(Run(run.entry, first, n))
                first, left, room = first + n, left - n, room - n
                if not room:
                    yield batch
                    batch, room = [], limit
        if batch:
            yield batch

    def source_bytes(self, tensor: PlannedTensor, runs: list[Run]) -> int:
        """Bytes that are read for these rows."""
        return sum(run.count * self._reader.row_bytes(run.entry.dtype, tensor.cols) for run in runs)

    def _encode_slice(self, tensor: PlannedTensor, expert: int, runs: list[Run]) -> Slice:
        cols = tensor.cols
        read = self.source_bytes(tensor, runs)
        if tensor.is_copied and tensor.dtype not in FLOATS:
            parts = [self._reader.read_bytes(run.entry, run.first, run.count, cols).copy() for run in runs]
            return Slice(np.concatenate(parts), read, 1.0, 0.0)
        values = self.values(tensor, runs)
        importance = self._importance(tensor, expert) if self._importance else None
        try:
            data = _core.encode(values, tensor.dtype, importance=importance, threads=1)
        except InputError as error:
            raise InputError(f"tensor {tensor.name}: {error}; choose BF16 or F32.") from error
        if tensor.dtype == "F32":
            return Slice(data.reshape(-1), read, 1.0, 0.0)
        return measured(tensor, values, data, read)

    def values(self, tensor: PlannedTensor, runs: list[Run]) -> NDArray[np.float32]:
        """The rows [rows, cols] as they are to be encoded, in memory that this thread's next call uses again. Raises
        FormatError."""
        rows, cols = sum(run.count for run in runs), tensor.cols
        values = self._buffer("values", rows, cols)
        at = 0
        for run in runs:
            part = values[at : at + run.count]
            self._reader.read_values(run.entry, run.first, part)
            _check_finite(part, run)
            at += run.count
        if tensor.tiling is not None:
            values = self._tile_columns(values, tensor.tiling)
        _change(values, tensor.change)
        if tensor.change is not Change.NONE:
            _check_finite(values, runs[0])
        return values

    def _tile_columns(self, values: NDArray[np.float32], tiling: HeadTiling) -> NDArray[np.float32]:
        rows, cols = values.shape
        tiled = self._buffer("tiled", rows, cols)
        heads = values.reshape(rows, tiling.key_heads, tiling.members, tiling.width)
        tiled.reshape(rows, tiling.members, tiling.key_heads, tiling.width)[...] = heads.swapaxes(1, 2)
        return tiled

    def _buffer(self, name: str, rows: int, cols: int) -> NDArray[np.float32]:
        """fp32 [rows, cols] of memory that this thread uses again for its next slice."""
        buffer: NDArray[np.float32] | None = getattr(self._scratch, name, None)
        if buffer is None or buffer.size < rows * cols:
            buffer = np.empty(rows * cols, np.float32)
            setattr(self._scratch, name, buffer)
        return buffer[: rows * cols].reshape(rows, cols)


def measured(tensor: PlannedTensor, values: NDArray[np.float32], data: NDArray[np.uint8], read: int) -> Slice:
    """Encoded rows with what encoding them cost."""
    difference = _core.decode(data.reshape(-1), tensor.dtype, values.size).reshape(values.shape)
    np.subtract(difference, values, out=difference)
    return Slice(data.reshape(-1), read, _square(values), _square(difference))


def _rows_within(runs: Sequence[Run], first: int, count: int) -> Iterator[Run]:
    """Rows [first, first + count) of what the runs hold one behind the other."""
    for run in runs:
        begin, end = max(first, 0), min(first + count, run.count)
        if begin < end:
            yield Run(run.entry, run.first + begin, end - begin)
        first -= run.count


def _check_finite(values: NDArray[np.float32], run: Run) -> None:
    with np.errstate(invalid="ignore"):  # inf - inf
        total = values.sum(dtype=np.float64)
    if not np.isfinite(total):
        raise FormatError(f"{run.entry.path}: tensor {run.entry.name} holds values that are not finite.")


def _change(values: NDArray[np.float32], change: Change) -> None:
    match change:
        case Change.PLUS_ONE:
            np.add(values, np.float32(1), out=values)
        case Change.NEGATIVE_EXPONENTIAL:
            with np.errstate(over="ignore"):  # infinities are refused
                np.exp(values, out=values)
            np.negative(values, out=values)


def _square(values: NDArray[np.float32]) -> float:
    return float(np.vdot(values, values))


def usable_cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
