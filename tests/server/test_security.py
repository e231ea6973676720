"""Who is answered: programs of this machine, pages of allowed origins, holders of a key; and nobody else."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import Served, served

from qwen35_local.engine.engine import Engine
from qwen35_local.server.errors import Refused
from qwen35_local.server.limits import Limits
from qwen35_local.server.run import Server, listen_at
from qwen35_local.server.security import Guard, host_name, is_loopback

BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
CHAT = "/v1/chat/completions"
KEY = "a-secret-key"
PAGE = "https://chat.example"

FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:8035",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil-localhost",
    "localhost@evil.example",
    "127.0.0.2",
    "0.0.0.0",
    "192.168.1.1",
    "2130706433",
    "0x7f000001",
    "127.1",
    "[::2]",
    "[::1",
    "localhost.",
    "",
    "*",
    "null",
    "[localhost]x",
]
FOREIGN_ORIGINS = [
    "null",
    "http://evil.example",
    "https://evil.example",
    "http://localhost",
    "http://localhost:1",
    "https://localhost",
    "http://127.0.0.1.evil.example",
    "file://",
    "chrome-extension://abcdef",
    "",
    "http://localhost:8035, http://evil.example",
]


@pytest.fixture(scope="module")
def locked(demo_engine: Engine) -> Iterator[Served]:
    with served(demo_engine, keys=[KEY, "another-key"], origins=[PAGE]) as running:
        yield running


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("path", ["/health", "/v1/models", CHAT])
def test_foreign_host(server: Served, host: str, path: str) -> None:
    method = "POST" if path == CHAT else "GET"
    answer = httpx.request(method, server.url + path, headers={"Host": host}, json=BODY if path == CHAT else None)
    assert answer.status_code in (400, 403)
    assert "choices" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:8035"])
def test_own_host(server: Served, host: str) -> None:
    assert httpx.get(server.url + "/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("content", ["application/json", "text/plain"])
def test_foreign_origin(server: Served, origin: str, content: str) -> None:
    headers = {"Origin": origin, "Content-Type": content}
    answer = httpx.post(server.url + CHAT, headers=headers, content=json.dumps(BODY))
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "origin_not_allowed"
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_own_origin(server: Served) -> None:
    answer = httpx.post(server.url + CHAT, headers={"Origin": server.url}, json=BODY)
    assert answer.status_code == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_further_names() -> None:
    """Of a server that an allowed origin leads to; with the port, which a page of another port would send."""
    guard = Guard("127.0.0.1", origins=["http://mybox:8035", "https://Chat.example"])
    for host, origin in (("mybox:8035", "http://mybox:8035"), ("chat.example", "https://Chat.example")):
        guard.check("POST", CHAT, {"host": host})
        guard.check("POST", CHAT, {"host": host, "origin": origin})
    for host in ("mybox", "mybox:80", "chat.example:8035", "evil.example", "http://mybox:8035"):
        with pytest.raises(Refused, match="--allow-origin"):
            guard.check("GET", "/", {"host": host})


def test_addresses_of_a_server_with_a_key() -> None:
    """A machine has several; a name that a page had resolved to one of them is none."""
    key = {"authorization": f"Bearer {KEY}"}
    for host in ("192.168.1.5:8035", "[fe80::1]:8035", "10.0.0.7"):
        Guard("0.0.0.0", [KEY]).check("GET", "/v1/models", {"host": host, **key})
        with pytest.raises(Refused, match="Host header"):
            Guard("127.0.0.1").check("GET", "/v1/models", {"host": host})
    with pytest.raises(Refused, match="Host header"):
        Guard("0.0.0.0", [KEY]).check("GET", "/v1/models", {"host": "evil.example", **key})


def test_cross_site_without_origin(server: Served) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert httpx.get(server.url + "/v1/models", headers=headers).status_code == 403
    visit = headers | {"Sec-Fetch-Mode": "navigate"}
    assert httpx.get(server.url + "/health", headers=visit).status_code == 200
    assert httpx.post(server.url + CHAT, headers=visit, json=BODY).status_code == 403


def test_foreign_preflight(server: Served) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(server.url + CHAT, headers=headers)
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_allowed_origin(locked: Served) -> None:
    preflight = httpx.options(locked.url + CHAT, headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in preflight.headers
    no_preflight = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    assert httpx.post(locked.url + CHAT, headers=no_preflight, json=BODY).status_code == 401
    answer = httpx.post(locked.url + CHAT, headers={"Origin": PAGE, "Authorization": f"Bearer {KEY}"}, json=BODY)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    refused = httpx.post(locked.url + CHAT, headers={"Origin": PAGE}, json=BODY)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer \xff\xfe".encode("latin-1")},
        {"x-api-key": "x"},
        {"x-api-key": ""},
        {"api-key": KEY},
        {"Cookie": f"key={KEY}"},
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/nothing", "/v1/responses/x"])
def test_without_the_key(locked: Served, headers: dict[str, str], path: str) -> None:
    method = "POST" if path == CHAT else "GET"
    answer = httpx.request(method, locked.url + path, headers=headers, json=BODY if path == CHAT else None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert KEY not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
        {"x-api-key": KEY},
        {"Authorization": "Bearer another-key"},
    ],
)
def test_with_a_key(locked: Served, headers: dict[str, str]) -> None:
    assert httpx.get(locked.url + "/v1/models", headers=headers).status_code == 200


class Secret(bytes):
    """A key that may be compared in one way only."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a key was compared with ==, whose time tells how much of it is right")

    __ne__ = __eq__
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
@pytest.mark.parametrize("verdicts", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("given", ["", "k", KEY, "another-key", KEY + "x", "é"])
def test_keys_are_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, header: str, verdicts: tuple[bool, bool], given: str
) -> None:
    """By `hmac.compare_digest` alone: each of them in every case, and what it says decides."""
    guard = Guard("127.0.0.1", [KEY, "another-key"])
    guard._keys = [Secret(key) for key in guard._keys]
    compared: list[tuple[bytes, bytes]] = []

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((one, bytes(other)))
        return verdicts[len(compared) - 1]

    monkeypatch.setattr("hmac.compare_digest", noted)
    headers = {"host": "localhost", header: f"Bearer {given}" if header == "authorization" else given}
    try:
        guard.check("GET", "/v1/models", headers)
        is_let_in = True
    except Refused:
        is_let_in = False
    assert is_let_in == any(verdicts)
    assert compared == [(given.encode(), KEY.encode()), (given.encode(), b"another-key")]


