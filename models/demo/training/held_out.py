"""Conversations that training did not see, to be scored: `python -m models.demo.training.held_out IDS.npy MASK.npy`.

Token ids, int32, and a mask of those that the model was trained to write: what the assistant says and thinks. The rest
is the person's words, the tools' and the template's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .data import conversations, with_system
from .text import encode_with_targets, render

TOKENIZER = Path(__file__).parents[1] / "checkpoint/tokenizer.json"
SEED = 987_654_321


def ids_and_targets(count: int, *, with_tools: bool = False) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Conversations one behind the other, cut at `count` tokens; `with_tools`: only those that offer tools."""
    tokenizer, ids, targets = Tokenizer.from_file(str(TOKENIZER)), list[int](), list[bool]()
    for example in conversations(SEED):
        if with_tools and not example.tools:
            continue
        more = encode_with_targets(tokenizer, render(with_system(example), example.tools))
        ids += more[0]
        targets += more[1]
        if len(ids) >= count:
            break
    return np.asarray(ids[:count], np.int32), np.asarray(targets[:count], np.bool_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("--tokens", type=int, default=65_536)
    options = parser.parse_args()
    ids, targets = ids_and_targets(options.tokens)
    np.save(options.ids, ids)
    np.save(options.mask, targets)
    print(f"{len(ids):,} tokens, {targets.sum():,} of them written by the assistant")


if __name__ == "__main__":
    main()
