"""The tokenizer of a GGUF file, rebuilt from its metadata (docs/architecture.md 8.1 and 8.6).

Special tokens are a matter of who wrote the text. Text from a person, a tool or the model is encoded with ordinary
tokens only, however it is spelled; special tokens come from the parts of a prompt that the chat template wrote.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from qwen35_local.errors import FormatError, InputError
from qwen35_local.text.bpe import BytePairEncoder
from qwen35_local.text.spm import SentencePieceEncoder
from qwen35_local.text.vocabulary import TokenKind, Vocabulary

_PADDING = re.compile(r"\[PAD\d+\]")
_TAG = re.compile(r"<[^<>\s]+>")
_STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")


_NORMAL = int(TokenKind.NORMAL)  # plain integers compare several times faster, and there are 250,000


class _Encoder(Protocol):
    def encode(self, text: str) -> list[int]: ...


class Tokenizer:
    """Text to token ids and back, for one vocabulary. Immutable; safe to share between threads."""

    def __init__(self, metadata: Mapping[str, Any], *, normalize: bool = True) -> None:
        """`metadata`: the GGUF's key-value pairs, of which `tokenizer.ggml.*` are read. `normalize`: Unicode NFC before
        byte-level BPE, as the family's own tokenizer does. Raises FormatError."""
        listed = Vocabulary.read(metadata)
        self._tokens, self._kinds = listed.tokens, listed.kinds
        unusual = [n for n, kind in enumerate(self._kinds) if kind != _NORMAL]
        self._special = {self._tokens[n]: n for n in unusual if _is_special(self._tokens[n], self._kinds[n])}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._is_sentencepiece = listed.model == "llama"
        self._encoder = self._build_encoder(listed, normalize)
        self._ids: dict[str, int] | None = None
        used = (n for n in reversed(range(len(self._tokens))) if not self._is_padding(n))
        self.n_used = next(used, -1) + 1
        """Ids from here on are padding: they stand for nothing and must never be sampled."""
        self.bos_id = listed.bos_id if listed.add_bos else None
        """The token every prompt begins with, or None as for the Qwen family."""
        self.stop_ids = frozenset(
            [self._special[token] for token in _STOP_TOKENS if token in self._special]
            + [named for named in (listed.eos_id, listed.eot_id) if named is not None]
        )
        """Any of these ends a turn: `<|im_end|>`, `<|endoftext|>` and what the file names."""
        self.end_ids = sorted({n for n in unusual if self.is_control(n)} | self.stop_ids)
        """Any of these ends what a model writes: `stop_ids`, and structure that only a template writes."""

    def _build_encoder(self, listed: Vocabulary, normalize: bool) -> _Encoder:
        if listed.model == "gpt2":
            if listed.merges is None or listed.pre is None:
                key = "merges" if listed.merges is None else "pre"
                raise FormatError(f"tokenizer.ggml.{key} is missing; a byte-level BPE needs it.")
            ordinary = dict(zip(self._tokens, range(len(self._tokens)), strict=True))
            for n, kind in enumerate(self._kinds):
                if kind != _NORMAL:
                    ordinary.pop(self._tokens[n], None)
            return BytePairEncoder(ordinary, listed.merges, listed.pre, normalize=normalize)
        if listed.model == "llama":
            if listed.scores is None:
                raise FormatError("tokenizer.ggml.scores is missing; a SentencePiece vocabulary needs it.")
            special = set(self._special.values())
            kinds_in_text = [TokenKind.CONTROL if n in special else kind for n, kind in enumerate(self._kinds)]
            return SentencePieceEncoder(
                list(zip(self._tokens, listed.scores, kinds_in_text, strict=True)),
                add_space_prefix=listed.add_space_prefix,
                collapse_spaces=listed.remove_extra_whitespaces,
            )
        raise FormatError(
            f'tokenizer.ggml.model is {listed.model!r}; known are "gpt2" (byte-level BPE) and "llama" (SentencePiece).'
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids the file lists, padding included."""
        return len(self._tokens)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that only a template may write, spelling to id: `<|im_start|>`, `<think>`, `<tool_call>`..."""
        return self._special

    def specials_in(self, text: str) -> list[str]:
        """The special tokens that a text spells, in order."""
        return self._special_pattern.findall(text)

    def encode(self, text: str) -> list[int]:
        """Ids of text that somebody wrote: ordinary tokens only, no BOS. Raises InputError on lone surrogates."""
        return self._encoder.encode(text) if text else []

    def encode_prompt(self, segments: Iterable[tuple[str, bool]]) -> list[int]:
        """Ids of a rendered prompt, BOS first if the file asks for one.

        `segments`: (text, is_template) in order. Special tokens are recognised inside template parts only. Text between
        two special tokens is encoded as one, whoever wrote its parts, which gives the ids the model was trained on."""
        return self.encode_turns([segments])[0]

    def encode_turns(self, turns: Iterable[Iterable[tuple[str, bool]]]) -> list[list[int]]:
        """Like `encode_prompt`, in several lists, for a prompt cut where a special token begins."""
        encoded = [self._encode_segments(segments) for segments in turns]
        if self.bos_id is not None and encoded:
            encoded[0].insert(0, self.bos_id)
        return encoded

    def _encode_segments(self, segments: Iterable[tuple[str, bool]]) -> list[int]:
        ids: list[int] = []
        run: list[str] = []
        for text, is_template in segments:
            start = 0
            if is_template:
                for match in self._special_pattern.finditer(text):
                    run.append(text[start : match.start()])
                    ids += self.encode("".join(run))
                    ids.append(self._special[match.group()])
                    run.clear()
                    start = match.end()
            run.append(text[start:])
        return ids + self.encode("".join(run))

    def token_id(self, token: str) -> int:
        """Id of a token spelled as in the vocabulary, for instance "<|im_end|>". Raises InputError if there is none."""
        if token in self._special:
            return self._special[token]
        if self._ids is None:
            self._ids = {text: n for n, text in enumerate(self._tokens)}
        if token not in self._ids:
            raise InputError(f"the vocabulary has no token {token!r}; the template or the file is another family's.")
        return self._ids[token]

    def one_token(self, word: str) -> int:
        """Id of a token given by its id in digits, its spelling if only a template may write it, or else as text.
        Raises InputError where that is not one token of the vocabulary."""
        if word.isascii() and word.isdigit():
            if len(word) < 12 and int(word) < self.n_used:
                return int(word)
            raise InputError(f"token id {word[:20]} is not from 0 to {self.n_used - 1}, the ids of this model.")
        ids = [self._special[word]] if word in self._special else self.encode(word)
        if len(ids) != 1:
            raise InputError(f"{word!r} is {len(ids)} tokens of this model; give the text or the id of one.")
        return ids[0]

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes a token adds to the output; possibly part of a character. Raises InputError on an id out of range."""
        if not 0 <= token_id < len(self._tokens):
            raise InputError(f"token id {token_id} is outside the vocabulary of {len(self._tokens)} tokens.")
        token, kind = self._tokens[token_id], self._kinds[token_id]
        if kind not in (TokenKind.NORMAL, TokenKind.BYTE, TokenKind.USER_DEFINED) or token in self._special:
            return token.encode("utf-8", "replace")
        if self._is_sentencepiece:
            return SentencePieceEncoder.token_bytes(token, kind)
        return BytePairEncoder.token_bytes(token)

    def is_control(self, token_id: int) -> bool:
        """Whether a token is structure that no reader should see (`<|im_end|>`; but not `<think>` or `<tool_call>`)."""
        return 0 <= token_id < len(self._tokens) and self._kinds[token_id] in (TokenKind.CONTROL, TokenKind.UNUSED)

    def is_special(self, token_id: int) -> bool:
        """Whether only a template may write this token."""
        return 0 <= token_id < len(self._tokens) and self._special.get(self._tokens[token_id]) == token_id

    def decode(self, ids: Sequence[int], *, keep_control: bool = True) -> str:
        """Text of ids, special tokens spelled out; bytes that are not UTF-8 become U+FFFD. Raises InputError."""
        kept = (n for n in ids if keep_control or not self.is_control(n))
        return b"".join(map(self.token_bytes, kept)).decode("utf-8", "replace")

    def _is_padding(self, token_id: int) -> bool:
        kind = self._kinds[token_id]
        if kind in (TokenKind.NORMAL, TokenKind.BYTE):
            return False
        return kind == TokenKind.UNUSED or _PADDING.fullmatch(self._tokens[token_id]) is not None


def _is_special(token: str, kind: int) -> bool:
    if kind == TokenKind.USER_DEFINED:
        return _TAG.fullmatch(token) is not None
    return kind == TokenKind.CONTROL and token != ""
