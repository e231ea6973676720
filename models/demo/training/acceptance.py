"""How many drafts of the multi-token-prediction block are right: `python -m models.demo.training.acceptance FILE.gguf`.

The model's own greedy replies to held-out prompts are given back to it, as verification sees them: behind each of their
tokens the block drafts up to four, chained, its cache filled with the pairs of all that came before. The replies are
the core's, the drafts the numpy page's. A draft counts where those before it were right: it goes on from the text then.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from qwen35_local import _core
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.reference import Reference

from .data import ASKED, held_out_prompts
from .evaluate import MAX_TOKENS, TOKENIZER, prompt_text
from .generate import Runtime
from .text import encode, id_of

DRAFTS = 4
RIGHT, WRONG, NONE = 1, 0, -1  # NONE: behind a wrong one, or behind the end of the reply


@dataclass
class Count:
    """Drafts of many replies."""

    drafted: list[NDArray[np.int64]] = field(default_factory=list)  # of a reply [tokens, DRAFTS]
    passes: int = 0

    def add(self, drafted: NDArray[np.int64]) -> None:
        self.drafted.append(drafted)
        self.passes += passes(drafted)

    def row(self, name: str) -> str:
        """A row of the table: tokens, the share of right drafts by place, tokens per pass."""
        every = np.concatenate([*self.drafted, np.empty((0, DRAFTS), np.int64)])
        tried = np.maximum((every != NONE).sum(0), 1)
        shares = " | ".join(f"{100 * share:.0f} %" for share in (every == RIGHT).sum(0) / tried)
        return f"| {name} | {len(every):,} | {shares} | {len(every) / max(self.passes, 1):.2f} |"


def passes(drafted: NDArray[np.int64]) -> int:
    """Passes that write a reply when each verifies `DRAFTS` drafts: it keeps the right ones and adds a token."""
    at = n = 0
    while at < len(drafted):
        at += 1 + int((drafted[at] == RIGHT).sum())
        n += 1
    return n


def draft(model: Reference, ids: list[int], start: int, used: int) -> NDArray[np.int64]:
    """Drafts [n, DRAFTS] behind each token of a reply but its last, against the text; the reply is ids[start:]."""
    block, state = model.config.layers, model.new_state()
    hidden = model.hidden(ids, state)
    logits, u = model.draft(ids[1:], hidden[:-1], state)  # row p: token p + 1 is known, p + 2 is drafted
    keys, values = state.keys[block], state.values[block]
    found = np.full((len(ids) - start - 1, DRAFTS), NONE)
    for n, p in enumerate(range(start - 1, len(ids) - 2)):
        state.keys[block], state.values[block] = keys[: p + 1], values[: p + 1]
        row, chained = logits[p], u[p : p + 1]
        for k, token in enumerate(ids[p + 2 : p + 2 + DRAFTS]):
            if k:
                (row,), chained = model.draft([ids[p + 1 + k]], chained, state)
            found[n, k] = RIGHT if row[:used].argmax() == token else WRONG
            if found[n, k] == WRONG:
                break
    return found


def of_skill(runtime: Runtime, model: Reference, tokenizer: Tokenizer, skill: str, count: int) -> Count:
    """All replies to `count` prompts, each asked thinking and direct. The end of a reply is drafted too."""
    prompts = [
        encode(tokenizer, prompt_text(exchange, thinking))
        for exchange in held_out_prompts(skill, count)
        for thinking in (True, False)
    ]
    end, result = id_of(tokenizer, "<|im_end|>"), Count()
    for prompt, reply in zip(prompts, runtime.generate(prompts, MAX_TOKENS), strict=True):
        ends = [end] if len(reply) < MAX_TOKENS else []
        result.add(draft(model, [*prompt, *reply, *ends], len(prompt), runtime.used))
    return result


def page(path: Path, rows: int) -> Reference:
    """The numpy page of a file whose embedding table has so many rows and is its head as well."""
    file = _core.GgufFile(path)
    config = ModelConfig.from_gguf(file.metadata, vocabulary=rows, embeddings_are_tied=True)
    return Reference({info.name: file.decode(info.name) for info in file.tensors}, config, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--skill", action="append", choices=[*ASKED], help="only these skills")
    parser.add_argument("--count", type=int, default=20, help="prompts per skill, each thinking and direct")
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    runtime, every = Runtime(options.file, tokenizer), Count()
    model = page(options.file, runtime.model.n_vocab)
    places = " | ".join(f"draft {k + 1}" for k in range(DRAFTS))
    print(f"| skill | tokens | {places} | tokens a pass |\n|---|{'---:|' * (DRAFTS + 2)}", flush=True)
    for skill in options.skill or ASKED:
        found = of_skill(runtime, model, tokenizer, skill, options.count)
        every.drafted += found.drafted
        every.passes += found.passes
        print(found.row(skill), flush=True)
    print(every.row("all"))


if __name__ == "__main__":
    main()
