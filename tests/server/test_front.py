"""What the log says of a request that is refused, or that an error of this program ended."""

import threading
from typing import Any

import httpx
import pytest
from serving import Served, served

from qwen35_local.engine.engine import Engine
from qwen35_local.engine.task import Task
from qwen35_local.server.wire import Writer

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "xylophone"}], "max_tokens": 1}


@pytest.mark.parametrize(
    ("status", "headers", "fields", "noted"),
    [
        (403, {"host": "evil.example"}, {}, "answers to localhost"),
        (403, {"origin": "http://evil.example"}, {}, "a web page of the origin"),
        (400, {}, {"temperature": "xylophone"}, "(temperature)"),
        (400, {}, {"messages": "xylophone"}, "(messages)"),
    ],
)
def test_why_is_noted_without_a_word_of_what_was_said(
    server: Served, status: int, headers: dict[str, str], fields: dict[str, Any], noted: str
) -> None:
    before = server.mark()
    assert httpx.post(server.url + CHAT, json=BODY | fields, headers=headers).status_code == status
    (line,) = server.lines_since(before)
    assert f" {CHAT} {status} " in line and noted in line and "xylophone" not in line


def test_a_wrong_key_is_noted(demo_engine: Engine) -> None:
    with served(demo_engine, keys=["12345678"]) as locked:
        before = locked.mark()
        assert httpx.post(locked.url + CHAT, json=BODY, headers={"x-api-key": "nonsense"}).status_code == 401
        (line,) = locked.lines_since(before)
    assert line.endswith("(the key is wrong.)") and "nonsense" not in line


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("place", ["submit", "took"])
def test_an_error_of_this_program(
    server: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: str, streams: bool
) -> None:
    """The client has its kind, the log where it was, since what it says may be a word of the request; and the server
    goes on."""
    has_begun, start, is_late = threading.Event(), Writer.start, streams and place == "took"

    async def starting(writer: Writer, *arguments: Any) -> None:
        await start(writer, *arguments)
        has_begun.set()

    def failing(*_: object, **__: object) -> None:
        assert not is_late or has_begun.wait(10)
        raise ZeroDivisionError("xylophone by none")

    before = server.mark()
    monkeypatch.setattr(Writer, "start", starting)
    monkeypatch.setattr(*{"submit": (server.service.engine, "submit"), "took": (Task, "took")}[place], failing)
    answer = httpx.post(server.url + CHAT, json=BODY | {"max_tokens": 8, "stream": streams})
    monkeypatch.undo()
    assert "an error of this program, ZeroDivisionError." in answer.text
    assert answer.status_code == (200 if is_late else 500)
    told, line = server.lines_since(before)
    assert told.startswith("an error of this program: ZeroDivisionError in test_front.py, line ")
    assert "an error of this program, ZeroDivisionError.)" in line and "xylophone" not in told + line
    assert capfd.readouterr().err == ""
    assert httpx.post(server.url + CHAT, json=BODY).status_code == 200
