"""Importance matrices as llama.cpp's llama-imatrix writes them: per tensor, the mean square of what each of its columns
is multiplied with.

GGUF: `general.type` "imatrix", and per tensor NAME.in_sum2, sums of squares [experts or 1, columns], and NAME.counts,
tokens [experts or 1, 1], both F32. Before that a file without magic, little-endian, int32 where nothing is said: the
number of entries; each entry its name (length, bytes), the chunks it was computed on, the number of values, and fp32
means times those chunks; behind them, and not always, the chunks in all and the text's path (length, bytes). Layouts:
llama.cpp, tools/imatrix/imatrix.cpp and common/imatrix-loader.cpp.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.errors import FormatError, InputError, naming
from qwen35_local.fields import TEXTS, Fields, integer
from qwen35_local.partial_file import PartialFile
from qwen35_local.quantize import writer

SUMS, COUNTS = ".in_sum2", ".counts"
LEGACY_CHUNK_TOKENS = 512
"""The older format counts chunks and does not say how long they were; this is what llama-imatrix takes by itself."""

_MOST = (1 << 31) - 1
_MOST_VALUES = 1 << 26  # of a tensor: 4,096 columns of 16,384 experts
_LONGEST_NAME = 1 << 10
_LEAST_ENTRY = 4 + 1 + 4 + 4 + 4
_TYPE, _DATASETS, _CHUNKS, _CHUNK_TOKENS = (
    "general.type",
    "imatrix.datasets",
    "imatrix.chunk_count",
    "imatrix.chunk_size",
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Of one tensor. `means` fp32 [E or 1, columns]: mean squares of the inputs of each expert, 1 throughout for one
    that saw no token, as llama-quantize takes it. `counts` int64 [E or 1]: tokens behind each row."""

    means: NDArray[np.float32]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Importance:
    """`inputs` by the GGUF's name of the weight; `datasets`: paths or names of the texts, as far as they are known."""

    inputs: dict[str, Inputs]
    datasets: list[str]
    chunks: int
    chunk_tokens: int
    is_legacy: bool = False

    def of(self, name: str, experts: int, columns: int) -> Inputs | None:
        """For a tensor of `experts` (1: dense) matrices; one row serves all of them, and rows that the older format ran
        together are taken apart. None where the tensor was not measured. Raises FormatError where it had another
        shape."""
        found = self.inputs.get(name)
        if found is None:
            return None
        means, counts = found.means, found.counts
        if means.shape == (1, experts * columns):
            means, counts = means.reshape(experts, columns), counts.repeat(experts)
        elif means.shape == (1, columns):
            means, counts = means.repeat(experts, axis=0), counts.repeat(experts)
        if means.shape != (experts, columns):
            raise FormatError(
                f"importance of {name} is {found.means.shape[0]} x {found.means.shape[1]}, and the tensor has "
                f"{experts} x {columns} inputs; give the importance matrix of this model."
            )
        return Inputs(means, counts)


