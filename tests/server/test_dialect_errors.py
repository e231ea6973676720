"""Errors that are not about a field, in the shape of each dialect: a key that is missing, a queue that is full, a
device that fails, a path that is not there."""

from typing import Any

import httpx
import pytest
from serving import served

from qwen35_local.engine.engine import Engine
from qwen35_local.errors import Busy, DeviceError

MESSAGES = [{"role": "user", "content": "Hi"}]
ASKED = {
    "/v1/messages": {"model": "m", "max_tokens": 5, "messages": MESSAGES},
    "/api/chat": {"model": "m", "messages": MESSAGES},
    "/completion": {"prompt": "Hi"},
    "/v1/chat/completions": {"messages": MESSAGES},
    "/completions": {"prompt": "Hi"},
}


def kind(path: str, answer: httpx.Response) -> Any:
    """The type of an error in the path's own shape, None in one that has none."""
    body = answer.json()
    if path.startswith("/api"):
        assert list(body) == ["error"]
        assert isinstance(body["error"], str)
        return None
    error = body["error"]
    expected = {"type", "message"} | ({"code"} if path == "/completion" else set())
    if path == "/v1/messages":
        assert body["type"] == "error"
    elif path != "/completion":
        expected |= {"code", "param"}
    assert set(error) == expected
    return error["type"]


@pytest.mark.parametrize("path", ASKED)
def test_a_key_is_missing_or_wrong(demo_engine: Engine, path: str) -> None:
    with served(demo_engine, keys=["right"]) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}):
            answer = http.post(path, json=ASKED[path], headers=headers)
            assert answer.status_code == 401
            assert kind(path, answer) in ("authentication_error", None)
        assert http.post(path, json=ASKED[path], headers={"x-api-key": "right"}).status_code == 200


@pytest.mark.parametrize("path", ASKED)
def test_the_queue_is_full(http: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise Busy("100 replies are waiting.", 7)

    monkeypatch.setattr(Engine, "submit", refuse)
    answer = http.post(path, json=ASKED[path])
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    kind(path, answer)
    assert "100 replies are waiting." in answer.text


@pytest.mark.parametrize("path", ASKED)
def test_the_device_fails(http: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    def fail(*args: object, **more: object) -> None:
        raise DeviceError("out of order")

    monkeypatch.setattr(Engine, "submit", fail)
    answer = http.post(path, json=ASKED[path])
    assert answer.status_code == 503
    assert kind(path, answer) in ("overloaded_error", "unavailable_error", "server_error", None)
    assert "out of order" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/messages", 405),
        ("POST", "/v1/messages/batches", 404),
        ("GET", "/api/chat", 405),
        ("POST", "/api/zebra", 404),
        ("GET", "/completion", 405),
        ("POST", "/infill", 404),
    ],
)
def test_what_is_not_there(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert path in answer.text


@pytest.mark.parametrize("path", [path for path in ASKED if not path.startswith("/completion")])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_object(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert kind(path, answer) in ("invalid_request_error", None)
