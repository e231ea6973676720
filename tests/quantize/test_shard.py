"""Safetensors headers that lie, and the few odd ones that do not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen35_local.errors import FormatError
from qwen35_local.quantize.rows import RowReader
from qwen35_local.quantize.shard import read_shard


def raw(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


def shard(path: Path, entries: dict[str, Any], n_bytes: int) -> Path:
    return raw(path, json.dumps(entries).encode(), bytes(n_bytes))


def entry(shape: list[Any], offsets: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("n", range(1, 9))
def test_files_too_short_for_a_header(n: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(bytes(n))
    with pytest.raises(FormatError, match="not a safetensors file"):
        read_shard(path)


@pytest.mark.parametrize("length", [0, 1, 3, 100_000_001, 2**63, 2**64 - 1])
def test_header_length(length: int, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        read_shard(raw(tmp_path / "x", b"{}", length=length))


ONE = entry([2], [0, 8])
BAD_ENTRIES = {
    "end before begin": entry([2], [8, 0]),
    "negative": entry([2], [-8, 0]),
    "float offset": entry([2], [0.0, 8]),
    "text offset": entry([2], ["0", 8]),
    "bool offset": entry([2], [False, 8]),
    "one offset": entry([2], [8]),
    "three offsets": entry([2], [0, 4, 8]),
    "past the end": entry([4], [0, 16]),
    "size and shape differ": entry([1000, 1000], [0, 8]),
    "product wraps": entry([4194305, 4194305, 211106198978564], [0, 8]),
    "huge": entry([2, 2**64 - 2], [0, 8]),
    "many dimensions": entry([1] * 1000 + [2], [0, 8]),
    "negative size": entry([-2], [0, 8]),
    "unknown dtype": entry([2], [0, 8], "F31"),
    "dtype no text": entry([2], [0, 8], 4),
    "extra field": {**ONE, "stride": 1},
    "no shape": {"dtype": "F32", "data_offsets": [0, 8]},
    "not an object": [1],
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_bad_entries(case: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"x\.safetensors"):
        read_shard(shard(tmp_path / "x.safetensors", {"t": BAD_ENTRIES[case]}, 8))


@pytest.mark.parametrize(
    ("entries", "n_bytes", "message"),
    [
        ({"a": ONE, "b": ONE}, 8, "overlaps"),
        ({"a": ONE, "b": entry([2], [4, 12])}, 12, "overlaps"),
        ({"a": ONE, "b": entry([1], [12, 16])}, 16, "hole"),
        ({"a": entry([1], [4, 8])}, 8, "hole"),
        ({"a": ONE}, 9, "belong to no tensor"),
        ({"a": ONE}, 7, "truncated"),
        ({}, 3, "belong to no tensor"),
    ],
)
def test_data_must_be_covered(entries: dict[str, Any], n_bytes: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        read_shard(shard(tmp_path / "x", entries, n_bytes))


@pytest.mark.parametrize(
    "header",
    [
        b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"t":{"dtype":"U8","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,NaN]}}',
        b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,1e400]}}',
        b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,' + b"9" * 5000 + b"]}}",
        b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"\xff":{}}',
        b'{"t":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[]",
        b'"x"',
        b'{"t":',
    ],
    ids=range(11),
)
def test_json_that_readers_disagree_on(header: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        read_shard(raw(tmp_path / "x", header, bytes(8)))


def test_scalars_and_empty_tensors_are_fine(tmp_path: Path) -> None:
    entries = {"a": entry([], [0, 4]), "none": entry([0, 5], [4, 4]), "b": entry([1], [4, 8])}
    assert set(read_shard(shard(tmp_path / "x", entries, 8))) == {"a", "none", "b"}


@pytest.mark.parametrize(("dtype", "kind"), [("F32", "<f4"), ("F16", "<f2"), ("BF16", "<u2")])
def test_row_ranges(dtype: str, kind: str, tmp_path: Path) -> None:
    """Every bit pattern of 16 bits, infinities and NaNs too, reads as the value it stands for."""
    stored = np.arange(1 << 16, dtype="<u2") if dtype != "F32" else np.random.default_rng(0).random(1 << 16, np.float32)
    encoded = stored.view("<f2") if dtype == "F16" else stored
    path = raw(
        tmp_path / "x",
        json.dumps({"t": entry([256, 256], [0, encoded.nbytes], dtype)}).encode(),
        encoded.astype(kind).tobytes(),
    )
    out = np.empty((7, 256), np.float32)
    reader = RowReader()
    reader.read_values(read_shard(path)["t"], 120, out)
    rows = encoded.reshape(256, 256)[120:127]
    if dtype == "BF16":
        rows = (rows.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(out, rows.astype(np.float32))
    reader.read_values(read_shard(path)["t"], 249, out)
    with pytest.raises(FormatError, match="changed meanwhile"):
        reader.read_values(read_shard(path)["t"], 250, out)
    reader.close()
