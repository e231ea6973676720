"""The bare text of a tool argument, read as the tool's JSON schema says (notation: https://json-schema.org).

The family writes arguments as text: `5`, `true` and `["a"]` may mean a string or the value they spell. The schema
decides; where it allows both, the value wins if all of it is of the schema, and what fits nothing stays the text it is.
Nothing here raises.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qwen35_local import json_file
from qwen35_local.chat.messages import JsonValue
from qwen35_local.chat.schema import as_list, as_object, referred
from qwen35_local.chat.schema_fit import fits
from qwen35_local.chat.tools import read_tool
from qwen35_local.errors import InputError

_UNIONS = ("anyOf", "oneOf")
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
            self._parameters[function["name"]] = as_object(function.get("parameters"))

    def __contains__(self, tool: str) -> bool:
        return tool in self._parameters

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __bool__(self) -> bool:
        return bool(self._parameters)

    def root(self, tool: str) -> Mapping[str, Any]:
        """The schema of all parameters, in which references are looked up."""
        return self._parameters.get(tool, {})

    def declared(self, tool: str) -> dict[str, Any]:
        """The schema of each parameter, in order."""
        found: dict[str, Any] = {}
        for part in _parts(self.root(tool), (*_UNIONS, "allOf")):
            found.update((name, each) for name, each in as_object(part.get("properties")).items() if name not in found)
        return found

    def required(self, tool: str) -> set[str]:
        names = (name for part in _parts(self.root(tool), ("allOf",)) for name in as_list(part.get("required")))
        return {name for name in names if isinstance(name, str)}

    def other(self, tool: str) -> Any:
        """The schema of parameters that are not declared; None where there is none."""
        return self.root(tool).get("additionalProperties")

    def read(self, tool: str, parameter: str, text: str) -> JsonValue:
        """The value an argument's text stands for; the text itself when tool or parameter is unknown."""
        schema, root, types = self._schema(tool, parameter), self.root(tool), self.types(tool, parameter)
        value = read_value(text, types)
        is_meant_as_text = "string" in types and not fits(value, schema, root) and fits(text, schema, root)
        return text if is_meant_as_text else value

    def types(self, tool: str, parameter: str) -> frozenset[str]:
        """Names of the JSON types that it may be of; empty where the schema does not say."""
        return allowed_types(self._schema(tool, parameter), self.root(tool))

    def _schema(self, tool: str, parameter: str) -> Any:
        declared = self.declared(tool)
        return declared[parameter] if parameter in declared else self.other(tool)


def _parts(root: Mapping[str, Any], unions: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """A schema, and those that it is put together from."""
    waiting: list[Any] = [root]
    seen = set()
    while waiting:
        node = waiting.pop(0)
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        for union in unions:
            waiting += as_list(node.get(union))
        waiting.append(referred(node.get("$ref"), root))


def read_value(text: str, types: frozenset[str]) -> JsonValue:
    """`text` as the first of the JSON types that it spells; otherwise the text unchanged."""
    word = text.strip()
    constant = _CONSTANTS.get(word.lower())
    if constant is not None and constant[0] in types:
        return constant[1]
    if types & {"integer", "number"} and _INTEGER.fullmatch(word):
        if "number" in types and "." in word:
            return json_file.bounded(word)
        return int(word.partition(".")[0])
    if "number" in types and _NUMBER.fullmatch(word):
        return json_file.bounded(word)
    if word[:1] in ("{", "["):
        kind = "object" if word[0] == "{" else "array"
        if kind in types:
            try:
                parsed: JsonValue = json_file.parse_written(word, bounds_numbers=True)
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
        for union in (*_UNIONS, "allOf"):
            waiting += as_list(node.get(union))
        if isinstance(node.get("$ref"), str):
            waiting.append(referred(node["$ref"], root))
    return frozenset(types)


def _own_types(schema: Mapping[str, Any]) -> Iterable[str]:
    named = schema.get("type")
    if named is not None:
        return [named] if isinstance(named, str) else [name for name in as_list(named) if isinstance(name, str)]
    types = [_type_of(value) for value in as_list(schema.get("enum"))]
    if "const" in schema:
        types.append(_type_of(schema["const"]))
    return types + [kind for key, kind in (("properties", "object"), ("items", "array")) if key in schema]


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds: tuple[tuple[type, str], ...] = ((int, "integer"), (float, "number"), (str, "string"), (Mapping, "object"))
    if value is None:
        return "null"
    return next((name for kind, name in kinds if isinstance(value, kind)), "array")
