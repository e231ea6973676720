"""Whether a reply goes round in circles: the same tokens again and again, or the same paragraph.

An exact period is looked for among the last tokens, every `STEP` of them; tables and data may have one for longer than
sentences. What counts up, or differs in a word, is no period; of that the second rule sees what repeats as a paragraph.
docs/conversations.md has what both find and what they let pass (`python -m models.demo.training.loops` measures it).
"""

from array import array
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

LONGEST_PERIOD = 256  # tokens
STEP = 32
SHORTEST_PARAGRAPH = 40  # characters, white space apart


@dataclass(frozen=True)
class Patience:
    """How much repetition is no loop yet. `sentences` and `tokens`: that a period of words, or of anything, has gone on
    for behind its first time; `paragraphs`: alike, of the last four times as many; 0: they are not looked at."""

    sentences: int
    tokens: int
    paragraphs: int


WITH_THINKING = Patience(sentences=1024, tokens=4096, paragraphs=8)
WITH_ANSWER = Patience(sentences=1024, tokens=4096, paragraphs=16)
WITH_DATA = Patience(sentences=16_384, tokens=16_384, paragraphs=0)
"""Arguments of a call and what a grammar binds: tables of zeros are as good as any."""


class LoopFinder:
    """Follows the tokens of one thought or answer, each once; the cost of a token does not grow with their number."""

    def __init__(self) -> None:
        self.is_looping = False
        self._tokens = array("i")
        self._paragraphs: deque[int] = deque()  # hashes of the last ones
        self._alike: Counter[int] = Counter()  # how often each of them is there
        self._paragraph: list[str] = []  # its lines so far
        self._line: list[str] = []
        self._texts: deque[str] = deque(maxlen=LONGEST_PERIOD)  # of the last tokens

    def push(self, token: int, text: str, patience: Patience) -> bool:
        """Whether it goes round in circles with one more token, whose text is `text`; once it does, that stays."""
        self._tokens.append(token)
        self._texts.append(text)
        if patience.paragraphs and "\n" in text:
            self._end_lines(text, patience)
        elif patience.paragraphs:
            self._line.append(text)
        if len(self._tokens) % STEP == 0:
            self.is_looping |= self._has_period(patience)
        return self.is_looping

    def _has_period(self, patience: Patience) -> bool:
        last = np.frombuffer(self._tokens[-patience.tokens - LONGEST_PERIOD :], np.int32)
        period = period_of(last, patience.sentences)
        if period and not is_sentences("".join(self._texts)):
            period = period_of(last, patience.tokens)
        return period > 0

    def _end_lines(self, text: str, patience: Patience) -> None:
        first, *others = text.split("\n")
        self._line.append(first)
        for following in others:
            line = "".join("".join(self._line).split())
            if line:
                self._paragraph.append(line)
            elif self._paragraph:
                self._end_paragraph(patience)
            self._line = [following]

    def _end_paragraph(self, patience: Patience) -> None:
        paragraph = "".join(self._paragraph)
        self._paragraph = []
        if len(paragraph) >= SHORTEST_PARAGRAPH:
            self._paragraphs.append(hash(paragraph))
            self._alike[hash(paragraph)] += 1
            if len(self._paragraphs) > 4 * patience.paragraphs:
                self._alike[self._paragraphs.popleft()] -= 1
            self.is_looping |= self._alike[hash(paragraph)] >= patience.paragraphs


def is_sentences(text: str) -> bool:
    """Whether a text is of words, and not of numbers, markup or an encoding. Only some languages put spaces between."""
    words = text.split()
    letters = sum(letter.isalpha() for letter in text)
    has_words = not text.isascii() or len(text) <= 20 * len(words)
    return letters > 0 and has_words and 4 * letters >= 3 * sum(map(len, words))


def period_of(tokens: NDArray[np.int32], long: int) -> int:
    """The shortest period that the last `long` of `tokens` [n] have, all of them with one before; 0: there is none."""
    longest = min(LONGEST_PERIOD, len(tokens) - STEP)
    if longest < 1:
        return 0
    recent, before = tokens[-STEP:], tokens[-STEP - longest : -1]
    alike = (sliding_window_view(before, STEP) == recent).all(axis=1)  # row longest - p: period p
    for period in (longest - np.flatnonzero(alike))[::-1].tolist():
        if len(tokens) >= long + period and bool((tokens[-long:] == tokens[-long - period : -period]).all()):
            return int(period)
    return 0
