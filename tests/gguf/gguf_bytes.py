"""Builds GGUF files byte by byte, valid or not."""

import struct
from dataclasses import dataclass, field

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALARS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def value(kind: int, content: object) -> bytes:
    """Type number and content; an array's content is (element type, list)."""
    if kind == ARRAY:
        inner, items = content
        body = b"".join(value(inner, item)[4:] for item in items)
        return struct.pack("<IIQ", ARRAY, inner, len(items)) + body
    return struct.pack("<I", kind) + (string(content) if kind == STRING else struct.pack("<" + SCALARS[kind], content))


@dataclass
class Tensor:
    name: str | bytes
    dims: list[int]
    kind: int
    data: bytes = b""
    offset: int | None = None  # None: behind the one before


@dataclass
class File:
    values: list[tuple[str | bytes, bytes]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    magic: bytes = b"GGUF"
    version: int = 3
    value_count: int | None = None
    tensor_count: int | None = None
    alignment: int = 32

    def header(self) -> bytes:
        out = bytearray(self.magic + struct.pack("<I", self.version))
        out += struct.pack("<Q", len(self.tensors) if self.tensor_count is None else self.tensor_count)
        out += struct.pack("<Q", len(self.values) if self.value_count is None else self.value_count)
        for key, encoded in self.values:
            out += string(key) + encoded
        offset = 0
        for t in self.tensors:
            out += string(t.name) + struct.pack("<I", len(t.dims)) + struct.pack(f"<{len(t.dims)}Q", *t.dims)
            out += struct.pack("<IQ", t.kind, offset if t.offset is None else t.offset)
            offset += len(self.padded(t.data))
        return bytes(out)

    def padded(self, data: bytes) -> bytes:
        return data + bytes(-len(data) % self.alignment)

    def build(self) -> bytes:
        return self.padded(self.header()) + b"".join(self.padded(t.data) for t in self.tensors)
