"""How likely the tokens of a prompt are, each behind those before it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.engine.cached_sequence import Score
from qwen35_local.engine.reply import Completion, Logprobs, PromptScores, Request, token_logprobs
from qwen35_local.text.tokenizer import Tokenizer


class PromptScoring:
    """Of a prompt `tokens` [n], with so many of the most likely ones in the place of each. The sampler draws what the
    prompt has, so that a token's probability has the bits that it has in a reply."""

    def __init__(self, tokens: Sequence[int], top: int, tokenizer: Tokenizer, *, is_all: bool = False) -> None:
        self.is_all = is_all
        """Whether nothing else is wanted."""
        self._tokens = tokens
        self._top = top
        self._tokenizer = tokenizer
        self._sampler = _core.Sampler(temperature=0, n_tokens_used=tokenizer.n_used)
        self._found: list[Logprobs] = []

    @classmethod
    def of(cls, asked: Request | Completion, tokenizer: Tokenizer) -> "PromptScoring | None":
        """None where nothing of the kind is asked for."""
        if isinstance(asked, Request) or not asked.scores_prompt:
            return None
        return cls(asked.tokens, asked.logprobs or 0, tokenizer, is_all=not asked.writes)

    def begin(self) -> Score:
        """What takes the logits, in the order of the rows, from the first one on."""
        self._found = []
        return self._take

    @property
    def scores(self) -> PromptScores:
        """Once the prompt is read."""
        return PromptScores(self._tokenizer.token_bytes(self._tokens[0]), tuple(self._found))

    def _take(self, at: int, logits: NDArray[np.float32]) -> None:
        for token, row in zip(self._tokens[at + 1 :], logits, strict=False):  # the last row is followed by the reply
            words = np.zeros(token // 32 + 1, np.uint32)
            words[token // 32] = 1 << token % 32
            self._sampler.set_mask(words)
            self._found.append(token_logprobs(self._tokenizer, self._sampler.next(row, logprobs=self._top)))
