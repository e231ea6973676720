"""A call of a tool while it is read, and its arguments as JSON: pieces that, joined, are what `json_text` makes of the
finished arguments."""

import json
import re
from dataclasses import dataclass, field

from qwen35_local import json_file
from qwen35_local.chat.argument_text import ArgumentText
from qwen35_local.chat.json_strings import JsonStrings
from qwen35_local.chat.messages import JsonValue

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def json_text(value: object) -> str:
    """A value, or the arguments of a call, as JSON that can be written in UTF-8."""
    text = json.dumps(value, ensure_ascii=False)
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


@dataclass(slots=True)
class UnfinishedCall:
    """What has been read of a call. Methods return the next piece of the JSON of its arguments."""

    has_opener: bool = True
    """<tool_call> was written; a bare <function= counts only with the name of a tool that was offered."""
    raw: list[str] = field(default_factory=list)
    tool: str = ""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    parameter: str = ""
    depth: int = 0
    is_in_string: bool = False
    is_escaped: bool = False
    _value: ArgumentText = field(default_factory=ArgumentText)
    _strings: JsonStrings | None = None
    _is_text: bool = False
    _untold: str = ""
    _rest: str = ""

    def begin_value(self, parameter: str, *, is_text: bool, is_json: bool) -> str:
        """`is_text`: the value is its text, whatever that is; `is_json`: no text stands for itself. A parameter that
        has a value keeps it, since what was told of it cannot be taken back: what is written for it again is read and
        dropped."""
        self.parameter, self._value, self._untold = parameter, ArgumentText(), ""
        self._is_text = is_text and not self._is_repeated
        self._strings = JsonStrings() if is_json else None
        return "" if self._is_repeated else self._key(parameter) + '"' * is_text

    def add_to_value(self, written: str, *, is_certain: bool) -> str:
        """More of what stands between the tags of a parameter. Not `is_certain`: it may be the beginning of a tag that
        was cut short, and is told when the value ends."""
        text = self._value.push(written)
        if self._strings is not None:
            self._strings.push(written)
        if not is_certain:
            self._untold += text
        return _in_string(text) if self._is_text and is_certain else ""

    @property
    def is_in_json_string(self) -> bool:
        """Whether what comes next belongs to a string of a value that is JSON."""
        return self._strings is not None and self._strings.is_inside

    def value_text(self) -> str:
        """The text of the value, of which no more comes."""
        self._rest = self._value.finish()
        return str(self._value)

    def end_value(self, value: JsonValue) -> str:
        """`value`: what its text stands for."""
        if self._is_repeated:
            return ""
        self.arguments[self.parameter] = value
        return _in_string(self._untold + self._rest) + '"' if self._is_text else json_text(value)

    def add(self, name: str, value: JsonValue) -> str:
        """A whole argument."""
        opening = self._key(name)
        self.arguments[name] = value
        return opening + json_text(value)

    def end(self) -> str:
        return "}" if self.arguments else "{}"

    @property
    def _is_repeated(self) -> bool:
        return self.parameter in self.arguments

    def _key(self, name: str) -> str:
        return (", " if self.arguments else "{") + json_text(name) + ": "


def json_call(text: str) -> tuple[str, dict[str, JsonValue]] | None:
    """Name and arguments of `{"name": ..., "arguments": ...}`, None when it is something else."""
    try:
        body = json_file.parse_written(text)
        arguments = body.get("arguments", body.get("parameters")) if isinstance(body, dict) else None
        if isinstance(arguments, str):
            arguments = json_file.parse_written(arguments or "{}")
    except ValueError:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("name"), str) or not body["name"]:
        return None
    if arguments is None:
        arguments = {}
    return (body["name"], arguments) if isinstance(arguments, dict) else None


def _in_string(text: str) -> str:
    """Text inside quotes."""
    return json_text(text)[1:-1]
