"""Sampling settings the model cards recommend, per version and mode (docs/architecture.md 8.6).

Without them these models loop or drift: greedy decoding is advised against, and the presence penalty matters. Versions
are named as the template's variants are, `Template.name`.
"""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

from qwen35_local.errors import InputError
from qwen35_local.fields import TEXT, Kind, integer, list_of, number

Mode: TypeAlias = Literal["thinking", "thinking-coding", "instruct", "instruct-reasoning"]

MODES: tuple[str, ...] = get_args(Mode)
"""thinking: general. thinking-coding: precise code, for instance web pages. instruct: without thinking.
instruct-reasoning: without thinking, for problems that need steps."""

SETTINGS: dict[str, Kind[float]] = {
    "temperature": number(0, 100),
    "top_k": integer(0, 2**31 - 1),
    "top_p": number(0, 1),
    "min_p": number(0, 1),
    "repetition_penalty": number(0.01, 100),
    "presence_penalty": number(-100, 100),
    "frequency_penalty": number(-100, 100),
    "penalty_last_n": integer(-1, 2**31 - 1),
    "seed": integer(0, 2**64 - 1),
}
"""What each setting may be, wherever it comes from."""

MAX_TOKENS = integer(0, 2**31 - 1)
"""Of a reply; 0: the engine's own limit."""

LOGPROBS = integer(0, 1000)
"""How many of the most likely tokens are told beside the sampled one."""

THINKING_TOKENS = integer(1, 2**31 - 1)
"""After so many the thinking of a reply is brought to an end."""

CHOICES = integer(1, 128)
"""How many replies one prompt may have."""

STOP: Kind[list[str]] = Kind(
    "up to 16 texts of 1 to 256 characters",
    lambda v: list_of(TEXT).fits(v) and len(v) <= 16 and all(0 < len(text) <= 256 for text in v),
)

BIAS: Kind[float] = Kind(
    "a number from -1000000 to 1000000, or -inf", lambda v: v == -math.inf or number(-1e6, 1e6).fits(v)
)
"""What is added to the logit of one token; -inf: never that one."""

_TOKEN = integer(0, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. The defaults change nothing: every token keeps its probability.

    `temperature` 0 is greedy; `top_k` 0 keeps all tokens; `seed` None draws one. The penalties look at the last
    `penalty_last_n` tokens of the reply (-1: all of it); `logit_bias` adds to the logits of tokens by id. Raises
    InputError on a value that is not a number or out of range."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_last_n: int = -1
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, kind in SETTINGS.items():
            value = getattr(self, name)
            if not kind.fits(value) and not (name == "seed" and value is None):
                raise InputError(f"{name}: expected {kind.expected}, got {reprlib.repr(value)}.")
        if not isinstance(self.logit_bias, Mapping):
            found = reprlib.repr(self.logit_bias)
            raise InputError(f"logit_bias: expected a mapping of token ids to numbers, got {found}.")
        for token, bias in self.logit_bias.items():
            if not _TOKEN.fits(token):
                raise InputError(f"logit_bias: expected token ids, {_TOKEN.expected}, got {reprlib.repr(token)}.")
            if not BIAS.fits(bias):
                raise InputError(f"logit_bias of token {token}: expected {BIAS.expected}, got {reprlib.repr(bias)}.")

    def of_choice(self, choice: int) -> "Sampling":
        """Those of one of several replies: the seeds follow each other."""
        return self if self.seed is None else replace(self, seed=(self.seed + choice) % 2**64)


_THINKING = Sampling(temperature=1.0, top_p=0.95, top_k=20, presence_penalty=1.5)
_CODING = Sampling(temperature=0.6, top_p=0.95, top_k=20)
_INSTRUCT = Sampling(temperature=0.7, top_p=0.8, top_k=20, presence_penalty=1.5)
_INSTRUCT_REASONING = Sampling(temperature=1.0, top_p=1.0, top_k=40, presence_penalty=2.0)
_FAMILY: dict[Mode, Sampling] = {
    "thinking": _THINKING,
    "thinking-coding": _CODING,
    "instruct": _INSTRUCT,
    "instruct-reasoning": _INSTRUCT_REASONING,
}

PRESETS: dict[str, dict[Mode, Sampling]] = {
    "qwen3.5": _FAMILY,
    "qwen3.5-small": _FAMILY | {"instruct": Sampling(temperature=1.0, top_p=1.0, top_k=20, presence_penalty=2.0)},
    "qwen3.6": _FAMILY,
    "qwen3.8": _FAMILY | {"thinking": Sampling(temperature=1.0, top_p=0.95, top_k=20)},
}
"""Version to mode to settings. Where a card is silent about a mode (3.6 and 3.8: all but thinking and instruct), the
3.5 value stands; `instruct-reasoning` is that of the 35B-A3B card."""


def preset(version: str, mode: Mode) -> Sampling:
    """The recommended settings; a version this table does not know (a foreign template) gets those of 3.5. Raises
    InputError on an unknown mode."""
    if mode not in MODES:
        raise InputError(f"sampling mode {reprlib.repr(mode)}: expected one of {', '.join(MODES)}.")
    return PRESETS.get(version, _FAMILY)[mode]
