"""Clients that leave or do not read, and the end of the server: the engine's work for them ends at once."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from serving import Served, served

from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Job, Sink
from qwen35_local.engine.reply import Completion, Request
from qwen35_local.errors import Busy
from qwen35_local.server.limits import Limits

CHAT = "/v1/chat/completions"
LONG = {
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "temperature": 1,
    "logit_bias": {},
    "max_tokens": 100_000,
    "ignore_eos": False,
}


@pytest.fixture
def endless(demo_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs asked for, in order. None ends by itself: what would end it is never drawn, and it may repeat itself."""
    jobs: list[Job] = []
    submit = demo_engine.submit

    def noting(asked: Request | Completion, sink: Sink, *, user: str = "") -> Job:
        jobs.append(submit(replace(asked, breaks_loops=False), sink, user=user))
        return jobs[-1]

    monkeypatch.setattr(demo_engine, "submit", noting)
    tokenizer = demo_engine.tokenizer
    never = {str(token): -1e6 for token in tokenizer.end_ids if token < tokenizer.n_used}
    monkeypatch.setitem(LONG, "logit_bias", never)
    return jobs


def within(seconds: float, what: object) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def running(demo_engine: Engine) -> Iterator[Served]:
    limits = Limits(grace_seconds=0.3, stall_seconds=1, ping_seconds=0.2, queue_events=100)
    with served(demo_engine, limits) as server:
        yield server


@pytest.mark.parametrize("streams", [True, False])
def test_client_that_leaves(running: Served, endless: list[Job], streams: bool) -> None:
    address = ("127.0.0.1", int(running.url.rpartition(":")[2]))
    body = json.dumps(LONG | {"stream": streams}).encode()
    with socket.create_connection(address) as raw:
        raw.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body)))
        raw.sendall(body)
        if streams:
            assert b"200" in raw.recv(1000)
        assert within(5, lambda: len(endless) == 1)
    assert within(1, lambda: endless[0].is_cancelled)
    assert within(5, lambda: not running.service.running)
    assert within(1, lambda: any("the client left" in line for line in running.lines))
    assert running.service.counters.disconnects == 1
    assert httpx.post(running.url + CHAT, json=LONG | {"max_tokens": 2}).status_code == 200


def test_client_that_reads_nothing(running: Served, endless: list[Job]) -> None:
    address = ("127.0.0.1", int(running.url.rpartition(":")[2]))
    body = json.dumps(LONG | {"stream": True, "n": 8, "logprobs": True, "top_logprobs": 20}).encode()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.connect(address)
    with raw:
        raw.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body)))
        raw.sendall(body)
        assert within(30, lambda: endless and endless[0].is_cancelled)
        assert within(5, lambda: not running.service.running)
        assert httpx.get(running.url + "/health").status_code == 200


def test_reply_that_takes_too_long(demo_engine: Engine, endless: list[Job]) -> None:
    with served(demo_engine, Limits(reply_seconds=0.5, grace_seconds=1)) as server:
        answer = httpx.post(server.url + CHAT, json=LONG, timeout=20)
        assert answer.status_code == 504
        assert "--timeout" in answer.json()["error"]["message"]
        text = httpx.post(server.url + CHAT, json=LONG | {"stream": True}, timeout=20).text
        last, end = [line for line in text.split("\n\n") if line][-2:]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        assert end == "data: [DONE]"
    assert all(job.is_cancelled for job in endless)


def test_engine_that_is_busy(running: Served, demo_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(asked: object, sink: object, *, user: str = "") -> Job:
        raise Busy("4 replies are waiting, and more may not.", 7)

    monkeypatch.setattr(demo_engine, "submit", full)
    for streams in (True, False):
        answer = httpx.post(running.url + CHAT, json=LONG | {"stream": streams})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert answer.json()["error"]["type"] == "rate_limit_error"


def test_error_of_the_program_tells_nothing(
    running: Served, demo_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(asked: object, sink: object, *, user: str = "") -> Job:
        raise KeyError("a secret of the program")

    monkeypatch.setattr(demo_engine, "submit", broken)
    answer = httpx.post(running.url + CHAT, json=LONG)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["type"] == "server_error"


def test_end_of_the_server(demo_engine: Engine, endless: list[Job]) -> None:
    """What runs is told when the time is up; what comes meanwhile is refused."""
    with served(demo_engine, Limits(grace_seconds=1)) as server:
        texts: list[str] = []
        asking = threading.Thread(
            target=lambda: texts.append(httpx.post(server.url + CHAT, json=LONG | {"stream": True}, timeout=20).text)
        )
        asking.start()
        assert within(10, lambda: bool(endless))
        server.stop()
        time.sleep(0.2)
        refused = httpx.get(server.url + "/v1/models")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert httpx.get(server.url + "/health").status_code == 503
        asking.join(10)
        assert "server_closing" in texts[0]
    assert endless[0].is_cancelled


def test_answers_that_finish_in_time(demo_engine: Engine) -> None:
    with served(demo_engine, Limits(grace_seconds=30)) as server:
        answers: list[httpx.Response] = []
        short = LONG | {"max_tokens": 100}
        asking = threading.Thread(target=lambda: answers.append(httpx.post(server.url + CHAT, json=short, timeout=20)))
        asking.start()
        assert within(10, lambda: bool(server.service.running))
        server.stop()
        asking.join(20)
        assert answers[0].status_code == 200
