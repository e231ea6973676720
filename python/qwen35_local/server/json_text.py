"""JSON as it goes over the wire."""

import json
from typing import Any

import msgspec

from qwen35_local.json_file import is_shallow
from qwen35_local.server.errors import bad

_MOST_VALUES = 4_000_000  # each takes some 64 bytes, from as few as two in the text
_encoder = msgspec.json.Encoder()


def encoded(value: Any) -> bytes:
    """Any JSON value, as UTF-8. What a model wrote may hold lone surrogates, which are escaped."""
    try:
        return _encoder.encode(value)
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
        return json.dumps(value, separators=(",", ":")).encode()


def parsed(data: bytes) -> dict[str, Any]:
    """The object that a client sent. Raises Refused."""
    if sum(map(data.count, b"[{,")) > _MOST_VALUES:
        raise bad(None, f"the body holds more than {_MOST_VALUES} values.")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise bad(None, f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise bad(None, f"the body is JSON of type {type(value).__name__}; expected an object.")
    if not is_shallow(value):
        raise bad(None, "the body is nested too deeply; expected at most 100 levels.")
    return value
