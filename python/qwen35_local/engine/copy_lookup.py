"""Drafts that need no model: what followed the last tokens where they came before (prompt lookup, Saxena 2023).

A reply that quotes its prompt, edits a file or fills a table repeats what is there already. The place is found by the
last five tokens, else by the last two, in tables of where each of these came last. To know which earlier place matches
the longest would bring 0.2 % more tokens per pass on edits of source files.

Memory: 4 bytes per token and 8 to 16 for each of the two tables, 36 MB for a context of a million tokens at most.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

KEY_TOKENS = (5, 2)  # the lengths by which a place is found, in this order
LONGEST_COMPARED = 32  # tokens, when a place is found; what follows it is counted on from there
FEWEST_IN_BULK = 64  # from here on numpy is faster than a loop

_SLOTS = 4096  # of an empty table
_FACTOR = 0x9E3779B1  # 2^32 / golden ratio, odd: the base of a polynomial hash, and Knuth's multiplicative one
_MASK = 0xFFFFFFFF


class Copied(NamedTuple):
    """The draft, and how many tokens before it are the same as before its source; of a place just found, as far as
    they were compared."""

    tokens: list[int]
    matched: int


class CopyLookup:
    """All tokens of one sequence so far, prompt and reply. A token costs the same however many there are."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens = array("i")
        self._tables = [_Table(length) for length in KEY_TOKENS]
        self._source = 0  # where the next token is expected to be found once more; 0: nowhere
        self._matched = 0
        self.extend(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Tokens that have come, drafted or not."""
        if self._source:
            self._follow(tokens)
        self._tokens.frombytes(np.asarray(tokens, np.int32).tobytes())

    def draft(self, n: int, least: int = KEY_TOKENS[-1]) -> Copied:
        """What came after the last tokens where they came before, `n` tokens, or none unless at least `least` tokens
        match. What reaches the end of all tokens goes on with itself, so that a period is continued."""
        if not self._source:
            self._search()
        if not self._source or self._matched < least:
            return Copied([], 0)
        copied = self._tokens[self._source : self._source + n].tolist()
        period = len(self._tokens) - self._source
        while len(copied) < n:
            copied.append(copied[-period])
        return Copied(copied, self._matched)

    def _follow(self, tokens: Sequence[int]) -> None:
        period = len(self._tokens) - self._source
        for n, token in enumerate(tokens):
            expected = self._tokens[self._source + n] if n < period else tokens[n - period]
            if token != expected:
                self._source = self._matched = 0
                return
        self._source += len(tokens)
        self._matched += len(tokens)

    def _search(self) -> None:
        for table in self._tables:
            place = table.find(self._tokens)
            if place:
                matched = self._common_suffix(place)
                if matched >= table.length:
                    self._source, self._matched = place, matched
                    return

    def _common_suffix(self, place: int) -> int:
        """How many tokens before `place` are the last ones of all, as far as they are compared."""
        tokens, end = self._tokens, len(self._tokens)
        most = min(place, LONGEST_COMPARED)
        return next((n for n in range(most) if tokens[place - 1 - n] != tokens[end - 1 - n]), most)


class _Table:
    """Where each key of `length` tokens came last. A slot holds one place: a key that falls on the slot of another
    takes it, so that a place found has to be compared."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._factors = [pow(_FACTOR, length - n, 1 << 32) for n in range(length)]
        self._places = array("i", bytes(4 * _SLOTS))  # of the token behind the key; 0: none
        self._shift = 32 - (_SLOTS.bit_length() - 1)
        self._next = length  # the first place that is not in it

    def find(self, tokens: "array[int]") -> int:
        """The last place but the end that has the last tokens before it; 0: none is known."""
        end = len(tokens)
        if end < self.length:
            return 0
        if 2 * end > len(self._places):
            self._grow(end)
        if end - self._next < FEWEST_IN_BULK:
            for place in range(self._next, end):
                self._places[self._slot(tokens, place)] = place
        else:
            self._add(np.frombuffer(tokens, np.int32), end)
        self._next = end
        return self._places[self._slot(tokens, end)]

    def _slot(self, tokens: "array[int]", place: int) -> int:
        key = sum(map(int.__mul__, tokens[place - self.length : place], self._factors)) & _MASK
        return (((key ^ (key >> 16)) * _FACTOR) & _MASK) >> self._shift

    def _add(self, tokens: "np.ndarray[tuple[int], np.dtype[np.int32]]", end: int) -> None:
        """All places from `_next` to `end`, which is not one yet."""
        keys = np.zeros(end - self._next, np.uint32)
        for n, factor in enumerate(self._factors):
            first = self._next - self.length + n
            keys += tokens[first : first + len(keys)].astype(np.uint32) * np.uint32(factor)
        slots = ((keys ^ (keys >> np.uint32(16))) * np.uint32(_FACTOR)) >> np.uint32(self._shift)
        np.frombuffer(self._places, np.int32)[slots] = np.arange(self._next, end)  # the last of one slot comes last

    def _grow(self, tokens: int) -> None:
        """Makes room for so many tokens, two to four slots for each; what is in it is entered anew."""
        slots = 1 << (2 * tokens - 1).bit_length()
        self._places = array("i", bytes(4 * slots))
        self._shift = 32 - (slots.bit_length() - 1)
        self._next = self.length
