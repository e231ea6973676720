"""Files that lie: each is refused with a FormatError that says why, without a crash and without large allocations."""

import os
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_bytes import ARRAY, BOOL, F32, I32, STRING, U8, U32, U64, File, Tensor, string, value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen35_local import _core
from qwen35_local.errors import FormatError

HUGE = [2**64 - 1, 2**63, 2**63 - 1, 2**62, 2**61, 2**32, 2**31]


def valid() -> File:
    rng = np.random.default_rng(3)
    return File(
        values=[
            ("general.architecture", value(STRING, "qwen35")),
            ("general.alignment", value(U32, 32)),
            ("tokenizer.ggml.tokens", value(ARRAY, (STRING, ["a", "bb", "ü"]))),
            ("tokenizer.ggml.token_type", value(ARRAY, (I32, [1, 1, 3]))),
            ("qwen35.rope.freq_base", value(F32, 1e7)),
            ("tokenizer.ggml.add_bos_token", value(BOOL, 0)),
        ],
        tensors=[
            Tensor("a.weight", [256, 2], 12, rng.bytes(288)),
            Tensor("b.weight", [32, 3], 8, rng.bytes(102)),
            Tensor("c", [5], 0, rng.bytes(20)),
        ],
    )


@pytest.fixture
def refuses(tmp_path: Path) -> Callable[..., None]:
    def check(data: bytes, match: str | None = None) -> None:
        path = tmp_path / "file.gguf"
        path.write_bytes(data)
        with pytest.raises(FormatError, match=match) as error:
            _core.GgufFile(path)
        assert "file.gguf" in str(error.value) or match == "metadata key"
        assert len(str(error.value)) < 1000

    return check


def use(path: Path) -> bool:
    """Opens and reads everything a file offers; False when it is refused."""
    try:
        file = _core.GgufFile(path)
        assert len(file.metadata) >= 0
        for tensor in file.tensors:
            assert file.tensor(tensor.name).sum() >= 0
            file.decode(tensor.name)
    except FormatError:
        return False
    return True


def test_the_pattern_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    path.write_bytes(valid().build())
    assert use(path)


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    whole, path = valid().build(), tmp_path / "file.gguf"
    needed = len(whole) - 12  # the last tensor's padding may be missing
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert use(path) == (length >= needed), length


def test_every_byte_changed(tmp_path: Path) -> None:
    whole, path = valid().build(), tmp_path / "file.gguf"
    for at in range(len(valid().header())):
        for change in (0x01, 0x80, 0xFF):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
            use(path)


def test_random_damage(tmp_path: Path) -> None:
    rng, whole, path = random.Random(4), valid().build(), tmp_path / "file.gguf"
    words = [
        struct.pack("<Q", n) for n in (0, 1, 7, 31, 2**31, 2**32 - 1, 2**61, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1)
    ]
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(4, len(data) - 8)
            word = rng.choice(words)[: rng.choice([1, 4, 8])]
            data[at : at + len(word)] = word
        path.write_bytes(data)
        use(path)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200))
