"""Conversations with a code each, many at a time: each is told its own code and nobody else's, as alone."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from qwen35_local import Model

from tests.load.dialects import DIALECTS, Question, alone
from tests.load.program import CONTEXT_TOKENS, Program
from tests.load.report import Report
from tests.load.wire import Connection

FIRST_CODE = 10_000
MAX_TOKENS = 16
MOST_ALONE = 500  # since a lone run takes as long as the other


@dataclass(frozen=True)
class Talk:
    """Two turns about a code, and what a lone run answers to the second; None: not asked."""

    code: str
    question: Question
    expected: str | None


def talks(n: int) -> list[Talk]:
    codes = Random(3).sample(range(FIRST_CODE, 10 * FIRST_CODE), n)
    with Model.from_file(context_tokens=CONTEXT_TOKENS, threads=1) as model:
        return [
            _talk(model, str(code), seed, is_asked=seed % (1 + n // MOST_ALONE) == 0) for seed, code in enumerate(codes)
        ]


def _talk(model: Model, code: str, seed: int, *, is_asked: bool) -> Talk:
    said = (f"Remember this code: {code}.", f"I will remember the code {code}.", "What is my code?")
    question = Question(said, seed, MAX_TOKENS)
    return Talk(code, question, alone(model, question) if is_asked else None)


async def codewords(program: Program, told: Sequence[Talk], clients: int) -> Report:
    """Whoever was not told the own code is compared with a lone run in the end, since the model errs too."""
    report, numbers = Report(), iter(range(len(told)))
    codes = {talk.code for talk in told}
    unsure: list[tuple[Talk, str]] = []
    await asyncio.gather(*(_client(program, told, codes, numbers, report, unsure) for _ in range(clients)))
    if unsure:
        with Model.from_file(context_tokens=CONTEXT_TOKENS, threads=1) as model:
            for talk, text in unsure:
                report.counts["compared with a lone run"] += 1
                expected = alone(model, talk.question)
                report.expect(text == expected, f"{talk.question}: {text!r}, alone {expected!r}")
    return report


async def _client(
    program: Program,
    told: Sequence[Talk],
    codes: set[str],
    numbers: Iterator[int],
    report: Report,
    unsure: list[tuple[Talk, str]],
) -> None:
    async with Connection(program.port) as connection:
        for number in numbers:
            talk, streams = told[number], number % 2 == 0
            dialect = DIALECTS[("chat", "responses", "anthropic", "ollama")[number % 4]]
            for turns in (talk.question.turns[:1], talk.question.turns):
                question = Question(turns, talk.question.seed, MAX_TOKENS)
                answer = await connection.post(dialect.path, dialect.body(question, streams))
                text = dialect.read(answer.body, streams)[0]
                foreign = (set(re.findall(r"\d+", text)) & codes) - {talk.code}
                report.expect(not foreign or text == talk.expected, f"{talk.code} was told {foreign}: {text!r}")
            report.counts["conversations"] += 1
            report.counts["with their own code"] += talk.code in text
            if talk.code not in text and talk.expected is None:
                unsure.append((talk, text))
            if talk.expected is not None:
                report.counts["compared with a lone run"] += 1
                report.expect(text == talk.expected, f"{talk.question}: {text!r}, alone {talk.expected!r}")
