"""What every dialect uses: the engine, its name, limits, counters, and what is running."""

import re
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from qwen35_local import __version__, _core
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.engine.face import Face
from qwen35_local.errors import InputError
from qwen35_local.server.counters import Counters
from qwen35_local.server.errors import RETRY_SECONDS, Refused, bad
from qwen35_local.server.limits import Limits
from qwen35_local.server.log import Log

_MOST_NOTES = 1_000
_PLACE = re.compile(r"\[\d+\]")


@cache
def _build() -> str:
    """Digest of the compiled core."""
    return sha256(Path(_core.__file__).read_bytes()).hexdigest()


class Running(Protocol):
    """An exchange that can be ended, or be told to think no longer, from outside."""

    @property
    def id(self) -> str: ...
    def end(self, refused: Refused) -> None: ...
    def answer_now(self) -> None: ...


class Service:
    """One engine for all. `name`: what clients see as the model."""

    def __init__(
        self,
        engine: Face,
        name: str,
        limits: Limits,
        log: Log,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self.name = name
        self.limits = limits
        self.log = log
        self.clock = clock
        self.started_at = int(clock())
        self.counters = Counters()
        self.running: set[Running] = set()
        self.is_closing = False
        self.receiving_bytes = 0
        self._noted: set[str] = set()

    @property
    def slots(self) -> int:
        """Replies that are written side by side, at most."""
        return self.engine.limits.parallel

    @property
    def fingerprint(self) -> str:
        """The same one and the same seed give the same text: model, format of keys and values, device and build."""
        engine = self.engine
        parts = (engine.identity, engine.kv, engine.model.device, __version__, _build())
        return "fp_" + sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]

    def recover(self) -> None:
        """Before anything is read of an engine whose device may have failed. Raises Refused."""
        try:
            self.engine.recover()
        except Exception as error:
            reason = f"the model could not be loaded again: {error}"
            raise Refused(503, reason, code="device_error", retry_after=RETRY_SECONDS) from error

    def checked(self, wanted: OutputFormat, where: str) -> OutputFormat:
        """A form of an answer that can be followed. Raises Refused naming `where`, the field that asks for it."""
        try:
            self.engine.forms.check(wanted)
        except InputError as error:
            raise bad(where, str(error).replace("output_format", where, 1)) from error
        return wanted

    def note_fault(self, error: Exception) -> None:
        """A line of the log for an error of this program: what it was and where, since its words may be a request's.
        Development mode (`python -X dev`) shows all of it."""
        cause = error.__cause__ or error
        places = [f" in {Path(at.filename).name}, line {at.lineno}" for at in traceback.extract_tb(cause.__traceback__)]
        self.log.write(f"an error of this program: {type(cause).__name__}{''.join(places[-1:])}")
        if sys.flags.dev_mode:
            traceback.print_exception(cause)

    def note_unknown(self, path: str, names: list[str]) -> None:
        """Says once for each field of a request that it is not known, and so has no effect; of a list, of its entries
        together."""
        for name in dict.fromkeys(_PLACE.sub("[]", name) for name in names):
            self.note_once(f"{path}: the field {name[:100]!a} is not known and has no effect")

    def note_once(self, text: str) -> None:
        """A line of the log that is not written a second time."""
        if text not in self._noted and len(self._noted) < _MOST_NOTES:
            self._noted.add(text)
            self.log.write(text)
