"""The items that a response puts out, as they grow: each step gives the events that tell of it."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from qwen35_local.chat.messages import ToolCall
from qwen35_local.engine.reply import Logprobs
from qwen35_local.server.openai.chat_encoder import arguments_text, free_text, logprob_body
from qwen35_local.server.openai.responses_items import sealed

Told: TypeAlias = tuple[str, dict[str, Any]]
"""The type of an event behind "response.", and its fields."""


@dataclass
class Output:
    """At most one item is open at a time. `custom`: names of custom tools. `shows_summary`: thinking is told as a
    summary, else as itself."""

    custom: frozenset[str]
    shows_summary: bool
    seals_thinking: bool
    items: list[dict[str, Any]] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _logprobs: list[dict[str, Any]] = field(default_factory=list)
    _open: dict[str, Any] | None = None

    @property
    def is_writing(self) -> bool:
        """Whether some of a message's text is told."""
        return self._open is not None and self._open["type"] == "message"

    def think(self, piece: str) -> Iterator[Told]:
        if self._open is None or self._open["type"] != "reasoning":
            yield from self.close()
            yield from self._begin({"id": _id("rs"), "type": "reasoning", "summary": []})
            part = {"type": "summary_text" if self.shows_summary else "reasoning_text", "text": ""}
            yield f"{self._thinking}_part.added" if self.shows_summary else "content_part.added", self._at("part", part)
        self._text.append(piece)
        yield f"{self._thinking}_text.delta", self._at("delta", piece)

    def write(self, piece: str, logprobs: list[Logprobs]) -> Iterator[Told]:
        if not self.is_writing:
            yield from self.close()
            yield from self._begin({"id": _id("msg"), "type": "message", "role": "assistant", "content": []})
            yield "content_part.added", self._at("part", _text_part("", []))
        self._text.append(piece)
        bodies = list(map(logprob_body, logprobs))
        self._logprobs += bodies
        yield "output_text.delta", self._at("delta", piece) | {"logprobs": bodies}

    def begin_call(self, name: str) -> Iterator[Told]:
        yield from self.close()
        call = {"call_id": _id("call"), "name": name}
        if name in self.custom:
            yield from self._begin({"id": _id("ctc"), "type": "custom_tool_call", **call, "input": ""})
        else:
            yield from self._begin({"id": _id("fc"), "type": "function_call", **call, "arguments": ""})

    def write_arguments(self, piece: str) -> Iterator[Told]:
        """More of the open call. The input of a custom tool is told at its end."""
        assert self._open is not None
        if self._open["type"] == "function_call":
            self._text.append(piece)
            yield "function_call_arguments.delta", self._at("delta", piece)

    def end_call(self, call: ToolCall) -> Iterator[Told]:
        assert self._open is not None
        is_custom = self._open["type"] == "custom_tool_call"
        whole = free_text(call) if is_custom else arguments_text(call)
        rest = whole.removeprefix("".join(self._text))
        kind = "custom_tool_call_input" if is_custom else "function_call_arguments"
        if rest:
            yield f"{kind}.delta", self._at("delta", rest)
        self._open["input" if is_custom else "arguments"] = whole
        yield f"{kind}.done", self._at("input", whole) if is_custom else self._at("arguments", whole)
        yield from self._end("completed")

    def close(self, status: str = "completed") -> Iterator[Told]:
        """Ends the open item. A call that is still open turned out to be none."""
        if self._open is None:
            return
        text = "".join(self._text)
        if self._open["type"] == "message":
            part = _text_part(text, self._logprobs)
            yield "output_text.done", self._at("text", text) | {"logprobs": self._logprobs}
            yield "content_part.done", self._at("part", part)
            self._open["content"] = [part]
        elif self._open["type"] == "reasoning":
            yield from self._end_thinking(text)
        else:
            status = "incomplete"
            if self._open["type"] == "function_call":
                self._open["arguments"] = text
        yield from self._end(status)

    @property
    def _thinking(self) -> str:
        return "reasoning_summary" if self.shows_summary else "reasoning"

    def _end_thinking(self, text: str) -> Iterator[Told]:
        assert self._open is not None
        part = {"type": "summary_text" if self.shows_summary else "reasoning_text", "text": text}
        yield f"{self._thinking}_text.done", self._at("text", text)
        yield "reasoning_summary_part.done" if self.shows_summary else "content_part.done", self._at("part", part)
        self._open["summary" if self.shows_summary else "content"] = [part]
        if self.seals_thinking:
            self._open["encrypted_content"] = sealed(text)

    def _begin(self, item: dict[str, Any]) -> Iterator[Told]:
        self._open = {**item, "status": "in_progress"}
        self._text, self._logprobs = [], []
        yield "output_item.added", {"output_index": len(self.items), "item": dict(self._open)}

    def _end(self, status: str) -> Iterator[Told]:
        assert self._open is not None
        item = {**self._open, "status": status}
        self._open = None
        self.items.append(item)
        yield "output_item.done", {"output_index": len(self.items) - 1, "item": item}

    def _at(self, key: str, value: Any) -> dict[str, Any]:
        """Where in the output, and what."""
        assert self._open is not None
        place: dict[str, Any] = {"item_id": self._open["id"], "output_index": len(self.items)}
        if self._open["type"] == "reasoning" and self.shows_summary:
            place["summary_index"] = 0
        elif self._open["type"] in ("reasoning", "message"):
            place["content_index"] = 0
        return {**place, key: value}


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"
