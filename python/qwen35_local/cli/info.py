"""`qwen35 info`: what a model is, from headers alone."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from qwen35_local.cli.argument import MODEL_HELP
from qwen35_local.units import counted

if TYPE_CHECKING:
    from qwen35_local import _core
    from qwen35_local.models.config import ModelConfig


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL_HELP}.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """What a model is: size, tensor types with bits per weight, context, tokenizer, template, what is missing."""
    from qwen35_local.cli.info_checkpoint import describe_checkpoint, describe_config
    from qwen35_local.cli.model import find, header_of
    from qwen35_local.hub.resolve import Absent, Checkpoint

    found, offer = find(model), None
    if isinstance(found, Absent):
        found, offer = header_of(found)
    if isinstance(found, Checkpoint):
        facts = describe_checkpoint(found.folder) if offer is None else describe_config(found.folder, offer.n_bytes)
    else:
        facts = describe_file(found.path, is_whole=offer is None)
    if offer is not None:
        facts |= {"file": f"{offer.repository}/{offer.files[0].path}", "bytes": offer.n_bytes}
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        show(facts)


def describe_file(path: Path, *, is_whole: bool) -> dict[str, Any]:
    """A GGUF, or its header alone, or an importance matrix in either format. Raises FormatError, OSError."""
    from qwen35_local import _core
    from qwen35_local.cli import info_importance
    from qwen35_local.errors import FormatError

    try:
        file = _core.GgufFile(path, header=not is_whole)
    except FormatError:
        older = info_importance.describe_older(path)
        if older is None:
            raise
        return older
    facts = describe(path, file)
    if file.kind == "importance matrix" and is_whole:
        info_importance.add(facts, path, file)
    return facts


def describe(path: Path, file: "_core.GgufFile") -> dict[str, Any]:
    """Plain values only. A file of another architecture is described as far as that goes."""
    from qwen35_local.errors import Qwen35Error
    from qwen35_local.fields import TEXT, Fields

    metadata, tensors, problems = file.metadata, file.tensors, []
    texts: dict[str, str | None] = dict.fromkeys(("architecture", "name", "license"))
    for key in texts:
        try:
            texts[key] = Fields(metadata).find(f"general.{key}", TEXT)
        except Qwen35Error as error:
            problems.append(str(error))
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": file.n_bytes,
        "gguf_version": file.version,
        **texts,
        "parameters": sum(n_values(tensor) for tensor in tensors),
        "bits_per_weight": bits_per_weight(tensors),
        "types": types(tensors),
        "tokenizer": tokenizer(metadata),
        "template": template(metadata),
        "kind": file.kind,
        "is_supported": file.refusal is None,
        "refusal": file.refusal,
        "notices": file.notices,
        "vision_tensors": len(file.vision),
        "vision_bytes": sum(tensor.n_bytes for tensor in file.vision),
        "problems": problems,
    }
    if file.kind == "model":
        try:
            facts.update(model_facts(file))
        except Qwen35Error as error:
            problems.append(str(error))
    return facts


class Tensor(Protocol):
    """As a GGUF and a checkpoint list them."""

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def n_bytes(self) -> int: ...


def n_values(tensor: Tensor) -> int:
    values = 1
    for extent in tensor.shape:
        values *= extent
    return values


def bits_per_weight(tensors: Sequence[Tensor]) -> float:
    values = sum(map(n_values, tensors))
    return 8 * sum(tensor.n_bytes for tensor in tensors) / values if values else 0.0


def types(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """One row per tensor type, the largest share first."""
    rows = []
    for dtype in {tensor.dtype for tensor in tensors}:
        chosen = [tensor for tensor in tensors if tensor.dtype == dtype]
        rows.append(
            {
                "type": dtype,
                "tensors": len(chosen),
                "bytes": sum(tensor.n_bytes for tensor in chosen),
                "bits_per_weight": bits_per_weight(chosen),
            }
        )
    return sorted(rows, key=lambda row: -row["bytes"])


def tokenizer(metadata: dict[str, Any]) -> dict[str, Any] | None:
    from qwen35_local.errors import Qwen35Error
    from qwen35_local.text.vocabulary import TokenKind, Vocabulary

    if not any(key.startswith("tokenizer.ggml.") for key in metadata):
        return None
    try:
        listed = Vocabulary.read(metadata)
    except Qwen35Error as error:
        return {"model": None, "problem": str(error)}
    return {
        "model": listed.model,
        "pre": listed.pre,
        "tokens": len(listed.tokens),
        "padding": listed.kinds.count(TokenKind.UNUSED),
        "merges": len(listed.merges or ()),
        "eos_token_id": listed.eos_id,
    }


def template(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """The family's template that the file's own is equal to, or "jinja" for another's."""
    from qwen35_local.chat.carried import carried_template
    from qwen35_local.chat.template import Template
    from qwen35_local.errors import Qwen35Error

    try:
        if carried_template(metadata) is None:
            return None
        found = Template.for_file(metadata)
    except Qwen35Error as error:
        return {"name": None, "problem": str(error)}
    return {"name": found.name, "origin": found.origin, "sha256": found.digest}


