"""Why a reply ended, for the person who reads it, and what to do about a context that is full."""

from collections.abc import Iterator
from contextlib import contextmanager

from qwen35_local.engine.reply import ContextFull, Done, Reason, WhenFull
from qwen35_local.errors import InputError

EXPLANATIONS: dict[Reason, str] = {
    "stop": "the model ended its turn",
    "tool_calls": "the model called a tool",
    "length": "the reply reached its token limit",
    "context": "the context is full",
    "cancelled": "interrupted",
    "loop": "the reply repeated itself; --no-break-loops lets it go on",
}


def explanation(done: Done, when_full: WhenFull) -> str:
    if done.stop_string is not None:
        return f"the stop string {done.stop_string!r} came"
    advice = f"; {make_room(when_full)}" if done.reason == "context" else ""
    return EXPLANATIONS[done.reason] + advice


def make_room(when_full: WhenFull) -> str:
    """What to do about a full context."""
    return "/clear, or start again with a larger --ctx" + (" or --when-full compact" if when_full == "stop" else "")


@contextmanager
def advising(when_full: WhenFull) -> Iterator[None]:
    """Says what to type about a conversation that does not fit."""
    try:
        yield
    except ContextFull as error:
        raise InputError(f"{error.lengths}; {make_room(when_full)}") from None
