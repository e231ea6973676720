"""A stream is not silent for longer than a client waits, also while a long prompt is read part by part."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import Served, served

from qwen35_local.chat.events import TextDelta
from qwen35_local.chat.messages import Message
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Job, Reading, Sink
from qwen35_local.engine.reply import Done, Usage
from qwen35_local.server.limits import Limits

PING_SECONDS = 0.1
PARTS = 80
MESSAGES = [{"role": "user", "content": "Hi"}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/messages": {"model": "m", "max_tokens": 5, "messages": MESSAGES},
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/api/chat": {"model": "m", "messages": MESSAGES},
    "/api/generate": {"model": "m", "prompt": "Hi"},
    "/completion": {"prompt": "Hi"},
}


@pytest.fixture(scope="module")
def impatient(demo_engine: Engine) -> Iterator[Served]:
    with served(demo_engine, Limits(ping_seconds=PING_SECONDS, grace_seconds=1)) as running:
        yield running


@pytest.mark.parametrize("path", ASKED)
def test_parts_of_a_prompt_do_not_stand_for_a_sign_of_life(
    impatient: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """They come more often than pings are due, and most clients are not told of them."""

    def submit(engine: Engine, asked: object, sink: Sink, *, user: str = "") -> Job:
        def work() -> None:
            for part in range(PARTS + 1):
                sink(Reading(part, PARTS))
                time.sleep(PING_SECONDS / 4)
            sink(TextDelta("x"))
            sink(Done("stop", Message("assistant", "x"), Usage(1, 0, 1, 1)))

        threading.Thread(target=work, daemon=True).start()
        return Job(sink, user)

    monkeypatch.setattr(Engine, "submit", submit)
    arrivals = [time.monotonic()]
    with httpx.stream("POST", impatient.url + path, json=ASKED[path] | {"stream": True}, timeout=30) as answer:
        for _ in answer.iter_raw():
            arrivals.append(time.monotonic())
    assert len(arrivals) > 5  # of about twenty, on a machine however busy
