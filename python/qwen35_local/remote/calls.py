"""Calls that come in pieces, in fields of their own.

Their arguments are told when they are whole: until then it is not known whether they are JSON, and how this program
writes it (`ToolCallDelta`).
"""

from qwen35_local import json_file
from qwen35_local.chat.events import Event, ToolCallDelta, ToolCallDone, ToolCallStart
from qwen35_local.chat.messages import ToolCall
from qwen35_local.chat.unfinished_call import json_text
from qwen35_local.remote.chunk import CallPiece

_ANONYMOUS = "tool"


class CallReader:
    """One call after the other; a piece with another index or id begins a new one."""

    def __init__(self) -> None:
        self.is_open = False
        self._index = 0
        self._piece = CallPiece(0, "", "", "")
        self._arguments: list[str] = []

    def begin_at(self, index: int) -> None:
        """The number of the first call."""
        self._index = index

    def take(self, piece: CallPiece) -> list[Event]:
        now = self._piece
        is_other = piece.index != now.index or bool(piece.id and now.id and piece.id != now.id)
        events = self.finish() if self.is_open and is_other else []
        if not self.is_open:
            self.is_open = True
            self._piece = piece
            events.append(ToolCallStart(self._index, piece.name or _ANONYMOUS))
        self._arguments.append(piece.arguments)
        return events

    def finish(self) -> list[Event]:
        """The call that is open, if one is. Arguments that are no object were cut: it is no call then."""
        if not self.is_open:
            return []
        text = "".join(self._arguments)
        name = self._piece.name or _ANONYMOUS
        try:
            arguments = json_file.parse_written(text) if text.strip() else {}
        except ValueError:
            arguments = None
        events: list[Event] = []
        if isinstance(arguments, dict):
            events.append(ToolCallDelta(self._index, json_text(arguments)))
        else:
            arguments = None
        call = ToolCall(name, arguments or {}, self._piece.id or None)
        events.append(ToolCallDone(self._index, call, f"{name}({text})", is_closed=arguments is not None))
        self.is_open = False
        self._arguments.clear()
        self._index += 1
        return events
