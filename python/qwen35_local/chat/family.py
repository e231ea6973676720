"""The family's chat template as code (docs/architecture.md 8.7), one page for all its versions.

What the versions share is written out; what differs is a field of `Variant`. Pinned by goldens against the official
Jinja templates. Two things are more lenient than those: system messages after the first become turns of their own,
as in the templates of earlier Qwen models, and a prompt that asks for no generation needs no user query.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen35_local.chat.messages import Media, Message, ToolCall
from qwen35_local.chat.prompt import Prompt, Segment, Turn
from qwen35_local.errors import InputError

_TOOLS_OPENING = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
_TOOLS_CLOSING = (
    "\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within "
    "<tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT "
    "after\n- If there is no function call available, answer the question like normal with your current knowledge and "
    "do not tell the user about function calls\n</IMPORTANT>"
)
_EFFORTS = {
    "xhigh": (
        "Reasoning effort is set to xhigh. Please think carefully through the task, validate key assumptions, consider "
        "plausible alternatives, and prioritize correctness, consistency, and clarity in the final answer."
    ),
    "medium": "",
    "low": (
        "Reasoning effort is set to low. Keep your thinking brief and focused, moving directly to the conclusion "
        "without unnecessary elaboration."
    ),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may ask of a template; None leaves it to the template. A version without an option ignores it."""

    add_generation_prompt: bool = True
    enable_thinking: bool | None = None
    preserve_thinking: bool | None = None
    reasoning_effort: str | None = None
    add_vision_id: bool = False
    forces_thinking: bool = False
    """Reasoning of all turns is kept, also by a version without `preserve_thinking`; no template has this."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What one version of the template does its own way."""

    name: str
    thinks_by_default: bool = True
    preserves_thinking: bool | None = None
    """Default of `preserve_thinking` (reasoning of all turns is kept); None: the version has no such option."""
    has_json_arguments: bool = False
    """Tool arguments that are no strings are written as JSON; otherwise only maps and lists are, `True` stays so."""
    finds_reasoning_in_content: bool = True
    """An assistant message without `reasoning` is searched for `</think>`."""
    omits_empty_system: bool = False
    """A system message without text leaves no turn."""
    reasoning_efforts: tuple[str, ...] = ()
    """Accepted values of `reasoning_effort`, the default first."""


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("qwen3.5"),
        Variant("qwen3.5-small", thinks_by_default=False),
        Variant("qwen3.6", preserves_thinking=False, has_json_arguments=True),
        Variant(
            "qwen3.8",
            preserves_thinking=True,
            has_json_arguments=True,
            finds_reasoning_in_content=False,
            omits_empty_system=True,
            reasoning_efforts=("xhigh", "medium", "low"),
        ),
    )
}
"""qwen3.5: 4B and larger. qwen3.5-small: 0.8B and 2B."""


