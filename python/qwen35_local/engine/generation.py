"""One reply as it is generated: sampled tokens to events, until something ends it."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Protocol

from qwen35_local import _core
from qwen35_local.chat import events
from qwen35_local.chat.events import TextDelta
from qwen35_local.engine.constraint import Constraint
from qwen35_local.engine.grammar import Mask, is_same
from qwen35_local.engine.loops import WITH_ANSWER, WITH_DATA, WITH_THINKING, LoopFinder
from qwen35_local.engine.reply import Completion, Event, Logprobs, Reason, Reply, Request, token_logprobs
from qwen35_local.engine.thinking import Thinking
from qwen35_local.text.stop_strings import StopStrings
from qwen35_local.text.stream import TokenStream
from qwen35_local.text.tokenizer import Tokenizer

# The family's model cards advise this much room for a reply.
REPLY_TOKENS = 32_768


class Parser(Protocol):
    """What makes events of the text of a reply."""

    @property
    def in_reasoning(self) -> bool: ...

    @property
    def in_call(self) -> bool: ...

    def feed(self, text: str, *, is_token: bool = False) -> list[events.Event]: ...

    def finish(self) -> list[events.Event]: ...


class Generation:
    """What becomes of the tokens of one reply. Stop strings are looked for in the answer, not in the thinking and not
    in tool calls; what may still become one is held back, its logprobs too.

    What is put behind a sampled token is part of the reply like any other token, but was not drawn: it has no
    logprobs."""

    def __init__(
        self,
        request: Request | Completion,
        parser: Parser,
        tokenizer: Tokenizer,
        reply: Reply,
        room: int,
        wants_answer: Callable[[], bool] = lambda: False,
        constraint: Constraint | None = None,
    ) -> None:
        """`room`: tokens that the context has for the reply. `wants_answer`: whether the thinking shall end now; asked
        after every token. `constraint`: which tokens may come. Raises InputError when the sampling settings do not fit
        the vocabulary."""
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
        self._ahead = 0  # tokens that the sampler has drawn behind the one that is being taken
        self.mask: Mask | None = None
        """Which tokens may be drawn next; None: every one."""
        self._masks_ahead: deque[Mask | None] = deque()  # of those that a pass draws behind it
        self._limit = request.max_tokens or REPLY_TOKENS
        self._tokenizer = tokenizer
        self._text = TokenStream(tokenizer)
        self._parser = parser
        self._stops = StopStrings(request.stop)
        self._held: list[Logprobs] = []
        self._tells_end = isinstance(request, Completion) and request.scores_prompt
        budget = request.thinking_tokens if isinstance(request, Request) else None
        self._thinking = Thinking(budget, min(self._limit, room), tokenizer, wants_answer)
        self._loops = LoopFinder() if request.breaks_loops else None
        self._is_bound = request.output_format is not None
        self._constraint = constraint
        self._set_mask()

    @property
    def room(self) -> int:
        """How many tokens may still come."""
        return self._limit - len(self.reply.written)

    def look_ahead(self, drafts: Sequence[int]) -> list[int]:
        """Those of the drafts that the next pass can verify, up to the first that ends the reply or cannot come."""
        kept = list(takewhile(lambda token: token not in self._tokenizer.end_ids, drafts))
        self._masks_ahead.clear()
        if self._constraint is not None and kept:
            ahead = self._constraint.masks_ahead(kept, self.mask, in_reasoning=self._parser.in_reasoning)
            kept = kept[: len(ahead)]
            self._masks_ahead.extend(ahead)
            self.sampler.set_masks([self.mask, *ahead])
        return kept

    def take(self, drawn: Sequence[_core.Sampled]) -> tuple[int, list[Event]]:
        """The events of tokens that were drawn one behind the other, and how many of them stand: where one ends the
        reply, is followed by what was not drawn, or leaves another choice of tokens than the next was drawn from, those
        behind it are taken back."""
        told: list[Event] = []
        for n, sampled in enumerate(drawn, 1):
            self._ahead = len(drawn) - n
            told += self._take(sampled)
            if self.reason is not None:
                self._drop_ahead()
            if not self._ahead:
                break
        return n, told

    def _drop_ahead(self) -> None:
        self.sampler.rewind(len(self.sampler) - self._ahead)
        self._ahead = 0

    def _take(self, sampled: _core.Sampled) -> list[Event]:
        reply = self.reply
        if sampled.is_stop:
            reply.count(in_reasoning=self._parser.in_reasoning)
            self.reason = "stop"
            if self._tells_end:
                self._held.append(token_logprobs(self._tokenizer, sampled))
            return []
        self.pending = []
        was_thinking = self._parser.in_reasoning
        shown = self._write(sampled.token)
        told = self._told(sampled, shows_text=bool(shown), in_reasoning=was_thinking)
        if self._stops.found is not None:
            self._end_at_stop()
        elif len(reply.written) >= self._limit:
            self.reason = "length"
        else:
            shown += self._steer()
            self._set_mask()
        return [reply.add(event) for event in (*told, *shown)]

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

    def _write(self, token: int) -> list[events.Event]:
        """One more token of the reply, for the next pass to evaluate."""
        was_thinking = self._parser.in_reasoning
        self.reply.count(in_reasoning=was_thinking)
        self.reply.written.append(token)
        self.pending.append(token)
        pieces = self._text.push(token)
        shown: list[events.Event] = []
        for piece in pieces:
            shown += self._before_stop(self._parser.feed(piece.text, is_token=piece.is_special))
        if self._loops is not None:
            self._look_for_loop(token, "".join(piece.text for piece in pieces), was_thinking)
        if self._constraint is not None:
            self._constraint.accept(token, in_reasoning=self._parser.in_reasoning)
        return shown

    def _set_mask(self) -> None:
        """Which tokens may be drawn next. One that was drawn under other ones does not stand."""
        if self._constraint is None:
            return
        self.mask = self._constraint.mask()
        self.reply.notes += self._constraint.new_notes()
        if self._ahead and not is_same(self.mask, self._masks_ahead.popleft()):
            self._drop_ahead()
        if not self._ahead:
            self.sampler.set_mask(self.mask)

    def _look_for_loop(self, token: int, text: str, was_thinking: bool) -> None:
        assert self._loops is not None
        if self._parser.in_reasoning != was_thinking:
            self._loops = LoopFinder()
        elif self._parser.in_call or (self._is_bound and not was_thinking):
            self._loops.push(token, text, WITH_DATA)
        else:
            self._loops.push(token, text, WITH_THINKING if was_thinking else WITH_ANSWER)

    def _steer(self) -> list[events.Event]:
        """Ends thinking that has to end, and a reply that goes round in circles. No character and no call is cut."""
        repeats = self._loops is not None and self._loops.is_looping
        if self._parser.in_reasoning and not self._parser.in_call and not self._text.in_character:
            why = self._thinking.why_to_end(self.reply, repeats=repeats)
            if why is not None:
                self.reply.notes.append(why)
                self._drop_ahead()
                self.sampler.accept(self._thinking.closing)
                return [event for token in self._thinking.closing for event in self._write(token)]
        if repeats and not self._text.in_character:
            self.reason = "loop"
        return []

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

    def _told(self, sampled: _core.Sampled, *, shows_text: bool, in_reasoning: bool) -> list[Logprobs]:
        """The logprobs that can be told now: of no token whose text a stop string has cut, or may yet."""
        told: list[Logprobs] = []
        is_found, is_holding = self._stops.found is not None, self._stops.is_holding
        if shows_text or not (is_found or is_holding):
            told, self._held = self._held, []
        if sampled.logprob is not None and not is_found:
            own = token_logprobs(self._tokenizer, sampled, in_reasoning=in_reasoning)
            (self._held if is_holding else told).append(own)
        return told
