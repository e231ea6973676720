"""Tokens and how likely they were, in the form of `/v1/completions`: lists side by side."""

from codecs import getincrementaldecoder
from typing import Any

from qwen35_local.engine.reply import Logprobs, PromptScores
from qwen35_local.server.openai.chat_encoder import LEAST_LOGPROB

_UTF_8 = getincrementaldecoder("utf-8")


class TokenLists:
    """Of one choice. `offset`: characters of its text before the first token; a token that begins within a character
    has that character's place."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._decoder = _UTF_8("replace")
        self._tokens: list[str] = []
        self._logprobs: list[float | None] = []
        self._best: list[dict[str, float] | None] = []
        self._offsets: list[int] = []

    def add_prompt(self, scores: PromptScores) -> None:
        """Before anything else, from the beginning of the text on. The first token has no probability."""
        self._offset = 0
        self._add(scores.first, None, None)
        for one in scores.others:
            self.add(one)

    def add(self, told: Logprobs) -> None:
        best: dict[str, float] = {}
        for token in (*told.top, told.token):  # of parts of characters, which look alike, the most likely
            best.setdefault(token.text, max(token.logprob, LEAST_LOGPROB))
        self._add(told.token.data, max(told.token.logprob, LEAST_LOGPROB), best)

    def take(self) -> dict[str, Any] | None:
        """What was added since the last time; None for nothing."""
        if not self._tokens:
            return None
        taken = {
            "tokens": self._tokens,
            "token_logprobs": self._logprobs,
            "top_logprobs": self._best,
            "text_offset": self._offsets,
        }
        self._tokens, self._logprobs, self._best, self._offsets = [], [], [], []
        return taken

    def _add(self, data: bytes, logprob: float | None, best: dict[str, float] | None) -> None:
        self._tokens.append(data.decode("utf-8", "replace"))
        self._logprobs.append(logprob)
        self._best.append(best)
        self._offsets.append(self._offset)
        self._offset += len(self._decoder.decode(data))
