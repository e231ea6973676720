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
    monkeypatch.setattr(module, "_MOST_CLIENTS", 20)
    monkeypatch.setattr(module, "_SILENT_SECONDS", 1.0)
    with listen("127.0.0.1", 0) as opened, ExitStack() as held:
        address = opened.getsockname()
        with loading(opened):
            silent = [held.enter_context(socket.create_connection(address)) for _ in range(50)]
            began = time.monotonic()
            assert httpx.get(f"http://127.0.0.1:{address[1]}/health").status_code == 503
            assert time.monotonic() - began < 0.9
            for one in silent:  # the first 30 make room for others, and the others' time is over
                one.settimeout(5)
                assert one.recv(1000) == b""
            assert time.monotonic() - began > 0.9


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
