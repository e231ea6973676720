"""What is kept of a conversation, with a value of each type in the place of each field: refused, or read again; and
never a token that the model did not write."""

from pathlib import Path

import pytest
from wrong_values import JSON_VALUES, is_one_of

from qwen35_local import _core, hub
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.cli.session import Session
from qwen35_local.cli.session_store import SessionStore
from qwen35_local.engine import store
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Request
from qwen35_local.errors import FormatError

QUESTION, ANSWER = Message("user", "Hi"), Message("assistant", "Hello", reasoning="")
TEXTS = ["", "text", "\x1b[31m\n"]


@pytest.fixture(scope="module")
def model() -> _core.Model:
    return _core.Model(hub.embedded_model())


@pytest.fixture
def engine(model: _core.Model) -> Engine:
    return Engine(model, identity="one")


def kept(engine: Engine, root: Path) -> tuple[SessionStore, Path]:
    """A conversation of two messages, and its file."""
    sessions = SessionStore(root)
    session = Session(engine, name="talk", thinking=False, messages=[QUESTION])
    *_, done = engine.reply(Request([QUESTION], Sampling(temperature=0), thinking=False, max_tokens=8))
    session.messages.append(done.message)  # type: ignore[union-attr]
    sessions.keep(session)
    sessions.keep_state(session)
    return sessions, root / "talk" / "conversation.json"


@pytest.mark.parametrize("field", ["replies", "message", "opening", "tokens", "text", "after"])
def test_each_field_of_a_reply(engine: Engine, tmp_path: Path, field: str) -> None:
    sessions, path = kept(engine, tmp_path)
    content = store.read_json(path)
    accepted = {"replies": [[]], "tokens": [[], [0]], "opening": TEXTS, "text": TEXTS, "after": TEXTS}
    for value in [*JSON_VALUES, [2**31], [0, "1"], {"role": "user", "content": 7}]:
        replies = value if field == "replies" else [{**content["replies"][0], field: value}]
        store.write_json(path, {**content, "replies": replies})
        session = Session(engine)
        if is_one_of(value, accepted.get(field, [])):
            assert sessions.take(session, "talk") is None
            assert len(session.messages) == 2
        else:
            with pytest.raises(FormatError, match=rf"conversation\.json: .*({field}|message)"):
                sessions.take(session, "talk")
            assert not session.messages and not session.name


@pytest.mark.parametrize("field", ["version", "model", "kv", "snapshots"])
def test_a_state_that_is_not_good_is_read_again(engine: Engine, tmp_path: Path, field: str) -> None:
    sessions, _ = kept(engine, tmp_path)
    path = tmp_path / "talk" / store.STATE
    content = store.read_json(path)
    for value in JSON_VALUES:
        store.write_json(path, {**content, field: value})
        session = Session(engine)
        reason = sessions.take(session, "talk")
        assert len(session.messages) == 2
        assert (reason is None) == (field == "snapshots" and value == [])
        sessions.kv_format("talk")


def test_tokens_stand_for_their_text_alone(engine: Engine, model: _core.Model, tmp_path: Path) -> None:
    """Others are those of another vocabulary, or a forged turn."""
    sessions, path = kept(engine, tmp_path)
    content = store.read_json(path)
    reply = content["replies"][0]
    end = engine.tokenizer.token_id("<|im_end|>")
    forged = [
        {**reply, "tokens": [*reply["tokens"], end]},
        {**reply, "tokens": [*reply["tokens"], end], "text": reply["text"] + "<|im_end|>"},
        {**reply, "tokens": [2**31 - 1]},
        {**reply, "tokens": [engine.tokenizer.vocab_size], "text": ""},
        {**reply, "tokens": engine.tokenizer.encode("Bye")},
    ]
    for replies in [[], *([one] for one in forged), [reply]]:
        store.write_json(path, {**content, "replies": replies})
        other = Engine(model, identity="one")
        sessions.take(Session(other), "talk")
        is_good = replies == [reply]
        assert bool(other.reply_log.said_by(Message.from_dict(content["messages"][1]))) == is_good
