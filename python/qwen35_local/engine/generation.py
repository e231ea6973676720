"""One reply as it is generated: sampled tokens to events, until something ends it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Protocol

from qwen35_local import _core
from qwen35_local.chat import events
from qwen35_local.chat.events import TextDelta
from qwen35_local.engine.reply import Completion, Event, Logprobs, Reason, Reply, Request, TokenLogprob
from qwen35_local.text.stop_strings import StopStrings
from qwen35_local.text.stream import TokenStream
from qwen35_local.text.tokenizer import Tokenizer

# The family's model cards advise this much room for a reply.
REPLY_TOKENS = 32_768


class Parser(Protocol):
    """What makes events of the text of a reply."""

    @property
    def in_reasoning(self) -> bool: ...

    def feed(self, text: str, *, is_token: bool = False) -> list[events.Event]: ...

    def finish(self) -> list[events.Event]: ...


class Generation:
    """What becomes of the tokens of one reply. Stop strings are looked for in the answer, not in the thinking and not
    in tool calls; what may still become one is held back, its logprobs too."""

    def __init__(self, request: Request | Completion, parser: Parser, tokenizer: Tokenizer, reply: Reply) -> None:
        """Raises InputError when the sampling settings do not fit the vocabulary."""
        self.reason: Reason | None = None
        """What ended the reply, once something has."""
        self.sampler = _core.Sampler(
            **asdict(request.sampling.of_choice(reply.choice)),
            n_tokens_used=tokenizer.n_used,
            stop_ids=tokenizer.end_ids,
        )
        self.reply = reply
        self.pending: list[int] = []
        """Tokens of the reply that the next pass evaluates: the sampled one, and those that were put behind it."""
        self._limit = request.max_tokens or REPLY_TOKENS
        self._tokenizer = tokenizer
        self._text = TokenStream(tokenizer)
        self._parser = parser
        self._stops = StopStrings(request.stop)
        self._held: list[Logprobs] = []

    def take(self, sampled: _core.Sampled) -> list[Event]:
        """The events of one more token."""
        reply = self.reply
        reply.count(in_reasoning=self._parser.in_reasoning)
        if sampled.is_stop:
            self.reason = "stop"
            return []
        reply.written.append(sampled.token)
        self.pending = [sampled.token]
        shown: list[events.Event] = []
        for piece in self._text.push(sampled.token):
            shown += self._before_stop(self._parser.feed(piece.text, is_token=piece.is_special))
        if self._stops.found is not None:
            self._end_at_stop()
        elif len(reply.written) >= self._limit:
            self.reason = "length"
        return [reply.add(event) for event in (*self._told(sampled, shows_text=bool(shown)), *shown)]

    def finish(self) -> list[Event]:
        """The events of what was still held back."""
        if self._stops.found is not None:
            return []
        shown = self._before_stop(self._parser.feed(self._text.finish()))
        shown += self._before_stop(self._parser.finish())
        told: list[Logprobs] = []
        if self._stops.found is None:
            shown += self._released()
            told, self._held = self._held, []
        elif self.reason != "cancelled":
            self._end_at_stop()
        return [self.reply.add(event) for event in (*told, *shown)]

    def _end_at_stop(self) -> None:
        self.reason = "stop"
        self.reply.stop_string = self._stops.found

    def _before_stop(self, parsed: Iterable[events.Event]) -> list[events.Event]:
        """The events as far as no stop string ends them."""
        shown: list[events.Event] = []
        for event in parsed:
            if self._stops.found is not None:
                break
            if isinstance(event, TextDelta):
                text = self._stops.push(event.text)
                shown += [TextDelta(text)] if text else []
            else:
                shown += [*self._released(), event]
        return shown

    def _released(self) -> list[events.Event]:
        text = self._stops.finish()
        return [TextDelta(text)] if text else []

    def _told(self, sampled: _core.Sampled, *, shows_text: bool) -> list[Logprobs]:
        """The logprobs that can be told now: of no token whose text a stop string has cut, or may yet."""
        told: list[Logprobs] = []
        is_found, is_holding = self._stops.found is not None, self._stops.is_holding
        if shows_text or not (is_found or is_holding):
            told, self._held = self._held, []
        if sampled.logprob is not None and not is_found:
            own = Logprobs(self._token(sampled.token, sampled.logprob), self._tokens(sampled.top_logprobs))
            (self._held if is_holding else told).append(own)
        return told

    def _tokens(self, best: Sequence[tuple[int, float]]) -> tuple[TokenLogprob, ...]:
        return tuple(self._token(token, logprob) for token, logprob in best)

    def _token(self, token: int, logprob: float) -> TokenLogprob:
        return TokenLogprob(token, self._tokenizer.token_bytes(token), logprob)
