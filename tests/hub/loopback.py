"""A model hub on this machine, with the faults that hubs and networks have: what huggingface.co answers, as far as
downloads go (huggingface_hub, `hf_api.py` and `file_download.py`)."""

import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LoopbackHub:
    """Repositories of files in memory. Large files (`lfs`) are sent by a second server, behind a redirect.

    Faults: `statuses[path]` is a list of (status, headers) that are answered first; `cuts[path]` of byte counts after
    which a connection ends; the rest are switches. `requests` keeps (path, headers), `sent` counts bytes of files."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.small: set[str] = set()  # files that git keeps itself
        self.listing_changes: dict[str, dict[str, Any]] = defaultdict(dict)  # of a file's entry in the listing
        self.listings: dict[str, bytes] = {}  # whole answers, instead of the right ones
        self.tokens: dict[str, str] = {}  # repository -> the token that it asks for
        self.statuses: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
        self.cuts: dict[str, list[int]] = defaultdict(list)
        self.lengths: dict[str, int] = {}  # of files whose content goes on with zeros
        self.has_ranges = True
        self.content_changes: dict[str, bytes] = {}  # what is sent instead, under the right headers
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        self.commit = COMMIT  # that the hub has now; older ones stay to be had
        self.endpoint = ""
        self.storage = ""

    def add(self, repository: str, files: dict[str, bytes]) -> None:
        self.repositories.setdefault(repository, {}).update(files)

    def listing(self, repository: str) -> bytes:
        if repository in self.listings:
            return self.listings[repository]
        siblings = []
        for path, content in self.repositories[repository].items():
            length = self.lengths.get(path, len(content))
            entry: dict[str, Any] = {"rfilename": path, "size": length, "blobId": git_sha1(content)}
            if path not in self.small:
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": length, "pointerSize": 134}
            siblings.append(entry | self.listing_changes[path])
        return json.dumps({"id": repository, "sha": self.commit, "siblings": siblings}).encode()

    @contextmanager
    def serving(self) -> Iterator["LoopbackHub"]:
        servers = [QuietServer(("127.0.0.1", 0), handler(self, kind)) for kind in ("hub", "storage")]
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
        for server in servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield self
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has enough hangs up."""


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    kind: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((f"{self.kind}:{path}", {key.lower(): value for key, value in self.headers.items()}))
        if self.hub.statuses[path]:
            status, headers = self.hub.statuses[path].pop(0)
            self.answer(status, headers)
        elif self.kind == "storage":
            self.send_file(path)
        elif path.startswith("/api/models/"):
            self.send_listing(path.removeprefix("/api/models/"))
        else:
            self.resolve(path)

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def may_see(self, repository: str) -> bool:
        wanted = self.hub.tokens.get(repository)
        return wanted is None or self.headers.get("Authorization") == f"Bearer {wanted}"

    def send_listing(self, repository: str) -> None:
        if not self.may_see(repository) or (repository not in self.hub.repositories | self.hub.listings):
            self.answer(401, {"X-Error-Message": "Invalid username or password."})  # also of what is not there
        else:
            self.answer(200, {"Content-Type": "application/json"}, self.hub.listing(repository))

    def resolve(self, path: str) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if found is None or found[1] not in self.hub.repositories or not self.may_see(found[1]):
            self.answer(401, {"X-Error-Code": "RepoNotFound"})
        elif found[2] not in (COMMIT, self.hub.commit) or found[3] not in self.hub.repositories[found[1]]:
            self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        elif found[3] in self.hub.small:
            self.send_file(f"/{found[1]}/{found[3]}")
        else:
            content = self.hub.repositories[found[1]][found[3]]
            headers = {
                "X-Repo-Commit": found[2],
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(self.hub.lengths.get(found[3], len(content))),
                "Location": f"{self.hub.storage}/{found[1]}/{found[3]}",
            }
            self.answer(302, headers)

    def send_file(self, path: str) -> None:
        repository, name = re.fullmatch(r"/([^/]+/[^/]+)/(.+)", path).groups()  # type: ignore[union-attr]
        content = self.hub.content_changes.get(name, self.hub.repositories[repository][name])
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.hub.has_ranges else None
        first = int(span[1]) if span else 0
        length = self.hub.lengths.get(name, len(content))
        end = min(int(span[2]) + 1, length) if span and span[2] else length
        if span and first >= length:
            self.answer(416, {"Content-Range": f"bytes */{length}"})
            return
        headers = {"ETag": f'"{git_sha1(content)}"' if name in self.hub.small else '"storage"'}
        if span:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{length}"
        body = content[first:end].ljust(end - first, b"\0")
        cut = self.hub.cuts[name].pop(0) if self.hub.cuts[name] else len(body)
        self.send_response(206 if span else 200)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.hub.sent += len(body[:cut])
        self.wfile.write(body[:cut])
        if cut < len(body):
            self.close_connection = True


def handler(hub: LoopbackHub, kind: str) -> type[BaseHTTPRequestHandler]:
    return type(kind, (Handler,), {"hub": hub, "kind": kind})
