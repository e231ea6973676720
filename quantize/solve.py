"""Matrices rounded with the moments of their inputs, each kept only where it is better on texts held out."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import numpy as np

from qwen35_local import _core
from qwen35_local.quantize.calibrate import Calibrator, LayerGroup, Moments
from qwen35_local.quantize.encode import Encoder, Slice, measured
from qwen35_local.quantize.kept import KeptTensors
from qwen35_local.quantize.plan import PlannedTensor

# 8-bit types lose too little for feedback to matter.
SOLVED_TYPES = ("Q3_K", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a tensor: of how many matrices, for how many the solved one was kept, and the squared error on
    held-out texts over that of rounding by importance."""

    matrices: int
    kept: int
    error_ratio: float


@dataclass(slots=True)
class _Matrix:
    """One way to encode a matrix."""

    slices: list[Slice] = field(default_factory=list)
    error: float = 0.0  # on held-out texts


class Solver:
    """Encodes planned tensors in the order of the layers, measuring a group of layers when its first tensor comes."""

    def __init__(
        self,
        encoder: Encoder,
        calibrator: Calibrator,
        kept: KeptTensors,
        *,
        progress: Callable[[int], None] | None,
        threads: int,
    ) -> None:
        self._encoder = encoder
        self._calibrator = calibrator
        self._kept = kept
        self._progress = progress
        self._threads = threads
        self._group: LayerGroup | None = None
        self._moments: Moments | None = None
        self.outcomes: dict[str, Outcome] = {}

    def encode(self, tensor: PlannedTensor) -> Iterator[Slice]:
        """The slices of a tensor in order. Raises FormatError, InputError, OSError."""
        group = self._calibrator.group_of(tensor.name)
        if group is None or tensor.is_copied or tensor.dtype not in SOLVED_TYPES:
            yield from self._encoder.encode(tensor)
            return
        found = self._kept.find(tensor.name)
        if found is None:
            moments = self._of(group)
            if tensor.name not in moments:
                yield from self._encoder.encode(tensor)
                return
            whole = self._solved(tensor, moments)
        else:
            blocks, notes = found
            whole = Slice(blocks, tensor.source_bytes, float(str(notes.pop("power"))), float(str(notes.pop("error"))))
            self.outcomes[tensor.name] = Outcome(**notes)  # type: ignore[arg-type]
        yield whole

    def _of(self, group: LayerGroup) -> Moments:
        if group != self._group or self._moments is None:
            self._moments = None  # before the next takes memory
            if self._group is not None:
                self._calibrator.forget(self._group)
            self._moments, self._group = self._calibrator.measure(group, self._progress), group
        return self._moments

    def _solved(self, tensor: PlannedTensor, moments: Moments) -> Slice:
        slices: list[Slice] = []
        kept, error, plain_error = 0, 0.0, 0.0
        for expert in range(tensor.experts):
            plain, solved = self._both(tensor, expert, moments)
            better = solved if solved.error < plain.error else plain
            kept += better is solved
            error, plain_error = error + better.error, plain_error + plain.error
            slices += better.slices
        outcome = Outcome(tensor.experts, kept, error / plain_error if plain_error > 0 else 1.0)
        whole = Slice(
            np.concatenate([part.data for part in slices]),
            tensor.source_bytes,
            sum(part.power for part in slices),
            sum(part.error for part in slices),
        )
        self._kept.keep(tensor.name, whole.data, {**asdict(outcome), "power": whole.power, "error": whole.error})
        self.outcomes[tensor.name] = outcome
        return whole

    def _both(self, tensor: PlannedTensor, expert: int, moments: Moments) -> tuple[_Matrix, _Matrix]:
        """A matrix rounded by importance, and solved."""
        factor, judge = moments.factor(tensor.name, expert), moments.held_out(tensor.name, expert)
        importance = moments.mean_squares(tensor.name, expert)
        plain, solved = _Matrix(), _Matrix()
        for runs in self._encoder.slices(tensor, expert):
            values = self._encoder.values(tensor, runs)
            read = self._encoder.source_bytes(tensor, runs)
            for matrix, data in (
                (plain, _core.encode(values, tensor.dtype, importance=importance, threads=self._threads)),
                (solved, _core.solve(values, tensor.dtype, factor, threads=self._threads)),
            ):
                matrix.slices.append(measured(tensor, values, data, read))
                matrix.error += _core.weighted_error(values, data, tensor.dtype, judge, threads=self._threads)
        return plain, solved
