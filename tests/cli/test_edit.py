"""`/edit`: an old message is written anew, and answered again."""

from pathlib import Path
from typing import Any

import pytest
from conversing import conversation, said


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN35_HOME", str(tmp_path / "home"))


class Lines:
    """The person's next lines, in order."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.defaults: list[str] = []

    def prompt(self, text: str, *, prompt_continuation: str = "", default: str = "") -> str:
        self.defaults.append(default)
        return self.lines.pop(0)


def test_editing_answers_an_old_message_again(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repl = conversation(scripted, "one", "two", "three")
    repl.take("a")
    repl.take("b")
    lines = Lines("a, but better", "a, but better")
    monkeypatch.setattr(repl, "_lines", lines)
    repl.take("/edit 1")
    assert lines.defaults == ["a"]
    assert said(repl) == [("user", "a, but better"), ("assistant", "three")]
    repl.take("/edit")
    assert said(repl) == [("user", "a, but better"), ("assistant", "three")]  # not changed, not answered


@pytest.mark.parametrize("key", [EOFError, KeyboardInterrupt])
def test_a_key_that_gives_an_edit_up(scripted: Any, monkeypatch: pytest.MonkeyPatch, key: type[BaseException]) -> None:
    """Ctrl-D or Ctrl-C: nothing is changed, and the conversation goes on."""
    repl = conversation(scripted, "one")
    repl.take("a")

    def left(*words: Any, **options: Any) -> str:
        raise key

    lines = Lines()
    monkeypatch.setattr(lines, "prompt", left)
    monkeypatch.setattr(repl, "_lines", lines)
    repl.take("/edit")
    assert said(repl) == [("user", "a"), ("assistant", "one")]
    assert not repl.is_over


@pytest.mark.parametrize("wrong", ["/edit 3", "/edit 0", "/edit last"])
def test_editing_what_was_not_said_is_refused(scripted: Any, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted, "one")
    repl.take("a")
    before = said(repl)
    repl.take(wrong)
    assert said(repl) == before
    assert capsys.readouterr().out.splitlines()[-1].startswith("! ")
