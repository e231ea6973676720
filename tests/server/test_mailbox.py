"""What is told on the way to a client, and what is counted and written down of it."""

import asyncio
import threading

from qwen35_local.engine.reply import Usage
from qwen35_local.server.counters import Counters
from qwen35_local.server.log import Log, Record
from qwen35_local.server.mailbox import Mailbox


def test_everything_arrives_in_order_from_any_thread() -> None:
    async def run() -> list[int]:
        box = Mailbox[int](1000, lambda: None)
        teller = threading.Thread(target=lambda: [box.put(n) for n in range(500)])
        teller.start()
        taken: list[int] = []
        while len(taken) < 500:
            taken += await box.take(10)
        teller.join()
        assert await box.take(0.001) == []
        return taken

    assert asyncio.run(run()) == [*range(500)]


def test_beyond_its_bound_nothing_is_kept_and_that_is_told_once() -> None:
    async def run() -> None:
        told: list[str] = []
        box = Mailbox[int](2, lambda: told.append("full"))
        box.put(1)
        box.put(2)
        assert told == [] and not box.has_overflowed
        box.put(3)
        box.put(4)
        assert told == ["full"] and box.has_overflowed
        assert await box.take(10) == [1, 2]
        box.put(5)
        assert await box.take(0.001) == [] and told == ["full"]

    asyncio.run(run())


def test_whoever_waits_is_woken_each_time() -> None:
    async def run() -> None:
        box = Mailbox[int](2, lambda: None)
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, box.wake)
        assert await asyncio.wait_for(box.take(60), 10) == []
        for n in range(3):
            loop.call_later(0.01, box.put, n)
            assert await asyncio.wait_for(box.take(60), 10) == [n]

    asyncio.run(run())


def test_replies_are_counted_by_their_reason() -> None:
    counters = Counters()
    counters.count_reply("stop", Usage(10, 4, 6, 20, 0, 1.0, 3.0, 9, 12, 8))
    counters.count_reply("stop", Usage(1, 0, 1, 2, 0, 1.0, 0.5, 1, 3, 1))
    counters.count_reply("cancelled", Usage())
    assert counters.replies == {"stop": 2, "cancelled": 1}
    assert (counters.prompt_tokens, counters.reused_tokens, counters.generated_tokens) == (11, 4, 22)
    assert (counters.drafted_tokens, counters.accepted_tokens, counters.seconds) == (15, 9, 3.5)


def test_the_log_holds_no_control_characters() -> None:
    lines: list[str] = []
    log = Log(lines.append)
    log.write("a\x1b[2J\r\nb\x7fé\u2028" + "x" * 2000)
    assert lines[0].startswith("a\\x1b[2J\\x0d\\x0ab\\x7f\\xe9\\x2028xxx") and len(lines[0]) == 1000
    line = Record(
        "local", "GET", "/" + "p" * 300, prompt_tokens=9, reused_tokens=4, generated_tokens=2, note="n"
    ).line()
    assert f" local GET /{'p' * 199} - 9/4/2 tokens " in line and line.endswith(" s (n)")
