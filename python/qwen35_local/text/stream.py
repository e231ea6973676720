"""Text out of a stream of tokens, one character never cut in two."""

import codecs
from typing import NamedTuple

from qwen35_local.text.tokenizer import Tokenizer


class Utf8Stream:
    """Bytes in pieces to text in pieces; together the same as `b"".join(pieces).decode("utf-8", "replace")`."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def in_character(self) -> bool:
        """Whether bytes of an unfinished character are waiting."""
        return bool(self._decoder.getstate()[0])

    def push(self, data: bytes) -> str:
        """Text that is complete now; the bytes of an unfinished character wait for the next call."""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What the stream still held: "" or one U+FFFD. The stream is then as new."""
        text = self._decoder.decode(b"", True)
        self._decoder.reset()
        return text


class Piece(NamedTuple):
    """`is_special`: the text is the spelling of a special token, and the model wrote that token; other text may spell
    the same and is only text."""

    text: str
    is_special: bool


class TokenStream:
    """Token ids to text as they are sampled. Control tokens leave no text; `<think>` and `<tool_call>` do."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = Utf8Stream()

    @property
    def in_character(self) -> bool:
        """Whether the last token left a character unfinished."""
        return self._utf8.in_character

    def push(self, token_id: int) -> list[Piece]:
        """Text this token completes, often one word, sometimes none. Raises InputError on an id out of range."""
        if self._tokenizer.is_control(token_id):
            return []
        data = self._tokenizer.token_bytes(token_id)
        if self._tokenizer.is_special(token_id):
            pieces = [Piece(self._utf8.finish(), False), Piece(data.decode("utf-8", "replace"), True)]
        else:
            pieces = [Piece(self._utf8.push(data), False)]
        return [piece for piece in pieces if piece.text]

    def finish(self) -> str:
        """What is left when no more tokens come: "" or one U+FFFD."""
        return self._utf8.finish()
