"""GGUF out: the header through the `gguf` package, tensor data streamed behind it. Nothing else imports `gguf`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import gguf
import numpy as np

from qwen35_local.errors import FormatError
from qwen35_local.partial_file import PartialFile

ALIGNMENT = 32
_Type = gguf.GGUFValueType
_WIDE = "general.parameter_count"
_SIGNED = "general.sampling."


class ListedTensor(Protocol):
    """A line of the tensor directory: shape slowest dimension first, type as GGUF spells it."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def n_bytes(self) -> int: ...


@dataclass(slots=True)
class GgufStream:
    """A GGUF whose header is written; tensors follow in the order they were announced."""

    file: PartialFile
    header_bytes: int
    _in_tensor: int = 0

    def write(self, data: memoryview) -> None:
        """The next bytes of the tensor in progress. Raises OSError."""
        self.file.write(data)
        self._in_tensor += len(data)

    def end_tensor(self, n_bytes: int) -> None:
        """Closes the tensor in progress, which must have `n_bytes`, and pads to the alignment."""
        if self._in_tensor != n_bytes:
            raise AssertionError(f"tensor of {n_bytes} bytes was given {self._in_tensor}")
        self.file.write(memoryview(bytes(-n_bytes % ALIGNMENT)))
        self._in_tensor = 0


def begin(file: PartialFile, metadata: dict[str, object], tensors: Sequence[ListedTensor]) -> GgufStream:
    """Writes magic, metadata and tensor directory. Raises OSError, FormatError."""
    writer = _writer(file.path, metadata, tensors)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    size = file.seek_end()
    file.write(memoryview(bytes(-size % ALIGNMENT)))
    return GgufStream(file, size + -size % ALIGNMENT)


def data_bytes(tensors: Sequence[ListedTensor]) -> int:
    """Bytes of all tensors with their padding."""
    return sum(tensor.n_bytes + -tensor.n_bytes % ALIGNMENT for tensor in tensors)


def metadata_bytes(metadata: dict[str, object]) -> int:
    """About how many bytes the metadata take."""
    total = 0
    for key, value in metadata.items():
        items = value if isinstance(value, list) else [value]
        total += len(key) + 24 + sum(8 + len(v.encode()) if isinstance(v, str) else 8 for v in items)
    return total


def _writer(path: Path, metadata: dict[str, object], tensors: Sequence[ListedTensor]) -> gguf.GGUFWriter:
    architecture = metadata.get("general.architecture")
    writer = _Unnamed(path, "") if architecture is None else gguf.GGUFWriter(path, str(architecture))
    for key, value in metadata.items():
        if key == "general.architecture" or (isinstance(value, list) and not value):
            continue
        kind, items = _value_type(key, value)
        plain = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
        writer.add_key_value(key, plain, kind, items)
    for tensor in tensors:
        number = gguf.GGMLQuantizationType[tensor.dtype]
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.n_bytes, number)
    return writer


class _Unnamed(gguf.GGUFWriter):  # type: ignore[misc]  # gguf has no types
    """Of a file that is no model and has no architecture."""

    def add_architecture(self) -> None:
        pass


def _value_type(key: str, value: object) -> tuple[gguf.GGUFValueType, gguf.GGUFValueType | None]:
    """GGUF's type of a value and, for an array, of its items. llama.cpp insists on u32 for counts and ids, on i32 for
    lists of integers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return _Type.ARRAY, _Type.INT32 if type(value[0]) is int else _value_type(key, value[0])[0]
    match value:
        case bool() | np.bool_():
            return _Type.BOOL, None
        case str():
            return _Type.STRING, None
        case float() | np.floating():
            return _Type.FLOAT32, None
        case int() | np.integer():
            if key == _WIDE or value >= 1 << 32:
                return _Type.UINT64, None
            return (_Type.INT32 if value < 0 or key.startswith(_SIGNED) else _Type.UINT32), None
    raise FormatError(f"metadata {key}: {type(value).__name__} has no GGUF type.")
