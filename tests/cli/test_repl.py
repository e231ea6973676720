"""The conversation's commands and what they do to what was said."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conversing import conversation, said

from qwen35_local.chat.events import TextDelta
from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.engine.reply import Compacted, ContextFull, Difference, Done, Event, Reuse, Usage
from qwen35_local.errors import DeviceError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QWEN35_HOME", str(tmp_path / "home"))
    return tmp_path


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


@pytest.mark.parametrize("error", [DeviceError("lost"), ContextFull(120, 100)], ids=["device", "context"])
@pytest.mark.parametrize("line", ["c", "/retry", "/edit 1"])
def test_an_error_costs_nothing_that_was_said(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, error: Exception
) -> None:
    """Also where the conversation was cut before it was asked again."""
    repl = conversation(scripted, "one", "two")
    repl.take("a")
    repl.take("b")
    before = said(repl)

    def fail(request: object, progress: object, job: object) -> Iterator[Event]:
        yield TextDelta("th")
        raise error

    monkeypatch.setattr(repl, "ask", lambda default="": "something else")
    repl.session.engine.reply = fail  # type: ignore[method-assign,assignment]
    repl.take(line)
    assert said(repl) == before
    assert ("↑ brings the line again" in capsys.readouterr().out) == isinstance(error, DeviceError)


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


def test_think_takes_a_budget(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted, "a", "b", "c")
    repl.take("/think 2000")
    assert "thinking is on, for at most 2,000 tokens" in capsys.readouterr().out
    repl.take("hello")
    for wrong in ("/think 0", "/think -5", "/think 2k", "/think 1.5"):
        repl.take(wrong)
        assert "takes on, off or a number of tokens" in capsys.readouterr().out
    repl.take("/think")
    assert "2,000" in capsys.readouterr().out
    repl.take("/think off")
    repl.take("hello")
    repl.take("/think on")
    repl.take("hello")
    requests = repl.session.engine.requests  # type: ignore[attr-defined]
    assert [(request.thinking, request.thinking_tokens) for request in requests] == [
        (True, 2000),
        (False, None),
        (True, None),
    ]


def test_why_thinking_ended_and_a_loop_are_told(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted)
    done = Done("loop", Message("assistant", "so so so"), Usage(), notes=("the thinking repeated itself",))
    repl.session.engine.reply = lambda request, progress, job: iter([done])  # type: ignore[method-assign,assignment]
    repl.take("hello")
    out = capsys.readouterr().out
    assert "(the thinking repeated itself)" in out
    assert "(the reply repeated itself; --no-break-loops lets it go on)" in out
    assert said(repl)[-1] == ("assistant", "so so so")


def test_an_unknown_command_is_not_sent(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted)
    repl.take("/frobnicate now")
    assert said(repl) == []
    assert "/frobnicate is not a command" in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "meant"), [("/hlep", "/help"), ("/Clear", "/clear"), ("/sesion x", "/sessions")])
def test_a_mistyped_command_is_told_the_right_one(
    scripted: Any, typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repl = conversation(scripted)
    repl.take(typed)
    assert said(repl) == []
    assert f"did you mean {meant}?" in capsys.readouterr().out


def test_a_message_that_begins_with_a_command_does_not_act(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted, "Hello.", "Gladly.")
    repl.take("I am Ann.")
    repl.take("/clear the table, please")
    assert len(said(repl)) == 2
    assert "put a space before it" in capsys.readouterr().out
    repl.take(" /clear the table, please")
    assert said(repl)[2] == ("user", " /clear the table, please")


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


def test_answers_follow_a_schema_until_it_is_off(
    scripted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answer.json"
    path.write_text('{"type": "integer"}')
    repl = conversation(scripted, "5", "6", "7")
    repl.take(f"/schema {path}")
    assert 'schema: {"type": "integer"}' in capsys.readouterr().out
    repl.take("a")
    repl.take('/schema {"type": "null"}')
    repl.take("b")
    repl.take(f"/schema {tmp_path}/none")
    assert "! " in capsys.readouterr().out
    repl.take("/schema off")
    repl.take("c")
    wanted = [OutputFormat("json_schema", '{"type": "integer"}'), OutputFormat("json_schema", '{"type": "null"}')]
    assert [request.output_format for request in repl.session.engine.requests] == [*wanted, None]
    assert repl.session.engine.formats == wanted


def test_hostile_output_reaches_the_terminal_escaped(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted, "\x1b]52;c;aGk=\x07")
    repl.take("hello")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b]52" in out


def test_branches_part_and_are_come_back_to(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted, "one", "two", "three")
    repl.take("a")
    repl.take("/branch aside")
    repl.take("b")
    repl.take("/branch main")
    assert said(repl) == [("user", "a"), ("assistant", "one")]
    repl.take("c")
    for _ in "12":
        repl.take("/branch aside")
        assert said(repl) == [("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two")]
    assert set(repl.session.branches) == {"main", "aside"}
    capsys.readouterr()
    repl.take("/branch")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("* aside")
    assert lines[1].startswith("  main")


def test_the_reply_is_settled_and_what_was_compacted_is_gone(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repl = conversation(scripted, "one", "two")
    repl.take("a")
    engine: Any = repl.session.engine
    assert [message.text for message in engine.prefilled] == ["one"]
    original = engine.reply

    def full(request: Any, **options: Any) -> Any:
        yield Compacted(tuple(request.messages[:2]), 99, 40)
        yield from original(request, **options)

    monkeypatch.setattr(engine, "reply", full)
    repl.take("b")
    assert said(repl) == [("user", "b"), ("assistant", "two")]
    assert "2 oldest messages are dropped, from “a” on" in capsys.readouterr().out


def test_why_explains_the_last_prompt(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    repl = conversation(scripted, "one")
    repl.take("/why")
    assert "! nothing was answered yet" in capsys.readouterr().out
    repl.take("a")
    reuse = Reuse(80, "message 2", 12, 30, Difference(81, "<think>\n", "Paris\x1b"))
    repl.last = Done("stop", Message("assistant", "one"), Usage(prompt_tokens=92), reuse)
    capsys.readouterr()
    repl.take("/why")
    out = capsys.readouterr().out
    assert "reused      80, from message 2" in out
    assert "evaluated   12 now, 30 since the reply before" in out
    assert r'at token 81: "<think>\n" was known, "Paris\u001b" came' in out


def test_what_drafts_brought_is_told(scripted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    usage = Usage(
        generated_tokens=121,
        first_token_seconds=1.0,
        seconds=3.0,
        passes=50,
        drafted_tokens=120,
        accepted_tokens=96,
        drafted_copies=68,
        accepted_copies=56,
        saved_seconds=0.8,
    )
    repl = conversation(scripted)

    def told(usage: Usage, reuse: Reuse = Reuse()) -> tuple[str, list[str]]:  # noqa: B008 - it is frozen
        done = Done("stop", Message("assistant", "x"), usage, reuse)
        repl.session.engine.reply = lambda request, progress, job: iter([done])  # type: ignore[method-assign,assignment]
        repl.take("hello")
        line = capsys.readouterr().out.splitlines()[-1]
        repl.take("/why")
        return line, capsys.readouterr().out.splitlines()[4:]

    line, why = told(usage)
    assert line.endswith("0 evaluated · drafted 120, accepted 96 (80 %), 1.4x")
    assert why == [
        "drafted     120 tokens, 96 accepted: 40 of 52 by the MTP block, 56 of 68 copied",
        "written     2.4 tokens a pass of the model",
        "saved       0.80 s: 1.4 times as fast as without drafts",
    ]
    line, why = told(replace(usage, saved_seconds=-0.5, drafted_copies=0, accepted_copies=0))
    assert line.endswith("(80 %), 0.8x")
    assert why[0] == "drafted     120 tokens, 96 accepted: 96 of 120 by the MTP block"
    assert why[2] == "lost        0.50 s: 0.8 times as fast as without drafts"
    for little in (0.0, 0.05, -0.05):  # 0: a number of drafts that was asked for
        line, why = told(replace(usage, saved_seconds=little))
        assert line.endswith("(80 %)") and len(why) == 2
    _, why = told(Usage(drafted_tokens=4, accepted_tokens=3), Reuse(reader="http://there"))
    assert why == ["drafted     4 tokens, 3 accepted"]
    line, why = told(replace(usage, drafted_tokens=0, accepted_tokens=0, saved_seconds=0.0))
    assert line.endswith("0 evaluated") and why == []
