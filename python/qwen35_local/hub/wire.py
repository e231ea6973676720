"""Requests to a model hub by way of huggingface_hub: its endpoint, token, proxies, offline switch, cache folder, locks.

Beyond the library: a body is read within bounds, a server's wish to wait is bounded, and a range goes on where an
earlier run was cut off (huggingface_hub 2 throws away what came when a download fails).
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import quote, urlsplit

from qwen35_local.errors import InputError

_BUSY = (408, 429, 500, 502, 503, 504)
_WAITS = (1.0, 2.0, 4.0)  # seconds before the next try at a busy server
_LONGEST_WAIT = 30  # that a server may ask for; beyond it a person is told
_LONGEST_WORDS = 200  # of a server's


class Absent(InputError):
    """What a hub does not have, or does not show to this token."""


class Unreachable(InputError):
    """No answer, or one that broke off."""


@dataclass(frozen=True)
class Body:
    """Bytes of a file from `start` on. `total`: how long the server says the whole file is; `etag`: its checksum."""

    start: int
    total: int | None
    etag: str | None
    pieces: Iterator[bytes]


def endpoint() -> str:
    """HF_ENDPOINT, or the public hub. Raises InputError."""
    address = str(_constants().ENDPOINT).rstrip("/")
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise InputError(f"HF_ENDPOINT is {address!r}; expected an address as in https://huggingface.co")
    return address


def host() -> str:
    """The hub's name, for people."""
    return urlsplit(endpoint()).netloc.rpartition("@")[2]


def cache_folder() -> Path:
    """HF_HUB_CACHE, HF_HOME/hub or the library's default."""
    return Path(_constants().HF_HUB_CACHE)


def is_offline() -> bool:
    return bool(_constants().HF_HUB_OFFLINE)


def listing_url(repository: str) -> str:
    return f"{endpoint()}/api/models/{repository}?blobs=true"


def file_url(repository: str, revision: str, path: str) -> str:
    return f"{endpoint()}/{repository}/resolve/{revision}/{quote(path)}"


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Held by one process at a time, those of huggingface_hub included. Raises InputError when another one has it."""
    from huggingface_hub.utils import WeakFileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(WeakFileLock(path, timeout=1))
        except TimeoutError:
            raise InputError(f"another program is at work on this ({path} is held); wait until it is done") from None
        yield


def read(url: str, subject: str, most: int) -> bytes:
    """A whole body. `subject`: what is asked for, in words that end with the repository. Raises what `body` raises."""
    for is_last in (False, True):
        try:
            with body(url, subject) as answer:
                return _joined(answer.pieces, subject, most)
        except Unreachable:
            if is_last:
                raise
    raise AssertionError


@contextmanager
def body(url: str, subject: str, first: int = 0, last: int | None = None) -> Iterator[Body]:
    """Bytes `first` to `last` (None: the end), as many as come; a server that knows no ranges starts at 0. Redirects to
    another host go without the token. Raises Absent, Unreachable, InputError."""
    response = _answer(url, first, last)
    try:
        if response.status_code not in (200, 206):
            raise _refusal(response, subject)
        partial = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", _header(response, "content-range"))
        if response.status_code == 206 and (partial is None or int(partial[1]) != first):
            raise Unreachable(f"{host()} sent another range of {subject} than bytes {first:,} and on; try again later")
        length = partial[2] if partial else _header(response, "content-length")
        yield Body(
            start=first if response.status_code == 206 else 0,
            total=int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None,
            etag=_etag(response),
            pieces=_pieces(response, subject),
        )
    finally:
        response.close()


def _answer(url: str, first: int, last: int | None) -> Any:
    """The response to a GET, not yet read. Raises Unreachable, InputError."""
    for wait in (*_WAITS, None):
        response = _send(url, first, last)
        if response.status_code not in _BUSY:
            return response
        asked = _asked_wait(response)
        response.close()
        if wait is None or asked > _LONGEST_WAIT:
            when = f"in {asked} seconds" if asked else "later"
            kind = "too many requests" if response.status_code == 429 else "it is in trouble"
            token = "; HF_TOKEN raises the limit" if response.status_code == 429 else ""
            raise Unreachable(f"{host()} answers {response.status_code}, {kind}; try again {when}{token}")
        sleep(max(wait, asked))
    raise AssertionError


def _send(url: str, first: int, last: int | None) -> Any:
    from huggingface_hub import errors
    from huggingface_hub.utils import get_session

    headers = _identity()
    if first or last is not None:
        headers["Range"] = f"bytes={first}-{'' if last is None else last}"
    session = get_session()
    try:
        request = session.build_request("GET", url, headers=headers, timeout=_constants().HF_HUB_DOWNLOAD_TIMEOUT)
        return session.send(request, stream=True, follow_redirects=True)
    except errors.OfflineModeIsEnabled:
        raise Unreachable(f"HF_HUB_OFFLINE is set, so {host()} is not asked; unset it to download") from None
    except errors.HTTPError as error:
        raise _no_answer(error) from None


def _identity() -> dict[str, str]:
    """Who asks. The library's own headers also say what else runs here, for which they ask the hub for a list."""
    from huggingface_hub.utils import get_token

    from qwen35_local import __version__

    headers = {"User-Agent": f"qwen35-local/{__version__}", "Accept-Encoding": "identity"}
    token = None if _constants().HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token is not None and re.fullmatch("[!-~]+", token) is None:
        raise InputError("the token in HF_TOKEN has characters that no token has; copy it again from the hub's page")
    return headers if token is None else headers | {"Authorization": f"Bearer {token}"}


