"""Each field of a saved conversation with a value of each type: taken over as it is, or refused by the file's name with
nothing changed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from wrong_values import JSON_VALUES, is_one_of

from qwen35_local.chat.messages import Message
from qwen35_local.cli.session import Session, read_tool_file
from qwen35_local.errors import Qwen35Error

TEXTS = ["", "text", "\x1b[31m\n"]
FLAGS = [True, False, None]
FIELDS: dict[str, list[Any]] = {
    "format": [],
    "version": [],
    "system": [*TEXTS, None],
    "thinking": FLAGS,
    "thinking_tokens": [7, None],
    "breaks_loops": FLAGS,
    "keep_thinking": FLAGS,
    "settings": [{}, None],
    "tools": [[], None],
    "branch": [*TEXTS, None],
    "messages": [[]],
    "branches": [{}, {"a": []}, None],
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def a_session(engine: Any) -> Session:
    session = Session(engine, system="Be kind.", thinking=True, tools=(TOOL,), chosen={"temperature": 0.5, "top_k": 3})
    session.messages = [Message("user", "Hi"), Message("assistant", "Hello", reasoning="hm")]
    session.others = {"other": [Message("user", "Ho")]}
    return session


def refused(session: Session, content: Any) -> None:
    before = copy.deepcopy(session.to_dict())
    with pytest.raises(Qwen35Error, match=r"^a\.json: "):
        session.take(content, "a.json")
    assert session.to_dict() == before


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_with_each_type(field: str, scripted: Any) -> None:
    engine = scripted()
    session, good = a_session(engine), a_session(engine).to_dict()
    for value in JSON_VALUES:
        content = {**good, field: value}
        if is_one_of(value, FIELDS[field]):
            taken = Session(engine)
            taken.take(content, "a.json")
            assert not value or taken.to_dict()[field] == value
        else:
            refused(session, content)
    missing = {key: value for key, value in good.items() if key != field}
    if field in ("format", "version", "messages"):
        refused(session, missing)
    else:
        Session(engine).take(missing, "a.json")


MESSAGE_FIELDS: dict[str, list[Any]] = {
    "role": [],
    "content": [*TEXTS, None, [], ["text"], ["", "a b"]],
    "reasoning_content": [*TEXTS, None],
    "tool_calls": [[], None],
    "name": [*TEXTS, None],
    "tool_call_id": [*TEXTS, None],
}


@pytest.mark.parametrize("key", MESSAGE_FIELDS)
def test_each_field_of_a_message(key: str, scripted: Any) -> None:
    engine = scripted()
    session, good = a_session(engine), a_session(engine).to_dict()
    for value in JSON_VALUES:
        message = {"role": "assistant", "content": "x", key: value}
        content = {**good, "messages": [message]}
        if not is_one_of(value, MESSAGE_FIELDS[key]):
            refused(session, content)
        else:
            taken = Session(engine)
            taken.take(content, "a.json")
            assert not value or taken.to_dict()["messages"][0][key] == value


@pytest.mark.parametrize("name", ["temperature", "top_k", "seed", "max_tokens", "nonsense"])
def test_each_setting(name: str, scripted: Any) -> None:
    engine = scripted()
    session, good = a_session(engine), a_session(engine).to_dict()
    accepted = {"temperature": [0, 7, 1.5], "top_k": [0, 7], "seed": [0, 7, 2**31, 2**64 - 1], "max_tokens": [0, 7]}
    for value in JSON_VALUES:
        content = {**good, "settings": {name: value}}
        if is_one_of(value, accepted.get(name, [])):
            session.take(content, "a.json")
            assert session.chosen == {name: value}
            assert session.request().max_tokens == (value if name == "max_tokens" else 0)
        else:
            refused(session, content)


def test_a_branch_is_there_once(scripted: Any) -> None:
    session = a_session(scripted())
    refused(session, {**session.to_dict(), "branches": {session.branch: []}})


@pytest.mark.parametrize("content", [v for v in JSON_VALUES if v != []], ids=repr)
def test_tools_of_each_type(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(content))
    with pytest.raises(Qwen35Error, match=r"tools\.json: "):
        read_tool_file(path)


def test_a_saved_conversation_comes_back(scripted: Any, tmp_path: Path) -> None:
    engine = scripted()
    session = a_session(engine)
    session.messages.append(Message("assistant", "\ud800"))  # as models write them
    session.save(tmp_path / "a.json")
    path = tmp_path / "b.json"
    path.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.json").read_bytes())
    taken = Session(engine)
    taken.load(path)
    assert taken.to_dict() == session.to_dict()
