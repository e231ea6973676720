"""Prompts to greedy replies: the seam, and a GGUF in the project's own runtime behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer


class Generator(Protocol):
    """The seam between prompts and a model: token ids in, greedy continuations out, without the end token."""

    def generate(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]: ...


class Runtime:
    """A GGUF in the project's runtime, one sequence at a time."""

    def __init__(self, path: Path, tokenizer: Tokenizer, device: str = "cpu", threads: int = 0) -> None:
        from qwen35_local import _core

        self.core = _core
        self.model = _core.Model(path, device=device, threads=threads)
        self.stops = {tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")}
        self.used = self.model.n_tokens_used

    def generate(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        return [self._one(prompt, max_tokens) for prompt in prompts]

    def _one(self, prompt: list[int], max_tokens: int) -> list[int]:
        sequence = self.core.Sequence(self.model)
        reply: list[int] = []
        logits = sequence.append(prompt)
        while len(reply) < max_tokens:
            token = int(logits[-1, : self.used].argmax())
            if token in self.stops:
                break
            reply.append(token)
            logits = sequence.append([token])
        return reply
