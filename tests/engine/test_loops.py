"""Replies that go round in circles are found, others are not, and what then becomes of them."""

from pathlib import Path

import numpy as np
import pytest
from test_thinking import QUESTION, THOUGHT, TOOL, Writer, asking

from qwen35_local import _core
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.engine import generation
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.loops import (
    LONGEST_PERIOD,
    STEP,
    WITH_ANSWER,
    WITH_DATA,
    WITH_THINKING,
    LoopFinder,
    Patience,
    period_of,
)
from qwen35_local.engine.reply import Completion
from qwen35_local.engine.thinking import CLOSING

QUICK = Patience(sentences=64, tokens=64, paragraphs=3)
ALL = pytest.mark.parametrize("patience", [WITH_THINKING, WITH_ANSWER, WITH_DATA])


def found_after(tokens: list[int], patience: Patience, text: str = "0") -> int | None:
    finder = LoopFinder()
    return next((n for n, token in enumerate(tokens, 1) if finder.push(token, text, patience)), None)


@ALL
@pytest.mark.parametrize("period", [1, 2, 3, 7, 31, 32, 33, 100, 200, LONGEST_PERIOD])
def test_an_exact_period_is_found_when_patience_ends(patience: Patience, period: int) -> None:
    random = np.random.default_rng(period)
    before = random.integers(0, 50_000, 500).tolist()
    unit = random.permutation(50_000)[:period].tolist()
    found = found_after(before + unit * (2 * patience.tokens // period + 2), patience)
    assert found is not None
    assert 0 <= found - (500 + period + patience.tokens) < STEP


@ALL
def test_what_ends_before_that_is_none(patience: Patience) -> None:
    for period in (1, 5, 90):
        once = [*range(1000, 1000 + period)] * (patience.tokens // period + 2)
        assert found_after([*range(500), *once[: patience.tokens - 1], *range(5000, 9000)], patience) is None


def test_a_paragraph_that_comes_now_and_then_is_none() -> None:
    finder = LoopFinder()
    same = "This option is only there for services of the system.\n\n"
    text = "".join(
        f"Option {n} is for something else than all the others.\n\n" + same * (n % 5 == 0) for n in range(99)
    )
    assert not any(finder.push(n, letter, QUICK) for n, letter in enumerate(text))
    assert any(finder.push(n, letter, QUICK) for n, letter in enumerate(same * 3))


def test_numbers_that_count_up_are_none() -> None:
    listed = [token for n in range(5000) for token in (7, 8, 100 + n // 10, 60 + n % 10, 9)]
    assert found_after(listed, WITH_THINKING) is None
    assert found_after([7, 8, 9] * 5000, WITH_THINKING) is not None


@pytest.mark.parametrize(
    ("text", "is_words"),
    [
        ("So it is. ", True),
        (" Wait, 3 + 4 is 7, so", False),
        ("Wait, let me check that again: 3 + 4 is 7. ", True),
        ("\u6211\u6709", True),
        ("0, ", False),
        ("-", False),
        ("A", False),
        ("", False),
        ('<tr><td class="empty">&nbsp;</td></tr>\n', False),
        ('{"name": "", "tags": []}, ', False),
    ],
)
def test_sentences_may_repeat_less_long_than_data(text: str, is_words: bool) -> None:
    found = found_after([7] * 6000, WITH_ANSWER, text)
    expected = WITH_ANSWER.sentences if is_words else WITH_ANSWER.tokens
    assert found is not None
    assert 0 <= found - expected - 1 < STEP


def test_a_longer_period_than_is_looked_for_is_none() -> None:
    unit = [*range(LONGEST_PERIOD + 1)]
    assert found_after(unit * 40, WITH_THINKING) is None


def test_the_shortest_period_is_told() -> None:
    assert period_of(np.array([1, 2] * 3000, np.int32), 1000) == 2
    assert period_of(np.array([1, 2] * 100, np.int32), 1000) == 0


def test_a_paragraph_that_returns() -> None:
    finder = LoopFinder()
    same = "Wait, let me look at this once more, from the start."

    def push(text: str) -> bool:
        return any(finder.push(n, piece, QUICK) for n, piece in enumerate(text.split("|")))

    assert not push(f"{same}\n|\nFirst, |one.\n\n")
    assert not push(f" {same[:20]}|{same[20:]} \n  \n")
    assert not push("Next, two.\n\n" + same)  # not over yet
    assert push("\n\n")


@pytest.mark.parametrize(
    "text",
    [
        "Short, again.\n\n" * 50,
        "one line of a paragraph that is long enough\n" * 50,
        "".join(f"The same sentence, but for its number, which is {n}.\n\n" for n in range(50)),
    ],
)
def test_paragraphs_that_are_short_open_or_different_are_none(text: str) -> None:
    finder = LoopFinder()
    assert not any(finder.push(n, letter, QUICK) for n, letter in enumerate(text))


@pytest.fixture
def engine(talker: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(generation, "WITH_THINKING", QUICK)
    monkeypatch.setattr(generation, "WITH_ANSWER", Patience(128, 128, 5))
    monkeypatch.setattr(generation, "WITH_DATA", Patience(512, 512, 0))
    return Engine(_core.Model(talker))


def test_a_thought_that_repeats_itself_is_ended_and_answered(engine: Engine) -> None:
    writer = Writer(engine, asking())
    writer.write(THOUGHT[:100] + "ab" * 55, "So it is.")
    assert writer.reply.notes == ["the thinking repeated itself"]
    assert CLOSING.rstrip() in writer.reasoning
    assert writer.generation.reason is None
    assert writer.answer.endswith("So it is.")


def test_an_answer_that_repeats_itself_is_ended(engine: Engine) -> None:
    writer = Writer(engine, asking())
    writer.write("hm", "</think>", THOUGHT[:50] + "🙂" * 200)
    assert writer.generation.reason == "loop"
    assert "�" not in writer.answer
    assert writer.reply.notes == []
    assert len(writer.reply.written) < 3 + 50 + 4 + 128 + STEP + 4


def test_thinking_and_answer_are_looked_at_apart(engine: Engine) -> None:
    writer = Writer(engine, asking())
    writer.write("ab" * 20, "</think>", "ab" * 50, "c")
    assert (writer.generation.reason, writer.reply.notes) == (None, [])


def test_data_may_repeat_itself_longer(engine: Engine) -> None:
    for options in ({"output_format": OutputFormat("json_object")}, {"tools": [TOOL]}):
        for n, reason in ((200, None), (400, "loop")):
            writer = Writer(engine, asking(**options))
            call = ("<tool_call>", "\n<function=look>\n<parameter=n>\n") if "tools" in options else ("[",)
            writer.write("hm", "</think>", *call, "0," * n)
            assert writer.generation.reason == reason


def test_a_loop_that_leaves_no_room_for_an_answer_ends_the_reply(engine: Engine) -> None:
    writer = Writer(engine, asking(max_tokens=150))
    writer.write("ab" * 200)
    assert writer.generation.reason == "loop"


def test_it_can_be_switched_off(engine: Engine) -> None:
    writer = Writer(engine, asking(breaks_loops=False, max_tokens=300, thinking_tokens=290))
    writer.write("ab" * 400)
    assert writer.reply.notes == ["the thinking was ended to leave room for the answer"]
    assert not Completion([1], Sampling()).breaks_loops
    assert asking().messages == [QUESTION]
