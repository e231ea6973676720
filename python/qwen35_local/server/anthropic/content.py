"""Messages made of blocks, as Anthropic's API has them, to messages of a conversation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.fields import FLAG, OBJECT, TEXT
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import normalised
from qwen35_local.server.errors import Refused

_BETWEEN_BLOCKS = "\n\n"  # texts that a client wrote: each is a paragraph of its own


def read_conversation(body: Body, most: int) -> list[Message]:
    """`system` and `messages`, of at most `most` messages with at most so many blocks each, as the template takes
    them. An empty last one of the assistant's counts as none. Raises Refused."""
    system = [] if body.any("system") is None else _texts(body, "system", most)
    entries = body.objects("messages", most)
    if not entries:
        raise body.refuse("messages", "a list of at least one message")
    messages = [Message("system", tuple(system))] if system else []
    for entry in entries:
        role = entry.need("role", TEXT)
        if role == "user":
            messages += _of_user(entry, most)
        elif role == "assistant":
            messages.append(_of_assistant(entry, most))
        elif role == "system":
            messages.append(Message("system", tuple(_texts(entry, "content", most))))
        else:
            raise entry.refuse("role", "user, assistant or system")
    if messages[-1] == Message("assistant"):
        messages.pop()
    return normalised(messages)


def _of_user(entry: Body, most: int) -> Iterator[Message]:
    """What was said and what tools gave, in the order of the blocks: a message of its own for each result."""
    said: list[str] = []

    def spoken() -> Iterator[Message]:
        if said:
            yield Message("user", _BETWEEN_BLOCKS.join(said))
            said.clear()

    blocks = _blocks(entry, "content", most)
    if not blocks:
        yield Message("user", "")
    for block in blocks:
        if isinstance(block, Body) and block.values.get("type") == "tool_result":
            yield from spoken()
            yield _result(block, most)
        else:
            said.append(_text(block))
    yield from spoken()


def _of_assistant(entry: Body, most: int) -> Message:
    """Blocks in which a reply was told come back as it was: texts join without anything between."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in _blocks(entry, "content", most):
        kind = "text" if isinstance(block, str) else block.need("type", TEXT)
        if isinstance(block, str):
            texts.append(block)
        elif kind == "text":
            texts.append(block.need("text", TEXT))
        elif kind == "thinking":
            thoughts.append(block.find("thinking", TEXT, ""))
        elif kind == "tool_use":
            calls.append(ToolCall.from_dict(_call(block)))
        elif kind != "redacted_thinking":
            raise _unsupported(block, kind)
    # Without its thinking a reply is recognised by what it says.
    return Message("assistant", "".join(texts), "".join(thoughts) or None, tuple(calls))


def _call(block: Body) -> dict[str, Any]:
    name = block.need("name", TEXT)
    if not name:
        raise block.refuse("name", "the name of a tool")
    return {"id": block.need("id", TEXT), "name": name, "arguments": block.need("input", OBJECT)}


def _result(block: Body, most: int) -> Message:
    identifier = block.need("tool_use_id", TEXT)
    texts = [] if block.any("content") is None else _texts(block, "content", most)
    text = _BETWEEN_BLOCKS.join(texts)
    return Message("tool", f"Error: {text}" if block.find("is_error", FLAG, False) else text, tool_call_id=identifier)


def _texts(body: Body, key: str, most: int) -> list[str]:
    return [_text(block) for block in _blocks(body, key, most)]


def _blocks(body: Body, key: str, most: int) -> Sequence[Body | str]:
    """A text is one block of text. Raises Refused."""
    value = body.any(key)
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise body.refuse(key, "a text or a list of blocks")
    blocks = body.objects(key, most)
    for block in blocks:
        block.ignore("type", "cache_control", "citations", "title", "context", "signature", "data", "caller")
    return blocks


def _text(block: Body | str) -> str:
    """The text of a block that stands for one. Raises Refused."""
    if isinstance(block, str):
        return block
    kind = block.need("type", TEXT)
    if kind == "text":
        return block.need("text", TEXT)
    if kind == "document":
        source: Mapping[str, Any] = block.need("source", OBJECT)
        if source.get("type") == "text" and isinstance(source.get("data"), str):
            return str(source["data"])
        raise block.refuse("source", 'a document as text, {"type": "text", "data": ...}')
    if kind == "tool_reference":  # every tool is shown from the start
        return f"The tool {block.need('tool_name', TEXT)} can be called."
    raise _unsupported(block, kind)


def _unsupported(block: Body, kind: str) -> Refused:
    if kind == "image":
        return block.refuse("type", "no image: this server reads text only")
    return block.refuse("type", "a block of text, thinking, tool_use or tool_result, each in its place")
