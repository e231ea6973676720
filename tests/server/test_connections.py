"""Connections: how many there may be, how long a request's head may take on each, and what is no request."""

import http.client
import socket
from collections.abc import Iterator

import httpx
import pytest
from serving import Served, served

from qwen35_local.engine.engine import Engine
from qwen35_local.server.limits import Limits

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def few(demo_engine: Engine) -> Iterator[Served]:
    with served(demo_engine, Limits(connections=3, header_seconds=30, grace_seconds=1)) as running:
        yield running


@pytest.fixture
def hasty(demo_engine: Engine) -> Iterator[Served]:
    with served(demo_engine, Limits(header_seconds=0.5, body_seconds=2, grace_seconds=1)) as running:
        yield running


def connected(running: Served) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])))
    raw.settimeout(10)
    return raw


def answered(raw: socket.socket, request: bytes = HEALTH) -> int:
    """The status of the answer, once all of it is read."""
    raw.sendall(request)
    with http.client.HTTPResponse(raw) as answer:
        answer.begin()
        answer.read()
        return answer.status


def is_cut_off(raw: socket.socket) -> bool:
    try:
        return raw.recv(1) == b""
    except ConnectionResetError:
        return True


def test_one_more_than_there_may_be_is_cut_off(few: Served) -> None:
    held = [connected(few) for _ in range(3)]
    try:
        assert [answered(raw) for raw in held] == [200] * 3
        with connected(few) as further:
            assert is_cut_off(further)
        assert answered(held[0]) == 200
    finally:
        for raw in held:
            raw.close()


def test_a_further_head_has_its_time_too(hasty: Served) -> None:
    with connected(hasty) as raw:
        assert answered(raw) == 200
        raw.sendall(HEALTH[:20])
        assert is_cut_off(raw)


def test_a_head_in_pieces_takes_nothing_from_its_body(hasty: Served) -> None:
    with connected(hasty) as raw:
        head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n"
        for n in range(0, len(head), 8):
            raw.sendall(head[n : n + 8])
        raw.settimeout(1)
        with pytest.raises(TimeoutError):  # the body has longer than the head had
            raw.recv(1)
        raw.settimeout(10)
        assert answered(raw, b'{"content": "Hi"}') == 200


def test_a_body_that_says_it_is_too_large_is_not_waited_for(hasty: Served) -> None:
    limit = hasty.service.limits.body_bytes
    for size, status in ((limit + 1, 413), (limit, 408)):
        with connected(hasty) as raw:
            head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size
            assert answered(raw, head) == status
            assert is_cut_off(raw)


def test_what_is_no_request_is_counted_and_has_its_line(hasty: Served) -> None:
    before, counted = hasty.mark(), hasty.service.counters.requests[400]
    with connected(hasty) as raw:
        assert answered(raw, b"\x00\x01\r\n\r\n") == 400
    (line,) = hasty.lines_since(before)
    assert " - - 400 " in line and line.endswith("(no request of HTTP/1.1)")
    assert hasty.service.counters.requests[400] == counted + 1


def test_a_connection_is_kept(few: Served) -> None:
    with httpx.Client(base_url=few.url) as client:
        told = [client.get("/health") for _ in range(5)]
        streams = {answer.extensions["network_stream"] for answer in told}
    assert all(answer.status_code == 200 for answer in told) and len(streams) == 1
