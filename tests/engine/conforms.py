"""JSON schemas as tests need them: whether a value is one of a schema's."""

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def conforms(value: Any, schema: Any, root: Any = None) -> bool:
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        target = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        if not conforms(value, target, root):
            return False
    types = schema.get("type", [*_TYPES])
    if not any(_is_of(value, name) for name in ([types] if isinstance(types, str) else types)):
        return False
    listed = [schema["const"]] if "const" in schema else schema.get("enum", [value])
    if not any(type(each) is type(value) and each == value for each in listed):
        return False
    for union in ("anyOf", "oneOf"):
        if union in schema and not any(conforms(value, each, root) for each in schema[union]):
            return False
    check = {dict: _object, list: _array, str: _string, int: _number, float: _number}.get(type(value))
    return check is None or check(value, schema, root)


def _is_of(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _object(value: dict[str, Any], schema: dict[str, Any], root: Any) -> bool:
    declared = schema.get("properties", {})
    other = schema.get("additionalProperties", True)
    has_all = {*schema.get("required", ())} <= value.keys()
    return has_all and all(conforms(each, declared.get(key, other), root) for key, each in value.items())


def _array(value: list[Any], schema: dict[str, Any], root: Any) -> bool:
    fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
    return fits and all(conforms(each, schema.get("items", True), root) for each in value)


def _string(value: str, schema: dict[str, Any], root: Any) -> bool:
    fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    return fits and re.search(schema.get("pattern", ""), value) is not None


def _number(value: float, schema: dict[str, Any], root: Any) -> bool:
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
