"""Text from outside is shown, never obeyed."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen35_local.cli.terminal import StyledWriter, has_style, printable, printable_line

HOSTILE = ["\x1b[2J", "\x1b]52;c;aGk=\x07", "\x9b31m", "\r", "\x08", "\u202e", "\u2066", "\x00", "\x7f"]


@pytest.mark.parametrize("text", HOSTILE)
def test_control_sequences_become_visible(text: str) -> None:
    shown = printable(f"a{text}b")
    assert shown.startswith("a\\")
    assert shown.isprintable()


@given(st.text())
def test_nothing_unprintable_survives(text: str) -> None:
    shown = printable(text)
    assert not any(ord(c) < 32 and c not in "\n\t" for c in shown)
    assert not set(shown) & set("\x7f\x9b\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@given(st.text(), st.integers(0, 50))
def test_cutting_the_text_does_not_change_what_is_shown(text: str, at: int) -> None:
    assert printable(text) == printable(text[:at]) + printable(text[at:])


@given(st.text(max_size=500))
def test_a_line_is_one_line_of_bounded_length(text: str) -> None:
    line = printable_line(text, limit=80)
    assert "\n" not in line
    assert len(line) <= 80


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_style_needs_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert has_style(Terminal())
    assert not has_style(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_style(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not has_style(Terminal())


def test_pen_ends_a_line_once() -> None:
    stream = io.StringIO()
    pen = StyledWriter(stream)
    pen.end_line()
    pen.write("a")
    pen.end_line()
    pen.end_line()
    assert stream.getvalue() == "a\n"
