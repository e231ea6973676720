"""What GGUF metadata say of a tokenizer (`tokenizer.ggml.*`), each value checked; nothing is built from it here."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from qwen35_local.fields import FLAG, TEXT, TEXTS, Fields, integer, list_of, number

_MOST_SCORE = 3e38  # SentencePiece keeps scores in 32 bits


class TokenKind(IntEnum):
    """`tokenizer.ggml.token_type`, numbered as GGUF and SentencePiece do."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Lists have one entry a token, `merges` excepted; ids lie inside the vocabulary. None: the file does not say."""

    model: str
    pre: str | None
    tokens: list[str]
    kinds: list[int]
    merges: list[str] | None
    scores: list[float] | None
    bos_id: int | None
    eos_id: int | None
    eot_id: int | None
    add_bos: bool
    add_space_prefix: bool
    remove_extra_whitespaces: bool

    @classmethod
    def read(cls, metadata: Mapping[str, object]) -> "Vocabulary":
        """Raises FormatError naming the key, what it holds and what was expected."""
        fields = Fields(metadata)

        def flag(key: str, default: bool) -> bool:
            value = fields.find(f"tokenizer.ggml.{key}", FLAG)
            return default if value is None else value

        model, tokens = fields.need("tokenizer.ggml.model", TEXT), fields.need("tokenizer.ggml.tokens", TEXTS)
        size, an_id = len(tokens), integer(0, len(tokens) - 1)
        a_kind, a_score = integer(0, max(TokenKind)), number(-_MOST_SCORE, _MOST_SCORE)
        one_each = ", one a token"
        kinds = fields.need("tokenizer.ggml.token_type", list_of(a_kind, size, of=one_each))
        bos, eos, eot = (fields.find(f"tokenizer.ggml.{role}_token_id", an_id) for role in ("bos", "eos", "eot"))
        return cls(
            model=model,
            pre=fields.find("tokenizer.ggml.pre", TEXT),
            tokens=tokens,
            kinds=kinds,
            merges=fields.find("tokenizer.ggml.merges", TEXTS),
            scores=fields.find("tokenizer.ggml.scores", list_of(a_score, size, of=one_each)),
            bos_id=bos,
            eos_id=eos,
            eot_id=eot,
            add_bos=flag("add_bos_token", False),
            add_space_prefix=flag("add_space_prefix", True),
            remove_extra_whitespaces=flag("remove_extra_whitespaces", False),
        )
