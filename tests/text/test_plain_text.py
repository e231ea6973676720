from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen35_local.errors import FormatError
from qwen35_local.text import plain_text
from qwen35_local.text.plain_text import PlainText

LINES = "na\u00efve caf\u00e9\r\n\rend\n\n"
MARKS = {"utf-8": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
MARKS |= {"utf-32-le": b"\xff\xfe\0\0", "utf-32-be": b"\0\0\xfe\xff"}


def read(tmp_path: Path, data: bytes) -> PlainText:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    return plain_text.read(path)


@given(text=st.text(max_size=20) | st.text("\r\n a", max_size=8))
def test_the_characters_are_those_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("text")
    mark = "\ufeff" if text.startswith("\ufeff") else ""  # the first one is the mark
    assert read(folder, text.encode()).text == text.removeprefix(mark)
    assert read(folder, b"\xef\xbb\xbf" + text.encode()).text == text


@pytest.mark.parametrize("encoding", MARKS)
def test_a_byte_order_mark_says_the_encoding_and_is_no_text(tmp_path: Path, encoding: str) -> None:
    found = read(tmp_path, MARKS[encoding] + LINES.encode(encoding))
    assert found.text == LINES
    assert ("UTF-" in found.remark) == (encoding != "utf-8")
    assert encoding[:6].upper() in found.remark or encoding == "utf-8"


def test_utf_16_without_a_mark_is_remarked_on_and_read_as_it_is(tmp_path: Path) -> None:
    found = read(tmp_path, "plain".encode("utf-16-le"))
    assert found.text == "p\0l\0a\0i\0n\0"
    assert "5 of 10 bytes are zero" in found.remark
    assert read(tmp_path, b"a\0b and more").remark == ""


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (LINES.encode("latin-1"), r"not UTF-8 at byte 2 \(0xef\).*iconv"),
        (b"\xef\xbb\xbfa\xff", r"not UTF-8 at byte 4 \(0xff\)"),
        (b"\xff\xfea\0\0\xd8", r"not UTF-16 at byte 4"),
        (b"\xff\xfea", "not UTF-16 at byte 2"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not UTF-8 at byte 0"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, data: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read(tmp_path, data)


def test_nothing_without_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match="device"):
        plain_text.read(Path("/dev/zero"))
    monkeypatch.setattr(plain_text, "LIMIT_BYTES", 4)
    with pytest.raises(FormatError, match="larger"):
        read(tmp_path, b"12345")
