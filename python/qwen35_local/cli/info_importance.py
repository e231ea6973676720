"""`qwen35 info` of an importance matrix: what it was measured on, and what of the model it did not see."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen35_local.units import counted

if TYPE_CHECKING:
    from qwen35_local import _core
    from qwen35_local.quantize.importance import Importance


def add(facts: dict[str, Any], path: Path, file: "_core.GgufFile") -> None:
    """To the facts of its GGUF; what is wrong with it is a problem among them."""
    from qwen35_local.errors import FormatError
    from qwen35_local.quantize import importance

    try:
        facts["importance"] = describe(importance.of_gguf(path, file))
    except FormatError as error:
        facts["problems"].append(str(error))


def describe_older(path: Path) -> dict[str, Any] | None:
    """Of the format before GGUF; None where the file is none. Raises OSError."""
    from qwen35_local.errors import FormatError
    from qwen35_local.quantize import importance

    try:
        measured = describe(importance.read(path))
    except FormatError:
        return None
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "gguf_version": None,
        "kind": "importance matrix",
        "is_supported": False,
        "problems": [],
        "importance": measured,
    }


def describe(measured: "Importance") -> dict[str, Any]:
    counts = [inputs.counts for inputs in measured.inputs.values()]
    return {
        "datasets": measured.datasets,
        "chunks": measured.chunks,
        "chunk_tokens": None if measured.is_legacy else measured.chunk_tokens,
        "tensors": len(counts),
        "tokens": None if measured.is_legacy else max(int(own.max()) for own in counts),
        "experts": sum(len(own) for own in counts if len(own) > 1),
        "experts_without_tokens": sum(int((own == 0).sum()) for own in counts if len(own) > 1),
    }


def importance_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    found = facts["importance"]
    version = facts["gguf_version"]
    format = f"GGUF v{version}" if version else "the format before GGUF"
    tokens = "" if found["tokens"] is None else f", {counted(found['tokens'], 'token')} at most for one"
    length = "of a length that is not said" if found["chunk_tokens"] is None else f"of {found['chunk_tokens']:,} tokens"
    rows = [
        ("file", f"{facts['file']} ({facts['bytes'] / 1e6:,.1f} MB, {format})"),
        ("kind", "importance matrix, which guides a quantiser and is no model"),
        ("measured", f"{counted(found['tensors'], 'tensor')}{tokens}"),
        ("chunks", f"{found['chunks']:,} {length}"),
        ("text", ", ".join(found["datasets"]) or "not said"),
    ]
    if found["experts"]:
        unseen = f"{found['experts_without_tokens']:,} of {found['experts']:,} without a token"
        rows.append(("experts", f"{unseen}, counted in every tensor"))
    return rows + [("problem", problem) for problem in facts["problems"]]
