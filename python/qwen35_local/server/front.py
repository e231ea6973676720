"""What every request passes first and last: who asks, the log, and errors in the dialect's own shape."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwen35_local.server.dialect import ErrorShape
from qwen35_local.server.errors import RETRY_SECONDS, TWO_LENGTHS, Refused, bad, refusal
from qwen35_local.server.log import Record
from qwen35_local.server.security import Guard, is_preflight
from qwen35_local.server.service import Service
from qwen35_local.server.wire import Gone, Writer


class Front:
    """`shapes`: the beginning of a path, and how errors look below it; the first that fits."""

    def __init__(self, app: ASGIApp, service: Service, guard: Guard, shapes: list[tuple[str, ErrorShape]]) -> None:
        self._app = app
        self._service = service
        self._guard = guard
        self._shapes = shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        client = scope.get("client")
        path = scope.get("raw_path", b"").decode("latin-1")
        headers = _headers(scope)
        agent = headers.get("user-agent", "")[:100]
        record = Record(client[0] if client else "local", scope["method"], path, agent)
        scope.setdefault("state", {})["record"] = record
        cors = self._guard.cors(headers)

        async def noting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message["headers"], *cors]
            await send(message)

        try:
            await self._answer(scope, receive, noting_send, headers)
        except Gone:
            self._service.counters.disconnects += 1
            record.note = record.note or "the client left"
        finally:
            self._service.counters.requests[record.status] += 1
            self._service.log.write(record.line())

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        method, path = scope["method"], scope["path"]
        writer = Writer(scope, send, self._service.limits)
        try:
            self._guard.check(method, path, headers)
            if scope["http_version"] not in ("1.0", "1.1"):
                raise Refused(400, "this server speaks HTTP/1.1.")
            if not path.isprintable():
                raise HTTPException(404)  # a route would fit a path with a line break behind it
            if "content-length" in headers and "transfer-encoding" in headers:
                raise bad(None, "it has both Content-Length and Transfer-Encoding; send one of them.", TWO_LENGTHS)
            if is_preflight(method, headers):
                await writer.whole(204, b"")
            elif self._service.is_closing and path != "/health":
                raise closing()
            else:
                scope["app"] = self  # the router then raises what it cannot route
                await self._app(scope, receive, send)
        except Exception as error:
            if isinstance(error, Gone) or scope["state"]["record"].status:
                raise  # it has begun to answer
            await self._refuse(scope, writer, error)

    async def _refuse(self, scope: Scope, writer: Writer, error: Exception) -> None:
        path = scope["path"]
        if isinstance(error, HTTPException):
            error = _by_router(error, scope["method"], path)
        refused = refusal(error)
        if refused.status == 500:
            self._service.note_fault(error)
        scope["state"]["record"].note = refused.noted
        shape = next(shape for start, shape in self._shapes if path.startswith(start))
        await writer.refuse(refused, shape(refused))


def _headers(scope: Scope) -> dict[str, str]:
    """Names in lower case; the values of one that was sent several times together, so that none hides another."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def closing() -> Refused:
    return Refused(503, "the server is ending.", code="server_closing", retry_after=RETRY_SECONDS)


def _by_router(error: HTTPException, method: str, path: str) -> Refused:
    if error.status_code == 404:
        return Refused(404, f"there is no {path[:200]} here.", code="not_found")
    if error.status_code == 405:
        return Refused(405, f"{path[:200]} does not take {method}.", code="method_not_allowed")
    return Refused(error.status_code, error.detail)
