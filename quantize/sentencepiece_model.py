"""The pieces of a SentencePiece `tokenizer.model`, read from its protocol-buffer message without running it.

Fields as in `sentencepiece_model.proto`: ModelProto.pieces = 1 (piece = 1, score = 2, type = 3), normalizer_spec = 3
(add_dummy_prefix = 3, remove_extra_whitespaces = 4), trainer_spec = 2 (model_type = 3, where BPE is 2).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen35_local.errors import FormatError

_LIMIT_BYTES = 64 << 20
_BPE = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """A token: its text, its rank as a score, and its type from 1 (normal) to 6 (byte)."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """A vocabulary in id order and how it treats spaces."""

    pieces: list[Piece]
    adds_space_prefix: bool
    collapses_spaces: bool


def read(path: Path) -> SentencePieceModel:
    """Raises FormatError when the file is not a SentencePiece BPE model."""
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise FormatError(f"{path}: larger than {_LIMIT_BYTES >> 20} MiB, which no tokenizer needs to be.")
        fields = list(_fields(path.read_bytes()))
        pieces = [_piece(value) for number, value in fields if number == 1 and isinstance(value, bytes)]
        trainer = _last(fields, 2)
        normalizer = _last(fields, 3)
    except FormatError:
        raise
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, IndexError, struct.error) as error:
        raise FormatError(f"{path}: not a SentencePiece model ({error}).") from error
    if not pieces or trainer.get(3, 1) != _BPE:
        raise FormatError(f"{path}: not a SentencePiece BPE model; unigram vocabularies are not supported.")
    return SentencePieceModel(pieces, bool(normalizer.get(3, 1)), bool(normalizer.get(4, 1)))


def _piece(message: bytes) -> Piece:
    values = dict(_fields(message))
    text, score, kind = values.get(1, b""), values.get(2, b"\0\0\0\0"), values.get(3, 1)
    if not isinstance(text, bytes) or not isinstance(score, bytes) or not isinstance(kind, int) or not 1 <= kind <= 6:
        raise ValueError("a piece has fields of the wrong kind")
    return Piece(text.decode("utf-8"), struct.unpack("<f", score)[0], kind)


def _last(fields: list[tuple[int, bytes | int]], number: int) -> dict[int, bytes | int]:
    found = [value for n, value in fields if n == number and isinstance(value, bytes)]
    return dict(_fields(found[-1])) if found else {}


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(field number, value) of a message: an int for varints, bytes for everything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                value, at = _varint(message, at)
                yield key >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(message, at)
            case 5:
                size = 4
            case wire:
                raise ValueError(f"wire type {wire}")
        if size > len(message) - at:
            raise ValueError("a field runs past the end")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
