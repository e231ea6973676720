"""Requests with a wrong parameter, of every dialect, while others write replies that have to stay what they are."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.load.dialects import DIALECTS
from tests.load.mixed import Key
from tests.load.program import Program
from tests.load.report import Report
from tests.load.wire import Connection

Case = tuple[str, Any]
"""Path and body."""


def all_cases() -> list[Case]:
    """Those that the tests of each dialect name."""
    from tests.server.test_dialect_parameters import CASES
    from tests.server.test_openai_refusals import CASES as OF_OPENAI
    from tests.server.test_openai_refusals import NEEDED

    others = [(path, NEEDED[path] | {key: value}) for path, key, value in OF_OPENAI]
    return [*((path, body) for path, body, _ in CASES), *others]


async def refusals(program: Program, cases: Sequence[Case], expected: Mapping[Key, str], canaries: int) -> Report:
    report, over = Report(), asyncio.Event()
    watching = [asyncio.create_task(_canary(program, n, expected, over, report)) for n in range(canaries)]
    numbers = iter(range(len(cases)))
    await asyncio.gather(*(_client(program, cases, numbers, report) for _ in range(8)))
    over.set()
    await asyncio.gather(*watching)
    report.expect(report.counts["replies beside them"] > 0, "no reply was written meanwhile")
    return report


async def _client(program: Program, cases: Sequence[Case], numbers: Iterator[int], report: Report) -> None:
    async with Connection(program.port) as connection:
        for number in numbers:
            path, body = cases[number]
            answer = await connection.post(path, body)
            report.counts["wrong parameters"] += 1
            is_refused = answer.status == 400 and bool(answer.json().get("error"))
            report.counts["refused"] += is_refused
            report.expect(is_refused, f"{path} {body!r:.200}: {answer.status} {answer.body[:200]!r}")


async def _canary(program: Program, n: int, expected: Mapping[Key, str], over: asyncio.Event, report: Report) -> None:
    dialect = DIALECTS[("chat", "anthropic", "ollama", "responses")[n % 4]]
    chats = [question for question, is_chat in expected if is_chat]
    async with Connection(program.port) as connection:
        while not over.is_set():
            question = chats[n % len(chats)]
            answer = await connection.post(dialect.path, dialect.body(question, True))
            text = dialect.read(answer.body, True)[0]
            wanted = expected[question, True]
            report.counts["replies beside them"] += 1
            report.expect(text == wanted, f"{question}: {text!r}, alone {wanted!r}")
            n += 1
