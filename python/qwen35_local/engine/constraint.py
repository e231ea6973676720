"""Which tokens may come next in a reply, so that its answer has the form, and its calls are the ones, that were asked
for.

The thinking is free, but does not end the reply where an answer or a call has to follow. Behind it stands the answer,
of a given form or free text. From `<tool_call>` on a call is held to the grammar of the tools.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol

import numpy as np

from qwen35_local.engine.grammar import Grammar, Mask, allows
from qwen35_local.text.tokenizer import Tokenizer

NO_LIMIT = 1 << 30


class Calls(NamedTuple):
    """`grammar`: of what follows `<tool_call>`; None: it is free. `notes`: what calls are not held to."""

    grammar: Grammar | None
    notes: tuple[str, ...] = ()


class ComingCalls(Protocol):
    """Calls whose grammar may still be compiled when the reply begins, as in a Future."""

    def result(self) -> Calls: ...


class Tokens:
    """The tokens of a vocabulary that mean something to the form of a reply. None: the vocabulary has no such token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.opener = tokenizer.special_tokens.get("<tool_call>")
        self.closer = tokenizer.special_tokens.get("</tool_call>")
        self.think = tokenizer.special_tokens.get("<think>")
        self.special = frozenset(tokenizer.special_tokens.values())
        self.stops = sorted(tokenizer.stop_ids)
        self.ends = tokenizer.end_ids
        self.breaks = [ids[0] for ids in map(tokenizer.encode, ("\n", "\n\n")) if len(ids) == 1]
        self._n_words = (tokenizer.vocab_size + 31) // 32

        self._masks: dict[tuple[bool, tuple[int | None, ...]], Mask] = {}  # there are few different ones

    def only(self, *tokens: int | None) -> Mask:
        return self._kept(True, tokens)

    def all_but(self, *tokens: int | None) -> Mask:
        return self._kept(False, tokens)

    def _kept(self, is_allowed: bool, tokens: tuple[int | None, ...]) -> Mask:
        mask = self._masks.get((is_allowed, tokens))
        if mask is None:
            mask = self.also(np.zeros(self._n_words, np.uint32), tokens)
            mask = self._masks[is_allowed, tokens] = mask if is_allowed else ~mask
        return mask

    @staticmethod
    def also(mask: Mask, tokens: Iterable[int | None]) -> Mask:
        """The tokens of a mask, and some more."""
        wider = mask.copy()
        for token in tokens:
            if token is not None:
                wider[token // 32] |= np.uint32(1 << token % 32)
        return wider


@dataclass(frozen=True)
class Form:
    """What was asked of a reply. `answer`: the grammar of the answer; None: free text. `calls`: of a call; None: it is
    free too. `most_calls`: 0 for none. `needs_call`: the reply has a call and no text before it."""

    tokens: Tokens
    answer: Grammar | None = None
    calls: ComingCalls | None = None
    most_calls: int = NO_LIMIT
    needs_call: bool = False

    def begin(self, *, in_reasoning: bool, may_think: bool = False) -> "Constraint":
        """For one reply. `in_reasoning`: the prompt leaves the thinking open; `may_think`: the model may open it."""
        return Constraint(self, in_reasoning=in_reasoning, may_think=may_think)


class _Stage(Enum):
    THINKING = auto()
    START = auto()  # of the answer
    TEXT = auto()
    ANSWER = auto()  # of the form asked for
    CALL = auto()
    AFTER = auto()  # a call, where nothing but calls may follow
    FAILED = auto()


class Constraint:
    """Of one reply: `mask` is for the token that comes next, `accept` takes it. Nothing raises: when a grammar fails,
    its limits reached, the rest of the reply is free and `failure` says why."""

    def __init__(self, form: Form, *, in_reasoning: bool, may_think: bool) -> None:
        self._form = form
        self._tokens = form.tokens
        self._stage = _Stage.THINKING if in_reasoning else _Stage.START
        self._may_think = may_think
        self._may_break = False  # the line break that the model writes between parts
        self._n_calls = 0
        self._answer = form.answer and form.answer.copy()
        self._call: Grammar | None = None
        self.failure = ""
        self._notes: dict[str, bool] = {}  # what the reply is not held to, and whether that was told

    @property
    def is_complete(self) -> bool:
        """Whether the reply may end here."""
        match self._stage:
            case _Stage.ANSWER:
                return self._answer is not None and self._answer.is_complete
            case _Stage.THINKING | _Stage.START:
                return not self._must_answer
            case _Stage.CALL:
                return False
        return True

    def new_notes(self) -> list[str]:
        """What the reply is not held to; each once."""
        new = [note for note, is_told in self._notes.items() if not is_told]
        self._notes = dict.fromkeys(self._notes, True)
        return new

    def mask(self) -> Mask | None:
        """None: every token."""
        mask = self._mask()
        if mask is None or mask.any():
            return mask
        self._fail("no token of the vocabulary goes on with it")
        return None

    def masks_ahead(self, tokens: Sequence[int], mask: Mask | None, *, in_reasoning: bool) -> list[Mask | None]:
        """The masks behind each of the tokens, which are tried one after the other under `mask` and those masks, up to
        the first that cannot come or may change what kind of text follows. Nothing is accepted."""
        trial = copy(self)
        trial._answer, trial._call = self._answer and self._answer.copy(), self._call and self._call.copy()
        trial._notes = {}
        ahead: list[Mask | None] = []
        for token in tokens:
            if token in self._tokens.special or not allows(mask, token):
                break
            trial.accept(token, in_reasoning=in_reasoning)
            mask = trial.mask()
            ahead.append(mask)
        return ahead

    def accept(self, token: int, *, in_reasoning: bool) -> None:
        """`in_reasoning`: whether what comes after the token still belongs to the thinking."""
        opens = token == self._tokens.opener and self._form.calls is not None
        match self._stage:
            case _Stage.CALL:
                self._in_call(token)
            case _Stage.THINKING | _Stage.START | _Stage.TEXT | _Stage.AFTER if opens:
                self._open_call()
            case _Stage.THINKING if not in_reasoning:
                self._stage, self._may_break = _Stage.START, True
            case _Stage.START:
                self._begin_answer(token)
            case _Stage.ANSWER if self._answer is not None:
                self._answer.accept(token)
                self._fail(self._answer.failure)
            case _Stage.AFTER:
                self._may_break = False

    @property
    def _must_answer(self) -> bool:
        return self._form.needs_call or self._form.answer is not None

    @property
    def _next_call(self) -> list[int | None]:
        """The token that opens one more call, if there may be one."""
        return [self._tokens.opener] if self._n_calls < self._form.most_calls else []

    @property
    def _forbidden_call(self) -> list[int | None]:
        return [] if self._next_call else [self._tokens.opener]

    def _mask(self) -> Mask | None:
        tokens = self._tokens
        breaks = tokens.breaks if self._may_break else []
        thinking = [tokens.think] if self._may_think else []
        match self._stage:
            case _Stage.CALL if self._call is not None:
                return self._call.mask()
            case _Stage.ANSWER if self._answer is not None:
                return self._answer.mask()
            case _Stage.AFTER:
                again = self._next_call
                return tokens.only(*tokens.stops, *again, *(breaks if again else []))
            case _Stage.START if self._form.needs_call:
                return tokens.only(*self._next_call, *breaks, *thinking)
            case _Stage.START if self._answer is not None:
                calls = self._next_call if self._form.calls is not None else []
                return tokens.also(self._answer.mask(), [*calls, *breaks, *thinking])
            case _Stage.THINKING if self._must_answer:
                return tokens.all_but(*tokens.ends, *self._forbidden_call)
            case _Stage.THINKING | _Stage.START | _Stage.TEXT if self._forbidden_call:
                return tokens.all_but(*self._forbidden_call)
        return None

    def _begin_answer(self, token: int) -> None:
        if token == self._tokens.think and self._may_think:
            self._stage, self._may_think = _Stage.THINKING, False
        elif self._may_break and token in self._tokens.breaks:
            self._may_break = False
        elif self._answer is None:
            self._stage = _Stage.TEXT
        else:
            self._stage = _Stage.ANSWER
            self._answer.accept(token)
            self._fail(self._answer.failure)

    def _open_call(self) -> None:
        grammar, notes = self._form.calls.result() if self._form.calls else Calls(None)
        self._notes = dict.fromkeys(notes, False) | self._notes
        self._call = grammar.copy() if grammar else None
        self._n_calls += 1
        self._stage = _Stage.CALL if grammar else _Stage.TEXT

    def _in_call(self, token: int) -> None:
        if self._call is None:
            return
        self._call.accept(token)
        self._fail(self._call.failure)
        if token == self._tokens.closer and not self.failure:
            self._call = None
            self._stage = _Stage.AFTER if self._must_answer else _Stage.TEXT
            self._may_break = True

    def _fail(self, why: str) -> None:
        if why:
            self.failure = f"the form that was asked for is not held: {why}"
            self._notes[self.failure] = False
            self._stage = _Stage.FAILED
