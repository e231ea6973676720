"""Requests that come before the model is loaded."""

import socket

import httpx

from qwen35_local.server.loading import loading
from qwen35_local.server.run import listen


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
