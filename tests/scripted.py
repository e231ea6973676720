"""Replies of chosen tokens: the mask of the sampler leaves it one token at a time."""

import numpy as np
import pytest

from qwen35_local import _core
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.generation import Generation
from qwen35_local.engine.reply import Event


class Script:
    """While it is in force every reply is `tokens`, whatever the model thinks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens: list[int] = []
        begin, take = Generation.__init__, Generation.take

        def scripted_begin(generation: Generation, *arguments: object) -> None:
            begin(generation, *arguments)  # type: ignore[arg-type]
            self._allow(generation.sampler)

        def scripted_take(generation: Generation, sampled: _core.Sampled) -> list[Event]:
            events = take(generation, sampled)
            if generation.reason is None:
                self._allow(generation.sampler)
            return events

        def no_drafts(generation: Generation, drafts: object) -> list[int]:
            return []  # a mask is for the next token alone

        monkeypatch.setattr(Generation, "__init__", scripted_begin)
        monkeypatch.setattr(Generation, "look_ahead", no_drafts)
        monkeypatch.setattr(Generation, "take", scripted_take)

    def say(self, engine: Engine, *parts: str) -> None:
        """The reply: parts that spell a special token are that token, the others text."""
        tokenizer = engine.tokenizer
        special = tokenizer.special_tokens
        self.tokens = [n for part in parts for n in ([special[part]] if part in special else tokenizer.encode(part))]
        self.tokens.append(tokenizer.token_id("<|im_end|>"))

    def _allow(self, sampler: _core.Sampler) -> None:
        token = self.tokens[len(sampler)]
        words = np.zeros(token // 32 + 1, np.uint32)
        words[token // 32] = 1 << token % 32
        sampler.set_mask(words)
