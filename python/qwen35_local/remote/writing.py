"""One reply of a remote engine as it comes: chunks to events, until something ends it.

What the engine of this machine does with tokens is done with pieces here, as a rule a token each: stop strings, which
must not end the thinking; budgets; the loop breaker.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qwen35_local.chat import events
from qwen35_local.chat.events import ReasoningDelta, TextDelta
from qwen35_local.engine.generation import REPLY_TOKENS
from qwen35_local.engine.loops import WITH_ANSWER, WITH_DATA, WITH_THINKING
from qwen35_local.engine.reply import Completion, Done, Event, Logprobs, Reason, Reply, Request, Reuse
from qwen35_local.engine.thinking import ANSWER_TOKENS
from qwen35_local.errors import RemoteError
from qwen35_local.remote.calls import CallReader
from qwen35_local.remote.chunk import Chunk, Spent
from qwen35_local.remote.content import ContentReader, Habit
from qwen35_local.remote.words import WordLoops
from qwen35_local.text.stop_strings import StopStrings

GRACE_TOKENS = 64
"""Beyond a budget or a limit, in which a server that keeps it itself comes to its end."""


class Writing:
    """`server`: who writes it, in words. `thinks`: whether it may begin with thinking."""

    def __init__(self, request: Request, reply: Reply, habit: Habit, server: str, *, thinks: bool) -> None:
        self.reason: Reason | None = None
        """What ended the reply, once something has."""
        self.reply = reply
        self._request = request
        self._server = server
        self._habit = habit
        self._content = ContentReader(self._tools, habit, thinks=thinks)
        self._calls = CallReader()
        self._stops = StopStrings(request.stop)
        self._loops = WordLoops()
        self._was_thinking = False
        self._is_looping = False
        self._finish: str | None = None
        self._spent: list[Spent] = [Spent()]
        # A server that was told the limit keeps it, and tells the usage behind that.
        self._limit = request.max_tokens or REPLY_TOKENS
        self._cut_at = request.max_tokens + GRACE_TOKENS if request.max_tokens else REPLY_TOKENS

    @classmethod
    def of_text(cls, asked: Completion, reply: Reply, habit: Habit, server: str) -> "Writing":
        """What goes on from a text that is no conversation, all of it as text."""
        request = Request(
            (), asked.sampling, max_tokens=asked.max_tokens, stop=asked.stop, breaks_loops=asked.breaks_loops
        )
        writing = cls(request, reply, habit, server, thinks=False)
        writing._content.leave_text()
        return writing

    @property
    def in_reasoning(self) -> bool:
        return self._was_thinking

    @property
    def thoughts(self) -> str:
        return self.reply.message.reasoning or ""

    @property
    def tokens_left(self) -> int:
        """For the rest of the reply; 0: as many as the server allows."""
        return max(1, self._limit - self.reply.n_tokens) if self._request.max_tokens else 0

    def take(self, chunk: Chunk) -> list[Event]:
        """The events of one more chunk."""
        if chunk.spent is not None:
            self._spent[-1] = chunk.spent
        self._finish = chunk.finish or self._finish
        found: list[events.Event] = []
        if chunk.reasoning:
            found += self._content.reasoning(chunk.reasoning)
        if chunk.text:
            found += self._content.text(chunk.text)
        if chunk.calls and not self._calls.is_open:
            found += self._content.leave_text()
            self._calls.begin_at(max(self._content.n_calls, len(self.reply.message.tool_calls)))
        for piece in chunk.calls:
            found += self._calls.take(piece)
        self._was_thinking = bool(chunk.reasoning) or (self._content.in_reasoning and not chunk.calls)
        if chunk.reasoning or chunk.text or chunk.calls:
            self.reply.count(in_reasoning=self._was_thinking)
        return self._told(chunk.logprobs, found)

    def why_to_answer(self) -> str | None:
        """Why no more of the thinking is wanted, in words; None while it may go on."""
        if not self._was_thinking:
            return None
        budget, thought = self._request.thinking_tokens, self.reply.reasoning_tokens
        if budget is not None and thought >= budget + GRACE_TOKENS:
            return f"the thinking reached its budget of {budget:,} tokens"
        if self._is_looping:
            return "the thinking repeated itself"
        most = self._request.max_tokens
        if most and self.reply.n_tokens >= most - min(ANSWER_TOKENS, most // 4):
            return "the thinking was ended to leave room for the answer"
        return None

    def begin_answer(self) -> list[Event]:
        """The thinking is over, and the answer comes from a request of its own; returns what was still held back."""
        rest = self._told((), self._content.finish())
        self._content = ContentReader(self._tools, self._habit, thinks=False)
        self._loops, self._is_looping, self._was_thinking = WordLoops(), False, False
        self._finish = None
        self._spent.append(Spent())
        return rest

    def end(self) -> list[Event]:
        """The events of what was held back, when no more comes. Raises RemoteError when that is too early."""
        if self.reason is None and self._finish is None:
            raise RemoteError(f"{self._server} broke off in the middle of the reply.")
        if self._stops.found is not None:
            return []
        shown = self._told((), [*self._content.finish(), *self._calls.finish()])
        if self._stops.found is None:
            rest = self._stops.finish()
            shown += [self.reply.add(TextDelta(rest))] if rest else []
        return shown

    def done(self) -> Done:
        reason = self.reason or ("length" if self._finish == "length" else "stop")
        spent = self._spent
        first = next((each for each in spent if each.prompt is not None), spent[0])
        prompt, cached = first.prompt or 0, min(first.cached or 0, first.prompt or 0)
        source = f"the cache of {self._server}" if cached else ""
        done = self.reply.done(reason, prompt, Reuse(cached, source, prompt - cached, reader=self._server))
        told = [each.generated for each in spent if each.generated is not None]
        if len(told) == len(spent):  # else, of a request that was ended early, the pieces are counted
            done = replace(done, usage=replace(done.usage, generated_tokens=sum(told)))
        if len(spent) == 1 and first.reasoning is not None:
            done = replace(done, usage=replace(done.usage, reasoning_tokens=first.reasoning))
        accepted = sum(each.accepted or 0 for each in spent)
        drafted = accepted + sum(each.rejected or 0 for each in spent)
        return replace(done, usage=replace(done.usage, drafted_tokens=drafted, accepted_tokens=accepted))

    @property
    def _tools(self) -> Sequence[Mapping[str, Any]]:
        return () if self._request.tool_choice.mode == "none" else self._request.tools

    def _told(self, logprobs: Iterable[Logprobs], found: Iterable[events.Event]) -> list[Event]:
        told: list[Event] = [self.reply.add(replace(one, in_reasoning=self._was_thinking)) for one in logprobs]
        for event in found:
            if self._stops.found is not None:
                break
            if isinstance(event, TextDelta):
                text = self._stops.push(event.text)
                if not text:
                    continue
                event = TextDelta(text)
            else:
                held = self._stops.finish()
                told += [self.reply.add(TextDelta(held))] if held else []
            told.append(self.reply.add(event))
            self._look_for_loop(event)
        if self._stops.found is not None:
            self.reason, self.reply.stop_string = "stop", self._stops.found
        elif self.reply.n_tokens >= self._cut_at and self._finish is None:
            self.reason = "length"
        elif self._is_looping and not self._was_thinking:
            self.reason = "loop"
        return told

    def _look_for_loop(self, event: events.Event) -> None:
        if not self._request.breaks_loops or not isinstance(event, ReasoningDelta | TextDelta):
            return
        is_thinking = isinstance(event, ReasoningDelta)
        if is_thinking:
            patience = WITH_THINKING
        else:
            patience = WITH_DATA if self._request.output_format is not None else WITH_ANSWER
        self._is_looping = self._loops.push(event.text, patience)
