"""How many tokens the MTP block drafts from. The head that it shares with the model is up to 43 % of what a small model
reads for a token, and next to nothing of what a large one does. Of ids below 65,536 are 95 to 99 % of the tokens of
code and English, and 90 to 95 % of those of other texts in Latin letters (docs/speculation.md)."""

from collections.abc import Iterable
from typing import Protocol

STEP_TOKENS = 32_768
SHARE = 1 / 8  # of the bytes that a token reads: the most that the head of a draft may add


class Tensor(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def n_bytes(self) -> int: ...


def draft_tokens(tensors: Iterable[Tensor], experts_per_token: int = 1) -> int:
    """Of the most frequent ones, beside the special ones: a multiple of STEP_TOKENS; at least the vocabulary means all.

    `tensors` of a GGUF; those of the block that drafts do not count."""
    found = list(tensors)
    drafting = tuple({each.name.partition("nextn.")[0] for each in found if ".nextn." in each.name})
    main = {each.name: each for each in found if not (drafting and each.name.startswith(drafting))}
    table = main.get("token_embd.weight")
    head = main.get("output.weight", table)
    if table is None or head is None:
        return STEP_TOKENS
    read = 0.0
    for each in main.values():
        if each.name.endswith("_exps.weight"):
            read += each.n_bytes * experts_per_token / each.shape[0]
        elif each is head or each is not table:
            read += each.n_bytes
    return max(STEP_TOKENS, int(SHARE * read * head.shape[0] / max(head.n_bytes, 1)) // STEP_TOKENS * STEP_TOKENS)
