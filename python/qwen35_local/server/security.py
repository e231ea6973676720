"""Who may ask: requests of the owner's own programs, not of web pages that happen to be open.

A page of another origin can send requests to this machine, by name too once it has that name resolve to 127.0.0.1. What
a browser cannot forge are the headers Host, Origin and Sec-Fetch-Site.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from qwen35_local.server.errors import Refused

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(:\d{1,5})?")
_OWN_SITES = ("none", "same-origin", "same-site")
OPEN_PATHS = ("/", "/health", "/favicon.ico")
PAGE = "/page/"
"""What is below it, and the paths before, is answered without a key, since it tells nothing."""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """`host`: the address listened on; None for a unix socket, which no browser reaches. `keys`: one of these must be
    given; none: everybody may. `origins`: of pages that may ask, beside the server's own; where one is a further name
    of this server, in its network or of a proxy before it, the Host header may be that, port and all."""

    def __init__(self, host: str | None, keys: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._host = host
        self._keys = [key.encode() for key in keys]
        self._origins = frozenset(origins)
        self._hosts = frozenset(origin.partition("://")[2].lower() for origin in self._origins)

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raises Refused for a request that is not to be answered. `headers`: names in lower case."""
        if self._host is not None:
            self._check_host(headers.get("host", ""))
            self._check_origin(method, headers)
        is_open = (path in OPEN_PATHS or path.startswith(PAGE)) and method in ("GET", "HEAD")
        if self._keys and not is_open and not is_preflight(method, headers):
            self._check_key(headers)

    def cors(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """The response headers that let a page of an allowed origin read the answer."""
        origin = headers.get("origin", "")
        if origin not in self._origins:
            return []
        return [
            (b"access-control-allow-origin", origin.encode()),
            (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
            (b"access-control-allow-headers", b"authorization, *"),  # clients in a browser send many of their own
            (b"access-control-max-age", b"600"),
            (b"vary", b"origin"),
        ]

    def _check_host(self, given: str) -> None:
        name = host_name(given)
        if name in LOOPBACK or name == self._host or given.strip().lower() in self._hosts:
            return
        if self._keys and _is_address(name):  # a page that had a name resolved to here would send that name
            return
        raise Refused(
            403,
            f"the Host header is {given[:100]!a}; this server answers to localhost and to the address that it "
            "listens on; give another name of it with --allow-origin, as in http://NAME:8035.",
            code="host_not_allowed",
        )

    def _check_origin(self, method: str, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is None:
            is_visit = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
            if headers.get("sec-fetch-site", "none") not in _OWN_SITES and not is_visit:
                raise _foreign("another site")
        elif origin != f"http://{headers.get('host', '')}" and origin not in self._origins:
            raise _foreign(f"the origin {origin[:100]!a}")

    def _check_key(self, headers: Mapping[str, str]) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # All are compared, so that the time tells nothing.
        fits = [hmac.compare_digest(given.encode("utf-8", "replace"), key) for key in self._keys]
        if not any(fits):
            raise Refused(
                401,
                "a key is needed: `Authorization: Bearer KEY` or `x-api-key: KEY`."
                if not given
                else "the key is wrong.",
                code="invalid_api_key",
            )


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks what a page may send."""
    return method == "OPTIONS" and "access-control-request-method" in headers


def host_name(header: str) -> str:
    """The name in a Host header, without its port; "" when it is not of that form."""
    found = _HOST.fullmatch(header.strip().lower())
    return "" if found is None else found["v6"] or found["name"]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _foreign(what: str) -> Refused:
    return Refused(
        403, f"a web page of {what} asks; start the server with --allow-origin if it may.", code="origin_not_allowed"
    )
