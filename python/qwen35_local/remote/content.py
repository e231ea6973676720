"""Text of a reply to events: thinking and calls that a server leaves in the text are found there.

A server that was told of the family's format gives thinking and calls in fields of their own. One that was not leaves
all in `content`, whose thinking has no opening tag: the prompt has it. So long as it is not known which it is, a text
that may be thinking is held back until its `</think>`, or its end, decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen35_local.chat.events import Event, ReasoningDelta, TextDelta, ToolCallStart
from qwen35_local.chat.parser import OutputParser

_MOST_HELD = 256 << 10  # characters of thinking that is not known to be any


@dataclass
class Habit:
    """Where a server's thinking is, as far as its replies have shown; None: not known yet."""

    thinks_in_text: bool | None = None


class ContentReader:
    """Of one reply. `thinks`: whether it may begin with thinking."""

    def __init__(self, tools: Sequence[Mapping[str, Any]], habit: Habit, *, thinks: bool) -> None:
        self._tools = tools
        self._habit = habit
        self._may_think = thinks
        self._held: list[str] | None = [] if thinks and habit.thinks_in_text is None else None
        self._n_held = 0
        self._parser: OutputParser | None = None
        self._is_plain = False
        self.n_calls = 0
        """Calls that were found in the text."""

    @property
    def in_reasoning(self) -> bool:
        if self._parser is None:
            return self._may_think and self._habit.thinks_in_text is True
        return self._parser.in_reasoning

    @property
    def in_call(self) -> bool:
        return self._parser is not None and self._parser.in_call

    def reasoning(self, text: str) -> list[Event]:
        """Thinking in a field of its own."""
        if self._held is not None:
            self._habit.thinks_in_text = False
        before = self._release(is_thinking=False)
        self._may_think = False
        return [*before, ReasoningDelta(text)]

    def text(self, text: str) -> list[Event]:
        if self._is_plain:
            return [TextDelta(text)]
        if self._held is None:
            return self._feed(text)
        self._held.append(text)
        self._n_held += len(text)
        tail = "".join(self._held[-12:])  # a tag may come in pieces
        if "</think>" in tail:
            self._habit.thinks_in_text = True
            return self._release(is_thinking=True)
        if self._n_held > _MOST_HELD:
            return self._release(is_thinking=False)
        return []

    def leave_text(self) -> list[Event]:
        """Calls come in fields of their own: text has none from now on."""
        events = self.finish()
        self._is_plain = True
        return events

    def finish(self) -> list[Event]:
        if self._held:
            self._habit.thinks_in_text = False
        events = self._release(is_thinking=False)
        if self._parser is not None:
            events += self._counted(self._parser.finish())
            self._parser = None
            self._is_plain = True
        return events

    def _release(self, *, is_thinking: bool) -> list[Event]:
        held, self._held = self._held, None
        return self._feed("".join(held), is_thinking=is_thinking) if held else []

    def _feed(self, text: str, *, is_thinking: bool | None = None) -> list[Event]:
        if self._parser is None:
            if is_thinking is None:
                is_thinking = self._may_think and self._habit.thinks_in_text is True
            self._parser = OutputParser(self._tools, in_reasoning=is_thinking, in_answer=not self._may_think)
        return self._counted(self._parser.feed(text))

    def _counted(self, events: list[Event]) -> list[Event]:
        self.n_calls += sum(isinstance(event, ToolCallStart) for event in events)
        return events
