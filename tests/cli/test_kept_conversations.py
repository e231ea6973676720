"""Conversations that a later program takes up again, with the state that goes with them."""

from pathlib import Path
from typing import Any

import pytest
from test_repl import said

from qwen35_local import _core, hub
from qwen35_local.cli.repl import Repl
from qwen35_local.cli.session import Session
from qwen35_local.cli.session_store import SessionStore
from qwen35_local.engine import store
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.load import load
from qwen35_local.errors import FormatError
from qwen35_local.models.drafts import Drafts


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QWEN35_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(("first", "then"), [("auto", "off"), ("off", "auto"), ("auto", 3)])
def test_a_conversation_goes_on_with_other_drafts(tmp_path: Path, first: Drafts, then: Drafts) -> None:
    """No word is lost; what was read is read again only where there were drafts and are none, or the reverse."""
    file = _core.GgufFile(hub.embedded_model())

    def start(draft: Drafts) -> Repl:
        engine = load(file, device="cpu", threads=1, draft=draft)
        session = Session(engine, name="talk", thinking=False)
        session.choose("temperature", "0")
        return Repl(session, SessionStore(tmp_path / "sessions"))

    before = start(first)
    before.take("My name is Ann.")
    before.session.engine.finish_idle()  # type: ignore[attr-defined]
    before.keep()
    before.keep_state()
    after = start(then)
    assert after.store is not None
    reason = after.store.take(after.session, "talk")
    assert after.session.messages == before.session.messages
    is_read = (first == "off") == (then == "off")
    assert reason is None if is_read else "--draft" in str(reason)
    for repl in (before, after):
        repl.take("What is my name?")
    assert after.last is not None and (after.last.usage.reused_tokens > 0) == is_read
    assert said(after) == said(before)


def test_a_conversation_is_kept_and_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the embedded model: a second program reads nothing of the first one's conversation again."""
    model = _core.Model(hub.embedded_model())
    name = store.identity(b"", model)

    def start() -> Repl:
        session = Session(Engine(model, identity=name), name="talk", thinking=True)
        session.choose("temperature", "0")
        session.choose("max_tokens", "60")
        return Repl(session, SessionStore(tmp_path / "sessions"))

    first = start()
    first.take("My name is Ann.")
    first.take("/branch aside")
    first.take("What is 12 + 30?")
    first.session.engine.finish_idle()
    first.keep_state()

    second = start()
    assert second.store is not None
    assert second.store.kv_format("talk") == "f16"
    assert second.store.kv_format("silence") is None
    assert second.store.take(second.session, "talk") is None
    assert second.session.messages == first.session.messages
    assert second.session.branch == "aside"
    for repl in (first, second):
        repl.take("What is my name?")
        assert repl.last is not None
    assert second.last is not None and first.last is not None
    assert second.last.message == first.last.message
    assert second.last.usage.evaluated_tokens == first.last.usage.evaluated_tokens < 20
    second.take("/sessions")
    assert "* talk" in capsys.readouterr().out
    second.take("/sessions ../../etc")
    assert "! a conversation cannot be called" in capsys.readouterr().out
    second.session.engine.close()
    first.session.engine.close()

    state = tmp_path / "sessions" / "talk" / store.STATE
    state.write_bytes(state.read_bytes()[:-10])
    third = start()
    assert third.store is not None
    assert "damaged" in str(third.store.take(third.session, "talk"))
    assert third.session.messages
    said_file = state.with_name("conversation.json")
    said_file.write_bytes(said_file.read_bytes().replace(b"Ann", b"Eve", 1))
    with pytest.raises(FormatError, match="damaged"):
        third.store.take(third.session, "talk")


def test_clearing_forgets_what_was_kept(scripted: Any, tmp_path: Path) -> None:
    sessions = SessionStore(tmp_path / "sessions")
    repl = Repl(Session(scripted("one"), name="talk"), sessions)
    repl.take("/help")
    assert not sessions.has("talk")
    repl.take("a secret")
    assert "a secret" in (tmp_path / "sessions/talk/conversation.json").read_text()
    repl.take("/clear")
    assert "a secret" not in (tmp_path / "sessions/talk/conversation.json").read_text()