def test_health_needs_no_key(locked: Served) -> None:
    assert httpx.get(locked.url + "/health").json() == {"status": "ok"}


def test_addresses() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.2", "example.org", "", "localhost.evil")))
    assert [host_name(name) for name in ("A:1", "[::1]:2", "[::1]", "1.2.3.4")] == ["a", "::1", "::1", "1.2.3.4"]


def test_log_holds_no_words_and_no_control_characters(server: Served) -> None:
    secret, before = "pomegranate", server.mark()
    body = {"messages": [{"role": "user", "content": secret}], "max_tokens": 1}
    httpx.post(server.url + CHAT, json=body)
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as raw:
        raw.sendall(b"GET /%1b[31m%0aFAKE\x1b HTTP/1.1\r\nHost: localhost\r\n\r\n")
        raw.recv(1000)
    httpx.get(server.url + "/%0a%1b[2J")
    lines = server.lines_since(before)
    assert len(lines) == 3
    assert not any(secret in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_unix_socket(demo_engine: Engine, tmp_path: Path, server: Served) -> None:
    path = tmp_path / "socket"
    opened = listen_at(path)
    assert path.stat().st_mode & 0o077 == 0
    running = Server(server.service, Guard(None), opened)

    async def ask() -> int:
        task = asyncio.create_task(running.serve())
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://anything") as client:
            status = (await client.get("/health")).status_code
        running.stop()
        await task
        return status

    try:
        assert asyncio.run(ask()) == 200
    finally:
        server.service.is_closing = False


@pytest.fixture(scope="module")
def strict(demo_engine: Engine) -> Iterator[Served]:
    limits = Limits(body_bytes=1 << 20, header_seconds=0.5, body_seconds=0.5, grace_seconds=1, connections=20)
    with served(demo_engine, limits) as running:
        yield running


class TestLimits:
    def address(self, running: Served) -> tuple[str, int]:
        return "127.0.0.1", int(running.url.rpartition(":")[2])

    def test_large_body(self, strict: Served) -> None:
        answer = httpx.post(strict.url + CHAT, content=b"x" * (2 << 20))
        assert answer.status_code == 413
        chunks = (b"x" * 65536 for _ in range(32))
        assert httpx.post(strict.url + CHAT, content=chunks).status_code == 413

    def test_many_bodies(self, strict: Served) -> None:
        """What is received at a time has a bound, too, and is let go of."""
        strict.service.receiving_bytes += strict.service.limits.all_bodies_bytes
        try:
            assert httpx.post(strict.url + CHAT, json=BODY).status_code == 503
        finally:
            strict.service.receiving_bytes -= strict.service.limits.all_bodies_bytes
        assert strict.service.receiving_bytes == 0
        assert httpx.post(strict.url + CHAT, json=BODY).status_code == 200

    def test_slow_head(self, strict: Served) -> None:
        with socket.create_connection(self.address(strict)) as raw:
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: local")
            began = time.monotonic()
            raw.settimeout(5)
            with pytest.raises(ConnectionResetError):
                assert raw.recv(1000) == b""
                raise ConnectionResetError
            assert time.monotonic() - began < 3

    def test_slow_body(self, strict: Served) -> None:
        with socket.create_connection(self.address(strict)) as raw:
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            raw.settimeout(5)
            assert b"408" in raw.recv(1000).split(b"\r\n")[0]

    def test_many_connections(self, strict: Served) -> None:
        held = [socket.create_connection(self.address(strict)) for _ in range(40)]
        time.sleep(0.9)  # those that say nothing are cut off
        assert httpx.get(strict.url + "/health").status_code == 200
        for raw in held:
            raw.close()

    @pytest.mark.parametrize(
        "head",
        [
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
            b"\x00\x01\x02\r\n\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n",
        ],
    )
    def test_broken_head(self, strict: Served, head: bytes) -> None:
        with socket.create_connection(self.address(strict)) as raw:
            raw.sendall(head)
            raw.settimeout(5)
            answer = raw.recv(1000).split(b"\r\n")[0]
            assert answer.split()[1][:1] == b"4"
        assert httpx.get(strict.url + "/health").status_code == 200

    def test_connection_is_kept(self, strict: Served) -> None:
        connection = http.client.HTTPConnection(*self.address(strict))
        for _ in range(3):
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b'{"status":"ok"}'
            time.sleep(0.6)
        connection.close()
