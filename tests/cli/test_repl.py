"""The conversation's commands and what they do to what was said."""

import json
from pathlib import Path
from typing import Any

import pytest

from qwen35_local.chat.messages import ToolCall
from qwen35_local.cli.repl import Repl
from qwen35_local.cli.session import Session


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QWEN35_HOME", str(tmp_path / "home"))
    return tmp_path


def conversation(scripted: Any, *script: str | ToolCall) -> Repl:
    return Repl(Session(scripted(*script)))


def said(repl: Repl) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in repl.session.messages]


def test_a_turn_adds_both_messages(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted, "Hello, Ann.")
    repl.take("I am Ann.")
    assert said(repl) == [("user", "I am Ann."), ("assistant", "Hello, Ann.")]
    out = capsys.readouterr().out
    assert out.index("thinking…") < out.index("hm") < out.index("…done thinking") < out.index("Hello, Ann.")
    assert "3 tokens" in out


def test_retry_answers_the_same_message_again(scripted: Any) -> None:
    repl = conversation(scripted, "one", "two")
    repl.take("Count.")
    repl.take("/retry")
    assert said(repl) == [("user", "Count."), ("assistant", "two")]
    assert [len(request.messages) for request in repl.session.engine.requests] == [1, 1]  # type: ignore[attr-defined]


def test_undo_takes_back_the_last_turn(scripted: Any) -> None:
    repl = conversation(scripted, "one", "two")
    repl.take("a")
    repl.take("b")
    repl.take("/undo")
    assert said(repl) == [("user", "a"), ("assistant", "one")]


def test_tool_results_are_asked_for_and_sent(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repl = conversation(scripted, ToolCall("get_time", {"city": "Rome"}), "It is noon.")
    monkeypatch.setattr(repl, "_lines", type("Lines", (), {"prompt": lambda self, text: "12:00"})())
    repl.take("What time is it in Rome?")
    assert said(repl)[2:] == [("tool", "12:00"), ("assistant", "It is noon.")]


def test_refusing_a_tool_result_takes_the_question_back(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, text: str) -> str:
        raise EOFError

    repl = conversation(scripted, ToolCall("get_time", {}))
    monkeypatch.setattr(repl, "_lines", type("Lines", (), {"prompt": refuse})())
    repl.take("What time is it?")
    assert said(repl) == []


def test_settings_are_shown_checked_and_reset(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted)
    repl.take("/set temperature 0.3")
    assert repl.session.sampling.temperature == 0.3
    for wrong in ("/set temperature hot", "/set temperature -2", "/set flavour 3", "/set temperature", "/think maybe"):
        repl.take(wrong)
        assert "!" in capsys.readouterr().out.splitlines()[-1]
    assert repl.session.sampling.temperature == 0.3
    repl.take("/set temperature -")
    assert repl.session.sampling.temperature == 1.0


def test_think_switches_the_preset(scripted: Any) -> None:
    repl = conversation(scripted, "a")
    repl.take("/think off")
    repl.take("hello")
    request = repl.session.engine.requests[0]  # type: ignore[attr-defined]
    assert request.thinking is False
    assert request.sampling.temperature == 0.7


def test_an_unknown_command_is_not_sent(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted)
    repl.take("/frobnicate now")
    assert said(repl) == []
    assert "/frobnicate is not a command" in capsys.readouterr().out


def test_a_path_is_something_to_say(scripted: Any, tmp_path: Path) -> None:
    repl = conversation(scripted, "A folder.")
    repl.take(f"{tmp_path} is what?")
    assert said(repl)[0] == ("user", f"{tmp_path} is what?")


def test_system_is_sent_first(scripted: Any) -> None:
    repl = conversation(scripted, "Arr.")
    repl.take("/system Talk like a pirate.")
    repl.take("Hello")
    request = repl.session.engine.requests[0]  # type: ignore[attr-defined]
    assert [message.role for message in request.messages] == ["system", "user"]


def test_save_and_load_bring_back_the_conversation(scripted: Any, tmp_path: Path) -> None:
    repl = conversation(scripted, "Hello, Ann.")
    repl.take("/system Be kind.")
    repl.take("/set seed 5")
    repl.take("I am Ann.")
    repl.take(f"/save {tmp_path / 'talk.json'}")
    other = conversation(scripted)
    other.take(f"/load {tmp_path / 'talk.json'}")
    assert other.session.messages == repl.session.messages
    assert other.session.system == "Be kind."
    assert other.session.chosen == {"seed": 5}
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        "{}",
        '{"format": "qwen35-conversation", "version": 99, "messages": []}',
        '{"format": "qwen35-conversation", "version": 1, "messages": [{"role": "wizard", "content": ""}]}',
        '{"format": "qwen35-conversation", "version": 1, "messages": 3}',
        '{"format": "qwen35-conversation", "version": 1, "messages": [], "settings": {"temperature": "x"}}',
        '{"format": "qwen35-conversation", "version": 1, "messages": [], "system": 4}',
    ],
)
def test_a_bad_file_is_refused_and_nothing_changes(
    scripted: Any, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talk.json"
    path.write_text(content)
    repl = conversation(scripted, "one")
    repl.take("keep me")
    before = list(repl.session.messages)
    repl.take(f"/load {path}")
    assert repl.session.messages == before
    assert "! " in capsys.readouterr().out


def test_tools_are_read_from_a_file(scripted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools = [{"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}]
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(tools))
    repl = conversation(scripted)
    repl.take(f"/tools {path}")
    assert "get_time" in capsys.readouterr().out
    path.write_text('[{"type": "function"}]')
    repl.take(f"/tools {path}")
    assert list(repl.session.tools) == tools


def test_hostile_output_reaches_the_terminal_escaped(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted, "\x1b]52;c;aGk=\x07")
    repl.take("hello")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b]52" in out
