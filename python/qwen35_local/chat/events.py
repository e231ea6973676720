"""What a model's output consists of. `Event` is the closed union of the types below. `choice`: of which of
several replies."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from qwen35_local.chat.messages import ToolCall


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the thinking."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call of tool `name` has begun. `ToolCallDone` of the same index follows, or, when what was written turns out to
    be no call, its characters follow as a delta."""

    index: int
    name: str
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


Event: TypeAlias = ReasoningDelta | TextDelta | ToolCallStart | ToolCallDone


def merged(events: Iterable[Event]) -> list[Event]:
    """The same events with neighbouring deltas of one type joined: equal for every way of cutting an output."""
    result: list[Event] = []
    texts: list[str] = []
    kind: type[ReasoningDelta] | type[TextDelta] | None = None
    for event in events:
        if isinstance(event, (ReasoningDelta, TextDelta)):
            if kind is not None and not isinstance(event, kind):
                result.append(kind("".join(texts)))
                texts = []
            kind = type(event)
            texts.append(event.text)
            continue
        if kind is not None:
            result.append(kind("".join(texts)))
            kind, texts = None, []
        result.append(event)
    if kind is not None:
        result.append(kind("".join(texts)))
    return result
