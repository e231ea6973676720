"""A card's context belongs to a thread of the host: whatever thread asks for something gets it."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest

from qwen35_local import Model, Sampling, _core, hub
from qwen35_local.chat.messages import Message
from qwen35_local.engine.reply import Done, Request

pytestmark = pytest.mark.skipif(
    _core.devices()["cuda"] is not None, reason=f"no CUDA device: {_core.devices()['cuda']}"
)
T = TypeVar("T")


def on_a_new_thread(do: Callable[[], T]) -> T:
    found: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(do())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def spoken(core: _core.Model, run: Callable[[Callable[[], Any]], Any]) -> list[Any]:
    """What every call of a sequence comes to, each called by `run`."""
    sequence = run(lambda: _core.Sequence(core, kv="q4"))
    found = [run(lambda: sequence.append(list(range(300)))), run(lambda: sequence.append([7]))]
    snapshot = run(sequence.snapshot)
    found.append(run(lambda: core.draft([(sequence, 7, 3)])))
    found.append(run(lambda: sequence.append([8, 9])))
    run(lambda: sequence.restore(snapshot))
    fork = run(sequence.fork)
    found += [run(lambda: fork.append([8])), run(lambda: sequence.append([8, 9]))]
    run(lambda: sequence.truncate(0))
    found.append(run(lambda: sequence.append([1])))
    return found


def test_any_thread_goes_on_where_another_one_was(tiny: Callable[..., Any]) -> None:
    core = _core.Model(tiny(mtp=True).path, device="cuda", drafts=4)
    for one, other in zip(spoken(core, lambda do: do()), spoken(core, on_a_new_thread), strict=True):
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def test_a_conversation_is_read_once_whatever_thread_reads_it() -> None:
    """Reading ahead, and what follows, are each done by a thread of its own."""
    with Model.from_file(hub.embedded_model(), context_tokens=1024, device="cuda") as model:
        engine = model._engine
        messages = [Message("user", "Hello! My name is Ann.")]
        for question in ("What is 27 + 45?", "What is my name?"):
            request = Request(messages, Sampling(temperature=0), keep_thinking=True, max_tokens=60)
            *_, done = on_a_new_thread(lambda request=request: list(engine.reply(request)))  # type: ignore[misc]
            assert isinstance(done, Done)
            on_a_new_thread(lambda request=request, done=done: engine.prefill_ahead(request, done.message))  # type: ignore[misc]
            on_a_new_thread(engine.finish_idle)
            assert engine._scheduler.idle_failure is None and not engine.has_failed
            messages = [*messages, done.message, Message("user", question)]
        *_, done = engine.reply(Request(messages, Sampling(temperature=0), keep_thinking=True, max_tokens=60))
        assert isinstance(done, Done) and "Ann" in done.message.text
        assert done.usage.evaluated_tokens < 30 < done.usage.reused_tokens
