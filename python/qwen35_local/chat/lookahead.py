"""A reading position in text that is still arriving."""

import re
from collections.abc import Container, Sequence

_SPACES = re.compile(r"[ \t\r\n]*")
_MAX_SPACE = 64
_MAX_NAME = 256
_LONGEST_TAG = 16
_NAME = re.compile(rf"([^<>\n]{{1,{_MAX_NAME}}})>")
_NAME_SO_FAR = re.compile(rf"[^<>\n]{{0,{_MAX_NAME}}}")


class Lookahead:
    """Text from the reading position on. Questions are answered by a tag or name, "" when there is none, or None when
    only more text can tell; an answer other than None never changes as text arrives."""

    def __init__(self, tokens: Container[str] = ()) -> None:
        """`tokens`: tags that are tokens of a vocabulary; they stand only where `append` says that one came."""
        self._tokens = tokens
        self._token_starts: set[int] = set()
        self._text = ""
        self._position = 0
        self.at_end = False
        """No more text will come; set by the owner. Nothing is answered None from then on."""

    def __len__(self) -> int:
        return len(self._text) - self._position

    def append(self, text: str, *, is_token: bool = False) -> None:
        """More text has arrived; `is_token`: it is one token, whole."""
        self._token_starts = {at - self._position for at in self._token_starts if at >= self._position}
        self._text = self._text[self._position :]
        self._position = 0
        if is_token:
            self._token_starts.add(len(self._text))
        self._text += text

    def take(self, n: int) -> str:
        """The next n characters; the position moves behind them."""
        start = self._position
        self._position = min(start + n, len(self._text))
        return self._text[start : self._position]

    def take_until(self, sign: str) -> str:
        """What comes before the next `sign`, a single character, or everything when there is none."""
        found = self._text.find(sign, self._position)
        return self.take((len(self._text) if found < 0 else found) - self._position)

    def take_space(self) -> str:
        """The white space here."""
        return self.take(self._end_of_space(self._position) - self._position)

    def take_name(self) -> str | None:
        """A name of at most 256 characters and the ">" after it; nothing is taken when there is none."""
        match = _NAME.match(self._text, self._position)
        if match is None:
            return None if self.may_become_name() and not self.at_end else ""
        return self.take(match.end() - self._position) if match.group(1).strip(" \t\r\"'") else ""

    def may_become_name(self) -> bool:
        """Whether all there is could be the beginning of a name."""
        return _NAME_SO_FAR.fullmatch(self._text, self._position) is not None

    def search(self, pattern: re.Pattern[str], skip: int) -> tuple[str, int] | None:
        """The first match `skip` characters on: its text, and how many characters end with it."""
        match = pattern.search(self._text, self._position + skip)
        return match and (match.group(), match.end() - self._position)

    def tag(self, tags: Sequence[str], skip: int = 0) -> str | None:
        """Which of `tags` stands here, or `skip` characters on."""
        return self._tag_at(self._position + skip, tags)

    def tag_after_space(self, tags: Sequence[str], skip: int = 0) -> str | None:
        """Which of `tags` stands here or after at most 64 characters of white space."""
        start = self._position + skip
        space = self._end_of_space(start, _MAX_SPACE + 1) - start
        return "" if space > _MAX_SPACE else self._tag_at(start + space, tags)

    def ends_in(self, tags: Sequence[str], skip: int = 0) -> bool:
        """Whether the text has ended and what follows `skip` characters on, after white space, is nothing or the
        beginning of one of `tags`."""
        start = self._end_of_space(self._position + skip)
        return self.at_end and self._may_become(self._text[start : start + _LONGEST_TAG + 1], tags)

    def _tag_at(self, position: int, tags: Sequence[str]) -> str | None:
        for tag in tags:
            if self._text.startswith(tag, position) and (tag not in self._tokens or position in self._token_starts):
                return tag
        rest = self._text[position : position + _LONGEST_TAG]
        return None if not self.at_end and self._may_become(rest, tags) else ""

    def _may_become(self, text: str, tags: Sequence[str]) -> bool:
        """Whether more text could make one of the tags of it. A token comes whole."""
        return not text or any(tag.startswith(text) for tag in tags if tag not in self._tokens)

    def _end_of_space(self, start: int, at_most: int | None = None) -> int:
        end = len(self._text) if at_most is None else min(len(self._text), start + at_most)
        match = _SPACES.match(self._text, start, end)
        return match.end() if match else start
