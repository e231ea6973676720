"""Requests to another server, one at a time or many: the only module that knows the HTTP client.

A request is tried again only as long as nothing of its answer has come, and what a server says is bounded.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from qwen35_local import json_file
from qwen35_local.errors import FormatError, RemoteError
from qwen35_local.remote.address import Address
from qwen35_local.remote.refusal import refusal

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response

_BUSY = (429, 502, 503, 504)
_WAITS = (0.5, 1.0, 2.0)  # seconds before the next try
_LONGEST_WAIT = 30  # that a server may ask for; beyond it a person is told
_CONNECT_SECONDS = 10.0
_SILENT_SECONDS = 600.0  # without a byte: a long prompt is read in this time
_MOST_ERROR_BYTES = 64 << 10
_MOST_BYTES = 8 << 20  # of an answer in one piece


class Connection:
    """To one server, on one event loop. `key`: what it asks for, or ""."""

    def __init__(self, address: Address, key: str = "") -> None:
        self._address = address
        self._headers = {"accept-encoding": "identity", "user-agent": "qwen35-local"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._client: AsyncClient | None = None

    async def read(self, path: str) -> Any:
        """The JSON that a GET answers. Raises RemoteError, InputError."""
        return await self._read("GET", self._address.url + path, None)

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that a POST answers, beside OpenAI's API. Raises RemoteError, InputError, Busy."""
        return await self._read("POST", self._address.root + path, body)

    @asynccontextmanager
    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes that a POST answers, as they come. Leaving this closes the connection. Raises RemoteError,
        InputError, Busy."""
        async with self._answer("POST", self._address.url + path, body) as response:
            kind = response.headers.get("content-type", "")
            if "text/event-stream" not in kind:
                raise RemoteError(f"{self._address} answered with {kind[:80]!r}; expected a stream of events.")
            yield self._pieces(response)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _read(self, method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        async with self._answer(method, url, body) as response:
            data = await _bounded(response, _MOST_BYTES)
        try:
            return json_file.parse(data, url, lone_surrogates=True)
        except FormatError as error:
            raise RemoteError(f"{error} Expected the address of a server of OpenAI's API.") from None

    async def _pieces(self, response: "Response") -> AsyncIterator[bytes]:
        import httpx2

        try:
            async for piece in response.aiter_raw():
                yield piece
        except httpx2.HTTPError as error:
            raise RemoteError(f"the connection to {self._address} broke off ({_words(error)}).") from None

    @asynccontextmanager
    async def _answer(self, method: str, url: str, body: Mapping[str, Any] | None) -> AsyncIterator["Response"]:
        async with AsyncExitStack() as held:
            for wait in (*_WAITS, None):
                response = await self._tried(held, method, url, body, is_last=wait is None)
                if response is not None and response.status_code == 200:
                    yield response
                    return
                asked = _asked_wait(response) if response is not None else 0
                if response is not None and (
                    response.status_code not in _BUSY or wait is None or asked > _LONGEST_WAIT
                ):
                    said = await _bounded(response, _MOST_ERROR_BYTES)
                    raise refusal(
                        str(self._address), response.status_code, said, asked, has_key="authorization" in self._headers
                    )
                await held.aclose()
                await asyncio.sleep(max(wait or 0, asked))

    async def _tried(
        self, held: AsyncExitStack, method: str, url: str, body: Mapping[str, Any] | None, *, is_last: bool
    ) -> "Response | None":
        """None where no answer came and it is worth another try. Raises RemoteError."""
        import httpx2

        try:
            sent = self._opened().stream(method, url, json=body)
            return await held.enter_async_context(sent)
        except httpx2.ReadTimeout:
            raise RemoteError(f"{self._address} said nothing for {_SILENT_SECONDS:.0f} seconds.") from None
        except httpx2.TransportError as error:
            if is_last:
                raise RemoteError(f"{self._address} cannot be reached ({_words(error)}).") from None
            return None
        except httpx2.InvalidURL as error:
            raise RemoteError(f"{self._address} is no address that can be asked ({_words(error)}).") from None

    def _opened(self) -> "AsyncClient":
        import httpx2

        if self._client is None:
            self._client = httpx2.AsyncClient(
                headers=self._headers,
                timeout=httpx2.Timeout(_SILENT_SECONDS, connect=_CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8),
                follow_redirects=False,  # the key is for this server alone
            )
        return self._client


async def _bounded(response: "Response", most: int) -> bytes:
    """What was answered, cut at `most` bytes."""
    import httpx2

    data = bytearray()
    try:
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > most:
                break
    except httpx2.HTTPError:
        pass  # what has come is what was said
    return bytes(data[:most])


def _asked_wait(response: "Response") -> int:
    """Seconds; 0 where the server asks for none."""
    asked = response.headers.get("retry-after", "")
    return int(asked) if re.fullmatch(r"[0-9]{1,6}", asked) else 0


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200].rstrip(": ")