def read(path: Path) -> Importance:
    """Either format. Raises FormatError, naming the file, when it is no whole importance matrix; OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise FormatError(f"{path}: is no regular file; expected an importance matrix.")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            file.seek(0)
            with naming(path):
                return _Legacy(file, path.stat().st_size).read()
    return of_gguf(path, _core.GgufFile(path))


def of_gguf(path: Path, file: _core.GgufFile) -> Importance:
    """Raises FormatError, naming the file."""
    with naming(path):
        if file.kind != "importance matrix":
            raise FormatError(f"{_TYPE} is {file.metadata.get(_TYPE)!r}; expected imatrix, an importance matrix.")
        fields, whole = Fields(file.metadata), integer(0, _MOST)
        tensors = {tensor.name: tensor for tensor in file.tensors}
        names = sorted({name.removesuffix(end) for name in tensors for end in (SUMS, COUNTS) if name.endswith(end)})
        for name in names:
            for part in (f"{name}{SUMS}", f"{name}{COUNTS}"):
                if part not in tensors or tensors[part].dtype != "F32":
                    found = tensors[part].dtype if part in tensors else "missing"
                    raise FormatError(f"{part} is {found}; expected F32, and both of {SUMS} and {COUNTS} for a tensor.")
        if not names:
            raise FormatError(f"has no tensor whose name ends in {SUMS}; expected an importance matrix.")
        return Importance(
            {name: _inputs(name, file.decode(f"{name}{SUMS}"), file.decode(f"{name}{COUNTS}")) for name in names},
            [text for text in fields.find(_DATASETS, TEXTS, []) if text],
            fields.find(_CHUNKS, whole, 0),
            fields.find(_CHUNK_TOKENS, whole, 0),
        )


def write(path: Path, importance: Importance) -> None:
    """As a GGUF, whole or not at all. Raises InputError, OSError."""
    if not importance.inputs:
        raise InputError(f"{path}: an importance matrix of no tensors; measure one first")
    tensors: list[_Announced] = []
    arrays: list[NDArray[np.float32]] = []
    for name, inputs in sorted(importance.inputs.items()):
        counts = inputs.counts.astype(np.float32)[:, None]
        for end, values in ((SUMS, inputs.means * counts), (COUNTS, counts)):
            # ggml counts no trailing dimensions of 1, which come first here
            shape = values.shape if len(values) > 1 else values.shape[1:]
            tensors.append(_Announced(name + end, shape, "F32", values.nbytes))
            arrays.append(np.ascontiguousarray(values, "<f4"))
    metadata: dict[str, object] = {
        _TYPE: "imatrix",
        _DATASETS: importance.datasets or [""],  # llama-quantize insists on the key, and an empty list has no type
        _CHUNKS: importance.chunks,
        _CHUNK_TOKENS: importance.chunk_tokens,
    }
    with PartialFile(path) as file:
        stream = writer.begin(file, metadata, tensors)
        for tensor, values in zip(tensors, arrays, strict=True):
            stream.write(values.reshape(-1).view(np.uint8).data)
            stream.end_tensor(tensor.n_bytes)
        file.commit()


class _Announced(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: str
    n_bytes: int


def _inputs(name: str, sums: NDArray[np.float32], counts: NDArray[np.float32]) -> Inputs:
    """Raises FormatError."""
    if counts.size == 0 or sums.ndim > 2 or sums.size % counts.size or (len(np.atleast_2d(sums)) != counts.size):
        raise FormatError(f"{name}{SUMS} is {sums.shape} for {counts.size} counts; expected a row for each.")
    counts = counts.reshape(-1)
    if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.floor(counts)).all()):
        raise FormatError(f"{name}{COUNTS} holds what is no number of tokens; measure the importance matrix again.")
    rows = _checked(name, sums).reshape(counts.size, -1)
    means = np.divide(rows, counts[:, None], out=np.ones_like(rows), where=counts[:, None] > 0)
    return Inputs(means, counts.astype(np.int64))


def _checked(name: str, sums: NDArray[np.float32]) -> NDArray[np.float32]:
    if not (np.isfinite(sums).all() and (sums >= 0).all()):
        raise FormatError(f"importance of {name} holds what is no sum of squares; measure the importance matrix again.")
    return sums


class _Legacy:
    """The format before GGUF. It has no magic: what does not add up is none. Raises FormatError."""

    def __init__(self, file: BinaryIO, n_bytes: int) -> None:
        self._file = file
        self._left = n_bytes

    def read(self) -> Importance:
        n_entries = self._count("number of entries", 1, self._left // _LEAST_ENTRY)
        inputs: dict[str, Inputs] = {}
        for _ in range(n_entries):
            name = self._bytes("name", 1, _LONGEST_NAME).decode("ascii", "replace")
            if not (name.isascii() and name.isprintable()):
                raise FormatError("a name is not that of a tensor; expected an importance matrix.")
            if name in inputs:
                raise FormatError(f"importance of {name} occurs twice; measure the importance matrix again.")
            chunks = self._count(f"number of chunks of {name}", 1, _MOST)
            n_values = self._count(f"number of values of {name}", 1, min(self._left // 4, _MOST_VALUES))
            sums = _checked(name, np.frombuffer(self._take(4 * n_values), "<f4"))
            inputs[name] = Inputs(sums[None] / np.float32(chunks), np.array([chunks * LEGACY_CHUNK_TOKENS]))
        chunks = self._count("number of chunks", 0, _MOST) if self._left else 0
        dataset = self._bytes("name of the text", 0, self._left) if self._left else b""
        if self._left:
            raise FormatError(f"has {self._left} bytes behind its end; expected an importance matrix.")
        return Importance(
            inputs, [dataset.decode(errors="replace")] if dataset else [], chunks, LEGACY_CHUNK_TOKENS, is_legacy=True
        )

    def _take(self, n_bytes: int) -> bytes:
        data = self._file.read(n_bytes) if n_bytes <= self._left else b""
        if len(data) != n_bytes:
            raise FormatError("ends in the middle of an entry; expected a whole importance matrix.")
        self._left -= n_bytes
        return data

    def _count(self, what: str, low: int, high: int) -> int:
        value = int.from_bytes(self._take(4), "little", signed=True)
        if not low <= value <= high:
            raise FormatError(f"{what} is {value}; expected {low} to {high} in an importance matrix.")
        return value

    def _bytes(self, what: str, low: int, high: int) -> bytes:
        return self._take(self._count(f"length of a {what}", low, high))
