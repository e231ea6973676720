"""The whole program in a terminal of its own, which answers no question about its cursor."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("terminals as POSIX has them", allow_module_level=True)

import fcntl
import pty
import termios

PATIENCE_SECONDS = 60.0


class Terminal:
    """A conversation on the far side of a pseudo-terminal."""

    def __init__(self, home: Path, *arguments: str, hang_up: Any = signal.SIG_DFL, **environment: str) -> None:
        def begin() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, hang_up)

        self._end, theirs = pty.openpty()
        self.program = subprocess.Popen(
            [sys.executable, "-m", "qwen35_local", "chat", "--no-think", "--temperature", "0", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=begin,
            env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "QWEN35_HOME": str(home), **environment},
        )
        os.close(theirs)
        self._shown = b""

    def wait_for(self, pattern: str) -> str:
        """What was shown until then, without escape sequences."""
        while True:
            screen = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", self._shown).decode("utf-8", "replace")
            if re.search(pattern, screen, re.DOTALL):
                self._shown = b""
                return screen
            assert select.select([self._end], [], [], PATIENCE_SECONDS)[0], screen
            self._shown += os.read(self._end, 1 << 16)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def modes(self) -> list[Any]:
        """Of the terminal, as `termios.tcgetattr` gives them."""
        return termios.tcgetattr(self._end)

    def close(self) -> int:
        """Closes the window; returns the exit code."""
        os.close(self._end)
        return self.program.wait(PATIENCE_SECONDS)


UNWRITTEN = """
import os, signal, sys
from qwen35_local.cli import app, main
def run():
    sys.stdout.write("unwritten")
    os.write(int(os.environ["READY"]), b"!")
    signal.pause()
app.run = run
main.main()
"""


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        if terminal.program.poll() is None:
            terminal.program.kill()
            terminal.program.wait()


def test_a_closed_window_is_the_reason_whatever_was_left_unwritten() -> None:
    """What the terminal was to show last is found to be lost only by the last flush of all."""
    end, theirs = pty.openpty()
    ready, writer = os.pipe()
    program = subprocess.Popen(
        [sys.executable, "-c", UNWRITTEN],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        pass_fds=(writer,),
        env={**os.environ, "READY": str(writer)},
    )
    os.close(theirs)
    os.close(writer)
    assert os.read(ready, 1) == b"!"
    os.close(end)
    assert program.wait(PATIENCE_SECONDS) == 128 + signal.SIGHUP
    os.close(ready)


@pytest.mark.parametrize("hang_up", [signal.SIG_DFL, signal.SIG_IGN], ids=["told", "ignored"])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_conversation_from_greeting_to_a_closed_window(
    tmp_path: Path, terminals: list[Terminal], term: str, hang_up: Any
) -> None:
    """Also under nohup, where only the terminal itself tells that it is gone."""
    terminal = Terminal(tmp_path, TERM=term, hang_up=hang_up)
    terminals.append(terminal)
    assert "CPR" not in terminal.wait_for("Ctrl-D: leave.*›")
    terminal.type("What is the\rcapital of France?\r")
    assert "Paris" in terminal.wait_for("tok/s.*›")
    terminal.type("/hlep\r")
    terminal.wait_for(r"did you mean /help\?.*›")
    assert terminal.close() == 128 + signal.SIGHUP
    saved = next((tmp_path / "sessions").iterdir())
    assert "capital of France?" in (saved / "conversation.json").read_text()
    assert (saved / "state.json").exists()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_home_that_takes_nothing_is_told_once(tmp_path: Path, terminals: list[Terminal], term: str) -> None:
    (tmp_path / "file").write_text("")
    terminal = Terminal(tmp_path / "file", TERM=term)
    terminals.append(terminal)
    shown = terminal.wait_for("Ctrl-D: leave.*›")
    assert shown.count("is not a folder") == 1
    assert "--no-save" in shown
    terminal.type("What is the capital of France?\r")
    shown = terminal.wait_for("tok/s.*›")
    assert "Paris" in shown
    assert "not kept" not in shown
    terminal.type("\x04")
    assert terminal.program.wait(PATIENCE_SECONDS) == 0


def test_esc_ends_the_thinking_and_other_keys_wait(tmp_path: Path, terminals: list[Terminal]) -> None:
    """The model can neither end its thinking nor its turn; what is typed meanwhile is there at the next prompt."""
    bias = [word for token in ("</think>", "<|im_end|>") for word in ("--logit-bias", f"{token}=-inf")]
    terminal = Terminal(tmp_path, "--think", "--max-tokens", "30000", *bias)
    terminals.append(terminal)
    terminal.wait_for("Ctrl-D: leave.*›")
    modes = terminal.modes()
    terminal.type("What is 12 + 30?\r")
    terminal.wait_for(r"thinking… \(Esc: answer now\).*\w")
    terminal.type("this is ty\x1b[D")  # the key in it begins with the same character as Esc
    assert "Considering" not in terminal.wait_for(r"\w{3}")
    terminal.type("\x1b")
    terminal.wait_for("Considering the limited time .*…done thinking.*\\w")
    terminal.type("\x03")
    shown = terminal.wait_for(r"\(interrupted\).*tok/s.*› this is ty")
    assert "(the thinking was ended to answer now)" in shown
    assert terminal.modes() == modes
    assert terminal.close() == 128 + signal.SIGHUP


def test_a_terminal_that_takes_nothing_keeps_no_program(tmp_path: Path, terminals: list[Terminal]) -> None:
    """As after Ctrl-S."""
    bias = [word for token in ("</think>", "<|im_end|>") for word in ("--logit-bias", f"{token}=-inf")]
    terminal = Terminal(tmp_path, "--think", "--max-tokens", "30000", "--no-break-loops", *bias)
    terminals.append(terminal)
    terminal.wait_for("Ctrl-D: leave.*›")
    terminal.type("What is 12 + 30?\r")
    terminal.wait_for(r"thinking… \(Esc: answer now\).*\w")
    terminal.type("\x13")
    time.sleep(1)
    assert terminal.program.poll() is None
    terminal.program.terminate()
    assert terminal.program.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def test_the_terminal_is_as_it_was_when_a_reply_is_ended_from_outside(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    bias = [word for token in ("</think>", "<|im_end|>") for word in ("--logit-bias", f"{token}=-inf")]
    terminal = Terminal(tmp_path, "--think", "--max-tokens", "30000", *bias)
    terminals.append(terminal)
    terminal.wait_for("Ctrl-D: leave.*›")
    terminal.type("What is 12 + 30?\r")
    terminal.wait_for(r"thinking… \(Esc: answer now\).*\w")
    assert not terminal.modes()[3] & termios.ICANON
    terminal.program.terminate()
    assert terminal.program.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    assert terminal.modes()[3] & termios.ICANON
    assert terminal.modes()[3] & termios.ECHO
