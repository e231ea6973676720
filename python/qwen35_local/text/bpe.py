"""Byte-level BPE through the `tokenizers` library (docs/architecture.md 8.6)."""

from collections.abc import Iterable, Sequence
from typing import cast

from qwen35_local.errors import FormatError, InputError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LINES_AND_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"

SPLIT_PATTERNS = {
    "qwen2": (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_LINES_AND_SPACES}"
    ),
    "qwen35": (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_LINES_AND_SPACES}"
    ),
}
"""Pre-tokenizer name (`tokenizer.ggml.pre`) to the regex that cuts text into words before merging."""


def _byte_alphabet() -> dict[str, int]:
    """The 256 printable characters byte-level vocabularies are written in, each with its byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()
_NEVER_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
_NEEDED = {character for character, byte in _BYTE_OF.items() if byte not in _NEVER_IN_UTF8}


def _longest(texts: Iterable[str]) -> int:
    """Bytes of UTF-8 of the longest text."""
    return max(map(len, map(str.encode, texts)), default=0)


class BytePairEncoder:
    """Encodes plain text with the ordinary tokens of a byte-level vocabulary; it knows no special tokens at all."""

    def __init__(self, vocabulary: dict[str, int], merges: Sequence[str], pre: str, *, normalize: bool) -> None:
        """`vocabulary`: ordinary token to id. `merges`: "left right", most important first. `pre`: a key of
        `SPLIT_PATTERNS`. `normalize`: apply Unicode NFC first. Raises FormatError."""
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

        if pre not in SPLIT_PATTERNS:
            known = ", ".join(sorted(SPLIT_PATTERNS))
            raise FormatError(f"tokenizer.ggml.pre is {pre!r}; this runtime knows {known}. Convert the model again.")
        missing = _NEEDED - vocabulary.keys()
        if missing:
            raise FormatError(
                f"tokenizer.ggml.tokens lacks {len(missing)} single-byte tokens (for instance {min(missing)!r}), so "
                "some text could not be written; the file is damaged or its tokenizer is not a byte-level BPE."
            )
        unfit = (
            "tokenizer.ggml.merges does not fit tokenizer.ggml.tokens: {}. Every merge must be two ordinary tokens "
            "that together are an ordinary token."
        )
        if _longest(merges) - 1 > _longest(vocabulary):  # would be a panic in the library, not an exception
            raise FormatError(unfit.format("a merge is longer than the longest token"))
        pairs = cast("list[tuple[str, str]]", [tuple(merge.split(" ", 1)) for merge in merges])
        try:
            model = models.BPE(vocabulary, pairs)
        except Exception as error:  # the library raises plain Exception
            raise FormatError(unfit.format(error)) from error
        self._tokenizer = Tokenizer(model)
        if normalize:
            self._tokenizer.normalizer = normalizers.NFC()
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLIT_PATTERNS[pre]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. Raises InputError when it holds lone surrogates, which no UTF-8 text can."""
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError as error:
            raise InputError("the text holds lone surrogates (U+D800..U+DFFF); send valid Unicode text.") from error

    @staticmethod
    def token_bytes(token: str) -> bytes:
        """Bytes an ordinary token stands for; a token outside the byte alphabet stands for its own UTF-8."""
        try:
            return bytes([_BYTE_OF[character] for character in token])
        except KeyError:
            return token.encode("utf-8", "replace")
