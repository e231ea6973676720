"""One safetensors file: its header, believed only after every length, type and offset has been checked.

Layout (huggingface/safetensors, "Format"): an 8-byte little-endian header length N, N bytes of JSON, then the data;
offsets in the header count from the end of the JSON and must cover the data without holes or overlaps.
"""

from pathlib import Path

from qwen35_local import json_file
from qwen35_local.errors import FormatError
from qwen35_local.other_file import other_file
from qwen35_local.quantize.rows import Entry

HEADER_LIMIT_BYTES = 100_000_000
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


def read_shard(path: Path) -> dict[str, Entry]:
    """Every tensor of the file by its name. Raises FormatError."""
    if path.exists() and not path.is_file():
        raise FormatError(f"{path}: no regular file; expected safetensors.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            beginning = file.read(512)
            what = None if beginning[8:9] == b"{" else other_file(beginning)
            if what is not None:
                raise FormatError(f"{path}: no safetensors file: {what}.")
            file.seek(8)
            prefix = beginning[:8]
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length < 2:
                raise FormatError(f"{path}: not a safetensors file; {size} bytes, header of {length} bytes.")
            if length > min(HEADER_LIMIT_BYTES, size - 8):
                raise FormatError(
                    f"{path}: truncated or not a safetensors file; a header of {length} bytes in a file of {size}."
                )
            header = json_file.parse_object(file.read(length), f"{path} (header)")
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}).") from error
    header.pop("__metadata__", None)
    entries = [_entry(path, name, value, 8 + length) for name, value in header.items()]
    _check_cover(path, entries, 8 + length, size)
    return {entry.name: entry for entry in entries}


def _entry(path: Path, name: str, value: object, data_start: int) -> Entry:
    where = f"{path}: tensor {name[:120]!r}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where}: the header must give dtype, shape and data_offsets, and nothing else.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise FormatError(f"{where}: unknown dtype {str(dtype)[:40]!r}.")
    if not _naturals(shape) or len(shape) > 8:
        raise FormatError(f"{where}: shape {str(shape)[:80]} is not a list of at most 8 sizes.")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(f"{where}: data_offsets {str(offsets)[:80]} is not [begin, end].")
    entry = Entry(path, name, dtype, tuple(shape), data_start + offsets[0], offsets[1] - offsets[0])
    if entry.n_values * _BITS[dtype] != entry.n_bytes * 8:
        raise FormatError(
            f"{where}: {dtype} of shape {shape} does not fill the {entry.n_bytes} bytes that its data_offsets span."
        )
    return entry


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _check_cover(path: Path, entries: list[Entry], start: int, size: int) -> None:
    """Tensors lie one behind the other from `start` to the end of the file."""
    at = start
    for entry in sorted(entries, key=lambda e: (e.offset, e.n_bytes)):
        if entry.offset != at:
            kind = "overlaps the one before it" if entry.offset < at else "leaves a hole before it"
            raise FormatError(f"{path}: the data of tensor {entry.name!r} {kind}.")
        at += entry.n_bytes
    if at != size:
        state = "truncated" if size < at else "has bytes that belong to no tensor"
        raise FormatError(f"{path}: {state}; its tensors end at byte {at}, the file at {size}.")
