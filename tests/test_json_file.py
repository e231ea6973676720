"""JSON from outside: what is accepted, and the one message for what is not."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen35_local import bounded_file, json_file
from qwen35_local.errors import FormatError


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}),
        (b"\xef\xbb\xbf[]", []),  # a byte order mark
        (b"5", 5),
        (b" \r\n\t0 ", 0),
        (b"-0.0", 0.0),
        (b"9" * 4300, int("9" * 4300)),
        (b"1e-400", 0.0),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b"[" * 100 + b"]" * 100, None),
    ],
)
def test_good(data: bytes, value: object) -> None:
    found = json_file.parse(data, "x.json")
    assert value is None or (found == value and type(found) is type(value))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1,]", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b'"\x01"', "not valid JSON"),
        (b"\xff\xfe[\x00]\x00", "as in UTF-16 text"),
        (b"\xef\xbb\xbf\xef\xbb\xbf[]", "not valid JSON"),
        (b'"\xed\xa0\x80"', "not valid UTF-8"),
        (b'{"a": 1, "b": 2, "a": 1}', "the key 'a' occurs twice"),
        (b'[{"": 1, "": 2}]', "the key '' occurs twice"),
        (b"NaN", "the number NaN is not finite"),
        (b"[Infinity]", "the number Infinity is not finite"),
        (b'{"a": -Infinity}', "the number -Infinity is not finite"),
        (b"1e400", "the number 1e400 is not finite"),
        (b"9" * 4301, "a number of 4301 digits"),
        (b"[" * 101 + b"]" * 101, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'"\\ud800"', "not valid UTF-8"),
        (b'{"\\uDfff": 1}', "not valid UTF-8"),
    ],
)
def test_refused(data: bytes, said: str) -> None:
    with pytest.raises(FormatError, match=r"^x\.json: .*" + said):
        json_file.parse(data, "x.json")


def nested(levels: int, make: Callable[[object], object]) -> object:
    value: object = 5
    for _ in range(levels):
        value = make(value)
    return value


@pytest.mark.parametrize("make", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}], ids=["list", "tuple", "object"])
def test_a_value_of_python_is_as_deep_as_what_is_read(make: Callable[[object], object]) -> None:
    text = json_file.plain_text(nested(100, make))
    assert json.loads(text) == json.loads(json.dumps(nested(100, make)))
    json_file.parse(text.encode(), "x.json")
    for levels in (101, 500, 100_000):
        with pytest.raises(ValueError, match="nested too deeply; expected at most 100 levels"):
            json_file.plain_text(nested(levels, make))


def test_a_value_that_is_no_json() -> None:
    around: list[object] = []
    around.append(around)
    for wrong, said in (({1}, "not JSON serializable"), (around, "Circular")):
        with pytest.raises(ValueError, match=said):
            json_file.plain_text(wrong)


def test_text_of_a_model_may_hold_lone_surrogates() -> None:
    assert json_file.parse(b'"\\ud800"', "x.json", lone_surrogates=True) == "\ud800"


@pytest.mark.parametrize("data", [b"5", b"null", b"[]", b'"{}"'])
def test_an_object_is_wanted(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"x\.json: expected a JSON object"):
        json_file.parse_object(data, "x.json")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(FormatError, match="cannot be read"):
        json_file.read(path)
    assert json_file.read_object_if_there(path) == {}
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert json_file.read(path) == json_file.read_object_if_there(path) == {"a": 1}
    with pytest.raises(FormatError, match="larger than 0 MiB"):
        json_file.read_object(path, limit_bytes=10)
    with pytest.raises(FormatError, match="cannot be read"):
        json_file.read(tmp_path)


@pytest.mark.parametrize(
    ("data", "of_a_model", "of_a_person"),
    [
        (b"", "it is empty; download it again", "it is empty"),
        (b"<!DOCTYPE html>", "it is a saved web page; download the file itself, logged", "it is a saved web page"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer: the file", "it is a Git LFS pointer"),
        (b"PK\x03\x04", "it is a zip archive, as torch.save writes it; give", "it is a zip archive"),
    ],
)
def test_what_to_do_depends_on_whose_file_it_is(tmp_path: Path, data: bytes, of_a_model: str, of_a_person: str) -> None:
    """A file of a model was downloaded; a list of tools is the person's own."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=rf"a\.json: not valid JSON: {of_a_model}"):
        json_file.read_object(path)
    with pytest.raises(FormatError, match=rf"a\.json: not valid JSON: {of_a_person}\.$"):
        json_file.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file(tmp_path: Path) -> None:
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(FormatError, match=f"{device}: is a device; expected a regular file"):
            json_file.read(Path(device))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FormatError, match="pipe: is a pipe; expected a regular file"):
        json_file.read_object(pipe)
    with pytest.raises(FormatError, match="pipe: not valid JSON"):  # and it does not wait for a writer
        json_file.read(pipe)


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no /dev/fd here")
def test_a_pipe_of_the_shell_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"[1]")
    os.close(writer)
    assert bounded_file.read(Path(f"/dev/fd/{reader}"), 100, accepts_pipe=True) == b"[1]"
    os.close(reader)


def test_what_a_model_wrote_can_be_kept_and_read_again() -> None:
    deep = "[" * 80 + "]" * 80
    assert json_file.parse_written('{"a": "line\nbreak", "a": 1}') == {"a": 1}
    kept = {"messages": [{"tool_calls": [{"function": {"arguments": {"x": json_file.parse_written(deep)}}}]}]}
    assert json_file.parse(json.dumps(kept).encode(), "x.json") == kept
    for text in ("NaN", "[Infinity]", "1e999", f"[{deep}]", "[" * 100_000, "{", "9" * 5000):
        with pytest.raises(ValueError):
            json_file.parse_written(text)
