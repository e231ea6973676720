"""A server of OpenAI's chat completions in this process that answers from a script, as badly as it is told to."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from qwen35_local.engine.job import Told
from qwen35_local.engine.reply import Completion, Done

MODEL: dict[str, Any] = {"id": "Qwen3.5-397B-A17B", "owned_by": "vllm", "max_model_len": 262144}
Piece = bytes | float | None
"""Bytes of the answer; seconds to wait; None: the connection is cut."""


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": choices, **more}).encode() + b"\n\n"


def usage(prompt: int = 7, cached: int = 3, generated: int = 2) -> bytes:
    told = {"prompt_tokens": prompt, "completion_tokens": generated, "prompt_tokens_details": {"cached_tokens": cached}}
    return event(usage=told)


DONE = b"data: [DONE]\n\n"


def said(*texts: str) -> list[Piece]:
    """An ordinary answer."""
    return [*(event({"content": text}) for text in texts), event({}, "stop"), usage(), DONE]


def _counts(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A token for each character, its code, as vLLM and llama.cpp tell of messages, texts and tokens."""
    if path == "/detokenize":
        text = "".join(map(chr, body["tokens"]))
        return {"prompt": text, "content": text}
    if path == "/apply-template":
        return {"prompt": "".join(message["content"] for message in body["messages"])}
    text = body.get("content", body.get("prompt"))
    if text is None:
        text = "".join(message["content"] for message in body["messages"])
    return {"tokens": [ord(letter) for letter in text], "count": len(text)}


@dataclass
class Upstream:
    """`script`: the answers to come, each a list of pieces or a response. `bodies`: what was asked; `left`: answers
    whose reader went away. `counts`: what the paths beside OpenAI's API answer to a body; `counted`: both of these."""

    url: str = ""
    models: Any = field(default_factory=lambda: {"data": [MODEL]})
    script: list[list[Piece] | Response] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    counted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    counts: Callable[[str, dict[str, Any]], Any] = _counts
    keys: list[str | None] = field(default_factory=list)
    left: int = 0

    async def list_models(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization"))
        return self.models if isinstance(self.models, Response) else JSONResponse(self.models)

    async def answer(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        now = self.script.pop(0) if self.script else said("Hello!")
        return (
            now if isinstance(now, Response) else StreamingResponse(self._pieces(now), media_type="text/event-stream")
        )

    async def count(self, request: Request) -> Response:
        body = await request.json()
        self.counted.append((request.url.path, body))
        found = self.counts(request.url.path, body)
        return found if isinstance(found, Response) else JSONResponse(found)

    async def _pieces(self, pieces: list[Piece]) -> AsyncIterator[bytes]:
        try:
            for piece in pieces:
                if piece is None:
                    raise ConnectionAbortedError
                if isinstance(piece, float):
                    await asyncio.sleep(piece)
                else:
                    yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Until the end of this."""
    fake = Upstream()
    routes = [
        Route("/v1/models", fake.list_models),
        Route("/v1/chat/completions", fake.answer, methods=["POST"]),
        Route("/v1/completions", fake.answer, methods=["POST"]),
        *(Route(path, fake.count, methods=["POST"]) for path in ("/tokenize", "/detokenize", "/apply-template")),
    ]
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen(64)
        fake.url = f"http://127.0.0.1:{opened.getsockname()[1]}"
        config = uvicorn.Config(
            Starlette(routes=routes), log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[opened])), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.should_exit = True
            thread.join(20)


def until(holds: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it comes to hold."""
    ticking = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if holds():
            return True
        ticking.wait(0.05)
    return holds()


def completed(engine: Any, asked: Completion) -> Done:
    """A text that was gone on from, at its end."""
    told: list[Told] = []
    engine.submit(asked, told.append)
    assert until(lambda: bool(told) and isinstance(told[-1], Done), 60)
    done = told[-1]
    assert isinstance(done, Done)
    return done
