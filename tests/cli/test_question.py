"""Yes or no, asked of a person."""

import io
import sys

import pytest

from qwen35_local.cli.question import agreed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, stdin: Terminal) -> Terminal:
    """What is shown there."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


@pytest.mark.parametrize(
    ("typed", "is_advised", "is_agreed"),
    [
        *(("\n", True, True), ("y\n", True, True), ("n\n", True, False), ("", True, False), ("y", False, True)),
        *(("\n", False, False), (" Yes \n", False, True), ("", False, False)),
    ],
)
def test_the_answer(monkeypatch: pytest.MonkeyPatch, typed: str, is_advised: bool, is_agreed: bool) -> None:
    """The end of input leaves the cursor at the start of a line, as the Enter of an answer does."""
    screen = at_a_terminal(monkeypatch, Terminal(typed))
    assert agreed("Go?", is_advised=is_advised) is is_agreed
    assert screen.getvalue() == f"Go? {'[Y/n]' if is_advised else '[y/N]'} " + ("" if typed.endswith("\n") else "\n")


def test_what_is_no_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = at_a_terminal(monkeypatch, Terminal("what\nyess\nn\n"))
    assert agreed("Go?", is_advised=True) is False
    assert screen.getvalue() == "Go? [Y/n] Answer y or n.\n" * 2 + "Go? [Y/n] "


def test_an_interrupt_ends_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Terminal):
        def readline(self, size: int | None = -1, /) -> str:
            raise KeyboardInterrupt

    screen = at_a_terminal(monkeypatch, Interrupted())
    with pytest.raises(KeyboardInterrupt):
        agreed("Go?", is_advised=True)
    assert screen.getvalue().endswith("\n")
