"""What is asked of the engine, and what a reply is when it ends."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import dropwhile
from typing import Any, Literal, TypeAlias

from qwen35_local import _core
from qwen35_local.chat import events
from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStart
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import CHOICES, LOGPROBS, STOP, THINKING_TOKENS, Sampling
from qwen35_local.chat.wishes import FREE_CHOICE, OutputFormat, ToolChoice
from qwen35_local.errors import InputError
from qwen35_local.fields import describe
from qwen35_local.text.tokenizer import Tokenizer

Reason: TypeAlias = Literal["stop", "tool_calls", "length", "context", "cancelled", "loop"]
WhenFull: TypeAlias = Literal["stop", "compact"]


class ContextFull(InputError):
    """A prompt leaves no room for a reply in the context. `lengths`: both, in words."""

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        self.lengths = f"the prompt is {prompt_tokens} tokens and the context {context_tokens}"
        super().__init__(f"{self.lengths}; shorten it, or load the model with larger context_tokens")


@dataclass(frozen=True)
class Request:
    """A conversation to continue. `thinking` and `keep_thinking` (of finished turns) None leave it to the template;
    `max_tokens` 0 means 32,768. `when_full`: what happens when the conversation does not fit the context. `stop`: the
    answer ends before the first of these strings. `logprobs`: None for none, else of every token and of so many of the
    most likely ones in its place. `n`: how many replies; the i-th of them, from 0, is what the seed plus i gives alone.
    `output_format` binds the answer, not the thinking. Thinking ends after `thinking_tokens`, with a sentence that says
    so (`thinking.CLOSING`). `breaks_loops`: whether a reply that repeats itself is brought to an end. `goes_on`: the
    last message is the assistant's, and the reply goes on behind its text; its thinking is over. Raises InputError on a
    value of another kind."""

    messages: Sequence[Message]
    sampling: Sampling
    tools: Sequence[Mapping[str, Any]] = ()
    thinking: bool | None = None
    keep_thinking: bool | None = None
    max_tokens: int = 0
    when_full: WhenFull = "stop"
    stop: Sequence[str] = ()
    logprobs: int | None = None
    n: int = 1
    tool_choice: ToolChoice = FREE_CHOICE
    output_format: OutputFormat | None = None
    thinking_tokens: int | None = None
    breaks_loops: bool = True
    goes_on: bool = False

    def __post_init__(self) -> None:
        _check(self.stop, self.logprobs, self.n)
        if self.goes_on:
            self._check_given()
        if self.thinking_tokens is not None and not THINKING_TOKENS.fits(self.thinking_tokens):
            given = describe(self.thinking_tokens)
            raise InputError(
                f"thinking_tokens: expected {THINKING_TOKENS.expected}, got {given}; thinking=False is none."
            )

    @property
    def given(self) -> Message | None:
        """What the reply goes on from."""
        return self.messages[-1] if self.goes_on else None

    def after(self, reply: Message) -> list[Message]:
        """The conversation with its reply."""
        given = self.given
        return [*self.messages, reply] if given is None else [*self.messages[:-1], joined(given, reply)]

    def _check_given(self) -> None:
        given = self.messages[-1] if self.messages else Message("user")
        if given.role != "assistant" or given.tool_calls or not all(isinstance(part, str) for part in given.parts):
            raise InputError("goes_on: expected a last message of the assistant's that is text and calls no tool.")
        if self.thinking and not given.reasoning:
            raise InputError(
                "a reply that goes on from a text does not think any more; leave the thinking off, or give that of the "
                "last message with it."
            )
        if self.output_format is not None:
            raise InputError("an answer of a given form cannot go on from a text; leave one of them out.")


def joined(given: Message, reply: Message) -> Message:
    """A reply that went on from a message, with that message."""
    return Message("assistant", given.text + reply.text, given.reasoning, reply.tool_calls)


@dataclass(frozen=True)
class Completion:
    """Tokens [n] to go on from, with no conversation around them; the rest as in `Request`. `scores_prompt`: what
    `logprobs` says is told of the prompt's tokens too, all of which are read for that, and of the token that ends the
    reply. Not `writes`: of them alone. Raises InputError."""

    tokens: Sequence[int]
    sampling: Sampling
    max_tokens: int = 0
    stop: Sequence[str] = ()
    logprobs: int | None = None
    n: int = 1
    output_format: OutputFormat | None = None
    breaks_loops: bool = False
    scores_prompt: bool = False
    writes: bool = True

    def __post_init__(self) -> None:
        _check(self.stop, self.logprobs, self.n)
        if not self.tokens:
            raise InputError("the prompt is empty; expected at least one token.")
        if self.scores_prompt and self.logprobs is None:
            raise InputError("scores_prompt without logprobs; expected how many of the most likely tokens are wanted.")
        if not (self.scores_prompt or self.writes):
            raise InputError("a completion that neither writes nor scores_prompt; expected one of them.")


def _check(stop: Sequence[str], logprobs: int | None, n: int) -> None:
    if not isinstance(stop, list | tuple) or not STOP.fits(list(stop)):
        raise InputError(f"stop: expected {STOP.expected}, got {describe(stop)}.")
    if logprobs is not None and not LOGPROBS.fits(logprobs):
        raise InputError(f"logprobs: expected {LOGPROBS.expected}, got {describe(logprobs)}.")
    if not CHOICES.fits(n):
        raise InputError(f"n: expected {CHOICES.expected}, got {describe(n)}.")


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, the bytes it adds to the output (possibly part of a character), and the natural logarithm of its
    probability before penalties, bias and cuts."""

    id: int
    data: bytes
    logprob: float

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Logprobs:
    """A token of the reply, and the most likely ones in its place, most likely first. Comes before the text that the
    token completes; the token that ends the reply, unless the prompt is scored too, and those that a stop string cuts
    have none. `in_reasoning`: of the thinking, or the tag that ends it."""

    token: TokenLogprob
    top: tuple[TokenLogprob, ...]
    choice: int = 0
    in_reasoning: bool = False


