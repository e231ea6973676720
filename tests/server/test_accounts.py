"""What an exchange adds up, without a socket: replies in order, tokens once, and bytes that are being received."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from qwen35_local.chat.messages import Message
from qwen35_local.engine.reply import Done, Usage
from qwen35_local.errors import Busy
from qwen35_local.server.counters import Counters
from qwen35_local.server.errors import Refused, refusal
from qwen35_local.server.exchange import Exchange
from qwen35_local.server.limits import Limits
from qwen35_local.server.log import Record
from qwen35_local.server.wire import Gone, Writer, read_body


def done(choice: int, generated: int, prompt: int = 10) -> Done:
    return Done("stop", Message("assistant", "Hi"), Usage(prompt, prompt - 3, 3, generated), choice=choice)


def exchange(*counts: int) -> tuple[Any, list[list[Done]]]:
    """One that asks for prompts with so many replies each; and what is written of them."""
    service = SimpleNamespace(limits=Limits(), counters=Counters())
    written: list[list[Done]] = []

    def whole(replies: list[Done]) -> bytes:
        written.append(replies)
        return b"{}"

    async def write(status: int, body: bytes) -> None:
        assert (status, body) == (200, b"{}")

    asked = SimpleNamespace(requests=[SimpleNamespace(n=n) for n in counts], encoder=SimpleNamespace(whole=whole))
    made: Any = Exchange(service, asked, Record("local", "POST", "/"), SimpleNamespace(whole=write))  # type: ignore[arg-type]
    return made, written


def test_replies_are_written_in_the_order_of_their_choice() -> None:
    async def run() -> list[int]:
        made, written = exchange(2, 1)
        for choice in (2, 0, 1):
            made._mailbox.put(done(choice, 5))
        await made._whole()
        return [reply.choice for reply in written[0]]

    assert asyncio.run(run()) == [0, 1, 2]


def test_a_prompt_of_several_replies_counts_once_and_before_the_answer_is_written() -> None:
    async def run() -> Any:
        made, _ = exchange(2, 3)
        for reply in (done(1, 6), done(0, 5), done(2, 1, 20), done(4, 2, 20)):  # one does not end
            made._mailbox.put(reply)
        await made._take(1)
        return made

    made = asyncio.run(run())
    for counted in (made._service.counters, made._record):
        assert (counted.prompt_tokens, counted.reused_tokens, counted.generated_tokens) == (30, 24, 14)
    assert made._service.counters.replies == {"stop": 4}


@pytest.mark.parametrize(
    ("pieces", "raised"),
    [
        ([b"12", b"345"], None),
        ([b"12345678", b"9"], "larger than"),
        ([b"123456", b"78"], "too much is being received at once"),
        ([b"12", None], "gone"),
    ],
)
def test_what_is_received_is_counted_until_it_is_read(pieces: list[bytes | None], raised: str | None) -> None:
    limits = Limits(body_bytes=8, all_bodies_bytes=100 if raised == "larger than" else 107)
    service: Any = SimpleNamespace(limits=limits, receiving_bytes=0 if raised == "larger than" else 100)
    before, coming = service.receiving_bytes, list(pieces)

    async def receive() -> dict[str, Any]:
        piece = coming.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(coming)}

    def read() -> bytes:
        return asyncio.run(read_body({"headers": []}, receive, service))  # type: ignore[arg-type]

    if raised is None:
        assert read() == b"12345"
    elif raised == "gone":
        with pytest.raises(Gone):
            read()
    else:
        with pytest.raises(Refused, match=raised):
            read()
    assert service.receiving_bytes == before


def test_who_is_refused_is_told_when_to_come_again() -> None:
    refused = refusal(Busy("64 replies are waiting.", 17))
    assert (refused.status, refused.code, refused.retry_after) == (429, "rate_limit_exceeded", 17)


def test_who_reads_nothing_is_cut_off() -> None:
    aborted: list[bool] = []

    async def send(message: object) -> None:
        await asyncio.sleep(10)

    scope = {"state": {"connection": SimpleNamespace(abort=lambda: aborted.append(True))}}
    with pytest.raises(Gone):
        asyncio.run(Writer(scope, send, Limits(stall_seconds=0.01)).write(b"x"))
    assert aborted == [True]
