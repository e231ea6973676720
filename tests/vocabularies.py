"""Small vocabularies of the tests' own, as GGUF metadata."""

import os
import struct
from pathlib import Path
from typing import Any

import pytest

# llama.cpp's 6 MB vocabulary of the family with its texts and ids, in a folder that need not be there.
TEST_DATA = Path(os.environ.get("QWEN35_TEST_DATA") or Path(__file__).parents[2] / "shared/data")
QWEN35_VOCABULARY = TEST_DATA / "tokenizer/ggml-vocab-qwen35.gguf"
needs_vocabulary = pytest.mark.skipif(
    not QWEN35_VOCABULARY.exists(), reason=f"needs tokenizer/{QWEN35_VOCABULARY.name} in the folder QWEN35_TEST_DATA"
)

SPECIAL = [
    ("<|endoftext|>", 3),
    ("<|im_start|>", 3),
    ("<|im_end|>", 3),
    ("<tool_call>", 4),
    ("</tool_call>", 4),
    ("<tool_response>", 4),
    ("</tool_response>", 4),
    ("<think>", 4),
    ("</think>", 4),
    ("<|image_pad|>", 3),
    ("[PAD0]", 4),
    ("[PAD1]", 5),
]
MERGES = [
    "h e",
    "l l",
    "he ll",
    "hell o",
    "u s",
    "us er",
    "e r",
    "Ġ w",
    ". Ċ",
    "Ċ Ċ",
    "Ì ģ",
    "Ã ©",
    "1 2",
    "< |",
    "| >",
]


def byte_alphabet() -> list[str]:
    """The character of every byte 0..255 in byte-level vocabularies (the table of GPT-2)."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


def tiny_bpe() -> dict[str, Any]:
    """All bytes, a few merges, the family's special tokens and two rows of padding."""
    merges = [merge for merge in MERGES if merge != "us er"]
    merges.insert(merges.index("e r") + 1, "us er")
    tokens = byte_alphabet() + [merge.replace(" ", "") for merge in merges]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": tokens + [token for token, _ in SPECIAL],
        "tokenizer.ggml.token_type": [1] * len(tokens) + [kind for _, kind in SPECIAL],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": len(tokens) + 2,
        "tokenizer.ggml.padding_token_id": len(tokens),
        "tokenizer.ggml.add_bos_token": False,
    }


def read_metadata(path: Path) -> dict[str, Any]:
    """Key-value pairs of a GGUF file."""
    data, position = path.read_bytes(), 8
    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def take(code: str) -> Any:
        nonlocal position
        (value,) = struct.unpack_from("<" + code, data, position)
        position += struct.calcsize("<" + code)
        return value

    def value(kind: int) -> Any:
        nonlocal position
        if kind == 8:
            length = take("Q")
            position += length
            return data[position - length : position].decode()
        if kind == 9:
            item_kind, length = take("I"), take("Q")
            return [value(item_kind) for _ in range(length)]
        return take(scalars[kind])

    _, n_pairs = take("Q"), take("Q")
    return {value(8): value(take("I")) for _ in range(n_pairs)}
