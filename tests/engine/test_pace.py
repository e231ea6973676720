"""How replies that are being written and prompts that are read share passes, and when a first token comes."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from asking import WAIT_S, Client, alone, never_ends, request

from qwen35_local import _core
from qwen35_local.engine.cached_sequence import CachedSequence, Part, evaluate
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Told
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.pace import FIRST_ROWS, LEAST_ROWS, Pace
from qwen35_local.engine.reply import Completion, Logprobs


def test_the_pace_of_prompts() -> None:
    pace = Pace(0.75)
    assert pace.prompt_rows(512, beside_replies=False) == 512
    assert not pace.may_hold_up(1), "before anything was measured"
    pace._writing_seconds, pace._row_seconds = 0.02, 0.001
    assert pace.prompt_rows(512, beside_replies=True) == 60  # 0.06 s of prompts beside 0.02 s of replies
    assert pace.prompt_rows(40, beside_replies=True) == 40
    pace._row_seconds = 1.0
    assert pace.prompt_rows(512, beside_replies=True) == LEAST_ROWS
    assert Pace(0.0).prompt_rows(512, beside_replies=False) == 512


def test_what_replies_wait_for_prompts_counts_until_their_next_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("qwen35_local.engine.pace.time.monotonic", lambda: clock[0])
    pace = Pace(0.75)
    pace._writing_seconds, pace._row_seconds = 0.02, 0.001

    def run(seconds: float, n_writing: int, n_reading: int, *, holds_up: bool = False) -> None:
        with pace.timing(n_writing, n_reading, holds_up=holds_up):
            clock[0] += seconds

    run(0.02, 4, 0)
    assert pace.may_hold_up(59) and not pace.may_hold_up(61)
    run(0.045, 0, 45, holds_up=True)
    assert pace.may_hold_up(14) and not pace.may_hold_up(16), "no later than with a pass of 60 rows"
    assert pace.prompt_rows(512, beside_replies=True) == LEAST_ROWS
    run(0.02, 4, 0)
    assert pace.may_hold_up(59)
    run(9.0, 0, 9000)
    assert pace.may_hold_up(59), "nobody waited"
    nothing, everything = Pace(0.0), Pace(1.0)
    for each in (nothing, everything):
        each._writing_seconds, each._row_seconds = 0.02, 0.001
    assert not nothing.may_hold_up(1)
    assert everything.may_hold_up(100_000) and everything.prompt_rows(512, beside_replies=True) == 512
    with everything.timing(0, 40, holds_up=True):
        clock[0] += 0.04
    assert not everything.may_hold_up(1), "every other pass is theirs"


def test_a_row_of_prompts_is_measured_by_what_it_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("qwen35_local.engine.pace.time.monotonic", lambda: clock[0])
    pace = Pace(0.5)

    def run(seconds: float, n_writing: int, n_reading: int) -> float | None:
        with pace.timing(n_writing, n_reading) as timed:
            clock[0] += seconds
        assert timed.seconds == pytest.approx(seconds)
        return pace._row_seconds

    assert pace.prompt_rows(512, beside_replies=True) == FIRST_ROWS and pace.prompt_rows(9, beside_replies=True) == 9
    run(0.02, 4, 0)
    assert pace.prompt_rows(512, beside_replies=True) == FIRST_ROWS, "rows of prompts are not measured yet"
    assert run(0.06, 4, 40) == pytest.approx(0.001), "of a pass that replies take part in, what is beside theirs"
    assert run(0.5, 4, LEAST_ROWS - 1) == pytest.approx(0.001), "so few say nothing of many"
    assert run(0.2, 0, 40) == pytest.approx(0.001 + 0.25 * (0.005 - 0.001)), "alone, all of it"
    before = pace._row_seconds
    assert before is not None
    assert run(0.01, 4, 100) == pytest.approx(0.75 * before + 0.25 * 0.01 / 10 / 100), "never less than a tenth"


def test_when_it_is_worth_asking_again() -> None:
    pace = Pace(0.5)
    assert [pace.retry_after(ahead) for ahead in (0.2, 3, 1000)] == [1, 3, 60]
    pace.note_reply(9.0)
    assert pace.retry_after(2) == 6, "a reply took a second, and a quarter of the way to nine"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_pass_that_ends_a_prompt_is_for_prompts_alone(demo: _core.Model, share: float) -> None:
    """Where replies may be held up; they go on with the next pass, and nothing is another answer."""
    passes: list[tuple[bool, bool, bool]] = []  # whether some write, take part, and whether prompts do

    def noted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        draws = [part.sampler is not None for part in parts]
        passes.append((any(not task.is_reading for task in engine.running), any(draws), not all(draws)))
        return evaluate(model, parts)

    engine = Engine(demo, limits=Limits(parallel=3, prefill_share=share), evaluate=noted)
    long = replace(request("Tell me a short story.", max_tokens=150), sampling=never_ends(engine))
    asked = [long, request("Hello! " * 20), request("What time is it? " * 20)]
    clients = [Client() for _ in asked]
    clients[0].ask(engine, asked[0])
    for client, each in zip(clients[1:], asked[1:], strict=True):
        n_told = len(clients[0].told)
        until = time.monotonic() + WAIT_S
        while len(clients[0].told) < n_told + 20 and time.monotonic() < until:
            time.sleep(0.001)
        client.ask(engine, each)
        assert client.done.reason in ("stop", "length")
    for client, each in zip(clients, asked, strict=True):
        assert client.done.message == alone(demo, each).message
    assert ((True, False, True) in passes) == (share == 1.0)
    assert (True, True, True) in passes or share == 1.0
    held_up = [some_write and not take_part for some_write, take_part, _ in passes]
    assert not any(one and next_one for one, next_one in pairwise(held_up))


def test_a_first_token_does_not_wait_for_a_snapshot(demo: _core.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left before the next pass all the same."""
    order: list[str] = []
    checkpoint, told = CachedSequence.checkpoint, Client.__call__

    def noted_checkpoint(self: CachedSequence, label: str) -> None:
        order.append("snapshot")
        checkpoint(self, label)

    def noted_told(self: Client, what: Told) -> None:
        order.extend(["token"] * isinstance(what, Logprobs))
        told(self, what)

    monkeypatch.setattr(CachedSequence, "checkpoint", noted_checkpoint)
    monkeypatch.setattr(Client, "__call__", noted_told)
    engine = Engine(demo, limits=Limits(parallel=2))
    prompt = engine.tokenizer.encode("The capital of Italy is")
    asked = Completion(prompt, never_ends(engine), max_tokens=3, logprobs=0)
    client = Client()
    engine.submit(asked, client)
    assert client.done.reason == "length"
    assert order[:4] == ["token", "snapshot", "token", "token"]
    [entry] = engine.cache
    assert entry.keys.tolist() == prompt and entry.logits is not None
