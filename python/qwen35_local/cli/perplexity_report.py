"""What `qwen35 perplexity` prints of its scores: lines for people, or everything as JSON."""

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen35_local.units import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qwen35_local.engine.estimate import Estimate
    from qwen35_local.engine.quality import Comparison, Distance, Quality, Scores

Row = tuple[str, str]


def text_facts(file: Path | None, ids: Path | None, tokens: "NDArray[np.int32]") -> dict[str, Any]:
    """Which text: its path, the SHA-256 of the file unless it was a pipe, and that of the token ids as little-endian
    int32, which are the same however they were given."""
    path = file or ids
    digest = None
    if path is not None and path.is_file():
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "file": None if file is None else str(file),
        "ids": None if ids is None else str(ids),
        "sha256": digest,
        "ids_sha256": hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest(),
        "tokens": len(tokens),
    }


def show(subject: dict[str, Any], scores: "Scores", *, as_json: bool) -> None:
    """`subject`: what was measured, as JSON has it."""
    from qwen35_local.engine import quality

    whole = quality.summary(scores)
    parts = quality.halves(scores) if "target" in (scores.dtype.names or ()) else {}
    if as_json:
        split = {name: None if part is None else part.as_dict() for name, part in parts.items()}
        sys.stdout.write(json.dumps(subject | whole.as_dict() | split) + "\n")
        return
    rows = [
        ("tokens scored", f"{whole.scored} of {subject['tokens']}"),
        ("windows", windows(whole.windows, subject["window"])),
        *results(whole),
    ]
    for name, part in parts.items():
        rows.append((name, "none scored" if part is None else f"{counted(part.scored, 'token')} scored"))
        rows += [] if part is None else [(f"  {label}", value) for label, value in results(part)]
    width = max(31, *(len(label) + 2 for label, _ in rows))
    for label, value in rows:
        sys.stdout.write(f"{label:<{width}}{value}\n")


def windows(n: int, window: int) -> str:
    from qwen35_local.engine.estimate import ROUGH_BELOW

    said = f"{n:,} of {window:,} tokens"
    if n == 1:
        return f"{said}: no errors, which are from window to window"
    return f"{said}: the errors are rough, from {ROUGH_BELOW} on they are fair" if n < ROUGH_BELOW else said


def results(of: "Quality") -> list[Row]:
    rows = [("perplexity", spelled(of.perplexity, 4))]
    if of.distance is not None:
        rows += [("base perplexity", spelled(of.distance.base_perplexity, 4)), *distances(of.distance)]
    if of.comparison is not None:
        rows += comparisons(of.comparison)
    return rows


def distances(of: "Distance") -> list[Row]:
    return [
        ("KL divergence, mean", f"{spelled(of.kl_mean, 6)} nats"),
        ("KL divergence, 99.9 %", f"{spelled(of.kl_999, 6)} nats"),
        ("KL divergence, largest", f"{of.kl_max:.6f} nats"),
        ("same top token", f"{spelled(of.top1_agreement, 3, 100)} %"),
    ]


def comparisons(of: "Comparison") -> list[Row]:
    ratio = "none: the other is at no distance" if of.kl_ratio is None else spelled(of.kl_ratio, 4)
    return [
        ("other: perplexity", spelled(of.perplexity, 4)),
        *((f"other: {label}", value) for label, value in distances(of.distance)),
        ("KL mean less other's", f"{spelled(of.kl_difference, 6)} nats"),
        ("KL mean over other's", ratio),
        ("same top less other's", f"{spelled(of.top1_difference, 3, 100)} %"),
    ]


def spelled(of: "Estimate", digits: int, scale: float = 1) -> str:
    value = f"{scale * of.value:.{digits}f}"
    return value if of.error is None else f"{value} ± {scale * of.error:.{digits}f}"
