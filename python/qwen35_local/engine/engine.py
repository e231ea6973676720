"""Conversations in, events out: the one stream that every face of the program is a view of."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from qwen35_local import _core
from qwen35_local.chat import events
from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDone, ToolCallStart
from qwen35_local.chat.messages import Message
from qwen35_local.chat.parser import OutputParser
from qwen35_local.chat.presets import Sampling, preset
from qwen35_local.chat.prompt import Prompt
from qwen35_local.chat.template import Template
from qwen35_local.engine.timeline import Logits, Timeline
from qwen35_local.errors import InputError
from qwen35_local.text.stream import TokenStream
from qwen35_local.text.tokenizer import Tokenizer

Reason: TypeAlias = Literal["stop", "tool_calls", "length", "context", "cancelled"]

# The family's model cards advise this much room for a reply.
REPLY_TOKENS = 32_768

EXPLANATIONS: dict[Reason, str] = {
    "stop": "the model ended its turn",
    "tool_calls": "the model called a tool",
    "length": "the reply reached its token limit",
    "context": "the context is full; /clear, or start again with a larger --ctx",
    "cancelled": "interrupted",
}


@dataclass(frozen=True)
class Request:
    """A conversation to continue. `thinking` None leaves it to the template; `max_tokens` 0 means 32,768."""

    messages: Sequence[Message]
    sampling: Sampling
    tools: Sequence[Mapping[str, Any]] = ()
    thinking: bool | None = None
    max_tokens: int = 0


@dataclass(frozen=True)
class Usage:
    """What a reply took. Prompt tokens = reused (already held) + evaluated (read now) unless it was interrupted before
    the prompt was read; seconds of wall time."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    evaluated_tokens: int = 0
    generated_tokens: int = 0
    reasoning_tokens: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Generation speed: tokens after the first over the time after the first."""
        span = self.seconds - self.first_token_seconds
        return (self.generated_tokens - 1) / span if self.generated_tokens > 1 and span > 0 else 0.0

    def as_dict(self) -> dict[str, float]:
        return {**asdict(self), "tokens_per_second": self.tokens_per_second}


@dataclass(frozen=True)
class Done:
    """The end of a reply: why, what it took, and the whole message as it belongs in the conversation."""

    reason: Reason
    message: Message
    usage: Usage

    @property
    def explanation(self) -> str:
        return EXPLANATIONS[self.reason]


Event: TypeAlias = events.Event | Done


class _Reply:
    """A reply under construction."""

    def __init__(self, started: float) -> None:
        self.n_tokens = 0
        self.reasoning_tokens = 0
        self.message = Message("assistant", reasoning="")
        self._started = started
        self._first_token_seconds = 0.0

    def count(self, *, in_reasoning: bool) -> None:
        """One more token."""
        if self.n_tokens == 0:
            self._first_token_seconds = time.monotonic() - self._started
        self.n_tokens += 1
        self.reasoning_tokens += in_reasoning

    def add(self, event: events.Event) -> None:
        message = self.message
        match event:
            case ReasoningDelta(piece):
                self.message = replace(message, reasoning=(message.reasoning or "") + piece)
            case TextDelta(piece):
                self.message = replace(message, content=message.text + piece)
            case ToolCallDone(is_closed=False, raw=raw):
                # Its last argument may be cut short, so it must never be run; as text nothing of it is lost.
                self.message = replace(message, content=message.text + raw)
            case ToolCallDone(call=call):
                self.message = replace(message, tool_calls=(*message.tool_calls, call))
            case ToolCallStart():
                pass

    def done(self, reason: Reason, n_prompt: int, reused: int, evaluated: int) -> Done:
        usage = Usage(
            prompt_tokens=n_prompt,
            reused_tokens=reused,
            evaluated_tokens=evaluated,
            generated_tokens=self.n_tokens,
            reasoning_tokens=self.reasoning_tokens,
            first_token_seconds=self._first_token_seconds,
            seconds=time.monotonic() - self._started,
        )
        return Done(reason, self.message, usage)


class Engine:
    """One model and one live conversation. Nothing the sequence has read is read again while the prompt continues it,
    or continues from one of the marks left in it."""

    def __init__(
        self,
        model: _core.Model,
        *,
        metadata: Mapping[str, Any] | None = None,
        tokenizer: Tokenizer | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        """`metadata` and `tokenizer`: the model's, where the caller has them already. `cache_bytes`: memory for
        snapshots beyond the newest.
        Raises FileFormatError or TemplateError when the file's tokenizer or template cannot be used."""
        if metadata is None:
            metadata = model.metadata
        self.model = model
        self.tokenizer = tokenizer or Tokenizer(metadata)
        text = metadata.get("tokenizer.chat_template")
        self.template = Template.for_model(text) if isinstance(text, str) else Template.for_variant("qwen3.5")
        self.name = str(metadata.get("general.name") or metadata.get("general.basename") or "Qwen3.5")
        keys = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
        values = {name: metadata.get(f"general.sampling.{key}") for name, key in keys.items()}
        self._own_sampling: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        self._timeline = Timeline(_core.Sequence(model), budget_bytes=cache_bytes)
        self._is_cancelled = False

    @property
    def context_tokens(self) -> int:
        return self.model.context_tokens

    @property
    def tokens_held(self) -> int:
        """Tokens of conversation the sequence holds now."""
        return len(self._timeline)

    @property
    def thinks_by_default(self) -> bool:
        variant = self.template.variant
        return variant is None or variant.thinks_by_default

    @property
    def summary(self) -> str:
        weights = self.model.weight_bytes / 2**20
        size = f"{weights:.0f} MiB" if weights < 1024 else f"{weights / 1024:.1f} GiB"
        device = f"{self.model.device}, {self.model.threads} threads"
        return f"{size} of weights · context {self.context_tokens:,} · {device}"

    def preset(self, *, thinking: bool) -> Sampling:
        """The model card's sampling settings for a mode; a model that is none of the family's own releases may bring
        its own in `general.sampling.*`."""
        if self.template.origin != "official" and self._own_sampling:
            return Sampling(**self._own_sampling)
        return preset(self.template.name, "thinking" if thinking else "instruct")

    def cancel(self) -> None:
        """Ends the reply in progress with reason "cancelled"; may be called from a signal handler or another thread."""
        self._is_cancelled = True
        self._timeline.cancel()

    def reply(
        self, request: Request, *, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[Event]:
        """The model's next message, as it is written; the last event is Done.

        `progress(done, total)` counts prompt tokens. Raises InputError when the conversation does not fit the context
        or a message is not valid."""
        self._is_cancelled = False
        reply = _Reply(time.monotonic())
        prompt = self.template.render(request.messages, request.tools, enable_thinking=request.thinking)
        tokens, marks = self._encode(prompt)
        if len(tokens) >= self.context_tokens:
            raise InputError(
                f"the conversation is {len(tokens)} tokens and the context {self.context_tokens}; "
                "/clear it, or start again with a larger --ctx"
            )
        reused = self._timeline.rewind(tokens)
        try:
            logits = self._timeline.read(tokens, marks, progress)
            reason = yield from self._generate(request, prompt, logits, reply)
        except _core.Cancelled:
            reason = "cancelled"
        if reason == "stop" and reply.message.tool_calls:
            reason = "tool_calls"
        evaluated = min(self.tokens_held, len(tokens)) - reused
        yield reply.done(reason, len(tokens), reused, evaluated)

    def _encode(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """Token ids of a prompt, and where to leave marks: at the end of each turn, and before the thinking that a
        later prompt will not hold."""
        tokens: list[int] = []
        marks: list[int] = []
        think = self.tokenizer.special_tokens.get("<think>")
        turns = self.tokenizer.encode_turns(turn.segments for turn in prompt.turns)
        for turn, ids in zip(prompt.turns, turns, strict=True):
            if turn.kind == "generation" and think in ids:
                marks.append(len(tokens) + ids.index(think))
            tokens += ids
            marks.append(len(tokens))
        return tokens, marks

    def _generate(
        self, request: Request, prompt: Prompt, logits: Logits, reply: _Reply
    ) -> Generator[Event, None, Reason]:
        """Samples until something ends the reply; returns what did."""
        sampler = _core.Sampler(**asdict(request.sampling), n_tokens_used=self.tokenizer.n_used)
        text = TokenStream(self.tokenizer)
        parser = OutputParser(request.tools, in_reasoning=prompt.starts_in_reasoning)
        limit = request.max_tokens or REPLY_TOKENS
        written: list[int] = []

        def emit(parsed: list[events.Event]) -> Iterator[Event]:
            for event in parsed:
                reply.add(event)
                yield event

        while True:
            if self._is_cancelled:
                reason: Reason = "cancelled"
                break
            token = sampler.sample(logits, written)
            reply.count(in_reasoning=parser.in_reasoning)
            if token in self.tokenizer.stop_ids or self.tokenizer.is_control(token):
                reason = "stop"
                break
            written.append(token)
            yield from emit(parser.feed(text.push(token)))
            if len(written) >= limit or len(self._timeline) + 1 >= self.context_tokens:
                reason = "length" if len(written) >= limit else "context"
                break
            logits = self._timeline.step(token)
        yield from emit(parser.feed(text.finish()))
        yield from emit(parser.finish())
        return reason
