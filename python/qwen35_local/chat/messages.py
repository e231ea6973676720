"""A conversation as typed values, and the OpenAI-style dictionaries it is read from."""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, get_args

from qwen35_local import json_file
from qwen35_local.errors import InputError

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

ROLES: tuple[str, ...] = get_args(Role)
_ROLE_ALIASES = {"developer": "system", "function": "tool"}
_MEDIA_KEYS = {"image": "image", "image_url": "image", "input_image": "image", "video": "video", "video_url": "video"}
_TEXT_TYPES = ("text", "input_text", "output_text")

_SHORT = reprlib.Repr()  # of a value however deep or long
_SHORT.maxstring = _SHORT.maxother = 60


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or video in a message; `source` is whatever the caller's vision code reads (path, URL, bytes)."""

    kind: Literal["image", "video"]
    source: Any = None


Content: TypeAlias = str | tuple[str | Media, ...]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model's wish to call a tool. `arguments` are JSON values in the order written."""

    name: str
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    id: str | None = None

    def __post_init__(self) -> None:
        try:
            json_file.plain_text(dict(self.arguments))
        except ValueError as error:
            raise InputError(f"arguments: expected plain JSON values: {error}.") from None

    @classmethod
    def from_dict(cls, data: Any, where: str = "tool call") -> "ToolCall":
        """Reads `{"function": {"name", "arguments"}}` or `{"name", "arguments"}`; arguments may be JSON text.
        Raises InputError naming `where`."""
        if isinstance(data, ToolCall):
            return data
        body = as_object(data, where)
        function = as_object(body["function"], f"{where}.function") if "function" in body else body
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: expected the tool's name as a non-empty string, got {in_short(name)}.")
        identifier = body.get("id")
        arguments = _arguments(function.get("arguments"), f"{where} ({name}).arguments")
        try:
            return cls(name, arguments, identifier if isinstance(identifier, str) else None)
        except InputError as error:
            raise InputError(f"{where} ({name}).{error}") from None


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `reasoning` is the thinking that came before `content`; None means "look for it in the content"."""

    role: Role
    content: Content = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"message role: expected one of {', '.join(ROLES)}, got {in_short(self.role)}.")
        if self.tool_calls and self.role != "assistant":
            raise InputError(f"only an assistant message may hold tool_calls, not one of role {self.role!r}.")
        if self.role == "system" and not all(isinstance(part, str) for part in self.parts):
            raise InputError("a system message may hold text only; put images and videos in a user message.")

    @property
    def parts(self) -> tuple[str | Media, ...]:
        """The content as a tuple, one string if it was a string."""
        return (self.content,) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The content's text, media left out."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @classmethod
    def from_dict(cls, data: Any, where: str = "message") -> "Message":
        """Reads one OpenAI-style message; unknown keys are ignored. Raises InputError naming `where`."""
        if isinstance(data, Message):
            return data
        body = as_object(data, where)
        role = body.get("role")
        role = _ROLE_ALIASES.get(role, role) if isinstance(role, str) else role
        if role not in ROLES:
            raise InputError(f"{where}.role: expected one of {', '.join(ROLES)}, got {in_short(role)}.")
        calls = () if body.get("tool_calls") is None else body["tool_calls"]
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise InputError(f"{where}.tool_calls: expected a list, got {in_short(calls)}.")
        return cls(
            role=cast(Role, role),
            content=_content(body.get("content"), f"{where}.content"),
            reasoning=_optional_text(body, ("reasoning_content", "reasoning", "thinking"), where),
            tool_calls=tuple(ToolCall.from_dict(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(calls)),
            name=_optional_text(body, ("name",), where),
            tool_call_id=_optional_text(body, ("tool_call_id",), where),
        )

    def to_dict(self) -> dict[str, Any]:
        """The OpenAI-style dictionary that `from_dict` reads back; media are written as their sources."""
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in self.tool_calls
        ]
        parts = [part if isinstance(part, str) else {"type": part.kind, part.kind: part.source} for part in self.parts]
        content = self.content if isinstance(self.content, str) else parts
        optional = {
            "reasoning_content": self.reasoning,
            "tool_calls": calls or None,
            "name": self.name,
            "tool_call_id": self.tool_call_id,
        }
        return {"role": self.role, "content": content} | {k: v for k, v in optional.items() if v is not None}


def read_messages(messages: Iterable[Message | Mapping[str, Any]]) -> list[Message]:
    """A whole conversation; `Message` objects pass through. Raises InputError naming the message by its index."""
    if not isinstance(messages, Iterable) or isinstance(messages, str | bytes | Mapping):
        raise InputError(f"messages: expected a list of messages, got {in_short(messages)}.")
    return [Message.from_dict(message, f"messages[{n}]") for n, message in enumerate(messages)]


def as_object(value: Any, where: str) -> Mapping[str, Any]:
    """The value, if it is a JSON object. Raises InputError naming `where`."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected an object, got {in_short(value)}.")
    return value


def in_short(value: Any) -> str:
    """A value as an error message shows it."""
    text = _SHORT.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _optional_text(body: Mapping[str, Any], keys: Sequence[str], where: str) -> str | None:
    for key in keys:
        value = body.get(key)
        if isinstance(value, str):
            return value
        if value is not None:
            raise InputError(f"{where}.{key}: expected a string, got {in_short(value)}.")
    return None


def _arguments(value: Any, where: str) -> dict[str, JsonValue]:
    if isinstance(value, str):
        try:
            value = json_file.parse_written(value) if value.strip() else {}
        except ValueError as error:
            raise InputError(f"{where}: expected a JSON object, got {in_short(value)} ({error}).") from error
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where}: expected a JSON object, got {in_short(value)}.")
    return dict(value)


def _content(value: Any, where: str) -> Content:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise InputError(f"{where}: expected a string or a list of parts, got {in_short(value)}.")
    return tuple(_part(part, f"{where}[{n}]") for n, part in enumerate(value))


def _part(value: Any, where: str) -> str | Media:
    if isinstance(value, (str, Media)):
        return value
    body = as_object(value, where)
    kind = body.get("type")
    for key, media in _MEDIA_KEYS.items():
        if key in body or kind == key:
            source = body.get(key, body)
            source = source.get("url", source) if isinstance(source, Mapping) else source
            return Media(cast(Literal["image", "video"], media), source)
    text = body.get("text")
    if isinstance(text, str) and (kind is None or kind in _TEXT_TYPES):
        return text
    raise InputError(f'{where}: expected {{"type": "text", "text": ...}}, an image or a video, got {in_short(value)}.')
