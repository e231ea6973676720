"""JSON from folders nobody vouches for: bounded, no duplicate keys, no NaN, no lone surrogates."""

import json
import math
from pathlib import Path

from qwen35_local.errors import FileFormatError


def parse(data: bytes, what: str) -> dict[str, object]:
    """The JSON object in `data`; `what` names it in errors. Raises FileFormatError."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FileFormatError(f"{what}: the key {twice[:80]!r} occurs twice.")
        return found

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise FileFormatError(f"{what}: the number {text[:40]} is not finite.")
        return value

    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique, parse_float=finite, parse_constant=finite)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise FileFormatError(f"{what}: nested too deeply.") from error
    except UnicodeError as error:
        raise FileFormatError(f"{what}: not valid UTF-8 text ({error}).") from error
    except ValueError as error:
        raise FileFormatError(f"{what}: not valid JSON ({error}).") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{what}: expected a JSON object, found {type(value).__name__}.")
    return value


def read(path: Path, limit_bytes: int = 64 << 20) -> dict[str, object]:
    """The JSON object in a file of at most `limit_bytes`. Raises FileFormatError."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(data) > limit_bytes:
        raise FileFormatError(f"{path}: larger than {limit_bytes >> 20} MiB, which no file of this kind needs to be.")
    return parse(data, str(path))


def read_if_there(path: Path) -> dict[str, object]:
    """`read`, or an empty object when there is no such file."""
    return read(path) if path.exists() else {}
