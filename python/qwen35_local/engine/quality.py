"""How good a model is: perplexity of a text, and its distance from another model or from saved logits.

Shapes: T tokens, V vocabulary rows. Logarithms are natural.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.engine import npy_file
from qwen35_local.errors import InputError
from qwen35_local.models.kv import KvFormat
from qwen35_local.progress import Progress

PIECE_TOKENS = 64
BOOTSTRAP_ROUNDS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A measured mean (or quantile) and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Distance:
    """KL divergence of this model from the base, KL(base || model) in nats, and how often both prefer one token."""

    kl_mean: Estimate
    kl_999: Estimate
    kl_max: float
    top1_agreement: Estimate
    base_perplexity: Estimate


@dataclass(frozen=True)
class Quality:
    tokens: int
    scored: int
    perplexity: Estimate
    distance: Distance | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class LogitSource(Protocol):
    """Logits of successive tokens; `begin` starts a fresh context."""

    n_vocab: int

    def begin(self) -> None: ...

    def read(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]: ...


class ModelLogits:
    """Logits [T, V] of a model reading tokens in order, its keys and values kept as `kv` says."""

    def __init__(self, model: _core.Model, kv: KvFormat = "f16") -> None:
        self.n_vocab = model.n_vocab
        self._model = model
        self._kv = kv
        self._sequence: _core.Sequence | None = None

    def begin(self) -> None:
        self._sequence = _core.Sequence(self._model, kv=self._kv)

    def read(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        assert self._sequence is not None
        return self._sequence.append(tokens, logits="all")


class SavedLogits:
    """Rows of an .npy file [T, V] in the order they were written. Raises InputError, OSError."""

    def __init__(self, path: Path) -> None:
        self._rows = npy_file.mapped(path, "logits [tokens, vocabulary]", 2, "f")
        self.n_vocab = int(self._rows.shape[1])
        self._next = 0

    def __len__(self) -> int:
        return int(self._rows.shape[0])

    def begin(self) -> None:
        pass

    def read(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        rows = self._rows[self._next : self._next + len(tokens)]
        if len(rows) != len(tokens):
            raise InputError(f"the saved logits end after {len(self)} rows and the text is longer; use the same text")
        self._next += len(tokens)
        return np.asarray(rows, dtype=np.float32)


def log_softmax(logits: NDArray[np.float32]) -> Floats:
    """Rows [T, V] of logits to log probabilities in fp64."""
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    result: Floats = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return result


def windows(n_tokens: int, window: int) -> list[tuple[int, int, int]]:
    """(start, end, first scored row) of each window.

    A text that fits one window is scored whole. A longer one is cut into full windows, of which the second half is
    scored, so that every scored token has at least half a window before it (the convention of llama-perplexity).
    """
    if n_tokens <= window:
        return [(0, n_tokens, 0)]
    return [(start, start + window, window // 2) for start in range(0, n_tokens - window + 1, window)]


def pieces(
    source: LogitSource, base: LogitSource | None, tokens: NDArray[np.int32], window: int, progress: Progress
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.int32], int]]:
    """Yields (logits, base logits, next tokens, rows to skip) piece by piece; the last row of a window has no next."""
    spans = windows(len(tokens), window)
    total = sum(end - start for start, end, _ in spans)
    done = 0
    for start, end, first in spans:
        source.begin()
        if base is not None:
            base.begin()
        for at in range(start, end, PIECE_TOKENS):
            piece = tokens[at : min(at + PIECE_TOKENS, end)]
            logits = source.read(piece)
            base_logits = base.read(piece) if base is not None else None
            following = tokens[at + 1 : min(at + PIECE_TOKENS + 1, end)]
            yield logits, base_logits, following, max(0, start + first - at)
            done += len(piece)
            progress(done, total)


def measure(
    source: LogitSource,
    tokens: NDArray[np.int32],
    *,
    window: int,
    base: LogitSource | None = None,
    keep: Callable[[NDArray[np.float32]], None] | None = None,
    progress: Progress = lambda done, total: None,
) -> Quality:
    """Perplexity of `tokens` [T], and the distance from `base` when one is given.

    `keep` is handed every row of logits in order. Raises InputError when there is nothing to score or the
    vocabularies differ.
    """
    if len(tokens) < 2:
        raise InputError(f"tokens of the text: {len(tokens)}; at least 2 are needed to score one")
    if base is not None and base.n_vocab != source.n_vocab:
        raise InputError(f"the vocabularies differ: {source.n_vocab} rows against {base.n_vocab}")
    losses: list[Floats] = []
    base_losses: list[Floats] = []
    divergences: list[Floats] = []
    agreements: list[NDArray[np.bool_]] = []
    for logits, base_logits, following, skip in pieces(source, base, tokens, window, progress):
        if keep is not None:
            keep(logits)
        rows = slice(skip, len(following))
        if rows.stop <= skip:
            continue
        target = following[rows]
        here = log_softmax(logits[rows])
        losses.append(-here[np.arange(len(target)), target])
        if base_logits is not None:
            there = log_softmax(base_logits[rows])
            base_losses.append(-there[np.arange(len(target)), target])
            weighted = np.where(np.isfinite(there), np.exp(there) * (there - here), 0.0)
            divergences.append(weighted.sum(axis=1))
            agreements.append(here.argmax(axis=1) == there.argmax(axis=1))
    loss = np.concatenate(losses)
    distance = None
    if base is not None:
        distance = summarise(np.concatenate(divergences), np.concatenate(agreements), np.concatenate(base_losses))
    return Quality(len(tokens), len(loss), perplexity(loss), distance)


def perplexity(loss: Floats) -> Estimate:
    """exp of the mean loss; the error is carried over from the mean's (delta method)."""
    value = math.exp(min(float(loss.mean()), 700.0))
    return Estimate(value, value * standard_error(loss))


def standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def summarise(divergence: Floats, agreement: NDArray[np.bool_], base_loss: Floats) -> Distance:
    """Estimates with standard errors: of means by the central limit, of the quantile by a seeded bootstrap."""
    n = len(divergence)
    divergence = np.maximum(divergence, 0.0)
    share = float(agreement.mean())
    random = np.random.default_rng(0)
    samples = [np.quantile(random.choice(divergence, n), 0.999) for _ in range(BOOTSTRAP_ROUNDS)]
    return Distance(
        kl_mean=Estimate(float(divergence.mean()), standard_error(divergence)),
        kl_999=Estimate(float(np.quantile(divergence, 0.999)), float(np.std(samples))),
        kl_max=float(divergence.max()),
        top1_agreement=Estimate(share, math.sqrt(share * (1 - share) / n)),
        base_perplexity=perplexity(base_loss),
    )
