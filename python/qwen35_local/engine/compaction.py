"""Making room in a full context: the oldest turns go, at the boundary of a message."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from qwen35_local.chat.messages import Message


def shortened(
    messages: Sequence[Message], count: Callable[[Sequence[Message]], int], target_tokens: int
) -> tuple[list[Message], tuple[Message, ...]]:
    """The conversation without its oldest turns, and those turns: as few as bring `count(messages)` to the target, and
    never the leading system message or the last thing the person said. A turn is what the person said and all that
    follows until they speak again."""
    n_system = int(bool(messages) and messages[0].role == "system")
    system, rest = list(messages[:n_system]), messages[n_system:]
    starts = [n for n, message in enumerate(rest) if message.role == "user" and n > 0]
    if not starts:
        return list(messages), ()
    fits = bisect_left(starts, True, key=lambda start: count([*system, *rest[start:]]) <= target_tokens)
    start = starts[min(fits, len(starts) - 1)]
    return [*system, *rest[start:]], tuple(rest[:start])
