"""What a server has read, in a folder, so that conversations go on after its next start without being read again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qwen35_local.engine.engine import Engine
from qwen35_local.engine.face import Face
from qwen35_local.engine.reply_log import Written
from qwen35_local.engine.store import load, read_json, save, write_json
from qwen35_local.errors import FormatError, InputError
from qwen35_local.fields import ANY_LIST, Fields

_REPLIES = "replies.json"


@contextmanager
def kept(engine: Face, folder: Path | None, say: Callable[[str], None]) -> Iterator[None]:
    """Around serving, with a model of this machine and a folder: takes up what is there, and at the end writes it."""
    if folder is None or not isinstance(engine, Engine):
        yield
        return
    reason = take(engine, folder)
    if reason is not None:
        say(f"what an earlier server had read is not used: {reason}")
    yield
    try:
        keep(engine, folder)
    except OSError as error:
        say(f"what was read is not kept: {error.filename}: {error.strerror}")


def keep(engine: Engine, folder: Path) -> None:
    """Writes the snapshots that are in memory, and the tokens of the replies. Raises OSError."""
    if engine.has_failed:
        return  # there is nothing to read from the device
    save(folder, engine.parked(), engine.identity, engine.kv)
    write_json(folder / _REPLIES, {"replies": [written.to_dict() for written in engine.reply_log.all()]})


def take(engine: Engine, folder: Path) -> str | None:
    """Takes up what an earlier server kept. Returns why it cannot be used; None also when there is nothing."""
    try:
        content = read_json(folder / _REPLIES)
        fields = Fields(content if isinstance(content, dict) else {}, f"{folder / _REPLIES}: ")
        written = [Written.from_dict(reply) for reply in fields.need("replies", ANY_LIST)]
        load(folder, engine.cache, engine.model, engine.identity, engine.kv)
    except FileNotFoundError:
        return None
    except (OSError, FormatError, InputError) as error:
        return str(error)
    engine.remember(written)
    return None
