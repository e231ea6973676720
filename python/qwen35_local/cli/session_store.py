"""The saved conversations of this person: a folder each, with what was said and what the model remembers of it."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from qwen35_local.cli.session import Session
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply_log import Written
from qwen35_local.engine.store import STATE, load, read_json, save, write_json
from qwen35_local.errors import DeviceError, FormatError, InputError
from qwen35_local.fields import ANY_LIST, Fields
from qwen35_local.models.kv import KvFormat
from qwen35_local.models.memory import KV_FORMATS
from qwen35_local.partial_file import remove_stale

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,63}")
_CONVERSATION = "conversation.json"


@dataclass(frozen=True)
class Saved:
    """One saved conversation. `title`: its first question; `changed`: seconds since the epoch."""

    name: str
    changed: float
    title: str
    n_messages: int


class SessionStore:
    """`conversation.json` holds what was said, with the tokens of the replies, and is written after every reply; the
    snapshots beside it are written when the conversation is left."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def tidy(self) -> None:
        """Removes what killed programs began to write."""
        for folder in self.root.glob("*/"):
            remove_stale(folder)

    def keep(self, session: Session) -> None:
        """Writes what was said. Raises OSError."""
        folder = self._folder(session.name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        said = [message for messages in (session.messages, *session.others.values()) for message in messages]
        replies = [written.to_dict() for written in session.engine.reply_log.of(said)]
        write_json(folder / _CONVERSATION, {**session.to_dict(), "replies": replies})

    def keep_state(self, session: Session) -> None:
        """Writes the snapshots that the branches of a conversation go on from. Raises OSError, DeviceError."""
        engine = session.engine
        if not isinstance(engine, Engine):
            return  # what was read is elsewhere
        if engine.has_failed:
            raise DeviceError("the device failed; there is nothing to read from it")
        engine.close()
        entries = engine.checkpoints([session.request(messages) for messages in session.branches.values() if messages])
        save(self._folder(session.name), entries, engine.identity, engine.kv)

    def take(self, session: Session, name: str) -> str | None:
        """Makes `session` the saved one of this name. Returns why it has to be evaluated again, None when it does
        not. Raises InputError or FormatError when there is none, or it is damaged; nothing changes then."""
        folder = self._folder(name)
        try:
            content = read_json(folder / _CONVERSATION)
        except OSError as error:
            raise InputError(f"no saved conversation {name!r} ({error.strerror}); /sessions lists them") from None
        fields = Fields(content if isinstance(content, dict) else {})
        try:
            written = [Written.from_dict(reply) for reply in fields.need("replies", ANY_LIST)]
        except (InputError, FormatError) as error:
            raise FormatError(f"{folder / _CONVERSATION}: {error}") from None
        session.take(content, str(folder / _CONVERSATION))
        session.name = name
        engine = session.engine
        if not isinstance(engine, Engine):
            return None
        engine.remember(written)
        engine.close()
        try:
            load(folder, engine.cache, engine.model, engine.identity, engine.kv)
        except FileNotFoundError:
            return "the last session did not exit cleanly"
        except (OSError, FormatError) as error:
            return str(error)
        return None

    def kv_format(self, name: str) -> KvFormat | None:
        """How the snapshots of a saved conversation keep keys and values; None where there are none."""
        try:
            kv = read_json(self._folder(name) / STATE)["kv"]
        except (OSError, FormatError, KeyError, TypeError):
            return None
        return next((known for known in KV_FORMATS if known == kv), None)

    def has(self, name: str) -> bool:
        """Whether something was kept under this name."""
        return (self._folder(name) / _CONVERSATION).exists()

    def all(self) -> list[Saved]:
        """What is there, newest first; damaged ones are left out."""
        found = []
        for path in self.root.glob(f"*/{_CONVERSATION}"):
            try:
                content = read_json(path)
                questions = [m for m in content["messages"] if m["role"] == "user"]
                title = str(questions[0]["content"]) if questions else ""
                found.append(Saved(path.parent.name, path.stat().st_mtime, title, len(content["messages"])))
            except (OSError, FormatError, KeyError, TypeError):
                continue
        return sorted(found, key=lambda saved: saved.changed, reverse=True)

    def newest(self) -> str:
        """The name of the conversation that was changed last. Raises InputError when there is none."""
        saved = self.all()
        if not saved:
            raise InputError("there is no conversation to continue; start one without --continue")
        return saved[0].name

    def new_name(self) -> str:
        """The date and time, and a number where that is taken."""
        name = time.strftime("%Y-%m-%d-%H%M%S")
        taken = (name, *(f"{name}-{n}" for n in range(2, 1000)))
        return next(candidate for candidate in taken if not (self.root / candidate).exists())

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InputError(f"a conversation cannot be called {name!r}; letters, digits, '.', '-' and '_', up to 64")
        return self.root / name


def age(saved: Saved, now: float) -> str:
    """How long ago it was last changed, roughly."""
    seconds = max(now - saved.changed, 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return "now"
