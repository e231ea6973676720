"""A very long text, evaluated to its end: `python -m models.demo.training.long FILE.gguf --tokens 1000000 --kv q4`.

At each of several depths: how fast the last stretch was read, how fast tokens are written there, what memory the
process has beside what its cache must take, and whether a code is found that was planted some way back.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from qwen35_local import _core
from qwen35_local.models.kv import KvFormat

from .skills.search import sentence
from .skills.vocabulary import code

TOKENIZER = Path(__file__).parents[1] / "checkpoint/tokenizer.json"
DEPTHS = (1_024, 4_096, 16_384, 65_536, 131_072, 262_144, 524_288, 1_000_000)
DISTANCES = (100, 600, 3_000)  # tokens between a planted code and its question
TRIES = 5
WRITTEN = 32


def filler(tokenizer: Tokenizer, seed: int) -> Iterator[int]:
    random = Random(seed)
    while True:
        yield from tokenizer.encode(" " + sentence(random), add_special_tokens=False).ids


class Reader:
    """One sequence, with what is known of the tokenizer."""

    def __init__(self, path: Path, kv: KvFormat, context_tokens: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(TOKENIZER))
        self.model = _core.Model(path, context_tokens=context_tokens)
        self.sequence = _core.Sequence(self.model, kv=kv)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def write(self, logits: NDArray[np.float32], count: int, *, stops: bool) -> list[int]:
        """Greedy continuation."""
        end = self.tokenizer.token_to_id("<|im_end|>")
        reply: list[int] = []
        while len(reply) < count:
            token = int(logits[-1, : self.model.n_tokens_used].argmax())
            if stops and token == end:
                break
            reply.append(token)
            logits = self.sequence.append([token])
        return reply

    def finds(self, distance: int, seed: int) -> bool:
        """Plants a code behind what stands, reads on, and asks for it; leaves the sequence there."""
        random = Random(seed)
        value = code(random)
        planted = self.encode(f" The code for the red door is {value}.")
        between = list(islice(filler(self.tokenizer, seed + 1), distance))
        question = "\n\nWhat is the code for the red door?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        logits = self.sequence.append([*planted, *between, *self.encode(question)])
        return value in self.tokenizer.decode(self.write(logits, WRITTEN, stops=True))


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def depth_row(reader: Reader, read_rate: float, other_bytes: int) -> str:
    sequence = reader.sequence
    held = resident_bytes() - other_bytes
    state = sequence.state_bytes
    snapshot = sequence.snapshot()
    logits = sequence.append([0])
    started = time.monotonic()
    reader.write(logits, WRITTEN, stops=False)
    write_rate = WRITTEN / (time.monotonic() - started)
    found = []
    for distance in DISTANCES:
        hits = 0
        for seed in range(TRIES):
            sequence.restore(snapshot)
            hits += reader.finds(distance, 1000 * seed)
        found.append(f"{hits}")
    sequence.restore(snapshot)
    cells = [
        f"{len(sequence):,}",
        f"{read_rate:.0f}",
        f"{write_rate:.0f}",
        f"{state / 1e6:.1f}",
        f"{held / 1e6:.1f}",
        *found,
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokens", type=int, default=262_144)
    parser.add_argument("--kv", default="q4")
    options = parser.parse_args()
    room = max(DISTANCES) + 200
    reader = Reader(options.file, options.kv, options.tokens + room)
    text = filler(reader.tokenizer, 7)
    sequence = reader.sequence
    sequence.append(reader.encode("<|im_start|>user\nRead this text:"), logits="none")
    other_bytes = resident_bytes() - sequence.state_bytes
    print("rope factor", reader.model.config["rope_factor"], flush=True)
    print(
        "| depth | prefill tokens/s | decode tokens/s | cache MB | resident MB more | "
        + " | ".join(f"found at {d:,}, of {TRIES}" for d in DISTANCES)
        + " |"
    )
    for depth in [d for d in DEPTHS if d <= options.tokens]:
        count, started = depth - len(sequence), time.monotonic()
        while len(sequence) < depth:
            sequence.append(list(islice(text, min(8192, depth - len(sequence)))), logits="none")
        print(depth_row(reader, count / (time.monotonic() - started), other_bytes), flush=True)


if __name__ == "__main__":
    main()
