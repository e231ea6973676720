"""SentencePiece vocabularies (`tokenizer.ggml.model` = "llama") through the `sentencepiece` library.

GGUF keeps the pieces, scores and types of a SentencePiece model but not the model file; the file's protocol-buffer
message is written again here, field by field (`sentencepiece_model.proto`, fields named below).
"""

import re
import struct
from collections.abc import Sequence

from qwen35_local.errors import FormatError, InputError

_SPACE = "\u2581"  # how SentencePiece writes a space
_UNKNOWN, _BYTE = 2, 6
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _data(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def model_proto(pieces: Sequence[tuple[str, float, int]], *, add_space_prefix: bool, collapse_spaces: bool) -> bytes:
    """A SentencePiece BPE model of (text, score, type) pieces in id order, whose normaliser changes only spaces."""
    has_bytes = any(kind == _BYTE for _, _, kind in pieces)
    unknown = next((n for n, (_, _, kind) in enumerate(pieces) if kind == _UNKNOWN), 0)
    message = bytearray()
    for text, score, kind in pieces:  # ModelProto.pieces: piece, score, type
        piece = _data(1, text.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", score) + _number(3, kind)
        message += _data(1, piece)
    trainer = _number(3, 2) + _number(35, has_bytes) + _number(40, unknown)  # model_type BPE, byte_fallback, unk_id
    spaces = _number(3, add_space_prefix) + _number(4, collapse_spaces) + _number(5, 1)  # ..., escape_whitespaces
    message += _data(2, trainer) + _data(3, _data(1, b"identity") + spaces)
    return bytes(message)


class SentencePieceEncoder:
    """Encodes plain text with the ordinary pieces of a SentencePiece BPE vocabulary."""

    def __init__(
        self, pieces: Sequence[tuple[str, float, int]], *, add_space_prefix: bool, collapse_spaces: bool
    ) -> None:
        """`pieces`: (text, score, type) in id order, types numbered as in GGUF and SentencePiece: 1 normal, 2 unknown,
        3 control (never matched in text), 4 user defined, 5 unused, 6 byte. Raises FormatError."""
        from sentencepiece import SentencePieceProcessor

        wrong = next((text for text, _, kind in pieces if kind == _BYTE and not _BYTE_PIECE.fullmatch(text)), None)
        if wrong is not None:
            raise FormatError(
                f"tokenizer.ggml.tokens has the byte piece {wrong[:40]!r}; expected it written as in <0x0A>."
            )
        proto = model_proto(pieces, add_space_prefix=add_space_prefix, collapse_spaces=collapse_spaces)
        self._processor = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(proto)
        except Exception as error:  # the library raises RuntimeError and friends
            raise FormatError(
                f"tokenizer.ggml.tokens, .scores and .token_type are not a SentencePiece model: {error}. It needs one "
                "unknown piece, no duplicates, and either no byte pieces or all 256."
            ) from error

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. Raises InputError when it holds lone surrogates, which no UTF-8 text can."""
        try:
            ids: list[int] = self._processor.EncodeAsIds(text.encode())
        except UnicodeEncodeError as error:
            raise InputError("the text holds lone surrogates (U+D800..U+DFFF); send valid Unicode text.") from error
        return ids

    @staticmethod
    def token_bytes(token: str, kind: int) -> bytes:
        """Bytes an ordinary piece stands for: `<0x0A>` of byte type is one byte, U+2581 is a space."""
        if kind == _BYTE:
            return bytes([int(token[3:5], 16)])
        return token.replace(_SPACE, " ").encode("utf-8", "replace")
