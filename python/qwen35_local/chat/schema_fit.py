"""Whether a value is one that a JSON schema allows (notation: https://json-schema.org), as far as that decides how a
text is to be read: patterns and formats of strings are taken to fit."""

from collections.abc import Mapping
from typing import Any

from qwen35_local.chat.schema import as_list, as_object, listed, referred

_MOST_CHECKS = 10_000
"""Of one value; a schema that takes more, since it is made of references to itself, is taken to fit."""

_MOST_LEVELS = 100
"""Of schemas inside one another, beyond which anything is taken to fit: each takes two or three of Python's frames."""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def fits(value: Any, schema: Any, root: Mapping[str, Any]) -> bool:
    """`root`: in which references are looked up."""
    return _Check(root).fits(value, schema)


class _Check:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._n_left = _MOST_CHECKS
        self._depth = 0

    def fits(self, value: Any, schema: Any) -> bool:
        self._n_left -= 1
        if not isinstance(schema, Mapping):
            return schema is not False
        if self._n_left < 0 or self._depth > _MOST_LEVELS:
            return True
        self._depth += 1
        try:
            return self._is_of_type(value, schema) and self._is_combined(value, schema) and self._inside(value, schema)
        finally:
            self._depth -= 1

    def _is_of_type(self, value: Any, schema: Mapping[str, Any]) -> bool:
        named = schema.get("type")
        types = [named] if isinstance(named, str) else as_list(named)
        if types and not any(_is_of(value, name) for name in types):
            return False
        values = listed(schema)
        return values is None or any(type(each) is type(value) and each == value for each in values)

    def _is_combined(self, value: Any, schema: Mapping[str, Any]) -> bool:
        for union in ("anyOf", "oneOf"):
            parts = as_list(schema.get(union))
            if parts and not any(self.fits(value, part) for part in parts):
                return False
        target = referred(schema.get("$ref"), self._root)
        return (target is None or self.fits(value, target)) and all(
            self.fits(value, part) for part in as_list(schema.get("allOf"))
        )

    def _inside(self, value: Any, schema: Mapping[str, Any]) -> bool:
        if isinstance(value, dict):
            declared, other = as_object(schema.get("properties")), schema.get("additionalProperties")
            has_all = all(name in value for name in as_list(schema.get("required")))
            return has_all and all(self.fits(each, declared.get(name, other)) for name, each in value.items())
        if isinstance(value, list):
            counts = _between(len(value), schema, "minItems", "maxItems")
            return counts and all(self.fits(each, schema.get("items")) for each in value)
        if isinstance(value, str):
            return _between(len(value), schema, "minLength", "maxLength")
        return isinstance(value, bool | None) or _between(value, schema, "minimum", "maximum")


def _is_of(value: Any, name: Any) -> bool:
    is_of = isinstance(value, _TYPES.get(name, (object,)) if isinstance(name, str) else (object,))
    return is_of and (name == "boolean" or not isinstance(value, bool))


def _between(value: float, schema: Mapping[str, Any], least: str, most: str) -> bool:
    low: Any = schema.get(least)
    high: Any = schema.get(most)
    return not (_is_of(low, "number") and value < low) and not (_is_of(high, "number") and value > high)
