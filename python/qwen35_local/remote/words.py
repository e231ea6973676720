"""The loop breaker where tokens are not known: words stand for them, cut alike however the text came in pieces."""

import re

from qwen35_local.engine.loops import LoopFinder, Patience

_WORD = re.compile(r"\S{8}|\S+(?=\s)|\s")
"""A long word is several: `aaaa…` goes round in circles too."""


class WordLoops:
    """Follows one thought or answer."""

    def __init__(self) -> None:
        self._loops = LoopFinder()
        self._rest = ""

    def push(self, text: str, patience: Patience) -> bool:
        """Whether it goes round in circles with `text`."""
        self._rest += text
        end = 0
        for word in _WORD.finditer(self._rest):
            end = word.end()
            self._loops.push(hash(word.group()) & 0x7FFFFFFF, word.group(), patience)
        self._rest = self._rest[end:]
        return self._loops.is_looping
