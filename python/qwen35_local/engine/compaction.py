"""Making room in a full context: the oldest turns go, at the boundary of a message."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from qwen35_local.chat.messages import Message
from qwen35_local.engine.generation import REPLY_TOKENS
from qwen35_local.engine.reply import Compacted, Request


def compacted(
    request: Request, count: Callable[[Request], int], context_tokens: int
) -> tuple[Request, Compacted | None]:
    """The request with as many messages as fit, where it allows fewer and has to. `count`: tokens of its prompt."""
    if request.when_full != "compact":
        return request, None
    before = count(request)
    room = min(request.max_tokens or REPLY_TOKENS, context_tokens // 4)
    if before + room <= context_tokens:
        return request, None

    def count_of(messages: Sequence[Message]) -> int:
        return count(replace(request, messages=messages))

    # Half is left free, so that the next turns do not have to do this again.
    messages, gone = shortened(request.messages, count_of, context_tokens // 2)
    if not gone:
        return request, None
    return replace(request, messages=messages), Compacted(gone, before, count_of(messages))


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
