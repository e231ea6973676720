"""Calls from the depths of a stack: where it has no room for a step that call fails, and nobody else's reply."""

import inspect
import sys
from collections.abc import Callable
from typing import TypeVar

import pytest
from asking import alone, request

from qwen35_local import _core
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.reply import Done
from qwen35_local.engine.stack import check_room

T = TypeVar("T")
ROOMS = range(16, 100, 2)


def with_room(calls: int, do: Callable[[], T]) -> T:
    """Does it where about so many calls inside one another are left."""

    def deeper(n: int) -> T:
        return deeper(n - 1) if n else do()

    return deeper(sys.getrecursionlimit() - len(inspect.stack(0)) - calls)


def test_room_is_what_is_left() -> None:
    with_room(200, lambda: check_room(150))
    with pytest.raises(RecursionError):
        with_room(200, lambda: check_room(250))


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_reply_that_is_dropped_deep_in_a_stack_harms_no_other(demo: _core.Model) -> None:
    asked = request("Hello!", 1)
    expected = alone(demo, asked)
    engine = Engine(demo, limits=Limits(parallel=2))
    for room in ROOMS:
        unread, other = engine.reply(request("Tell me a short story.")), engine.reply(asked)
        next(other)
        next(unread)
        held = [unread]
        del unread
        with_room(room, held.clear)
        *_, done = other
        assert isinstance(done, Done) and done.message == expected.message
        assert engine.running == []


def test_a_call_deep_in_a_stack_fails_alone(demo: _core.Model) -> None:
    asked, deep = request("Hello!", 1), request("Tell me a short story.")
    expected, expected_deep = alone(demo, asked), alone(demo, deep)
    engine = Engine(demo, limits=Limits(parallel=2))
    for room in ROOMS:
        other, one = engine.reply(asked), engine.reply(deep)
        next(other)
        next(one)
        with pytest.raises(RecursionError):
            with_room(room, lambda one=one: list(one))  # type: ignore[misc]
        *_, done = other
        assert isinstance(done, Done) and done.message == expected.message
        *_, again = engine.reply(deep)
        assert isinstance(again, Done) and again.message == expected_deep.message
