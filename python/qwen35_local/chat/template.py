"""The chat template of a model: the family's in code where it is one of them, Jinja in a sandbox where it is not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from qwen35_local.chat.carried import carried_template
from qwen35_local.chat.family import VARIANTS, Options, Variant, render
from qwen35_local.chat.foreign import context, render_foreign
from qwen35_local.chat.messages import Message, read_messages
from qwen35_local.chat.prompt import Prompt
from qwen35_local.chat.sandbox import render_jinja
from qwen35_local.chat.tools import read_tools
from qwen35_local.errors import InputError, Qwen35Error, TemplateError

OFFICIAL = {
    "a4aee8afcf2e0711942cf848899be66016f8d14a889ff9ede07bca099c28f715": "qwen3.5",  # Qwen3.5-4B
    "e84f32a23fdda27689f868aa4a1a5621f41133e51a48d7f3efcbea2839574259": "qwen3.6",  # Qwen3.6-27B
    "c3cf9e34abf4f9e36c2d72165aa9c132d3e2a725b6c2586aaa3a8af9d7a81041": "qwen3.8",  # Qwen3.8-27B
}
"""SHA-256 of a template's text to the variant that renders it. To add one: `sha256sum` the file, name its variant, and
put its rendering of `tests/golden/templates/cases.json` under the same folder. Without an entry a template is
recognised by what it writes, which costs one run of the sandbox (about 0.2 s) when a model is opened."""


@dataclass(frozen=True, slots=True)
class Template:
    """Renders conversations. `origin`: "official" (known by its digest), "equivalent" (writes what `variant` writes) or
    "foreign" (rendered by Jinja, `variant` is None)."""

    text: str
    origin: Literal["official", "equivalent", "foreign"]
    variant: Variant | None

    @classmethod
    def for_model(cls, jinja_text: str) -> "Template":
        """The template a model file carries (`tokenizer.chat_template`). Raises TemplateError when it is empty or
        breaks the limits of the sandbox; its other faults show when it renders."""
        if not jinja_text.strip():
            raise TemplateError(f"the chat template is empty; name one of {', '.join(VARIANTS)} instead.")
        name = OFFICIAL.get(sha256(jinja_text.encode("utf-8", "replace")).hexdigest())
        if name is not None:
            return cls(jinja_text, "official", VARIANTS[name])
        variant = _recognise(jinja_text)
        return cls(jinja_text, "foreign" if variant is None else "equivalent", variant)

    @classmethod
    def for_file(cls, metadata: Mapping[str, object]) -> "Template":
        """The template of a model file, by its metadata; the family's when it carries none (`text` is then empty).
        Raises what `for_model` does, and FormatError when the metadata is not as expected."""
        text = carried_template(metadata)
        return cls.for_variant("qwen3.5") if text is None else cls.for_model(text)

    @classmethod
    def for_variant(cls, name: str) -> "Template":
        """The family's own template by name, for a model file that carries none. Raises InputError."""
        if name not in VARIANTS:
            raise InputError(f"template {name!r}: expected one of {', '.join(VARIANTS)}.")
        return cls("", "official", VARIANTS[name])

    @property
    def name(self) -> str:
        """The variant's name, or "jinja"."""
        return "jinja" if self.variant is None else self.variant.name

    @property
    def digest(self) -> str:
        """SHA-256 of the text the model file carries."""
        return sha256(self.text.encode("utf-8", "replace")).hexdigest()

    def render(
        self,
        messages: Iterable[Message | Mapping[str, Any]],
        tools: Iterable[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        enable_thinking: bool | None = None,
        preserve_thinking: bool | None = None,
        reasoning_effort: str | None = None,
        add_vision_id: bool = False,
        forces_thinking: bool = False,
    ) -> Prompt:
        """The prompt for a conversation of `Message` objects or OpenAI-style dictionaries.

        An option that is None takes the template's default; one the template does not know is ignored.
        `reasoning_effort` is one of `variant.reasoning_efforts`. Raises InputError naming the message or option, and
        TemplateError when a foreign template fails or breaks its limits."""
        options = Options(
            add_generation_prompt, enable_thinking, preserve_thinking, reasoning_effort, add_vision_id, forces_thinking
        )
        conversation, definitions = read_messages(messages), read_tools(tools)
        if self.variant is not None:
            return render(self.variant, conversation, definitions, options)
        return render_foreign(self.text, conversation, definitions, options)


def _recognise(jinja_text: str) -> Variant | None:
    """The variant that writes, for every probe, exactly what the template writes."""
    written = render_jinja(jinja_text, [context(*probe) for probe in _probes()])
    for variant in VARIANTS.values():
        if all(text == _rendered(variant, probe) for text, probe in zip(written, _probes(), strict=True)):
            return variant
    return None


_Probe: TypeAlias = tuple[Sequence[Message], Sequence[Mapping[str, Any]], Options]


def _rendered(variant: Variant, probe: _Probe) -> str | None:
    try:
        return render(variant, *probe).text
    except Qwen35Error:
        return None


@cache
def _probes() -> list[_Probe]:
    """Conversations that touch every rule of the template and every difference between its variants."""
    call = {"name": "look", "arguments": {"s": " a\n<b> ", "n": 3, "f": 0.5, "t": True, "z": None, "l": [1, "é"]}}
    nested = {"function": {"name": "put", "arguments": {"m": {"k": [True, None]}}}}
    tool = {"type": "function", "function": {"name": "look", "description": "<é>", "parameters": {"type": "object"}}}
    question, thought = {"role": "user", "content": "  Wie?\n"}, {"reasoning_content": " hm \n"}
    answer = {"role": "assistant", "content": " So. ", **thought}
    results = [{"role": "tool", "content": " 1 "}, {"role": "tool", "content": "2"}]
    wrapped = {"role": "user", "content": "<tool_response>\n3\n</tool_response>"}
    inline = {"role": "assistant", "content": "<think>\nwhy\n</think>\n\nThis."}
    system, blank = {"role": "system", "content": "\nBe kind. "}, {"role": "system", "content": " "}
    conversations: list[list[Mapping[str, Any]]] = [
        [question],
        [blank, question],
        [system, question, answer, question],
        [question, inline, question, inline],
        [system, question, {**answer, "tool_calls": [call, nested]}, *results, {**inline, "tool_calls": [call]}],
        [question, {"role": "assistant", "content": "", "tool_calls": [nested, call]}, wrapped, answer, *results],
    ]
    settings = [
        Options(),
        Options(add_generation_prompt=False),
        Options(enable_thinking=True, preserve_thinking=True, reasoning_effort="low"),
        Options(enable_thinking=False, preserve_thinking=False),
        Options(reasoning_effort="medium"),
    ]
    return [
        (read_messages(conversation), tools, options)
        for conversation in conversations
        for tools in ([], [tool])
        for options in settings
    ]