def of_answer(told: Iterable[Logprobs]) -> list[Logprobs]:
    """None of the thinking, nor of the line breaks behind it."""
    return [*dropwhile(lambda one: one.in_reasoning or not one.token.data.strip(b"\n"), told)]


def token_logprobs(tokenizer: Tokenizer, sampled: _core.Sampled, *, in_reasoning: bool = False) -> Logprobs:
    """Of a token that was drawn with its logprobs."""

    def of(token: int, logprob: float) -> TokenLogprob:
        return TokenLogprob(token, tokenizer.token_bytes(token), logprob)

    assert sampled.logprob is not None
    top = tuple(of(*best) for best in sampled.top_logprobs)
    return Logprobs(of(sampled.token, sampled.logprob), top, in_reasoning=in_reasoning)


@dataclass(frozen=True, slots=True)
class PromptScores:
    """The tokens of the prompt: `first`, the bytes of the one that nothing comes before, and how likely each of the
    `others` was. Comes before all of the reply."""

    first: bytes
    others: tuple[Logprobs, ...]
    choice: int = 0


LEAST_TOLD = 0.05
"""Of the time of a reply, what drafts have to save or lose to be spoken of."""


@dataclass(frozen=True)
class Usage:
    """What a reply took. Prompt tokens = reused (already held) + evaluated (read now) unless it was interrupted before
    the prompt was read; seconds of wall time. `passes`: of the model, that wrote it. Of the drafts that they verified,
    how many were accepted, and how many of both were copied from what came before, the others being of the MTP block;
    `saved_seconds`: by them, by what passes and drafts take on this device, 0 where that is not known."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    evaluated_tokens: int = 0
    generated_tokens: int = 0
    reasoning_tokens: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    passes: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    drafted_copies: int = 0
    accepted_copies: int = 0
    saved_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Generation speed: tokens after the first over the time after the first."""
        span = self.seconds - self.first_token_seconds
        return (self.generated_tokens - 1) / span if self.generated_tokens > 1 and span > 0 else 0.0

    @property
    def tokens_per_pass(self) -> float:
        """The first token is drawn behind the prompt, without a pass of its own."""
        return (self.generated_tokens - 1) / self.passes if self.passes else 0.0

    @property
    def gain(self) -> float | None:
        """How many times as fast drafts have made the tokens after the first; None where that is not known, or too
        little to tell."""
        span = self.seconds - self.first_token_seconds
        return 1 + self.saved_seconds / span if span > 0 and abs(self.saved_seconds) > LEAST_TOLD * span else None

    def as_dict(self) -> dict[str, float]:
        return {**asdict(self), "tokens_per_second": self.tokens_per_second}


@dataclass(frozen=True)
class Difference:
    """The first token of a prompt that is not the one known at its place: `position`, and the texts of up to eight
    tokens from there, as they were known and as the prompt has them."""

    position: int
    known: str
    prompt: str


