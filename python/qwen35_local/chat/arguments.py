"""The bare text of a tool argument, read as the tool's JSON schema says (notation: https://json-schema.org).

The family writes arguments as text: `5`, `true` and `["a"]` may mean a string or the value they spell. The schema
decides; where it allows both, the value wins, and what fits nothing stays the text it is. Nothing here raises.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwen35_local import json_file
from qwen35_local.chat.messages import JsonValue
from qwen35_local.chat.tools import read_tool
from qwen35_local.errors import InputError

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,1000})(\.0+)?")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_CONSTANTS: dict[str, tuple[str, JsonValue]] = {
    "null": ("null", None),
    "none": ("null", None),
    "true": ("boolean", True),
    "false": ("boolean", False),
}


class ToolSchemas:
    """The parameters of the tools a conversation offers. Definitions that are not as expected count as untyped."""

    def __init__(self, tools: Iterable[Mapping[str, Any]]) -> None:
        """`tools`: definitions as `read_tools` knows them."""
        self._parameters: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            try:
                definition = read_tool(tool)
            except InputError:
                continue
            function = definition.get("function", definition)
            self._parameters[function["name"]] = _object(function.get("parameters"))

    def __contains__(self, tool: str) -> bool:
        return tool in self._parameters

    def __bool__(self) -> bool:
        return bool(self._parameters)

    def read(self, tool: str, parameter: str, text: str) -> JsonValue:
        """The value an argument's text stands for; the text itself when tool or parameter is unknown."""
        return read_value(text, self._types(tool, parameter))

    def is_text(self, tool: str, parameter: str) -> bool:
        """Whether any text of the argument stands for itself."""
        return self._types(tool, parameter) <= {"string"}

    def _types(self, tool: str, parameter: str) -> frozenset[str]:
        root = self._parameters.get(tool, {})
        return allowed_types(_object(root.get("properties")).get(parameter), root)


def read_value(text: str, types: frozenset[str]) -> JsonValue:
    """`text` as the first of the JSON types that it spells; otherwise the text unchanged."""
    word = text.strip()
    constant = _CONSTANTS.get(word.lower())
    if constant is not None and constant[0] in types:
        return constant[1]
    if types & {"integer", "number"} and _INTEGER.fullmatch(word):
        if "number" in types and "." in word:
            return float(word)
        return int(word.partition(".")[0])
    if "number" in types and _NUMBER.fullmatch(word):
        value = float(word)
        return value if abs(value) != float("inf") else text
    if word[:1] in ("{", "["):
        kind = "object" if word[0] == "{" else "array"
        if kind in types:
            try:
                parsed: JsonValue = json_file.parse_written(word)
            except ValueError:
                return text
            return parsed
    return text


def allowed_types(schema: Any, root: Mapping[str, Any]) -> frozenset[str]:
    """JSON types a schema allows, through unions, enumerations and references inside `root`; empty when silent."""
    types: set[str] = set()
    waiting, seen = [schema], set()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        types.update(_own_types(node))
        for union in ("anyOf", "oneOf", "allOf"):
            waiting += _list(node.get(union))
        if isinstance(node.get("$ref"), str):
            waiting.append(_referred(node["$ref"], root))
    return frozenset(types)


def _own_types(schema: Mapping[str, Any]) -> Iterable[str]:
    named = schema.get("type")
    if named is not None:
        return [named] if isinstance(named, str) else [name for name in _list(named) if isinstance(name, str)]
    types = [_type_of(value) for value in _list(schema.get("enum"))]
    if "const" in schema:
        types.append(_type_of(schema["const"]))
    return types + [kind for key, kind in (("properties", "object"), ("items", "array")) if key in schema]


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    """What "#/$defs/Name" points at, None for anything else."""
    if not reference.startswith("#/"):
        return None
    node: Any = root
    for key in reference[2:].split("/"):
        node = _object(node).get(key.replace("~1", "/").replace("~0", "~"))
    return node


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds: tuple[tuple[type, str], ...] = ((int, "integer"), (float, "number"), (str, "string"), (Mapping, "object"))
    if value is None:
        return "null"
    return next((name for kind, name in kinds if isinstance(value, kind)), "array")


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()
