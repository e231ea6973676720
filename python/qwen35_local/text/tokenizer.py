"""The tokenizer of a GGUF file, rebuilt from its metadata (spec sections 8.1 and 8.6).

Special tokens are a matter of who wrote the text. Text from a person, a tool or the model is encoded with ordinary
tokens only, however it is spelled; special tokens come from the parts of a prompt that the chat template wrote.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol

from qwen35_local.errors import FileFormatError, InputError
from qwen35_local.text.bpe import BytePairEncoder
from qwen35_local.text.spm import SentencePieceEncoder

_PADDING = re.compile(r"\[PAD\d+\]")
_TAG = re.compile(r"<[^<>\s]+>")
_STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")
_STOP_KEYS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")


class TokenKind(IntEnum):
    """`tokenizer.ggml.token_type`, numbered as GGUF and SentencePiece do."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_NORMAL = int(TokenKind.NORMAL)  # plain integers compare several times faster, and there are 250,000


class _Encoder(Protocol):
    def encode(self, text: str) -> list[int]: ...


class Tokenizer:
    """Text to token ids and back, for one vocabulary. Immutable; safe to share between threads."""

    def __init__(self, metadata: Mapping[str, Any], *, normalize: bool = True) -> None:
        """`metadata`: the GGUF's key-value pairs, of which `tokenizer.ggml.*` are read. `normalize`: Unicode NFC before
        byte-level BPE, as the family's own tokenizer does. Raises FileFormatError."""
        self._tokens: list[str] = _strings(metadata, "tokenizer.ggml.tokens")
        self._kinds: list[int] = list(metadata.get("tokenizer.ggml.token_type") or ())
        if len(self._kinds) != len(self._tokens):
            raise FileFormatError(
                f"tokenizer.ggml.token_type has {len(self._kinds)} entries for {len(self._tokens)} tokens; without it "
                "special tokens cannot be told from text. Convert the model again."
            )
        unusual = [n for n, kind in enumerate(self._kinds) if kind != _NORMAL]
        self._special = {self._tokens[n]: n for n in unusual if _is_special(self._tokens[n], self._kinds[n])}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._is_sentencepiece = metadata.get("tokenizer.ggml.model") == "llama"
        self._encoder = self._build_encoder(metadata, normalize)
        self._ids: dict[str, int] | None = None
        used = (n for n in reversed(range(len(self._tokens))) if not self._is_padding(n))
        self.n_used = next(used, -1) + 1
        """Ids from here on are padding: they stand for nothing and must never be sampled."""
        self.bos_id = _token_number(metadata, "bos") if metadata.get("tokenizer.ggml.add_bos_token") else None
        """The token every prompt begins with, or None as for the Qwen family."""
        self.eos_id = _token_number(metadata, "eos")
        self.padding_id = _token_number(metadata, "padding")
        self.stop_ids = frozenset(
            [self._special[token] for token in _STOP_TOKENS if token in self._special]
            + [metadata[key] for key in _STOP_KEYS if isinstance(metadata.get(key), int)]
        )
        """Any of these ends a turn: `<|im_end|>`, `<|endoftext|>` and what the file names."""

    def _build_encoder(self, metadata: Mapping[str, Any], normalize: bool) -> _Encoder:
        model = metadata.get("tokenizer.ggml.model")
        if model == "gpt2":
            ordinary = dict(zip(self._tokens, range(len(self._tokens)), strict=True))
            for n, kind in enumerate(self._kinds):
                if kind != _NORMAL:
                    ordinary.pop(self._tokens[n], None)
            merges = _strings(metadata, "tokenizer.ggml.merges")
            return BytePairEncoder(ordinary, merges, str(metadata.get("tokenizer.ggml.pre")), normalize=normalize)
        if model == "llama":
            scores = metadata.get("tokenizer.ggml.scores") or ()
            if len(scores) != len(self._tokens):
                raise FileFormatError(
                    f"tokenizer.ggml.scores has {len(scores)} entries for {len(self._tokens)} tokens; a SentencePiece "
                    "vocabulary needs one each. Convert the model again."
                )
            special = set(self._special.values())
            kinds_in_text = [TokenKind.CONTROL if n in special else kind for n, kind in enumerate(self._kinds)]
            return SentencePieceEncoder(
                list(zip(self._tokens, scores, kinds_in_text, strict=True)),
                add_space_prefix=bool(metadata.get("tokenizer.ggml.add_space_prefix", True)),
                collapse_spaces=bool(metadata.get("tokenizer.ggml.remove_extra_whitespaces", False)),
            )
        raise FileFormatError(
            f'tokenizer.ggml.model is {model!r}; known are "gpt2" (byte-level BPE) and "llama" (SentencePiece).'
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids the file lists, padding included."""
        return len(self._tokens)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that only a template may write, spelling to id: `<|im_start|>`, `<think>`, `<tool_call>`..."""
        return self._special

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


def _strings(metadata: Mapping[str, Any], key: str) -> list[str]:
    value = metadata.get(key)
    if not isinstance(value, Sequence) or isinstance(value, str) or (value and not isinstance(value[0], str)):
        raise FileFormatError(f"{key} is missing or not a list of strings; the file has no usable tokenizer.")
    return list(value)


def _token_number(metadata: Mapping[str, Any], role: str) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{role}_token_id")
    return value if isinstance(value, int) else None