def model_facts(file: "_core.GgufFile") -> dict[str, Any]:
    """Layers, context and the tensors that the configuration calls for but the file lacks, or has beyond them. Raises
    FormatError."""
    from qwen35_local.models.config import ModelConfig
    from qwen35_local.models.tensors import gguf_shapes

    shapes = {tensor.name: tensor.shape for tensor in file.tensors}
    embedding = shapes.get("token_embd.weight")
    config = ModelConfig.from_gguf(
        file.metadata,
        vocabulary=embedding[0] if embedding else None,
        embeddings_are_tied="output.weight" not in shapes,
    )
    expected = set(gguf_shapes(config, shapes))
    return {
        **config_facts(config),
        "missing_tensors": sorted(expected - set(shapes)),
        "unexpected_tensors": sorted(set(shapes) - expected),
    }


def config_facts(config: "ModelConfig") -> dict[str, Any]:
    return {
        "layers": config.layers,
        "attention_layers": len(config.full_attention_layers),
        "hidden": config.hidden,
        "experts": config.experts,
        "experts_per_token": config.experts_per_token,
        "vocabulary": config.vocabulary,
        "context_tokens": config.context_tokens,
        "has_mtp": config.mtp_layers > 0,
    }


def show(facts: dict[str, Any]) -> None:
    from qwen35_local.cli.info_importance import importance_rows
    from qwen35_local.cli.terminal import printable_line

    for label, value in importance_rows(facts) if "importance" in facts else model_rows(facts):
        sys.stdout.write(f"{label:<12}{printable_line(value)}\n")


def model_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    kind = f"GGUF v{facts['gguf_version']}" if facts["gguf_version"] else "checkpoint"
    rows = [
        ("file", f"{facts['file']} ({facts['bytes'] / 1e6:,.1f} MB, {kind})"),
        ("model", f"{facts['name'] or '(unnamed)'} · {facts['architecture'] or 'no architecture'}"),
        ("parameters", f"{facts['parameters']:,} at {facts['bits_per_weight']:.2f} bits per weight"),
    ]
    if facts["kind"] != "model":
        rows.append(("kind", facts["kind"]))
    for row in facts["types"]:
        size = f"{row['bytes'] / 1e6:,.1f} MB at {row['bits_per_weight']:.2f} bits per weight"
        rows.append(("", f"{row['type']:<7} {counted(row['tensors'], 'tensor')}, {size}"))
    if "layers" in facts:
        experts = f" · {facts['experts_per_token']} of {facts['experts']} experts" if facts["experts"] else ""
        rows += [
            (
                "layers",
                f"{facts['layers']}, {facts['attention_layers']} with attention · hidden {facts['hidden']}{experts}",
            ),
            ("context", f"{facts['context_tokens']:,} tokens"),
            ("MTP", "yes" if facts["has_mtp"] else "no"),
        ]
    if facts["vision_tensors"]:
        size = f"{facts['vision_bytes'] / 1e6:,.1f} MB"
        rows.append(("vision", f"{counted(facts['vision_tensors'], 'tensor')}, {size}, not used"))
    if "tokenizer" in facts:
        rows += [("tokenizer", describe_tokenizer(facts)), ("template", describe_template(facts))]
    rows += [("license", str(facts["license"]))] if facts["license"] else []
    return rows + problems(facts)


def describe_tokenizer(facts: dict[str, Any]) -> str:
    t = facts["tokenizer"]
    if t is None:
        return "none"
    if "problem" in t:
        return f"unusable: {t['problem']}"
    return (
        f"{t['model']} / {t['pre']} · {t['tokens']:,} tokens, {t['padding']} of them padding · {t['merges']:,} merges"
    )


def describe_template(facts: dict[str, Any]) -> str:
    t = facts["template"]
    if t is None:
        return "none"
    return f"{t['name']} ({t['origin']})" if t["name"] else f"unusable: {t['problem']}"


def problems(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("note", text) for text in facts["notices"]]
    if facts["refusal"]:
        rows.append(("problem", facts["refusal"]))
    rows += [("problem", problem) for problem in facts["problems"]]
    for label in ("missing", "unexpected"):
        names = facts.get(f"{label}_tensors")
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            rows.append((label, ", ".join(names[:5]) + more))
    return rows + [("warning", warning) for warning in facts.get("warnings", ())]