@dataclass(frozen=True)
class Reuse:
    """Why a prompt cost what it did. `source`: the snapshot that the reused tokens come from, "" for none;
    `idle_tokens` were read since the reply before. `difference` is None when the prompt goes on from what was known,
    and when `reader`, another machine, has read it."""

    reused_tokens: int = 0
    source: str = ""
    evaluated_tokens: int = 0
    idle_tokens: int = 0
    difference: Difference | None = None
    reader: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Compacted:
    """The conversation did not fit: its oldest `messages` (behind the system prompt) are gone for good, and the prompt
    has `tokens_after` tokens instead of `tokens_before`. Whoever keeps the conversation has to drop them too."""

    messages: tuple[Message, ...]
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True)
class Done:
    """The end of a reply: why, what it took, and the whole message as it belongs in the conversation. `stop_string`: of
    the request, the one that ended it. `logprobs`: all that were told, in order. `choice`: which of the replies."""

    reason: Reason
    message: Message
    usage: Usage
    reuse: Reuse = Reuse()
    stop_string: str | None = None
    logprobs: tuple[Logprobs, ...] = ()
    choice: int = 0
    notes: tuple[str, ...] = ()
    prompt_scores: PromptScores | None = None


Event: TypeAlias = events.Event | Logprobs | PromptScores | Compacted | Done


class Reply:
    """A reply under construction: what was sampled, and what was made of it. `choice`: which one of its prompt."""

    def __init__(self, choice: int = 0) -> None:
        self.choice = choice
        self.written: list[int] = []
        self.n_tokens = 0
        self.reasoning_tokens = 0
        self.message = Message("assistant", reasoning="")
        self.stop_string: str | None = None
        self.logprobs: list[Logprobs] = []
        self.notes: list[str] = []
        self.prompt_scores: PromptScores | None = None
        self.passes = 0
        self.drafted_tokens = self.accepted_tokens = 0
        self.drafted_copies = self.accepted_copies = 0
        self.saved_seconds = 0.0
        self._is_calling = False
        self._started = time.monotonic()
        self._first_token_seconds = 0.0

    def scored(self, scores: PromptScores) -> PromptScores:
        """Makes what was found of the prompt's tokens part of the reply; returns what is to be told of it."""
        self.prompt_scores = replace(scores, choice=self.choice)
        return self.prompt_scores

    def count(self, *, in_reasoning: bool) -> None:
        """One more token."""
        if self.n_tokens == 0:
            self._first_token_seconds = time.monotonic() - self._started
        self.n_tokens += 1
        self.reasoning_tokens += in_reasoning

    def count_drafts(self, drafted: int, accepted: int, *, are_copies: bool) -> None:
        """Those of a pass."""
        self.drafted_tokens += drafted
        self.accepted_tokens += accepted
        if are_copies:
            self.drafted_copies += drafted
            self.accepted_copies += accepted

    def add(self, event: events.Event | Logprobs) -> events.Event | Logprobs:
        """Makes the event part of the reply; returns what is to be shown of it."""
        if isinstance(event, ToolCallDone) and not event.is_closed:
            # Its last argument may be cut short, so it must never be run; as text nothing of it is lost.
            event = TextDelta(event.raw, cut_call=event.index)
            self._is_calling = False
            self.notes.append("a call was cut short, and is none")
        if self.choice:
            event = replace(event, choice=self.choice)
        message = self.message
        match event:
            case ReasoningDelta(piece):
                self._note_no_call()
                self.message = replace(message, reasoning=(message.reasoning or "") + piece)
            case TextDelta(piece):
                self._note_no_call()
                self.message = replace(message, content=message.text + piece)
            case ToolCallDone(call=call):
                self._is_calling = False
                self.message = replace(message, tool_calls=(*message.tool_calls, call))
            case Logprobs():
                self.logprobs.append(event)
            case ToolCallStart() | ToolCallDelta():
                self._is_calling = True
        return event

    def _note_no_call(self) -> None:
        if self._is_calling:
            self._is_calling = False
            self.notes.append("what began as a call is none, and is shown as text")

    def done(self, reason: Reason, n_prompt: int, reuse: Reuse) -> Done:
        if reason == "stop" and self.message.tool_calls:
            reason = "tool_calls"
        usage = Usage(
            prompt_tokens=n_prompt,
            reused_tokens=reuse.reused_tokens,
            evaluated_tokens=reuse.evaluated_tokens,
            generated_tokens=self.n_tokens,
            reasoning_tokens=self.reasoning_tokens,
            first_token_seconds=self._first_token_seconds,
            seconds=time.monotonic() - self._started,
            passes=self.passes,
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
            drafted_copies=self.drafted_copies,
            accepted_copies=self.accepted_copies,
            saved_seconds=self.saved_seconds,
        )
        return Done(
            reason,
            self.message,
            usage,
            reuse,
            self.stop_string,
            tuple(self.logprobs),
            self.choice,
            tuple(self.notes),
            self.prompt_scores,
        )