def _no_answer(error: Exception) -> Unreachable:
    said = " ".join(str(error).split())[:_LONGEST_WORDS] or type(error).__name__
    return Unreachable(f"no answer from {host()} ({said}); check the network, HF_ENDPOINT and the proxy settings")


def _pieces(response: Any, subject: str) -> Iterator[bytes]:
    from huggingface_hub import errors

    try:
        yield from response.iter_raw()
    except errors.HTTPError as error:
        said = str(error) or type(error).__name__
        raise Unreachable(f"the connection broke off within {subject} ({said[:_LONGEST_WORDS]}); try again") from None


def _joined(pieces: Iterator[bytes], subject: str, most: int) -> bytes:
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > most:
            raise InputError(f"{host()} sends more than {most:,} bytes for {subject}; that is none")
    return bytes(whole)


def _asked_wait(response: Any) -> int:
    """Seconds, from Retry-After or the hub's RateLimit header ('"api";r=0;t=55'); 0 when it does not say."""
    for name, pattern in (("retry-after", r"\s*([0-9]{1,9})\s*"), ("ratelimit", r".*;\s*r=0\s*;\s*t=([0-9]{1,9}).*")):
        found = re.fullmatch(pattern, _header(response, name))
        if found:
            return int(found[1])
    return 0


def _etag(response: Any) -> str | None:
    """The checksum of the file behind a redirect (X-Linked-Etag), or of what is sent itself."""
    answers = [*response.history, response]
    linked = next((_header(answer, "x-linked-etag") for answer in answers if _header(answer, "x-linked-etag")), "")
    found = (linked or _header(response, "etag")).removeprefix("W/").strip('"')
    return found or None


def _refusal(response: Any, subject: str) -> InputError:
    status, code = response.status_code, _header(response, "x-error-code")
    if code == "GatedRepo":
        page = f"{endpoint()}/{subject.rpartition(' ')[2]}"
        return Absent(f"{subject} is gated: accept its licence on {page}, then give that account's token in HF_TOKEN")
    if status == 401 and "invalid credentials" in _header(response, "x-error-message").lower():
        return InputError(f"{host()} does not accept the token in HF_TOKEN (or of `hf auth login`); make a new one")
    if status == 416:
        return InputError(f"{host()} has fewer bytes of {subject} than it lists; nothing of it is used")
    if status in (401, 403, 404):
        private = (
            "" if status == 404 and code == "EntryNotFound" else " (or it is private: then HF_TOKEN has to be set)"
        )
        return Absent(f"{host()} has no {subject}{private}")
    said = " ".join(_header(response, "x-error-message").split())[:_LONGEST_WORDS]
    return Unreachable(f"{host()} answers {status} for {subject}{f': {said}' if said else ''}; try again later")


def _header(response: Any, name: str) -> str:
    return str(response.headers.get(name, ""))


def _constants() -> Any:
    from huggingface_hub import constants

    return constants
