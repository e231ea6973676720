"""JSON from outside: of bounded size and depth, UTF-8 with or without a byte order mark, no key twice, no NaN."""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qwen35_local import bounded_file
from qwen35_local.errors import FormatError
from qwen35_local.other_file import other_file

LIMIT_BYTES = 64 << 20
DEPTH = 100  # lists and objects inside one another; more could not be written again, printed or rendered
_WRITTEN_DEPTH = 80  # a conversation's file has some levels around it
_DIGITS = 4300  # Python's own limit for an integer


def parse(data: bytes, what: str, *, lone_surrogates: bool = False, is_of_a_model: bool = True) -> object:
    """The JSON value in `data`; `what` names it in errors. Integers may have any size, numbers must be finite.
    `lone_surrogates`: accept their escapes, which text of a model can hold. `is_of_a_model`: it was downloaded, and can
    be again. Raises FormatError."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError(f"{what}: the key {twice[:80]!r} occurs twice.")
        return found

    def whole(text: str) -> int:
        if len(text) > _DIGITS:
            raise FormatError(f"{what}: a number of {len(text)} digits; expected at most {_DIGITS}.")
        return int(text)

    if b"\0" in data[:4]:
        raise FormatError(f"{what}: zero bytes, as in UTF-16 text; expected JSON in UTF-8, so save it again as that.")
    try:
        text = data.decode("utf-8-sig")
        value: object = json.loads(
            text, object_pairs_hook=unique, parse_float=_finite, parse_int=whole, parse_constant=_finite
        )
        if not lone_surrogates and ("\\ud" in text or "\\uD" in text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise FormatError(f"{what}: nested too deeply; expected at most {DEPTH} levels.") from None
    except FormatError:
        raise
    except UnicodeError as error:
        raise FormatError(f"{what}: not valid UTF-8 text ({error}).") from error
    except ValueError as error:
        found = other_file(data[:512], is_of_a_model=is_of_a_model)
        reason = f": {found}" if found else f" ({error})"
        raise FormatError(f"{what}: not valid JSON{reason}.") from error
    if not is_shallow(value):
        raise FormatError(f"{what}: nested too deeply; expected at most {DEPTH} levels.")
    return value


def parse_written(text: str, *, bounds_numbers: bool = False) -> Any:
    """JSON that a model wrote, which often has line breaks inside its strings. Raises ValueError for what could not be
    kept in a conversation's file and read again; to that belong numbers beyond what a double holds, unless these are
    the largest it holds then (`bounds_numbers`)."""
    parse_float = bounded if bounds_numbers else _finite
    try:
        value = json.loads(text, strict=False, parse_float=parse_float, parse_constant=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not is_shallow(value, _WRITTEN_DEPTH):
        raise ValueError("nested too deeply")
    return value


def plain_text(value: object) -> str:
    """A value of Python as JSON, of the depth that is read again. Raises ValueError saying what is wrong with it."""
    try:
        text = json.dumps(value)
        if is_shallow(value):
            return text
    except TypeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        pass
    raise ValueError(f"nested too deeply; expected at most {DEPTH} levels")


def parse_object(data: bytes, what: str) -> dict[str, object]:
    """`parse`, of something that must be an object. Raises FormatError."""
    value = parse(data, what)
    if not isinstance(value, dict):
        raise FormatError(f"{what}: expected a JSON object, found {type(value).__name__}.")
    return value


def read(path: Path, *, lone_surrogates: bool = False) -> object:
    """The JSON value in a file that the person named; it may be a pipe. Raises FormatError."""
    try:
        data = bounded_file.read(path, LIMIT_BYTES, accepts_pipe=True)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}).") from error
    return parse(data, str(path), lone_surrogates=lone_surrogates, is_of_a_model=False)


def read_object(path: Path, limit_bytes: int = LIMIT_BYTES) -> dict[str, object]:
    """The JSON object in a file of a checkpoint, of at most `limit_bytes`. Raises FormatError."""
    try:
        data = bounded_file.read(path, limit_bytes)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}).") from error
    return parse_object(data, str(path))


def read_object_if_there(path: Path) -> dict[str, object]:
    """`read_object`, or an empty object when there is no such file."""
    return read_object(path) if path.exists() else {}


def bounded(text: str) -> float:
    """A number as the nearest that is finite."""
    return max(-sys.float_info.max, min(float(text), sys.float_info.max))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is not finite")
    return value


def is_shallow(value: object, depth: int = DEPTH) -> bool:
    """Whether lists and objects lie at most `depth` inside one another."""
    level = [value]
    for _ in range(depth):
        level = [child for one in level for child in _children(one) if isinstance(child, dict | list | tuple)]
        if not level:
            return True
    return False


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
