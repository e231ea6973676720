"""What the model wrote, as tokens: a message that comes back as text is recognised and stands for them again."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwen35_local.chat.messages import Message
from qwen35_local.fields import OBJECT, TEXT, Fields, integer, list_of

_IDS = list_of(integer(0, (1 << 31) - 1))


@dataclass(frozen=True)
class Written:
    """A reply. `opening`: the end of the prompt, from the start of the model's turn. `tokens` [n]: what the model
    wrote, without the token that ended the turn; `text`: those tokens as text. `message`: what was made of it.
    `after`: digest of the rows before the opening."""

    message: Message
    opening: str
    tokens: tuple[int, ...]
    text: str
    after: str

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "message": self.message.to_dict(), "tokens": list(self.tokens)}

    @classmethod
    def from_dict(cls, data: Any) -> "Written":
        """Raises FormatError or InputError."""
        fields = Fields(data if isinstance(data, dict) else {}, "a kept reply: ")
        return cls(
            Message.from_dict(fields.need("message", OBJECT)),
            fields.need("opening", TEXT),
            tuple(fields.need("tokens", _IDS)),
            fields.need("text", TEXT),
            fields.need("after", TEXT),
        )


class ReplyLog:
    """The last replies, up to `limit` of them, found by what they say: the answer and the calls, and the thinking where
    it is given. Of several that say the same, the one that followed the same rows is meant, else the latest."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._replies: dict[tuple[str, str, tuple[int, ...]], Written] = {}  # oldest first
        self._by_text: dict[str, list[Written]] = {}

    def keep(self, written: Written) -> None:
        with self._lock:
            self._forget(written)
            self._by_text.setdefault(_key(written.message), []).append(written)
            self._replies[_identity(written)] = written
            while len(self._replies) > self._limit:
                self._forget(next(iter(self._replies.values())))

    def said_by(self, message: Message) -> list[Written]:
        """The replies that say what an assistant message says, latest first."""
        with self._lock:
            found = list(reversed(self._by_text.get(_key(message), ())))
        thinking = message.reasoning
        return [w for w in found if thinking is None or (w.message.reasoning or "").strip() == thinking.strip()]

    def choose(self, message: Message, before: Callable[[], str]) -> Written | None:
        """The reply that an assistant message stands for; `before` gives the digest of the rows before it."""
        candidates = self.said_by(message)
        if len(candidates) > 1:
            after = before()
            candidates.sort(key=lambda written: written.after != after)
        return candidates[0] if candidates else None

    def recognised(self, message: Message) -> Message:
        """The message with its thinking put back, where it came without any."""
        if message.role != "assistant" or message.reasoning is not None:
            return message
        found = self.said_by(message)
        return replace(message, reasoning=found[0].message.reasoning) if found else message

    def all(self) -> list[Written]:
        """Everything kept, oldest first."""
        with self._lock:
            return list(self._replies.values())

    def of(self, messages: Sequence[Message]) -> list[Written]:
        """Everything kept that the messages say, oldest first."""
        said = {_key(message) for message in messages if message.role == "assistant"}
        with self._lock:
            return [written for written in self._replies.values() if _key(written.message) in said]

    def _forget(self, written: Written) -> None:
        """In an order that an interrupt may cut anywhere."""
        known = self._replies.get(_identity(written))
        if known is None:
            return
        same = self._by_text.get(_key(known.message), [])
        if known in same:
            same.remove(known)
        if not same:
            self._by_text.pop(_key(known.message), None)
        del self._replies[_identity(written)]


def _identity(written: Written) -> tuple[str, str, tuple[int, ...]]:
    return written.after, written.opening, written.tokens


def _key(message: Message) -> str:
    return json.dumps([message.text, [[call.name, dict(call.arguments)] for call in message.tool_calls]])
