"""The log: one line a request, without a word of what was said."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_UNSAFE = re.compile(r"[^\x20-\x7e]")


@dataclass
class Record:
    """A request as the log tells it. `agent`: what the client calls itself. Tokens: of the prompts, of those how many
    were reused, and generated."""

    client: str
    method: str
    path: str
    agent: str = ""
    status: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    note: str = ""
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        parts = [time.strftime("%Y-%m-%dT%H:%M:%S"), self.client, self.method, self.path[:200], str(self.status or "-")]
        if self.prompt_tokens:
            parts.append(f"{self.prompt_tokens}/{self.reused_tokens}/{self.generated_tokens} tokens")
        parts.append(f"{time.monotonic() - self.started:.3f} s")
        return " ".join(parts) + (f" ({self.note})" if self.note else "")


class Log:
    """Writes lines, control characters and whatever is not ASCII as escapes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def write(self, text: str) -> None:
        self._write(_UNSAFE.sub(lambda match: f"\\x{ord(match.group()):02x}", text)[:1000])
