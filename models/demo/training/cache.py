"""What a quantised KV cache costs: `python -m models.demo.training.cache FILE.gguf`.

KL divergence from an exact cache, and how often both prefer the same token, over long texts and over conversations
with tool calls of a seed that training did not use. The core's own formats are run by the core; what they are made of
(rotation, keys and values apart, the pages kept open) by the numpy page with a cache that is rounded on the way in.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.cli.perplexity_report import spelled
from qwen35_local.engine import quality
from qwen35_local.engine.estimate import mean, quantile
from qwen35_local.models import reference
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.kv import KvFormat
from qwen35_local.models.reference import Reference

from .held_out import ids_and_targets

Floats = NDArray[Any]  # fp32
Round = Callable[[Floats], Floats]  # [n, A] as a cache gives it back

PAGE, BLOCK = 256, 32


def exact(x: Floats) -> Floats:
    return x


def plain(x: Floats) -> Floats:
    """Q4_0 as it is usually written: the value of largest magnitude becomes -8 of its scale."""
    blocks = x.reshape(-1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], axis=1)
    scale = (largest / -8).astype(np.float16).astype(np.float32)
    codes = np.clip(np.floor(np.divide(blocks, scale, where=scale != 0, out=np.zeros_like(blocks)) + 8.5), 0, 15) - 8
    result: Floats = (codes * scale).reshape(x.shape)
    return result


def searched(x: Floats) -> Floats:
    """IQ4_NL with the scale of least squared error, what `q4` uses."""
    flat = np.ascontiguousarray(x).reshape(-1, BLOCK)
    return _core.decode(_core.encode(flat, "IQ4_NL").reshape(-1), "IQ4_NL", flat.size).reshape(x.shape)


def along_tokens(x: Floats) -> Floats:
    """`searched` with blocks of 32 tokens of one column; the last ones are padded."""
    padded = np.pad(x, ((0, -len(x) % BLOCK), (0, 0)))
    return searched(padded.T).T[: len(x)]


@dataclass(frozen=True)
class Cache:
    """A cache that the numpy page can be given. `pages` keeps the first page and the newest two exact."""

    name: str
    keys: Round = exact
    values: Round = exact
    is_rotated: bool = False
    keeps_pages: bool = False

    def attend(self, q: Floats, gate: Floats, keys: Floats, values: Floats) -> Floats:
        """`reference.attend` of one key/value head and all of its positions at once, over the rounded cache."""
        tokens, _, width = q.shape
        turn = hadamard(width) if self.is_rotated else np.eye(width, dtype=np.float32)
        q, k, v = q @ turn, keys[:, 0] @ turn, values[:, 0] @ turn
        stored_k, stored_v = self.keys(k), self.values(v)
        position = np.arange(tokens)
        page = position // PAGE
        is_open = np.zeros((tokens, tokens), bool)
        if self.keeps_pages:
            is_open = (page[None] == 0) | (page[None] >= page[:, None] - 1)
        scores = np.where(is_open, q.transpose(1, 0, 2) @ k.T, q.transpose(1, 0, 2) @ stored_k.T) * width**-0.5
        share = reference.softmax(np.where(position[None] > position[:, None], -np.inf, scores))
        mixed = (share * is_open) @ v + (share * ~is_open) @ stored_v
        result: Floats = (mixed @ turn).transpose(1, 0, 2) * reference.sigmoid(gate)
        return result.reshape(tokens, -1)


def hadamard(order: int) -> Floats:
    """The orthonormal Walsh-Hadamard matrix; order a power of two."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.float32(np.sqrt(order))


CACHES = [
    Cache("plain Q4_0", plain, plain),
    Cache("plain Q4_0, keys alone", keys=plain),
    Cache("plain Q4_0, values alone", values=plain),
    Cache("searched, not rotated", searched, along_tokens),
    Cache("searched and rotated", searched, along_tokens, is_rotated=True),
    Cache("the same, keys alone", keys=searched, is_rotated=True),
    Cache("the same, values alone", values=along_tokens, is_rotated=True),
    Cache("searched, rotated, fp16 pages (q4)", searched, along_tokens, is_rotated=True, keeps_pages=True),
]


def log_probabilities(model: Reference, ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """[T, V]."""
    return quality.log_softmax(model.forward(ids.tolist()).astype(np.float32))


def page_distances(model: Reference, ids: NDArray[np.int32], window: int) -> Iterator[tuple[str, Floats, Floats]]:
    """(name, KL per token, whether the top token is the same), second half of each window: [windows, window / 2]."""
    exact_logits = [log_probabilities(model, part) for part in ids.reshape(-1, window)]
    for cache in CACHES:
        kl, same = [], []
        with patch.object(reference, "attend", cache.attend):
            for part, base in zip(ids.reshape(-1, window), exact_logits, strict=True):
                found = log_probabilities(model, part)
                kl.append((np.exp(base) * (base - found)).sum(1)[window // 2 :])
                same.append((base.argmax(1) == found.argmax(1))[window // 2 :])
        yield cache.name, np.stack(kl), np.stack(same)


def report(title: str, ids: NDArray[np.int32], path: Path, window: int) -> None:
    file, core = _core.GgufFile(path), _core.Model(path)
    config = ModelConfig.from_gguf(file.metadata, vocabulary=core.n_vocab, embeddings_are_tied=True)
    page = Reference({info.name: file.decode(info.name) for info in file.tensors}, config, np.float32)
    print(f"\n{title}: {len(ids):,} tokens in windows of {window:,}, the second halves scored\n")
    print("| cache | by | KL, mean | KL, 99.9 % | same top token, % |\n|---|---|---:|---:|---:|")
    for name, kl, same in page_distances(page, ids, window):
        number = np.arange(len(kl)).repeat(kl.shape[1])
        print(row(name, "numpy", kl.reshape(-1), same.reshape(-1), number))
    formats: tuple[KvFormat, ...] = ("q8", "k8v4", "q4")
    for kv in formats:
        scores = quality.score(quality.ModelLogits(core, kv), ids, window=window, base=quality.ModelLogits(core))
        print(row(f"`--kv {kv}`", "core", scores["kl"], scores["same_top"], scores["window"]))


def row(name: str, by: str, kl: Floats, same: Floats, window: NDArray[Any]) -> str:
    """One value per token, of window `window`."""
    columns = (
        spelled(mean(kl, window), 6),
        spelled(quantile(kl, 0.999, window), 4),
        spelled(mean(same, window), 2, 100),
    )
    return f"| {name} | {by} | {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--windows", type=int, default=4)
    options = parser.parse_args()
    count = options.window * options.windows
    for title, with_tools in (("Long texts", False), ("Conversations with tools", True)):
        ids, _ = ids_and_targets(count, with_tools=with_tools)
        report(title, ids, options.file, options.window)


if __name__ == "__main__":
    main()
