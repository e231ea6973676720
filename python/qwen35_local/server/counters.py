"""What the server has done since it started."""

from collections import Counter
from dataclasses import dataclass, field

from qwen35_local.engine.reply import Usage


@dataclass
class Counters:
    """Changed on the event loop's thread only. `replies`: Dones by their reason."""

    requests: Counter[int] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)
    disconnects: int = 0
    slow_readers: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    seconds: float = 0.0

    def count_reply(self, reason: str, usage: Usage) -> None:
        self.replies[reason] += 1
        self.prompt_tokens += usage.prompt_tokens
        self.reused_tokens += usage.reused_tokens
        self.generated_tokens += usage.generated_tokens
        self.drafted_tokens += usage.drafted_tokens
        self.accepted_tokens += usage.accepted_tokens
        self.seconds += usage.seconds
