"""A server that fails, lies, or says nothing: one clear error, in bounded time and memory."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from upstream import DONE, Upstream, event, said, upstream

from qwen35_local.chat.messages import Message
from qwen35_local.engine.reply import ContextFull, Done, Request
from qwen35_local.errors import Busy, InputError, Qwen35Error, RemoteError
from qwen35_local.remote import http, sse
from qwen35_local.remote.address import Address, read_address
from qwen35_local.remote.engine import RemoteEngine


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream() as fake:
        yield fake


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_WAITS", (0.01, 0.01))


def ask(server: Upstream, key: str = "") -> Done:
    engine = RemoteEngine(Address(f"{server.url}/v1"), key)
    *_, done = engine.reply(Request([Message("user", "Hello")], engine.preset(thinking=True), thinking=False))
    assert isinstance(done, Done)
    return done


def raw(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


HOSTILE: dict[str, tuple[list[Any], str]] = {
    "cut before the end": ([event({"content": "Hel"})], "broke off in the middle"),
    "cut in an event": ([event({"content": "Hel"})[:-9], None], "broke off"),
    "connection lost": ([event({"content": "Hel"}), None], "broke off"),
    "nothing": ([], "broke off in the middle"),
    "only the end": ([DONE], "broke off in the middle"),
    "no JSON": ([b"data: nonsense\n\n"], "no chat completion"),
    "a number": ([b"data: 5\n\n"], "no chat completion"),
    "NaN": ([b'data: {"choices": NaN}\n\n'], "no chat completion"),
    "deep": ([b"data: " + b"[" * 100_000 + b"\n\n"], "no chat completion"),
    "a key twice": ([b'data: {"choices": [], "choices": []}\n\n'], "no chat completion"),
    "not UTF-8": ([b"data: {\xff\xfe\n\n"], "no chat completion"),
    "choices a text": ([raw({"choices": "x"})], "choices is 'x'"),
    "delta a list": ([raw({"choices": [{"delta": []}]})], "delta is"),
    "content a number": ([raw({"choices": [{"delta": {"content": 3}}]})], "content is 3"),
    "calls a text": ([raw({"choices": [{"delta": {"tool_calls": "x"}}]})], "tool_calls is"),
    "a call's index negative": ([raw({"choices": [{"delta": {"tool_calls": [{"index": -1}]}}]})], "index is -1"),
    "usage a list": ([raw({"choices": [], "usage": [1]})], "usage is"),
    "tokens negative": ([raw({"choices": [], "usage": {"prompt_tokens": -4}})], "prompt_tokens is -4"),
    "logprobs of nothing": ([raw({"choices": [{"delta": {}, "logprobs": {"content": [{}]}}]})], "logprob is missing"),
    "an error": ([event({"content": "Hel"}), raw({"error": {"message": "card 3\nfell off"}})], "card 3 fell off"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_broken_stream_is_one_error(server: Upstream, name: str) -> None:
    pieces, words = HOSTILE[name]
    server.script = [pieces]
    with pytest.raises(RemoteError, match=words) as caught:
        ask(server)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert len(server.bodies) == 1  # what has begun is not tried again


ODD: dict[str, list[Any]] = {
    "CR LF, comments, other fields": [
        b": hi\r\nevent: chunk\r\nid: 7\r\n" + event({"content": "Hello!"}).replace(b"\n", b"\r\n"),
        *said(""),
    ],
    "no space, two lines": [
        b'data:{"choices":\ndata: [{"delta": {"content": "Hello!"}, "finish_reason": "stop"}]}\n\n',
        DONE,
    ],
    "byte by byte": [bytes([byte]) for byte in event({"content": "Hello!"})] + said(""),
    "after the end": [*said("Hello!"), b"data: nonsense\n\n"],
    "no usage, no [DONE]": [event({"content": "Hello!"}), event({}, "stop")],
    "unknown reason": [event({"content": "Hello!"}, "content_filter")],
    "nulls": [event({"content": None, "reasoning": None, "tool_calls": None}), *said("Hello!")],
    "slow": [event({"content": "Hel"}), 0.3, event({"content": "lo!"}), 0.3, *said("")],
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_stream_is_read(server: Upstream, name: str) -> None:
    server.script = [ODD[name]]
    done = ask(server)
    assert done.message.text == "Hello!" and done.reason == "stop"


def test_lone_surrogates_and_controls_are_text(server: Upstream) -> None:
    server.script = [said("\ud800", "\x1b[2J")]
    assert ask(server).message.text == "\ud800\x1b[2J"


def test_lines_and_replies_that_never_end(server: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MOST_EVENT_BYTES", 1 << 16)
    monkeypatch.setattr(sse, "MOST_BYTES", 1 << 18)
    server.script = [[b"data: ", *[b"x" * 4096] * 100], [b"data: x\n"] * 20_000, [b": ping\n\n"] * 40_000]
    for words in ("an event of more", "an event of more", "sent more than"):
        with pytest.raises(RemoteError, match=words):
            ask(server)


def test_silence_ends(server: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_SILENT_SECONDS", 0.3)
    server.script = [[event({"content": "Hel"}), 30.0]]
    began = time.monotonic()
    with pytest.raises(RemoteError, match="broke off"):
        ask(server)
    assert time.monotonic() - began < 10


REFUSED: list[tuple[Response, type[Qwen35Error], str]] = [
    (JSONResponse({"error": {"message": "bad top_k"}}, 400), InputError, "refuses the request .*bad top_k"),
    (JSONResponse({"detail": [{"msg": "x"}]}, 422), InputError, "HTTP 422"),
    (PlainTextResponse("", 404), InputError, "HTTP 404"),
    (JSONResponse({"error": {"message": "who?"}}, 401), RemoteError, r"asks for a key \(who\?\); give a file"),
    (PlainTextResponse("oops " * 1000, 500), RemoteError, "HTTP 500"),
    (Response(b"\xff\x00\x1b[2J", 500), RemoteError, "HTTP 500"),
    (RedirectResponse("http://127.0.0.1:1/", 307), RemoteError, "points elsewhere"),
    (PlainTextResponse("<html>", 200), RemoteError, "expected a stream of events"),
    (JSONResponse({"error": {"message": "long", "n_prompt_tokens": 9, "n_ctx": 8}}, 400), ContextFull, "9 tokens"),
    (
        JSONResponse(
            {"message": "x", "error": {"message": "maximum context length is 8 tokens. 9 input tokens."}}, 400
        ),
        ContextFull,
        "prompt is 9 tokens and the context 8",
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_a_refusal_is_told_once(server: Upstream, number: int) -> None:
    answer, kind, words = REFUSED[number]
    server.script = [answer]
    with pytest.raises(kind, match=words) as caught:
        ask(server)
    assert len(server.bodies) == 1 and len(str(caught.value)) < 600


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_accepted(server: Upstream, status: int) -> None:
    server.script = [PlainTextResponse("who?", status)]
    with pytest.raises(RemoteError, match=r"does not accept the key \(who\?\)"):
        ask(server, "12345678")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: Upstream, status: int) -> None:
    server.script = [PlainTextResponse("loading", status)] * 2
    assert ask(server).message.text == "Hello!" and len(server.bodies) == 3


def test_one_that_stays_busy_is_told(server: Upstream) -> None:
    server.script = [PlainTextResponse("later", 429)] * 3
    with pytest.raises(Busy, match="later"):
        ask(server)
    server.script = [PlainTextResponse("later", 429, headers={"retry-after": "999"})]
    with pytest.raises(Busy) as caught:
        ask(server)
    assert caught.value.retry_after == 999 and len(server.bodies) == 4


def test_nobody_is_there(server: Upstream) -> None:
    with pytest.raises(RemoteError, match="cannot be reached"):
        RemoteEngine(Address("http://127.0.0.1:9/v1"))


@pytest.mark.parametrize(
    "models",
    [
        PlainTextResponse("<html>"),
        JSONResponse([1]),
        JSONResponse({"data": [{"id": 3}]}),
        JSONResponse({"data": [{"id": "a", "max_model_len": "x"}]}),
        JSONResponse({"data": "x"}),
        PlainTextResponse("[" * 100_000),
    ],
)
def test_a_list_of_models_that_is_none(server: Upstream, models: Response) -> None:
    server.models = models
    with pytest.raises(RemoteError):
        RemoteEngine(Address(f"{server.url}/v1"))


def test_addresses() -> None:
    for text in (
        "http://host:8000",
        "http://host:8000/",
        "http://host:8000/v1/",
        "http://host:8000/v1/chat/completions",
    ):
        assert str(read_address(text, "--endpoint")) == "http://host:8000/v1"
    assert str(read_address("https://host/api/v1", "--endpoint")) == "https://host/api/v1"
    assert read_address("http://host/", "--endpoint").is_open_to_others
    assert not read_address("https://host/", "--endpoint").is_open_to_others
    assert not read_address("http://localhost:1/", "--endpoint").is_open_to_others
    for text in ("", "host:8000", "ftp://host", "http://", "http://h:0", "http://h:x", "http://h/?a", "http://h/ b"):
        with pytest.raises(InputError, match="--endpoint is"):
            read_address(text, "--endpoint")
    with pytest.raises(InputError, match="password"):
        read_address("http://me:secret@host", "--endpoint")
