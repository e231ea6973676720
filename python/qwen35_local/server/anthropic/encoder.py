"""A reply as a message of blocks, whole or event by event."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from secrets import token_hex
from typing import Any

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStart
from qwen35_local.chat.messages import Message
from qwen35_local.engine.job import Reading
from qwen35_local.engine.reply import Done, Event, Reason, Usage
from qwen35_local.server.anthropic.errors import error_body
from qwen35_local.server.dialect import EVENT_STREAM
from qwen35_local.server.errors import Refused
from qwen35_local.server.json_text import encoded

_STOP_REASONS: dict[Reason, str] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "context": "model_context_window_exceeded",
    "loop": "max_tokens",  # cut short, as far as this API can say it
    "cancelled": "end_turn",
}


class MessageEncoder:
    """Of one reply. The message starts, for the client, when the length of its prompt is known."""

    media_type = EVENT_STREAM

    def __init__(self, model: str, *, shows_thinking: bool = True) -> None:
        self._model = model
        self._shows_thinking = shows_thinking
        self._blocks = Blocks(shows_thinking=shows_thinking)
        self._id = f"msg_{token_hex(12)}"
        self._has_started = False

    def start(self) -> bytes:
        return b""

    def ping(self, reading: Reading | None) -> bytes:
        opening = () if reading is None else self._opening(reading)
        return _events(*opening, {"type": "ping"})

    def event(self, event: Event) -> bytes:
        opening = self._opening(None)
        if isinstance(event, Done):
            return _events(*opening, *self._blocks.close(), self._delta(event), {"type": "message_stop"})
        return _events(*opening, *self._blocks.take(event))

    def end(self) -> bytes:
        return b""

    def failure(self, refused: Refused) -> bytes:
        return _events(error_body(refused))

    def whole(self, replies: Sequence[Done]) -> bytes:
        done = replies[0]
        said = content(done.message, shows_thinking=self._shows_thinking)
        return encoded(self._message(usage(done.usage)) | self._delta(done)["delta"] | {"content": said})

    def _opening(self, reading: Reading | None) -> Iterator[dict[str, Any]]:
        if not self._has_started:
            self._has_started = True
            reused, total = (0, 0) if reading is None else (reading.done, reading.total)
            used = Usage(prompt_tokens=total, reused_tokens=min(reused, total))
            yield {"type": "message_start", "message": self._message(usage(used))}

    def _message(self, used: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": used,
        }

    def _delta(self, done: Done) -> dict[str, Any]:
        reason = "stop_sequence" if done.stop_string is not None else _STOP_REASONS[done.reason]
        delta = {"stop_reason": reason, "stop_sequence": done.stop_string}
        return {"type": "message_delta", "delta": delta, "usage": usage(done.usage)}


class Blocks:
    """The blocks of a message, one after the other: thinking, text, calls. A call's block starts when something of its
    arguments is known."""

    def __init__(self, *, shows_thinking: bool) -> None:
        self._shows_thinking = shows_thinking
        self._index = -1
        self._kind = ""
        self._thought: list[str] = []
        self._called = ""

    def take(self, event: Event) -> Iterator[dict[str, Any]]:
        match event:
            case ReasoningDelta(text):
                yield from self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                self._thought.append(text)
                if self._shows_thinking:
                    yield self._delta({"type": "thinking_delta", "thinking": text})
            case TextDelta(cut_call=index) if self._kind == f"call {index}":
                yield from self.close()  # as far as it is told; the message ends here
            case TextDelta(text):
                yield from self._open("text", {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            case ToolCallStart(name=name):
                self._called = name
            case ToolCallDelta(index, text):
                yield from self._open(f"call {index}", _tool_use(self._called))
                yield self._delta({"type": "input_json_delta", "partial_json": text})
            case ToolCallDone(index, call):
                yield from self._open(f"call {index}", _tool_use(call.name))
                yield from self.close()

    def close(self) -> Iterator[dict[str, Any]]:
        if not self._kind:
            return
        if self._kind == "thinking":
            yield self._delta({"type": "signature_delta", "signature": signature("".join(self._thought))})
            self._thought.clear()
        self._kind = ""
        yield {"type": "content_block_stop", "index": self._index}

    def _open(self, kind: str, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self._kind == kind:
            return
        yield from self.close()
        self._kind = kind
        self._index += 1
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def content(message: Message, *, shows_thinking: bool) -> list[dict[str, Any]]:
    """The blocks of a whole message."""
    blocks: list[dict[str, Any]] = []
    if message.reasoning:
        shown = message.reasoning if shows_thinking else ""
        blocks.append({"type": "thinking", "thinking": shown, "signature": signature(message.reasoning)})
    if message.text:
        blocks.append({"type": "text", "text": message.text})
    return blocks + [_tool_use(call.name) | {"input": dict(call.arguments)} for call in message.tool_calls]


def _tool_use(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{token_hex(12)}", "name": name, "input": {}}


def signature(thought: str) -> str:
    """Clients give a thought back with its signature; here it means nothing."""
    return b64encode(sha256(thought.encode("utf-8", "replace")).digest()).decode()


def usage(used: Usage) -> dict[str, Any]:
    """`input_tokens` are those that were read now; all of a prompt are these, and those read from the cache."""
    return {
        "input_tokens": used.prompt_tokens - used.reused_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.reused_tokens,
        "output_tokens": used.generated_tokens,
        "output_tokens_details": {"thinking_tokens": used.reasoning_tokens},
    }


def _events(*data: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (entry["type"].encode(), encoded(entry)) for entry in data)
