"""How good a model is: perplexity of a text, its distance from a base, and from another model's distance from it.

Shapes: T tokens, V vocabulary rows. Logarithms are natural.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.engine.estimate import Estimate, exponential, mean, quantile, ratio
from qwen35_local.errors import InputError
from qwen35_local.models.kv import KvFormat
from qwen35_local.progress import Progress

PIECE_TOKENS = 64

SCORED = [("position", "<i8"), ("window", "<i4"), ("token", "<i4"), ("log_prob", "<f8")]
AGAINST = [("base_log_prob", "<f8"), ("kl", "<f8"), ("same_top", "?")]
VERSUS = [("other_log_prob", "<f8"), ("other_kl", "<f8"), ("other_same_top", "?")]
TARGETS = [("target", "?")]

Floats = NDArray[np.float64]
Scores = NDArray[np.void]
"""One record per scored token: its place in the text, its window, its id and log probability; with a base, the base's
log probability, KL(base || model) of the whole row and whether both prefer one token; the same of another model; with a
mask, whether it is set here. Columns: SCORED, then AGAINST, VERSUS and TARGETS where there is such a thing."""


@dataclass(frozen=True)
class Distance:
    """KL divergence of a model from the base, KL(base || model) in nats, and how often both prefer one token."""

    kl_mean: Estimate
    kl_999: Estimate
    kl_max: float
    top1_agreement: Estimate
    base_perplexity: Estimate


@dataclass(frozen=True)
class Comparison:
    """Another model's distance from the same base, and this model's beside it, token by token: the error of a
    difference is that of the differences. `kl_ratio` is None where the other is at no distance."""

    perplexity: Estimate
    distance: Distance
    kl_difference: Estimate
    kl_ratio: Estimate | None
    top1_difference: Estimate


@dataclass(frozen=True)
class Quality:
    scored: int
    windows: int
    perplexity: Estimate
    distance: Distance | None
    comparison: Comparison | None

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


def score(
    source: LogitSource,
    tokens: NDArray[np.int32],
    *,
    window: int,
    base: LogitSource | None = None,
    other: LogitSource | None = None,
    targets: NDArray[np.bool_] | None = None,
    keep: Callable[[NDArray[np.float32]], None] = lambda rows: None,
    progress: Progress = lambda done, total: None,
) -> Scores:
    """Scores of `tokens` [T] in windows, piece by piece; the first token of a window and its warm-up have none.

    `other` needs a `base`; `targets` [T] is the mask; `keep` is handed every row of the source's logits in order.
    Raises InputError when there is nothing to score or the vocabularies differ.
    """
    spans = windows(len(tokens), window)
    n_scored = sum(end - start - first - 1 for start, end, first in spans)
    if n_scored < 1:
        raise InputError(f"{len(tokens)} tokens in windows of {window}: none has one before it to be scored by")
    sources = [source] + [more for more in (base, other) if more is not None]
    for more in sources[1:]:
        if more.n_vocab != source.n_vocab:
            raise InputError(f"the vocabularies differ: {source.n_vocab} rows against {more.n_vocab}")
    columns = SCORED + AGAINST * (base is not None) + VERSUS * (other is not None) + TARGETS * (targets is not None)
    scores: Scores = np.zeros(n_scored, columns)
    total = sum(end - start for start, end, _ in spans)
    filled = done = 0
    for number, (start, end, first) in enumerate(spans):
        for each in sources:
            each.begin()
        for at in range(start, end, PIECE_TOKENS):
            stop = min(at + PIECE_TOKENS, end)
            logits = [each.read(tokens[at:stop]) for each in sources]
            keep(logits[0])
            scored = range(max(at, start + first), min(stop, end - 1))  # rows; each predicts the token behind it
            if scored:
                rows = scores[filled : filled + len(scored)]
                rows["window"] = number
                rows["position"] = np.arange(scored.start, scored.stop) + 1
                rows["token"] = tokens[rows["position"]]
                if targets is not None:
                    rows["target"] = targets[rows["position"]]
                fill(rows, [each[scored.start - at : scored.stop - at] for each in logits])
                filled += len(scored)
            done += stop - at
            progress(done, total)
    return scores


def fill(rows: Scores, logits: list[NDArray[np.float32]]) -> None:
    """What `rows` say of the model's logits, the base's and the other's, each [len(rows), V]."""
    at = np.arange(len(rows)), rows["token"]
    here = log_softmax(logits[0])
    rows["log_prob"] = here[at]
    if len(logits) == 1:
        return
    there = log_softmax(logits[1])
    rows["base_log_prob"] = there[at]
    rows["kl"], rows["same_top"] = divergence(there, here)
    if len(logits) == 3:
        here = log_softmax(logits[2])
        rows["other_log_prob"] = here[at]
        rows["other_kl"], rows["other_same_top"] = divergence(there, here)


def divergence(there: Floats, here: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """KL(there || here) of rows of log probabilities, and whether both have one largest entry."""
    weighted = np.where(np.isfinite(there), np.exp(there) * (there - here), 0.0)
    return np.maximum(weighted.sum(axis=1), 0.0), here.argmax(axis=1) == there.argmax(axis=1)


def summary(scores: Scores) -> Quality:
    """Of one token or more."""
    window = scores["window"]
    names = scores.dtype.names or ()
    return Quality(
        scored=len(scores),
        windows=len(np.unique(window)),
        perplexity=exponential(mean(-scores["log_prob"], window)),
        distance=distance(scores, "") if "kl" in names else None,
        comparison=comparison(scores) if "other_kl" in names else None,
    )


def distance(scores: Scores, whose: str) -> Distance:
    """`whose`: "" of the model itself, "other_" of the other."""
    window, kl = scores["window"], scores[f"{whose}kl"]
    return Distance(
        kl_mean=mean(kl, window),
        kl_999=quantile(kl, 0.999, window),
        kl_max=float(kl.max()),
        top1_agreement=mean(scores[f"{whose}same_top"], window),
        base_perplexity=exponential(mean(-scores["base_log_prob"], window)),
    )


def comparison(scores: Scores) -> Comparison:
    window, kl, other_kl = scores["window"], scores["kl"], scores["other_kl"]
    return Comparison(
        perplexity=exponential(mean(-scores["other_log_prob"], window)),
        distance=distance(scores, "other_"),
        kl_difference=mean(kl - other_kl, window),
        kl_ratio=ratio(kl, other_kl, window),
        top1_difference=mean(scores["same_top"].astype(float) - scores["other_same_top"], window),
    )


def halves(scores: Scores) -> dict[str, Quality | None]:
    """Of the tokens that the mask is set for, and of the rest; None where there are none."""
    parts = {"targets": scores[scores["target"]], "rest": scores[~scores["target"]]}
    return {name: summary(part) if len(part) else None for name, part in parts.items()}
