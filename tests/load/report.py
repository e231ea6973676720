"""What a run counted, and what of it should not be."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    counts: Counter[str] = field(default_factory=Counter)
    figures: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)

    def __str__(self) -> str:
        counted = [f"{name}: {count:,}" for name, count in self.counts.items()]
        figures = [f"{name}: {text}" for name, text in self.figures.items()]
        faults = [f"FAULT: {fault}" for fault in self.faults[:20]] or ["no fault"]
        return "\n".join([*counted, *figures, *faults])


def percentile(values: list[float], share: float) -> float:
    """The smallest of the values that so many are not above."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def milliseconds(values: list[float]) -> str:
    """Of seconds."""
    shares = (("median", 0.5), ("p99", 0.99), ("worst", 1))
    return ", ".join(f"{name} {1000 * percentile(values, share):.0f} ms" for name, share in shares)