class _Pieces:
    """Segments under construction: `by_template` and `by_others` append, neighbours of one kind are merged."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def by_template(self, text: str) -> None:
        self._add(text, True)

    def by_others(self, text: str) -> None:
        self._add(text, False)

    def _add(self, text: str, is_template: bool) -> None:
        if not text:
            return
        if self.segments and self.segments[-1].is_template == is_template:
            text = self.segments.pop().text + text
        self.segments.append(Segment(text, is_template))

    def add_all(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            self._add(*segment)


def render(
    variant: Variant, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], options: Options
) -> Prompt:
    """The prompt for a conversation. Raises InputError when there is nothing to answer or an option is unknown."""
    if not messages:
        raise InputError("no messages: a conversation needs at least one, from the user.")
    last_query = _last_query(messages)
    if last_query is None:
        if options.add_generation_prompt:
            raise InputError("no user message to answer: a conversation needs one that is not only a tool response.")
        last_query = len(messages) - 1
    has_system = messages[0].role == "system"
    turns = []
    opening = _system_turn(variant, messages[0].text.strip() if has_system else None, tools, options)
    if opening:
        turns.append(Turn("system", opening, int(has_system)))
    numbering = _media_numbering(options.add_vision_id)
    first = int(has_system)
    while first < len(messages):
        end = first + 1
        while messages[first].role == "tool" and end < len(messages) and messages[end].role == "tool":
            end += 1
        keeps = variant.preserves_thinking if options.preserve_thinking is None else options.preserve_thinking
        shows_reasoning = first > last_query or (variant.preserves_thinking is not None and keeps is True)
        shows_reasoning |= options.forces_thinking
        segments = _message_turn(variant, messages[first:end], shows_reasoning, numbering)
        turns.append(Turn(messages[first].role, segments, end))
        first = end
    if options.add_generation_prompt:
        thinks = variant.thinks_by_default if options.enable_thinking is None else options.enable_thinking
        text = "<|im_start|>assistant\n" + ("<think>\n" if thinks else "<think>\n\n</think>\n\n")
        turns.append(Turn("generation", (Segment(text, True),), len(messages)))
    return Prompt(tuple(turns))


def _last_query(messages: Sequence[Message]) -> int | None:
    """Index of the last user message that is not wholly a tool response: reasoning before it is forgotten."""
    for index in reversed(range(len(messages))):
        if messages[index].role == "user":
            pieces = _Pieces()
            pieces.add_all(_content(messages[index], _media_numbering(False)))
            text = "".join(segment.text for segment in pieces.segments).strip()
            if not (text.startswith("<tool_response>") and text.endswith("</tool_response>")):
                return index
    return None


def _system_turn(
    variant: Variant, system: str | None, tools: Sequence[Mapping[str, Any]], options: Options
) -> tuple[Segment, ...]:
    """`system`: text of the leading system message, None when there is none. Empty when nothing has to be said."""
    effort = _effort(variant, options)
    if not tools and not effort and (system is None or (variant.omits_empty_system and not system)):
        return ()
    pieces = _Pieces()
    pieces.by_template("<|im_start|>system\n" + effort)
    if tools:
        pieces.by_template(("\n\n" if effort else "") + _TOOLS_OPENING)
        for tool in tools:
            pieces.by_template("\n")
            pieces.by_others(json.dumps(tool, ensure_ascii=False))
        pieces.by_template(_TOOLS_CLOSING)
    if system:
        pieces.by_template("\n\n" if tools or effort else "")
        pieces.by_others(system)
    pieces.by_template("<|im_end|>\n")
    return tuple(pieces.segments)


def _effort(variant: Variant, options: Options) -> str:
    if not variant.reasoning_efforts or options.enable_thinking is False:
        return ""
    effort = options.reasoning_effort or variant.reasoning_efforts[0]
    if effort not in variant.reasoning_efforts:
        known = ", ".join(variant.reasoning_efforts)
        raise InputError(f"reasoning effort {effort!r}: this model's template knows {known}.")
    return _EFFORTS[effort]


def _message_turn(
    variant: Variant, messages: Sequence[Message], shows_reasoning: bool, numbering: Callable[[Media], str]
) -> tuple[Segment, ...]:
    """One message, or a run of tool results."""
    message = messages[0]
    pieces = _Pieces()
    if message.role == "tool":
        pieces.by_template("<|im_start|>user")
        for result in messages:
            pieces.by_template("\n<tool_response>\n")
            pieces.add_all(_content(result, numbering))
            pieces.by_template("\n</tool_response>")
    elif message.role == "assistant":
        _assistant(pieces, variant, message, shows_reasoning, numbering)
    else:
        pieces.by_template(f"<|im_start|>{message.role}\n")
        pieces.add_all(_content(message, numbering))
    pieces.by_template("<|im_end|>\n")
    return tuple(pieces.segments)


def _assistant(
    pieces: _Pieces, variant: Variant, message: Message, shows_reasoning: bool, numbering: Callable[[Media], str]
) -> None:
    content = _content(message, numbering)
    reasoning = message.reasoning or ""
    if message.reasoning is None and variant.finds_reasoning_in_content:
        text = "".join(segment.text for segment in content)
        if "</think>" in text:
            reasoning = text.split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n")
            content = [Segment(text.split("</think>")[-1].lstrip("\n"), False)]
    pieces.by_template("<|im_start|>assistant\n")
    if shows_reasoning:
        pieces.by_template("<think>\n")
        pieces.by_others(reasoning.strip())
        pieces.by_template("\n</think>\n\n")
    pieces.add_all(content)
    has_content = any(segment.text.strip() for segment in content)
    for n, call in enumerate(message.tool_calls):
        pieces.by_template("\n" if n else "\n\n" if has_content else "")
        _tool_call(pieces, variant, call)


def _tool_call(pieces: _Pieces, variant: Variant, call: ToolCall) -> None:
    pieces.by_template("<tool_call>\n<function=")
    pieces.by_others(call.name)
    pieces.by_template(">\n")
    for name, value in call.arguments.items():
        pieces.by_template("<parameter=")
        pieces.by_others(name)
        pieces.by_template(">\n")
        is_json = not isinstance(value, str) if variant.has_json_arguments else isinstance(value, (list, tuple, dict))
        pieces.by_others(json.dumps(value, ensure_ascii=False) if is_json else str(value))
        pieces.by_template("\n</parameter>\n")
    pieces.by_template("</function>\n</tool_call>")


def _media_numbering(add_vision_id: bool) -> Callable[[Media], str]:
    """The label in front of each picture or video, counted per kind over the conversation; "" when not asked for."""
    counts = {"image": 0, "video": 0}

    def label(media: Media) -> str:
        counts[media.kind] += 1
        title = "Picture" if media.kind == "image" else "Video"
        return f"{title} {counts[media.kind]}: " if add_vision_id else ""

    return label


def _content(message: Message, numbering: Callable[[Media], str]) -> list[Segment]:
    """A message's content without the white space around it; media become the template's placeholders."""
    segments = []
    for part in message.parts:
        if isinstance(part, Media):
            segments.append(Segment(f"{numbering(part)}<|vision_start|><|{part.kind}_pad|><|vision_end|>", True))
        else:
            segments.append(Segment(part, False))
    return _stripped(segments)


def _stripped(segments: list[Segment]) -> list[Segment]:
    while segments and not segments[0].text.strip():
        segments.pop(0)
    while segments and not segments[-1].text.strip():
        segments.pop()
    if segments:
        segments[0] = Segment(segments[0].text.lstrip(), segments[0].is_template)
        segments[-1] = Segment(segments[-1].text.rstrip(), segments[-1].is_template)
    return segments
