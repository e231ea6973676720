"""Prompts to greedy replies in the torch network."""

# mypy: disable-error-code="misc,untyped-decorator"

from __future__ import annotations

import torch
from tokenizers import Tokenizer

from .network import Network, State


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
