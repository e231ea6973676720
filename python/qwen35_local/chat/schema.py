"""JSON schemas (notation: https://json-schema.org) taken apart, and as rules of a Lark grammar."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwen35_local import json_file
from qwen35_local.errors import FormatError, InputError

_WHITE_SPACE = r" |\r?\n(\t{0,10}| {0,24})"
"""Of the usual layouts. A model may otherwise write it without end, since it is allowed nearly everywhere."""

_MOST_PROPERTIES = 400
"""Of one object. The choice among those that may come next is made anew for every token."""

_ANNOTATIONS = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
_UNIONS = ("anyOf", "oneOf")


def read_schema(definition: str) -> Any:
    """A JSON schema in its text. Raises InputError."""
    try:
        schema = json_file.parse(definition.encode("utf-8", "replace"), "output_format: the JSON schema")
    except FormatError as error:
        raise InputError(str(error)) from None
    if not isinstance(schema, dict | bool):
        raise InputError(f"output_format: a JSON schema is an object, got {type(schema).__name__}.")
    return schema


def json_rule(schema: Mapping[str, Any] | bool, *, is_exact: bool = True) -> str:
    """What stands for a value of that schema in a rule of llguidance's Lark. Not `is_exact`: `oneOf` is `anyOf`. Raises
    ValueError."""
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    widest = max((len(as_object(node.get("properties"))) for node in _objects(schema)), default=0)
    if widest > _MOST_PROPERTIES:
        raise ValueError(f"an object of {widest} properties, expected at most {_MOST_PROPERTIES}")
    options = {"whitespace_pattern": _WHITE_SPACE, "lenient": False, "coerce_one_of": not is_exact}
    return "%json " + json.dumps({**schema, "x-guidance": options})


def leaves(schema: Any, root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas that a union offers, through references inside `root` and lists of types; `{}` allows anything."""
    found: list[Mapping[str, Any]] = []
    waiting, seen = [schema], set()
    while waiting:
        node = waiting.pop(0)
        if not isinstance(node, Mapping):
            found.append({})
            continue
        if id(node) in seen:
            continue
        seen.add(id(node))
        keys = node.keys() - _ANNOTATIONS
        union = next((key for key in _UNIONS if keys == {key}), "")
        parts = as_list(node.get(union or "allOf"))
        if keys == {"$ref"}:
            waiting.insert(0, referred(node["$ref"], root))
        elif union or (keys == {"allOf"} and len(parts) == 1):
            waiting[:0] = parts
        elif "enum" in keys or "const" in keys:
            found.append(node)
        else:
            types = as_list(node.get("type"))
            found += [{**node, "type": each} for each in types] or [node]
    return found


def listed(leaf: Mapping[str, Any]) -> Sequence[Any] | None:
    """The values of an enumeration, None where it is none."""
    if "const" in leaf:
        return [leaf["const"]]
    return as_list(leaf["enum"]) if "enum" in leaf else None


def referred(reference: Any, root: Mapping[str, Any]) -> Any:
    """What "#/$defs/Name" points at, None for anything else."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    node: Any = root
    for key in reference[2:].split("/"):
        node = as_object(node).get(key.replace("~1", "/").replace("~0", "~"))
    return node


def as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and whatever else is an object in it."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting += node.values()
        else:
            waiting += as_list(node)
