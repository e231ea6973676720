"""What a conversion did, or would do."""

import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from qwen35_local.quantize.llama_types import part_of
from qwen35_local.quantize.solve import Outcome

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class TensorReport:
    """One tensor of the output. `relative_rmse` is the root of (squared error / squared values), 0 where it is kept
    as it was and None when nothing was encoded. `calibration`: of a tensor that was calibrated."""

    name: str
    dtype: str
    n_values: int
    n_bytes: int
    relative_rmse: float | None
    calibration: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The closing report. Sizes in bytes; `seconds` and `peak_bytes` are 0 for a dry run; `peak_bytes` is the highest
    resident memory of this process so far, 0 where the system does not tell."""

    source: Path
    path: Path
    file_type: str
    name: str
    tensors: list[TensorReport]
    source_bytes: int
    file_bytes: int
    vision: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_bytes: int = 0
    is_dry_run: bool = False

    @property
    def n_values(self) -> int:
        return sum(tensor.n_values for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return sum(tensor.n_bytes for tensor in self.tensors) * 8 / self.n_values

    def bytes_by_type(self) -> dict[str, int]:
        """Type to bytes, most bytes first."""
        total: dict[str, int] = {}
        for tensor in self.tensors:
            total[tensor.dtype] = total.get(tensor.dtype, 0) + tensor.n_bytes
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    def kinds_of(self, dtype: str) -> Counter[str]:
        """How many tensors of each use have a type: "ffn_down" to 8, of as many layers."""
        return Counter(part_of(t.name).removesuffix(".weight") for t in self.tensors if t.dtype == dtype)

    def worst(self, n: int = 5) -> list[TensorReport]:
        """The tensors with the largest relative error, worst first."""
        measured = [tensor for tensor in self.tensors if tensor.relative_rmse]
        return sorted(measured, key=lambda tensor: -(tensor.relative_rmse or 0.0))[:n]

    def to_json(self) -> dict[str, object]:
        """Everything, as plain JSON values."""
        return {
            "source": str(self.source),
            "path": str(self.path),
            "file_type": self.file_type,
            "name": self.name,
            "dry_run": self.is_dry_run,
            "parameters": self.n_values,
            "bits_per_weight": round(self.bits_per_weight, 4),
            "source_bytes": self.source_bytes,
            "file_bytes": self.file_bytes,
            "bytes_by_type": self.bytes_by_type(),
            "worst": [asdict(tensor) for tensor in self.worst()],
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "vision_left_out": self.vision,
            "warnings": self.warnings,
            "seconds": round(self.seconds, 3),
            "peak_bytes": self.peak_bytes,
        }


def peak_memory() -> int:
    """Highest resident memory of this process in bytes, 0 where the system does not tell."""
    if _STATUS.exists():  # getrusage would count what the parent process had when it forked
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
