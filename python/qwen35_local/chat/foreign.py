"""Prompts from templates that are not the family's: rendered by Jinja in the sandbox, then told apart into segments.

A rendered string does not say which part a person wrote. All special tokens begin with "<", so the conversation is
rendered a second time with every "<" of its content exchanged for a character that occurs nowhere else: what is still a
"<" afterwards was written by the template.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from qwen35_local.chat.family import Options
from qwen35_local.chat.messages import Media, Message
from qwen35_local.chat.prompt import Prompt, Segment, Turn, TurnKind
from qwen35_local.chat.sandbox import render_jinja
from qwen35_local.errors import TemplateError

_TURN_OPENING = "<|im_start|>"
_TURN_CLOSING = "<|im_end|>"
_PRIVATE_CHARACTERS = range(0xF0000, 0xFFFFE)


def context(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], options: Options) -> dict[str, Any]:
    """The variables a template sees, as Hugging Face `apply_chat_template` gives them. An option that is None is left
    undefined, which is not the same to a template."""
    variables: dict[str, Any] = {
        "messages": [_message_variables(message) for message in messages],
        "tools": list(tools) or None,
        "documents": None,
        "add_generation_prompt": options.add_generation_prompt,
        "bos_token": "",
        "eos_token": _TURN_CLOSING,
        "enable_thinking": options.enable_thinking,
        "preserve_thinking": options.preserve_thinking,
        "reasoning_effort": options.reasoning_effort,
        "add_vision_id": options.add_vision_id or None,
    }
    optional = ("enable_thinking", "preserve_thinking", "reasoning_effort", "add_vision_id")
    return {name: value for name, value in variables.items() if name not in optional or value is not None}


def _message_variables(message: Message) -> dict[str, Any]:
    parts = [
        {"type": part.kind, part.kind: ""} if isinstance(part, Media) else {"type": "text", "text": part}
        for part in message.parts
    ]
    variables: dict[str, Any] = {
        "role": message.role,
        "content": message.content if isinstance(message.content, str) else parts,
        "reasoning_content": message.reasoning,
        "name": message.name,
        "tool_call_id": message.tool_call_id,
        "tool_calls": [
            {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.tool_calls
        ],
    }
    return {name: value for name, value in variables.items() if value not in (None, [])}


def render_foreign(
    template: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], options: Options
) -> Prompt:
    """The prompt as the template writes it; content never yields special tokens. Raises TemplateError.

    A template may look for tags in content (the reasoning in an assistant's text) and then writes something else when
    it cannot see them; in that case the tags in assistants' text stay as they are, except those of the form `<|...|>`.
    Where the reasoning is known there is nothing to look for, and a tag in the text is only text.
    """
    plain = context(messages, tools, options)
    everything = json.dumps(plain, ensure_ascii=False)
    mark = next(chr(code) for code in _PRIVATE_CHARACTERS if chr(code) not in everything)
    marked = _marked(plain, lambda text: text.replace("<", mark))
    own_tags_kept = _marked(
        plain, lambda text: text.replace("<", mark), assistant=lambda text: text.replace("<|", mark + "|")
    )
    text, hidden, partly_hidden = render_jinja(template, [plain, marked, own_tags_kept])
    if isinstance(text, TemplateError):
        raise text
    if isinstance(hidden, TemplateError) or hidden.replace(mark, "<") != text:
        hidden = partly_hidden
    if isinstance(hidden, TemplateError):
        raise hidden
    if not text.strip() or not hidden.strip():
        raise TemplateError(
            "the chat template writes nothing for this conversation, so there is nothing to answer; it is damaged or "
            "made for something else. Use another model file."
        )
    return Prompt(_turns(_segments(hidden, mark), options.add_generation_prompt))


def _marked(
    variables: Mapping[str, Any], change: Callable[[str], str], assistant: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """A copy with all content changed; `assistant` changes the text of assistants that may hold reasoning instead."""
    own = assistant or change
    result = dict(variables)
    result["tools"] = _changed(variables["tools"], change)
    result["messages"] = [
        {
            name: value if name == "role" else _changed(value, own if is_own and name == "content" else change)
            for name, value in message.items()
        }
        for message in variables["messages"]
        for is_own in [message["role"] == "assistant" and "reasoning_content" not in message]
    ]
    return result


def _changed(value: Any, change: Callable[[str], str] | None) -> Any:
    if change is None or value is None:
        return value
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(key)): _changed(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_changed(item, change) for item in value]
    return value


def _segments(text: str, mark: str) -> Iterable[Segment]:
    for n, piece in enumerate(text.split(mark)):
        if n:
            yield Segment("<", False)
        if piece:
            yield Segment(piece, True)


def _turns(segments: Iterable[Segment], has_generation_prompt: bool) -> tuple[Turn, ...]:
    """The prompt cut before every `<|im_start|>` the template wrote; one turn when it writes none."""
    turns: list[list[Segment]] = [[]]
    for segment in segments:
        if not segment.is_template:
            turns[-1].append(segment)
            continue
        first, *rest = segment.text.split(_TURN_OPENING)
        if first:
            turns[-1].append(Segment(first, True))
        turns += [[Segment(_TURN_OPENING + piece, True)] for piece in rest]
    return tuple(
        Turn(_kind(turn, has_generation_prompt and turn is turns[-1]), tuple(turn), None) for turn in turns if turn
    )


def _kind(turn: Sequence[Segment], may_be_generation: bool) -> TurnKind:
    template_text = "".join(segment.text for segment in turn if segment.is_template)
    role = template_text.removeprefix(_TURN_OPENING).split("\n", 1)[0].strip()
    if may_be_generation and _TURN_CLOSING not in template_text:
        return "generation"
    if role == "user" and "<tool_response>" in template_text:
        return "tool"
    return cast(TurnKind, role) if role in ("system", "user", "assistant", "tool") else "user"
