"""Items of the Responses API, which a conversation consists of there, as messages."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.fields import OBJECT, TEXT, describe
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import arguments
from qwen35_local.server.errors import Refused, bad
from qwen35_local.server.openai.tools import INPUT

_SEAL = "qwen35:"


def sealed(reasoning: str) -> str:
    """Thinking as the opaque text that a client hands back."""
    return _SEAL + base64.b64encode(reasoning.encode("utf-8", "replace")).decode()


def read_items(items: Sequence[Any]) -> list[Message]:
    """Messages, calls, their results and thinking; what one reply consisted of becomes one message again. Raises
    Refused, InputError."""
    messages: list[Message] = []
    thinking: str | None = None
    for n, entry in enumerate(items):
        where = f"input[{n}]"
        if not OBJECT.fits(entry):
            raise bad(where, f"{where} is {describe(entry)}; expected an object.")
        item = Body(entry, f"{where}.")
        kind = item.find("type", TEXT, "message")
        if kind == "reasoning":
            thinking = _thinking(item)
        elif kind in ("function_call", "custom_tool_call"):
            _add_call(messages, _call(item, kind), thinking)
            thinking = None
        elif kind in ("function_call_output", "custom_tool_call_output"):
            messages.append(_output(item, where))
        elif kind == "message":
            message = Message.from_dict({"role": "user", **entry}, where)
            if message.role == "assistant":
                message = replace(message, reasoning=message.reasoning or thinking)
            messages.append(message)
            thinking = None
        else:
            raise _unknown(item, kind)
    return messages


def _unknown(item: Body, kind: str) -> Refused:
    known = "message, reasoning, function_call, function_call_output, custom_tool_call or custom_tool_call_output"
    return item.refuse("type", known)


def _add_call(messages: list[Message], call: ToolCall, thinking: str | None) -> None:
    """To the assistant's message that it belongs to; new thinking begins a new one."""
    if messages and messages[-1].role == "assistant" and thinking is None:
        messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
    else:
        messages.append(Message("assistant", "", thinking, (call,)))


def _call(item: Body, kind: str) -> ToolCall:
    name, identifier = item.need("name", TEXT), item.need("call_id", TEXT)
    if kind == "custom_tool_call":
        return ToolCall(name, {INPUT: item.find("input", TEXT, "")}, identifier)
    return ToolCall(name, arguments(item.find("arguments", TEXT, "")), identifier)


def _output(item: Body, where: str) -> Message:
    body = {"role": "tool", "content": item.any("output"), "tool_call_id": item.need("call_id", TEXT)}
    return Message.from_dict(body, f"{where}.output")


def _thinking(item: Body) -> str | None:
    """The thinking itself where it is there, what was sealed, or else its summary."""
    for key in ("content", "summary"):
        parts = item.objects(key, 1000)
        text = "".join(part.find("text", TEXT, "") for part in parts)
        if text:
            return text
    given = item.find("encrypted_content", TEXT, "")
    if given.startswith(_SEAL):
        try:
            return base64.b64decode(given.removeprefix(_SEAL), validate=True).decode("utf-8", "replace")
        except binascii.Error:
            pass
    return None
