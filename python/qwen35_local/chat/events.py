"""What a model's output consists of. `Event` is the closed union of the types below. `choice`: of which of
several replies."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeAlias, cast

from qwen35_local.chat.messages import ToolCall


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the thinking."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer. `cut_call`: the index of a call that was cut short, whose characters these are."""

    text: str
    choice: int = 0
    cut_call: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call of tool `name` has begun. `ToolCallDone` of the same index follows, or, when what was written turns out to
    be no call, its characters follow as a delta."""

    index: int
    name: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the arguments of the call that has begun, as JSON: joined they are `unfinished_call.json_text` of the
    arguments that its ToolCallDone has, or a beginning of that, which is no JSON, where the output stopped inside the
    call. A string comes as it is written, anything else once it is whole."""

    index: int
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDone:
    """A call is complete. `raw`: exactly what the model wrote. `is_closed`: False when the output stopped inside the
    call, whose last argument may then be cut short: do not run it if the model was stopped for length."""

    index: int
    call: ToolCall
    raw: str
    is_closed: bool
    choice: int = 0


Event: TypeAlias = ReasoningDelta | TextDelta | ToolCallStart | ToolCallDelta | ToolCallDone


def merged(events: Iterable[Event]) -> list[Event]:
    """The same events with neighbouring deltas of one type joined: equal for every way of cutting an output."""
    result: list[Event] = []
    for kind, run in groupby(events, type):
        if issubclass(kind, (ReasoningDelta, TextDelta, ToolCallDelta)):
            first, *others = cast(Iterator[ReasoningDelta | TextDelta | ToolCallDelta], run)
            result.append(replace(first, text="".join([first.text, *(event.text for event in others)])))
        else:
            result += run
    return result