def test_any_bytes_behind_the_magic(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "file.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + tail)
    use(path)


def test_magic_and_version(refuses: Callable[..., None]) -> None:
    refuses(b"GGUF", "version")
    refuses(b"GG", "not a GGUF")
    refuses(b"PK\x03\x04" + bytes(40), "not a GGUF")
    refuses(File(version=1).build(), "version 1, .*get or convert it again")
    refuses(File(version=4).build(), "version 4")
    refuses(b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian")


@pytest.mark.parametrize("count", [*HUGE, 2])
def test_counts(refuses: Callable[..., None], count: int) -> None:
    refuses(File(value_count=count).build(), "metadata")
    refuses(File(tensor_count=count).build(), "tensors do not fit")


@pytest.mark.parametrize("length", [*HUGE, 100])
def test_string_lengths(refuses: Callable[..., None], length: int) -> None:
    n = struct.pack("<Q", length)
    head = File(value_count=1).header()
    refuses(head + n + b"k" * 20, "truncated")
    refuses(head + string("k") + struct.pack("<I", STRING) + n + b"v" * 20, "truncated")
    refuses(head + string("k") + struct.pack("<IIQ", ARRAY, STRING, 1) + n + b"v" * 20, "truncated")
    refuses(File(tensor_count=1).header() + n + b"t" * 40, "truncated")


@pytest.mark.parametrize("count", [*HUGE, 2**60 + 1, 41])
@pytest.mark.parametrize("kind", [U8, U32, U64, STRING, BOOL])
def test_array_lengths(refuses: Callable[..., None], count: int, kind: int) -> None:
    head = File(value_count=1).header() + string("k")
    refuses(head + struct.pack("<IIQ", ARRAY, kind, count) + bytes(40), "run past the end")


def test_value_types(refuses: Callable[..., None]) -> None:
    head = File(value_count=1).header() + string("k")
    for kind in (13, 255, 2**31, 2**32 - 1):
        refuses(head + struct.pack("<I", kind) + bytes(16), "unknown value type")
        refuses(head + struct.pack("<IIQ", ARRAY, kind, 0) + bytes(16), "unknown value type")
    refuses(head + struct.pack("<IIQ", ARRAY, ARRAY, 1) + struct.pack("<IQ", U8, 1) + bytes(16), "array of arrays")


def test_names(refuses: Callable[..., None]) -> None:
    for name in (b"", b"a\0b", b"\xff", b"tab\t", "bidi\u202e".encode(), b"\x7f", b"x" * 65536):
        refuses(File(values=[(name, value(U8, 1))]).build(), "metadata key")
        refuses(File(tensors=[Tensor(name, [1], 0, bytes(4))]).build(), "tensor name")
    refuses(File(values=[("k", value(U8, 1)), ("l", value(U8, 1)), ("k", value(U32, 1))]).build(), "'k' occurs twice")
    twice = [Tensor("t", [1], 0, bytes(4)), Tensor("t", [1], 0, bytes(4))]
    refuses(File(tensors=twice).build(), "'t' occurs twice")


def test_strings_are_utf8(refuses: Callable[..., None]) -> None:
    for bad in (
        b"\x80",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8",
        b"12345678\xe4\xbd",
        b"\xe0\x9f\xbf",
    ):
        refuses(File(values=[("k", value(STRING, bad))]).build(), "not valid UTF-8")
        refuses(File(values=[("k", value(ARRAY, (STRING, ["ok", bad])))]).build(), "string 1 is not valid UTF-8")


def test_alignments(refuses: Callable[..., None]) -> None:
    for alignment in (0, 1, 4, 13, 48, 2**17, 2**31, 2**32 - 1):
        refuses(File(values=[("general.alignment", value(U32, alignment))]).build(), "power of two")
    for encoded in (value(I32, 32), value(U64, 32), value(STRING, "32"), value(ARRAY, (U32, [32]))):
        refuses(File(values=[("general.alignment", encoded)]).build(), "general.alignment is not a u32")


DIMENSIONS = [
    ([], 0), ([1] * 5, 0), ([0], 0), ([4, 0], 0), ([2**64 - 1], 0), ([2**63], 0), ([2**63 - 1], 0),
    ([2**32, 2**32], 0), ([2**31, 2**33], 8), ([2**16] * 4, 1), ([4, 2**62], 0), ([32, 2**59 + 1], 8),
    ([1152, 2**42 + 1], 0), ([2**62], 0), ([256, 2**55], 12), ([31], 8), ([255], 12), ([257, 256], 12), ([9, 1], 0),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "kind"), DIMENSIONS)
def test_dimensions(refuses: Callable[..., None], dims: list[int], kind: int) -> None:
    refuses(File(tensors=[Tensor("bad.tensor", dims, kind, bytes(32))]).build(), "'bad.tensor'")


@pytest.mark.parametrize("kind", [39, 999, 2**32 - 1])
def test_dimensions_of_unknown_types(refuses: Callable[..., None], kind: int) -> None:
    for dims in ([0], [2**32, 2**32], [2**63], []):
        refuses(File(tensors=[Tensor("bad", dims, kind, bytes(32))]).build(), "'bad'")


def test_offsets(refuses: Callable[..., None]) -> None:
    for offset in (1, 31, 33):
        refuses(File(tensors=[Tensor("t", [1], 0, bytes(64), offset)]).build(), "multiple of 32")
    for offset in (64, 96, 2**63, 2**64 - 32, 2**64 - 64):
        refuses(File(tensors=[Tensor("t", [1], 0, bytes(64), offset)]).build(), "past the end")
    pair = [Tensor("first", [16], 0, bytes(64)), Tensor("second", [8], 0, bytes(32), 32)]
    refuses(File(tensors=pair).build(), "'first' needs 64 bytes, but the file reserves 32 before tensor 'second'")
    refuses(File(tensors=[Tensor("a", [8], 0, bytes(32)), Tensor("b", [8], 0, bytes(32), 0)]).build(), "reserves 0")
    refuses(File(tensors=[Tensor("a", [8], 99, bytes(32)), Tensor("b", [8], 0, bytes(32), 0)]).build(), "reserves 0")


def test_order_of_regions_is_free(tmp_path: Path) -> None:
    file = File(tensors=[Tensor("a", [8], 0, b"\0\0\x80?" * 8, 32), Tensor("b", [8], 0, bytes(32), 0)])
    path = tmp_path / "file.gguf"
    path.write_bytes(file.build())
    assert _core.GgufFile(path).decode("b").sum() == 8


def test_not_a_regular_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        _core.GgufFile(tmp_path / "missing.gguf")
    assert missing.value.filename == str(tmp_path / "missing.gguf")
    with pytest.raises(FormatError, match="not a regular file"):
        _core.GgufFile(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(FormatError, match="empty"):
        _core.GgufFile(tmp_path / "empty")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(FormatError, match="not a regular file"):
            _core.GgufFile(path)
    with pytest.raises(OSError, match="loop"):
        _core.GgufFile(tmp_path / "loop")
    sparse = tmp_path / "sparse.gguf"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FormatError, match="not a GGUF"):
        _core.GgufFile(sparse)
