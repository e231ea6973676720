"""What hostile programs and web pages of this machine can send, as bytes: none is answered, nothing is fetched, and
each is one printable line in the log."""

import gzip
import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.load.report import Report

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
BODY = {"messages": HI, "max_tokens": 1}
SECONDS = 30
REFUSED = (*range(400, 500), 501)


@dataclass(frozen=True)
class Attack:
    """`statuses`: one of these answers it; 0 is a connection that was closed without an answer."""

    name: str
    data: bytes
    statuses: tuple[int, ...] = REFUSED


def post(path: str, body: bytes | Any, *headers: str, host: str | None = "localhost", length: str = "") -> bytes:
    """A request. `length`: what it says of its body, in place of the truth."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    first = [] if host is None else [f"Host: {host}"]
    lines = [f"POST {path} HTTP/1.1", *first, length or f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + data


def get(target: str, *headers: str, method: str = "GET", host: str = "localhost") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def attacks(trap: int) -> list[Attack]:
    """`trap`: a port of this machine that nobody must connect to."""
    kinds = (rebinding(), pages(), paths(), methods(), lengths(), heads(), bodies(), addresses(trap), protocols())
    return [attack for kind in kinds for attack in kind]


def rebinding() -> Iterator[Attack]:
    hosts = ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "localhost@evil.example", "evil@localhost")
    hosts += ("0.0.0.0", "127.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]", "[::", "localhost.", "*", "", "::1")
    hosts += ("localhost:80:80", "localhost:x", "localhost/evil", "localhost#", "xn--localhost", "127.0.0.1%00.evil")
    for host in hosts:
        yield Attack(f"host {host}", post(CHAT, BODY, host=host))
    yield Attack("no host", post(CHAT, BODY, host=None))
    yield Attack("two hosts", post(CHAT, BODY, "Host: evil.example"))
    yield Attack("forwarded host", post(CHAT, BODY, "X-Forwarded-Host: localhost", host="evil.example"))


def pages() -> Iterator[Attack]:
    own = "http://localhost"
    origins = (
        "null",
        "http://evil.example",
        "https://localhost",
        "http://localhost:1",
        "http://localhost.evil.example",
    )
    origins += ("file://", "chrome-extension://x", "", " ", "http://LOCALHOST.", f"{own}, http://evil.example")
    for origin in origins:
        yield Attack(f"origin {origin}", post(CHAT, BODY, f"Origin: {origin}", "Content-Type: text/plain"))
    yield Attack("two origins", post(CHAT, BODY, "Origin: http://evil.example", f"Origin: {own}"))
    yield Attack("two origins, own first", post(CHAT, BODY, f"Origin: {own}", "Origin: http://evil.example"))
    for site in ("cross-site", "cross-site, same-origin"):
        yield Attack(f"sent by a {site} form", post(CHAT, BODY, f"Sec-Fetch-Site: {site}"))
    yield Attack("read as an image", get("/v1/models", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"))
    yield Attack("form that is sent", post(CHAT, BODY, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"))
    asks = "Access-Control-Request-Method"
    for method in ("POST", "GET", "DELETE", "PUT"):
        ask = get(CHAT, "Origin: http://evil.example", f"{asks}: {method}", method="OPTIONS")
        yield Attack(f"preflight {method}", ask)
    private = "Access-Control-Request-Private-Network: true"
    yield Attack("preflight null", get(CHAT, "Origin: null", f"{asks}: POST", private, method="OPTIONS"))


def paths() -> Iterator[Attack]:
    up = (
        "/../../etc/passwd",
        "/v1/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
    )
    up += ("/..\\..\\windows", "/%c0%ae%c0%ae/etc/passwd", "/v1/models/../../../etc/passwd", "/v1/models/%2e%2e%2fx")
    files = ("/.env", "/.git/config", "/proc/self/environ", "/file:///etc/passwd", "/static/%00", "/v1/models/x%00y")
    near = (
        "/V1/models",
        "/v1//models",
        "/v1/models;x",
        "/v1/responses/../models",
        "/health/..",
        "/metrics%0a",
        "/slots/0",
    )
    admin = ("/admin", "/debug/pprof", "/shutdown", "/api/blobs/sha256:0", "/v1/responses/x", "/api/../v1/models", "/%")
    for path in up + files + near + admin:
        yield Attack(f"path {path}", get(path))
    yield Attack("another server", get("http://evil.example/v1/models"))
    yield Attack("line break in a path", get("/%0d%0aSet-Cookie:%20a=b"))
    yield Attack("escape in a path", get("/%1b[31m%1b]0;x%07"))
    yield Attack("other writing in a path", b"GET /\xd0\xb0\xe2\x80\xae HTTP/1.1\r\nHost: localhost\r\n\r\n")


def methods() -> Iterator[Attack]:
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "post", "POSTX", "OPTIONS"):
        yield Attack(f"method {method}", get(CHAT, method=method))
    yield Attack("method in a header", get(CHAT, "X-HTTP-Method-Override: POST"))
    for target in ("localhost:22", "*"):
        yield Attack(f"connect {target}", get(target, method="CONNECT"))
    for name in ("pull", "push", "create", "copy"):
        yield Attack(f"/api/{name}", post(f"/api/{name}", {"model": "evil", "from": "/etc/passwd"}))
    yield Attack("/api/delete", get("/api/delete", "Content-Length: 0", method="DELETE"))
    yield Attack("upgrade", get(CHAT, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"))


def lengths() -> Iterator[Attack]:
    chunked = "Transfer-Encoding: chunked"
    inner = b"0\r\n\r\n" + get("/v1/models")
    yield Attack("length and chunks", post(CHAT, inner, chunked))
    yield Attack("chunks and length", post(CHAT, inner, f"Content-Length: {len(inner)}", length=chunked))
    for text in ("4\r\nContent-Length: 5", "4, 5", "+4", "-4", "0x4", "4_0", "4.0", "", "4 4", "9" * 30, "\u0664"):
        yield Attack(f"length {text!r}", post(CHAT, b"{}  ", length=f"Content-Length: {text}"))
    for text in ("xchunked", "chunked, identity", "gzip, chunked", "chunked, chunked", "identity", "\x0bchunked", ""):
        yield Attack(f"encoding {text!r}", post(CHAT, inner, length=f"Transfer-Encoding: {text}"))
    yield Attack("two encodings", post(CHAT, inner, "Transfer-Encoding: x", length=chunked))
    yield Attack("space before the colon", post(CHAT, inner, length="Transfer-Encoding : chunked"))
    for size in (b"zz", b"-1", b"0x2", b"f" * 40, b"", b"2 ;", b"2\x00"):
        yield Attack(f"chunk of {size!r}", post(CHAT, size + b"\r\n{}\r\n0\r\n\r\n", length=chunked))
    yield Attack("too large", post(CHAT, b"", length=f"Content-Length: {1 << 40}"))


def heads() -> Iterator[Attack]:
    for name, line in (
        ("NUL in a value", "X: a\0b"),
        ("CR in a value", "X: a\rb"),
        ("name with a space", "X Y: z"),
        ("no name", ": x"),
        ("no colon", "nothing"),
        ("name of other writing", "\u0445: y"),
        ("fold before all", " X: y"),
        ("large", "X: " + "a" * 100_000),
        ("many", "\r\n".join(f"X{n}: y" for n in range(10_000))),
    ):
        data = f"GET /v1/nothing HTTP/1.1\r\n{line}\r\nHost: localhost\r\n\r\n".encode()
        yield Attack(f"header: {name}", data)
    for line in (
        "GET /health",
        "GET  /health HTTP/1.1",
        "GET /health HTTP/1.1 x",
        "GET /health HTTP/2.0",
        " GET / HTTP/1.1",
    ):
        yield Attack(f"line {line!r}", f"{line}\r\nHost: localhost\r\n\r\n".encode())
    yield Attack("long path", get("/" + "a" * 100_000))
    yield Attack("NUL in a path", b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n")


def bodies() -> Iterator[Attack]:
    wrong = [b"", b"{", b"[]", b"null", b'{"messages": NaN}', b'{"max_tokens": Infinity}', b'{"max_tokens": 1e999}']
    wrong += [
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"{'a': 1}",
        b"{} // x",
        b'{"a": "\0"}',
    ]
    wrong += [b"[" * 200_000, b'{"a":' * 100_000, json.dumps(BODY).encode("utf-16"), b'{"a": 01}', b'{"a": .5}']
    wrong += [b'{"max_tokens": 1, "messages": [], "max_tokens": "x"}', b'{"max_tokens": ' + b"9" * 5000 + b"}"]
    wrong += [
        b"[1" + b",1" * 4_000_000 + b"]",
        b"messages=Hi",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n{}\r\n--x--",
    ]
    for body in wrong:
        yield Attack(f"body {body[:40]!r}", post(CHAT, body))
    bomb = gzip.compress(b'{"a": "' + b"a" * (64 << 20) + b'"}', 1)
    for coding in ("gzip", "deflate", "br", "zstd", "x"):
        yield Attack(f"coded {coding}", post(CHAT, bomb, f"Content-Encoding: {coding}"))
    for field, value in (
        ("max_tokens", 2**70),
        ("n", 10**9),
        ("seed", 1e308),
        ("logit_bias", {"9" * 5000: 1}),
        ("stop", ["x"] * 100_000),
        ("messages", HI * 20_000),
        ("tools", [{"type": "function", "function": {"name": "f\r\nX: y"}}]),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {"$ref": "file:///etc/passwd"}}}),
    ):
        yield Attack(f"field {field}", post(CHAT, BODY | {field: value}))


def addresses(trap: int) -> Iterator[Attack]:
    local = f"http://127.0.0.1:{trap}/x"
    for url in (
        local,
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "data:image/png;base64,AA==",
        "//x",
        "x:",
    ):
        image = {"type": "image_url", "image_url": {"url": url}}
        yield Attack(f"image {url}", post(CHAT, BODY | {"messages": [{"role": "user", "content": [image]}]}))
        source = {"type": "image", "source": {"type": "url", "url": url}}
        said = [{"role": "user", "content": [source]}]
        yield Attack(f"source {url}", post("/v1/messages", {"model": "m", "max_tokens": 1, "messages": said}))
        part = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
        yield Attack(f"input {url}", post("/v1/responses", {"input": [part]}))
    yield Attack("images", post("/api/chat", {"model": "m", "messages": [HI[0] | {"images": [local]}]}))
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": local}}}
    yield Attack("schema elsewhere", post(CHAT, BODY | {"response_format": schema}))
    server = {"type": "mcp", "server_label": "x", "server_url": local}
    yield Attack("server of tools", post("/v1/responses", {"input": "Hi", "tools": [server]}))
    servers = {"model": "m", "max_tokens": 1, "messages": HI, "mcp_servers": [{"type": "url", "url": local}]}
    yield Attack("servers of tools", post("/v1/messages", servers))


def protocols() -> Iterator[Attack]:
    for name, data in (
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
        ("SSH", b"SSH-2.0-x\r\n"),
        ("PROXY", b"PROXY TCP4 1.1.1.1 127.0.0.1 1 2\r\n" + get("/v1/models")),
        ("SMTP", b"EHLO x\r\n"),
        ("Redis", b"*1\r\n$4\r\nPING\r\n"),
        ("HTTP/0.9", b"GET /\r\n"),
        ("zeros", bytes(1000)),
        ("RTSP", b"OPTIONS rtsp://localhost/ RTSP/1.0\r\n\r\n"),
    ):
        yield Attack(f"speaks {name}", data, (0, *REFUSED))


def send(port: int, data: bytes, *, ends: bool = False) -> tuple[int, bytes]:
    """Status and answer; 0 where there is none. `ends`: nothing more will come, as the server is told."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as raw, suppress(ConnectionError):
        raw.sendall(data)
        if ends:
            raw.shutdown(socket.SHUT_WR)
        while not _is_whole(answer) and (piece := raw.recv(1 << 16)):
            answer += piece
    return (int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0), answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.I)
    return bool(end and length and len(body) >= int(length[1]))


def assault(port: int, report: Report) -> None:
    """Sends all of them, and counts those that were refused."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        for attack in attacks(trap.getsockname()[1]):
            status, answer = send(port, attack.data, ends=0 in attack.statuses)
            holds = status in attack.statuses and b'"choices"' not in answer and b"root:" not in answer
            report.expect(holds, f"{attack.name}: {status} {answer[:200]!r}")
            report.counts["attacks"] += 1
            report.counts["refused"] += holds
            report.counts["unanswered"] += status == 0
        with suppress(BlockingIOError):
            trap.accept()
            report.faults.append("an address in a request was asked for")
