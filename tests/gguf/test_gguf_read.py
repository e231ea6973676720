"""Reading well-formed files: values, directory, views and their lifetime, and agreement with the `gguf` package."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_bytes import ARRAY, BOOL, F32, F64, I8, I16, I32, I64, STRING, U8, U16, U32, U64, File, Tensor, value
from random_model import tiny_config
from vocabularies import QWEN35_VOCABULARY, needs_vocabulary

from qwen35_local import _core, hub
from qwen35_local.errors import FormatError, InputError
from qwen35_local.quantize.synthetic import of_config

VALUES = {
    "a.u8": (U8, 255), "a.i8": (I8, -128), "a.u16": (U16, 65535), "a.i16": (I16, -32768), "a.u32": (U32, 2**32 - 1),
    "a.i32": (I32, -(2**31)), "a.f32": (F32, 0.25), "a.bool": (BOOL, 1), "a.string": (STRING, "grüße 🦙"),
    "a.u64": (U64, 2**64 - 1), "a.i64": (I64, -(2**63)), "a.f64": (F64, 0.1), "a.empty": (STRING, ""),
    "b.u32": (ARRAY, (U32, [1, 2, 3])), "b.i8": (ARRAY, (I8, [-1, 0, 1])), "b.f32": (ARRAY, (F32, [0.5, -2.0])),
    "b.bool": (ARRAY, (BOOL, [1, 0])), "b.string": (ARRAY, (STRING, ["", "Ġhello", "\u4f60\u597d"])),
    "b.none": (ARRAY, (STRING, [])), "b.zero": (ARRAY, (U64, [])), "b.f64": (ARRAY, (F64, [1e300])),
}  # fmt: skip


def write(folder: Path, data: bytes) -> Path:
    path = folder / "file.gguf"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_every_value_type(tmp_path: Path, version: int) -> None:
    file = File(values=[(key, value(*v)) for key, v in VALUES.items()], version=version)
    read = _core.GgufFile(write(tmp_path, file.build()))
    assert read.version == version
    metadata = read.metadata
    assert list(metadata) == list(VALUES)
    for key, (kind, content) in VALUES.items():
        expected = content[1] if kind == ARRAY else content
        if kind == BOOL:
            expected = bool(expected)
        if kind == ARRAY and content[0] == BOOL:
            expected = [bool(x) for x in expected]
        assert metadata[key] == expected
        assert type(metadata[key]) is type(expected)
    assert metadata["b.bool"][0] is True


def test_metadata_is_the_callers_own(tmp_path: Path) -> None:
    read = _core.GgufFile(write(tmp_path, File(values=[("k", value(U32, 1))]).build()))
    read.metadata.clear()
    assert read.metadata == {"k": 1}


def test_directory_and_views(tmp_path: Path) -> None:
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    blocks = np.random.default_rng(1).integers(0, 256, (4, 144), dtype=np.uint8)
    file = File(
        tensors=[
            Tensor("w", [3, 2], 0, weights.tobytes()),
            Tensor("blocks", [256, 2, 2], 12, blocks.tobytes()),
            Tensor("scalar", [1], 0, b"\0\0\x80?"),
        ]
    )
    read = _core.GgufFile(str(write(tmp_path, file.build())))
    assert [(t.name, t.dtype, t.shape, t.n_bytes) for t in read.tensors] == [
        ("w", "F32", (2, 3), 24),
        ("blocks", "Q4_K", (2, 2, 256), 576),
        ("scalar", "F32", (1,), 4),
    ]
    assert all(t.offset % 32 == 0 for t in read.tensors)
    assert (read.decode("w") == weights).all()
    assert read.decode("blocks").shape == (2, 2, 256)
    assert (read.tensor("blocks") == blocks.ravel()).all()
    assert read.decode("scalar").tolist() == [1.0]
    for name in ("nothing", "", "w\0"):
        with pytest.raises(FormatError, match="no tensor named"):
            read.tensor(name)


def test_what_is_read_is_the_callers_own(tmp_path: Path) -> None:
    read = _core.GgufFile(write(tmp_path, File(tensors=[Tensor("w", [8], 0, bytes(range(32)))]).build()))
    read.tensor("w")[:] = 0
    assert read.tensor("w").tolist() == list(range(32))
    out = np.zeros(5, np.uint8)
    read.read_into("w", 27, out)
    assert out.tolist() == [27, 28, 29, 30, 31]
    for begin in (28, 33, 2**63):
        with pytest.raises(InputError, match="'w' has 32 bytes"):
            read.read_into("w", begin, out)


def test_unknown_types_are_listed_but_not_decoded(tmp_path: Path) -> None:
    file = File(
        tensors=[
            Tensor("nv", [64], 40, bytes(36)),
            Tensor("new", [7], 999, bytes(70)),
            Tensor("w", [1], 0, bytes(4)),
            Tensor("last", [5], 26, bytes(20)),
        ]
    )
    read = _core.GgufFile(write(tmp_path, file.build()))
    assert [t.dtype for t in read.tensors] == ["NVFP4", "type 999", "F32", "I32"]
    assert [t.n_bytes for t in read.tensors] == [36, 96, 4, 20]
    assert len(read.tensor("new")) == 96
    with pytest.raises(FormatError, match=r"'nv' is NVFP4 \(GGUF type 40\).*Q4_K"):
        read.decode("nv")
    with pytest.raises(FormatError, match="'new' is type 999"):
        read.decode("new")


@pytest.mark.parametrize("alignment", [8, 64, 65536])
def test_alignment(tmp_path: Path, alignment: int) -> None:
    file = File(
        values=[("general.alignment", value(U32, alignment))],
        tensors=[Tensor("a", [1], 0, b"\0\0\x80?"), Tensor("b", [1], 0, b"\0\0\0@")],
        alignment=alignment,
    )
    read = _core.GgufFile(write(tmp_path, file.build()))
    assert [read.decode(n).item() for n in "ab"] == [1.0, 2.0]


def test_files_of_the_gguf_package(tmp_path: Path) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "qwen35")
    writer.add_array("tokenizer.ggml.tokens", [f"t{i}" for i in range(1000)])
    writer.add_float32("qwen35.rope.freq_base", 1e7)
    weights = np.random.default_rng(2).standard_normal((4, 512), dtype=np.float32)
    writer.add_tensor("f32", weights)
    writer.add_tensor("q8", _core.encode(weights, "Q8_0"), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q4k", _core.encode(weights, "Q4_K"), raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read, theirs = _core.GgufFile(path), gguf.GGUFReader(path)
    assert read.metadata == {k: f.contents() for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    for ours, other in zip(read.tensors, theirs.tensors, strict=True):
        assert (ours.name, ours.dtype, ours.offset) == (other.name, other.tensor_type.name, other.data_offset)
        assert ours.shape == tuple(int(n) for n in other.shape[::-1])
        assert ours.n_bytes == other.n_bytes
        expected = gguf.quants.dequantize(np.asarray(other.data), other.tensor_type)
        assert (read.decode(ours.name) == expected.reshape(ours.shape)).all()


def test_embedded_model() -> None:
    """Its vocabulary, merges and template, as the `gguf` package reads them."""
    read, theirs = _core.GgufFile(hub.embedded_model()), gguf.GGUFReader(hub.embedded_model())
    assert read.metadata == {k: f.contents() for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    assert len(read.metadata["tokenizer.ggml.tokens"]) == 4096
    assert [(t.name, t.offset) for t in read.tensors] == [(t.name, t.data_offset) for t in theirs.tensors]


@needs_vocabulary
def test_real_vocabulary() -> None:
    metadata = _core.GgufFile(QWEN35_VOCABULARY).metadata
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    assert (len(tokens), len(merges)) == (151936, 151387)
    assert tokens[:3] == ["!", '"', "#"]
    assert tokens[151643] == "<|endoftext|>"
    assert merges[0] == "Ġ Ġ"
    assert set(metadata["tokenizer.ggml.token_type"]) <= set(range(1, 7))


def test_many_keys_and_tensors(tmp_path: Path) -> None:
    file = File(
        values=[(f"key.{i * 7919 % 20000}", value(U8, i % 256)) for i in range(20000)],
        tensors=[Tensor(f"tensor.{i * 7919 % 20000}", [1], 0, bytes(4)) for i in range(20000)],
    )
    read = _core.GgufFile(write(tmp_path, file.build()))
    assert len(read.metadata) == len(read.tensors) == 20000
    assert read.decode("tensor.19999").tolist() == [0.0]


def test_a_header_is_enough_to_list_tensors(tmp_path: Path) -> None:
    made = of_config("tiny", tiny_config(), "Q8_0")
    made.write(tmp_path / "whole.gguf")
    made.write_header(tmp_path / "header.gguf")
    whole = _core.GgufFile(tmp_path / "whole.gguf")
    with pytest.raises(FormatError):
        _core.GgufFile(tmp_path / "header.gguf")
    for name in ("whole.gguf", "header.gguf"):
        header = _core.GgufFile(tmp_path / name, header=True)
        assert header.metadata == whole.metadata
        for found, expected in zip(header.tensors, whole.tensors, strict=True):
            assert (found.name, found.dtype, found.shape) == (expected.name, expected.dtype, expected.shape)
            assert (found.n_bytes, found.offset) == (expected.n_bytes, 0)
        for read in (header.tensor, header.decode):
            with pytest.raises(InputError, match=r"header=True.*output_norm"):
                read("output_norm.weight")
