"""Requests that come before the model is loaded."""

import socket
import time
from contextlib import ExitStack

import httpx
import pytest

from qwen35_local.server import loading as module
from qwen35_local.server.loading import loading
from qwen35_local.server.run import listen


def test_many_that_say_nothing_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came first make room for others."""
    monkeypatch.setattr(module, "_MOST_CLIENTS", 20)
    monkeypatch.setattr(module, "_SILENT_SECONDS", 60.0)
    with listen("127.0.0.1", 0) as opened, ExitStack() as held:
        address = opened.getsockname()
        with loading(opened):
            silent = [held.enter_context(socket.create_connection(address)) for _ in range(50)]
            began = time.monotonic()
            assert httpx.get(f"http://127.0.0.1:{address[1]}/health").status_code == 503
            assert time.monotonic() - began < 30
            for n, one in enumerate(silent):
                one.settimeout(30 if n <= 30 else 0.01)  # the request above needed a place, too
                if n <= 30:
                    assert one.recv(1000) == b""
                else:
                    with pytest.raises(TimeoutError):
                        one.recv(1000)


def test_one_that_says_nothing_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENT_SECONDS", 0.5)
    with listen("127.0.0.1", 0) as opened, loading(opened), socket.create_connection(opened.getsockname()) as silent:
        began = time.monotonic()
        silent.settimeout(10)
        assert silent.recv(1000) == b""
        assert time.monotonic() - began > 0.3


def test_until_the_model_is_there_every_path_answers_503() -> None:
    opened = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{opened.getsockname()[1]}"
    with opened:
        with loading(opened), socket.create_connection(opened.getsockname()):  # sends nothing
            for answer in (httpx.get(f"{url}/health"), httpx.post(f"{url}/v1/chat/completions", json={})):
                assert answer.status_code == 503
                assert answer.json()["error"]["message"] == "the model is being loaded"
                assert answer.headers["retry-after"] == "2"
        assert opened.gettimeout() is None
