"""What a person types or pastes, as messages."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input

from qwen35_local.cli import slash
from qwen35_local.cli.lines import EditedLines, PlainLines, line_reader, shown

pytestmark = pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")


class Typing:
    """`send` what the person's terminal sends."""

    def __init__(self, send: object, lines: object) -> None:
        self.send, self.lines = send, lines


@pytest.fixture(params=["edited", "plain"])
def typing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Typing]:
    if request.param == "plain":
        ours, theirs = os.openpty()
        with os.fdopen(theirs) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            yield Typing(lambda text: os.write(ours, text.encode()), PlainLines())
        os.close(ours)
    else:
        with create_pipe_input() as terminal, create_app_session(input=terminal):
            yield Typing(terminal.send_text, EditedLines(tmp_path / "history"))


def test_a_line_is_a_message(typing: Typing) -> None:
    typing.send("Grüße\r")
    assert typing.lines.prompt("› ") == "Grüße"


def test_one_burst_of_lines_is_one_message(typing: Typing) -> None:
    typing.send("def f():\r    return 1\r\rWhat is this?\r")
    assert typing.lines.prompt("› ") == "def f():\n    return 1\n\nWhat is this?"


def test_a_command_in_a_burst_is_complete(typing: Typing) -> None:
    typing.send("/think off\rHello\r")
    assert typing.lines.prompt("› ") == "/think off"
    assert typing.lines.prompt("› ") == "Hello"


def test_the_end_is_the_end(typing: Typing) -> None:
    typing.send("\x04")
    with pytest.raises(EOFError):
        typing.lines.prompt("› ")


def test_ctrl_z_suspends_and_the_line_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    with create_pipe_input() as terminal, create_app_session(input=terminal):
        lines = EditedLines(None)
        terminal.send_text("half a \x1aline\r")
        assert lines.prompt("› ") == "half a line"
    assert sent == [(0, signal.SIGTSTP)]


def test_a_plain_prompt_is_shown_again_when_it_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("› "):
        signal.raise_signal(signal.SIGCONT)
    signal.raise_signal(signal.SIGCONT)
    assert capsys.readouterr().out == "› › "


def test_a_dumb_terminal_is_sent_no_escape_sequence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(ours, b"new\r")
        assert line_reader(None).prompt("› ", default="old") == "new"
    os.close(ours)
    assert capsys.readouterr().out == "old\n› "


@pytest.mark.parametrize("place", ["a file/history", "history"])
def test_typing_does_not_depend_on_its_history(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such folder, or the disk is full when a line is to be kept."""
    from prompt_toolkit.history import FileHistory

    def full(self: object, string: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileHistory, "store_string", full)
    (tmp_path / "a file").write_text("")
    with create_pipe_input() as terminal, create_app_session(input=terminal):
        lines = EditedLines(tmp_path / place)
        for text in ("one", "two"):
            terminal.send_text(f"{text}\r")
            assert lines.prompt("› ") == text


@pytest.mark.parametrize("text", ["/help", "/hlep", "/HELP", "/frobnicate now", "/?", "/set seed 3", "/system a\nb"])
def test_what_is_taken_for_a_command(text: str) -> None:
    assert slash.is_command(text)


@pytest.mark.parametrize(
    "text",
    [
        "/* a comment */",
        "// one too",
        "/usr/x fails",
        "/re/",
        "/re/g what is this",
        "/",
        "/ help",
        "/tmp",
        "/dev is what",
        " /help me with this",
        "help",
        "",
        "/1",
        "/etc/hosts",
        "/^a+$/",
        "/über",
    ],
)
def test_what_is_something_to_say(text: str) -> None:
    assert not slash.is_command(text)
