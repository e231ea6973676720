"""How much each kind of a model's tensors takes from its output when it is rounded: measured on the model itself.

The exact model reads a few texts. Then one kind of tensor at a time, the same matrix of every layer, has what is left
of its values after rounding to 4 bits, and the KL divergence of what comes next from the exact model's is taken.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.partial_file import PartialFile
from qwen35_local.quantize import writer
from qwen35_local.quantize.allocate import ERRORS
from qwen35_local.quantize.encode import Encoder
from qwen35_local.quantize.llama_types import fit, layer_of
from qwen35_local.quantize.plan import Plan, PlannedTensor
from qwen35_local.quantize.recipe import kind_of

_ROUNDED = "Q4_K"
_NOT_SOLVED = 2.0  # what solving takes off the errors of matrices in the layers, it does not of the others
_TEXTS = 8
_SCORED = 128  # the last tokens of each text
_PIECE = 32  # rows of logits at a time in double precision

_COMPARED = 3  # mixtures, in the end
_RUN = 6e10  # of one core, in products and sums a second

Floats = NDArray[np.float32]


def bytes_of_run(plan: Plan) -> int:
    """About what a model of this plan takes when it runs, and what its logits take."""
    vocabulary = next(t.shape[0] for t in plan.tensors if t.name == "token_embd.weight")
    return plan.n_bytes + _TEXTS * _SCORED * vocabulary * 4


def estimated_seconds(plan: Plan, texts: NDArray[np.int32], cores: int) -> float:
    """About how long measuring takes."""
    kinds = {kind_of(tensor.name, tensor.shape, plan.model) for tensor in plan.tensors}
    used = sum(t.n_values * (plan.model.share_of_experts if t.experts > 1 else 1.0) for t in plan.tensors)
    return (len(kinds) + _COMPARED) * 2 * used * texts[:_TEXTS].size / _RUN / cores


class Measurement:
    """An exact model and what it says of a few texts, against which it is measured after rounding."""

    def __init__(
        self, plan: Plan, encoder: Encoder, texts: NDArray[np.int32], folder: Path, *, threads: int = 0
    ) -> None:
        """`plan`: of a file as exact as the source. `texts` [texts, length], of which some are read. `folder`: for the
        header of that file. Raises Qwen35Error, OSError."""
        self._plan = plan
        self._tensors = {tensor.name: tensor for tensor in plan.tensors}
        self._encoder = encoder
        self._texts = texts[:_TEXTS]
        self._header = folder / "exact.gguf"
        self._threads = threads
        with PartialFile(self._header) as file:
            writer.begin(file, plan.metadata, plan.tensors)
            file.commit()
        self._exact = list(self._logits({}))

    def by_kind(self, progress: Callable[[str, int, int], None] | None = None) -> dict[str, float]:
        """KL divergence per value and unit of relative squared error. `progress` is given a kind, how many were before
        it and how many there are."""
        kinds: dict[str, list[PlannedTensor]] = {}
        for tensor in self._plan.tensors:
            kind = kind_of(tensor.name, tensor.shape, self._plan.model)
            if kind is not None:
                kinds.setdefault(kind, []).append(tensor)
        found: dict[str, float] = {}
        for kind, tensors in kinds.items():
            if progress is not None:
                progress(kind, len(found), len(kinds))
            types = {tensor.name: fit(_ROUNDED, tensor.cols) for tensor in tensors}
            errors = sum(ERRORS[types[tensor.name]] * tensor.n_values for tensor in tensors)
            weight = _NOT_SOLVED if layer_of(tensors[0].name) < 0 else 1.0
            found[kind] = weight * self.loss(types) / errors
        return found

    def loss(self, types: Mapping[str, str]) -> float:
        """Mean KL divergence from the exact model after rounding some tensors to these types."""
        rounded = self._logits(types)
        return float(np.mean([_divergence(base, logits) for base, logits in zip(self._exact, rounded, strict=True)]))

    def _logits(self, types: Mapping[str, str]) -> Iterator[Floats]:
        """Rows [n, V] of the last tokens of each text."""

        def encoded(name: str) -> NDArray[np.uint8]:
            tensor = self._tensors[name]
            return self._after_rounding(tensor, types.get(name, tensor.dtype))

        model = _core.Model(self._header, device="cpu", threads=self._threads, tensors=encoded)
        length = self._texts.shape[1]
        rows = min(_SCORED, length // 2)
        for text in self._texts:
            sequence = _core.Sequence(model, context_tokens=length)
            sequence.append(text[:-rows])
            yield sequence.append(text[-rows:], logits="all")

    def _after_rounding(self, tensor: PlannedTensor, dtype: str) -> NDArray[np.uint8]:
        """A tensor's values in its own type."""
        blocks = self._encoder.encode(replace(tensor, dtype=dtype))
        data = np.concatenate([part.data.reshape(-1) for part in blocks])
        if dtype == tensor.dtype:
            return data
        values = _core.decode(data, dtype, tensor.n_values).reshape(-1, tensor.cols)
        return _core.encode(values, tensor.dtype, threads=self._threads)


def _divergence(base: Floats, logits: Floats) -> float:
    """Mean KL divergence of rows of logits [n, V] from those of the base."""
    total = 0.0
    for first in range(0, len(base), _PIECE):
        b, x = (_log_probabilities(rows[first : first + _PIECE]) for rows in (base, logits))
        total += float((np.exp(b) * (b - x)).sum())
    return total / len(base)


def _log_probabilities(logits: Floats) -> NDArray[np.float64]:
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x
