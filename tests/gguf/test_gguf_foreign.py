"""A file that is no GGUF is called what it is, with what to give instead."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gguf_bytes import File

from qwen35_local import _core
from qwen35_local.errors import FormatError


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", b"x")
    return out.getvalue()


def array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 5680522464\n" % (b"0" * 64)
KINDS = {
    "pointer": (POINTER, "Git LFS pointer.*`git lfs pull`"),
    "pointer of an editor": (b"\xef\xbb\xbf" + POINTER.replace(b"\n", b"\r\n"), "Git LFS pointer"),
    "page": (b"<!DOCTYPE html>\n<html>", "a web page.*download the file itself"),
    "page behind a mark": (b"\xef\xbb\xbf\r\n  <HTML lang='en'>", "a web page"),
    "store's refusal": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "script": (b"<script>location = '/login'</script>", "a web page"),
    "server's answer": (b'{"error": "Access to model is restricted"}', "JSON text.*logged in"),
    "text": (b"Entry not found", "it is text"),
    "safetensors": (safetensors(), r"safetensors\); give its folder"),
    "safetensors cut short": (struct.pack("<Q", 90_000) + b'{"w": {"dtype": "F32"', r"safetensors\); give its folder"),
    "zip": (archive(), "zip archive, as PyTorch"),
    "pickle 2": (pickle.dumps({"w": 1}, 2), "a Python pickle"),
    "pickle 4": (pickle.dumps({"w": 1}, 4), "a Python pickle"),
    "gzip": (gzip.compress(File().build()), "compressed file; unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), "compressed file"),
    "xz": (b"\xfd7zXZ\0" + bytes(20), "compressed file"),
    "bzip2": (b"BZh91AY&SY" + bytes(20), "compressed file"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(20), "compressed file"),
    "array": (array(), "a NumPy array"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 file"),
    "rar": (b"Rar!\x1a\x07\x01\0" + bytes(20), "compressed file"),
    "swapped magic": (b"FUGG" + bytes(20), "big-endian"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian machines; get the usual"),
    "version 1": (b"GGUF" + struct.pack("<III", 1, 0, 0), "version 1, of 2023"),
    "unfinished": (bytes(4096), "zeros, as a download that is not finished"),
    "empty": (b"", "the file is empty, as a download that never began"),
    "noise": (bytes(range(128, 256)) + b"\x01\x02", 'does not begin with "GGUF"; give a GGUF'),
}
OLD = ["ggml", "ggmf", "ggjt", "ggla"]  # numbers in their files, so that the bytes are the other way round


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_other_kinds(tmp_path: Path, kind: str) -> None:
    data, match = KINDS[kind]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    for header in (False, True):
        with pytest.raises(FormatError, match=rf"(?s)model\.gguf: .*{match}"):
            _core.GgufFile(path, header=header)
    with pytest.raises(FormatError, match=match):
        _core.Model(path)


@pytest.mark.parametrize("magic", OLD)
def test_formats_before_gguf(tmp_path: Path, magic: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(magic.encode()[::-1] + bytes(100))
    with pytest.raises(FormatError, match="a model in a format of 2023 that came before GGUF"):
        _core.GgufFile(path)


def test_any_short_beginning(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for data, _ in KINDS.values():
        for length in range(1, min(len(data), 24)):
            path.write_bytes(data[:length])
            with pytest.raises(FormatError, match=r"model\.gguf: "):
                _core.GgufFile(path)
