"""A conversation as clients send it, brought into the form that the family's template knows.

Clients write several system messages, the role `developer`, arguments of calls that are no JSON, and cut away old turns
up to the user's question. The template refuses all of that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from qwen35_local import json_file
from qwen35_local.chat.messages import Message, ToolCall, read_messages
from qwen35_local.errors import InputError
from qwen35_local.fields import ANY_LIST
from qwen35_local.server.body import Body
from qwen35_local.server.errors import bad, refusal
from qwen35_local.server.limits import Limits
from qwen35_local.server.thinking import OFF, Thinking

BILLING = "x-anthropic-billing-header"
"""How a line of a system prompt begins that some agents put first, with other digits for every request: read as text
it would make every prompt a new one."""

CONTINUATION = "Continue."

_OF_A_MESSAGE = (
    *("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking"),
    *("function_call", "refusal", "annotations", "reasoning_details"),
)


def conversation(body: Body, limits: Limits) -> list[Message]:
    """`messages` in OpenAI's form, as the template takes them. Raises Refused."""
    body.need("messages", ANY_LIST)
    entries = body.objects("messages", limits.messages)
    if not entries:
        raise bad("messages", "messages is an empty list; expected at least one message.")
    for entry in entries:
        entry.ignore(*_OF_A_MESSAGE)
    try:
        return normalised(read_messages([_repaired(entry.values) for entry in entries]))
    except InputError as error:
        raise refusal(error, "messages") from error


def normalised(messages: Sequence[Message]) -> list[Message]:
    """System messages at the beginning become one, without the billing line; a later one is shown in its place as the
    user's, so that what was read before it stays as it is. Where no user asks anything, a word to go on is added."""
    first = next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))
    system = "\n\n".join(text for message in messages[:first] if (text := system_text(message)))
    turns = [replace(m, role="user") if m.role == "system" else m for m in messages[first:]]
    turns = list(_in_order_of_calls(turns))
    if not any(message.role == "user" for message in turns):
        turns.insert(0, Message("user", CONTINUATION))
    return [Message("system", system), *turns] if system else turns


def going_on(messages: Sequence[Message], thinking: Thinking, param: str = "messages") -> Thinking:
    """The setting for a reply that goes on from the text of the last message: it thinks no more. Raises Refused where
    it cannot go on from that, which `param` asks for."""
    given = messages[-1]
    if given.role != "assistant" or given.tool_calls:
        raise bad(param, f"{param}: only a last message of the assistant's that calls no tool can be continued.")
    if given.reasoning:
        return thinking
    if thinking.is_on:
        raise bad(
            param,
            f"{param}: a reply that goes on from the assistant's text cannot think first; leave the thinking off, or "
            "give that of the message with it.",
        )
    return OFF


def _in_order_of_calls(turns: Sequence[Message]) -> Iterator[Message]:
    """Results in the order of the calls that they answer: the template shows no ids. Those that answer none of the last
    calls keep their places, and so do all beside them."""
    calls: tuple[ToolCall, ...] = ()
    for is_result, run in groupby(turns, lambda message: message.role == "tool"):
        messages = list(run)
        if is_result:
            places = {call.id: place for place, call in enumerate(calls)}
            if all(message.tool_call_id in places for message in messages):
                messages.sort(key=lambda message: places[message.tool_call_id])
        calls = messages[-1].tool_calls
        yield from messages


def system_text(message: Message) -> str:
    """The text of a system message, without the line that only counts requests, alone in a block or above others."""
    parts = [_without_billing_line(part) for part in message.parts if isinstance(part, str)]
    return "\n".join(part for part in parts if part)


def _without_billing_line(text: str) -> str:
    return text.partition("\n")[2].lstrip("\n") if text.lstrip().startswith(BILLING) else text


def _repaired(entry: Any) -> Any:
    """A message whose calls have arguments that are an object, also where a model once wrote something else."""
    if not isinstance(entry, Mapping):
        return entry
    repaired = dict(entry)
    if repaired.get("role") == "assistant":
        legacy = repaired.pop("function_call", None)
        calls = repaired.get("tool_calls") or ([{"function": legacy}] if legacy else [])
        if isinstance(calls, list):
            repaired["tool_calls"] = [_repaired_call(call) for call in calls]
    content = repaired.get("content")
    if isinstance(content, list):
        thoughts = [text for part in content if (text := _thought(part)) is not None]
        repaired["content"] = [_refusal_as_text(part) for part in content if _thought(part) is None]
        if thoughts and repaired.get("role") == "assistant":
            repaired.setdefault("reasoning_content", "".join(thoughts))
    return repaired


def _thought(part: Any) -> str | None:
    """Thinking that comes back among the parts of the content, as some clients keep it."""
    if not isinstance(part, Mapping) or part.get("type") not in ("thinking", "reasoning"):
        return None
    text = part.get("thinking", part.get("text"))
    return text if isinstance(text, str) else None


def _refusal_as_text(part: Any) -> Any:
    is_refusal = isinstance(part, Mapping) and part.get("type") == "refusal" and isinstance(part.get("refusal"), str)
    return {"type": "text", "text": part["refusal"]} if is_refusal else part


def _repaired_call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    custom = call.get("custom")
    if isinstance(custom, Mapping):
        return {
            "id": call.get("id"),
            "function": {"name": custom.get("name"), "arguments": {"input": custom.get("input", "")}},
        }
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    return {"id": call.get("id"), "function": {**function, "arguments": arguments(function["arguments"])}}


def arguments(text: str) -> dict[str, Any]:
    """The arguments of a call as an object; text that is none becomes the one argument `raw`."""
    try:
        value = json_file.parse_written(text) if text.strip() else {}
    except ValueError:
        return {"raw": text}
    return value if isinstance(value, dict) else {"raw": text}
