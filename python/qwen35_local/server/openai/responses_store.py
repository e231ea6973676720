"""Responses that a later request may go on from, in memory."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from qwen35_local.chat.messages import Message
from qwen35_local.server.json_text import encoded

_BYTES = 256 << 20
_COUNT = 1_000


@dataclass(frozen=True)
class Kept:
    """A response as it was told, what it was given, and the conversation [n] up to its reply, without instructions."""

    body: dict[str, Any]
    items: list[Any]
    messages: tuple[Message, ...]
    size: int


class ResponseStore:
    """The newest responses; those used last go last. From any thread."""

    def __init__(self, most_bytes: int = _BYTES, most: int = _COUNT) -> None:
        self._most_bytes = most_bytes
        self._most = most
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._items: dict[str, dict[str, Any]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, body: dict[str, Any], items: list[Any], messages: tuple[Message, ...], size: int) -> None:
        """`size`: bytes of the conversation before this response; what it shares with others counts for each."""
        kept = Kept(body, items, messages, size + len(encoded([body, items])))
        with self._lock:
            self._kept[body["id"]] = kept
            self._items |= {item["id"]: item for item in body["output"]}
            self._bytes += kept.size
            while self._kept and (len(self._kept) > self._most or self._bytes > self._most_bytes):
                self._drop(next(iter(self._kept)))

    def find(self, identifier: str) -> Kept | None:
        with self._lock:
            if identifier in self._kept:
                self._kept.move_to_end(identifier)
            return self._kept.get(identifier)

    def item(self, identifier: str) -> dict[str, Any] | None:
        """Of the output of a response that is kept."""
        with self._lock:
            return self._items.get(identifier)

    def forget(self, identifier: str) -> bool:
        """Whether it was there."""
        with self._lock:
            is_there = identifier in self._kept
            if is_there:
                self._drop(identifier)
            return is_there

    def _drop(self, identifier: str) -> None:
        kept = self._kept.pop(identifier)
        self._bytes -= kept.size
        for item in kept.body["output"]:
            self._items.pop(item["id"], None)
