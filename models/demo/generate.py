"""Prompts to greedy replies: the torch network, or a GGUF in the project's own runtime, behind one seam."""

# mypy: disable-error-code="misc,untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from tokenizers import Tokenizer

from .network import Network, State


class Generator(Protocol):
    """The seam between prompts and a model: token ids in, greedy continuations out, without the end token."""

    def generate(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]: ...


class Torch:
    """The torch network, prompts in left-padded batches."""

    def __init__(self, network: Network, tokenizer: Tokenizer, batch: int = 64) -> None:
        self.network, self.batch = network, batch
        self.stops = {tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")}
        self.used = tokenizer.get_vocab_size()

    def generate(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        replies: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            for row, reply in zip(rows, self._batch([prompts[i] for i in rows], max_tokens), strict=True):
                replies[row] = reply
        return replies

    @torch.no_grad()
    def draft_acceptance(self, ids: list[int], targets: list[bool]) -> tuple[int, int]:
        """(accepted, drafted): how often the draft block's first choice is the main model's, over the target tokens."""
        tokens, wanted = torch.tensor([ids]), torch.tensor([targets])[:, 2:]
        hidden = self.network.hidden(tokens)
        main = self.network.logits(hidden[:, 1:-1][wanted]).argmax(-1)
        draft = self.network.draft_logits(hidden, tokens, wanted).argmax(-1)
        return int((main == draft).sum()), len(main)

    @torch.no_grad()
    def _batch(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
        state = State(mask=torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in prompts]))
        replies: list[list[int]] = [[] for _ in prompts]
        done = [False] * len(prompts)
        with torch.compiler.set_stance("force_eager"):
            hidden = self.network.hidden(ids, state)[:, -1:]
            for _ in range(max_tokens):
                chosen = self.network.logits(hidden)[:, 0, : self.used].argmax(-1)
                for row, token in enumerate(chosen.tolist()):
                    done[row] = done[row] or token in self.stops
                    if not done[row]:
                        replies[row].append(token)
                if all(done):
                    break
                assert state.mask is not None
                state.mask = torch.cat([state.mask, torch.ones(len(prompts), 1, dtype=torch.bool)], 1)
                hidden = self.network.hidden(chosen[:, None], state)
        return replies


class Runtime:
    """A GGUF in the project's runtime, one sequence at a time."""

    def __init__(self, path: Path, tokenizer: Tokenizer, device: str = "cpu") -> None:
        from qwen35_local import _core

        self.core = _core
        self.model = _core.Model(path, device=device)
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


class Function:
    """Any `generate(prompt_ids, max_tokens) -> ids`, for runtimes this file does not know."""

    def __init__(self, generate: Callable[[list[int], int], list[int]]) -> None:
        self.one = generate

    def generate(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        return [self.one(prompt, max_tokens) for prompt in prompts]
