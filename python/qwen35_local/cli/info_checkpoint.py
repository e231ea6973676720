"""What a checkpoint folder is, in the words of `qwen35 info`."""

from pathlib import Path
from typing import Any

from qwen35_local.cli.info import bits_per_weight, config_facts, n_values, template, tokenizer, types
from qwen35_local.quantize.checkpoint import open_checkpoint
from qwen35_local.quantize.vocabulary import tokenizer_metadata


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """The same plain values as for a GGUF; there is no `gguf_version`. The folder is whole, or FileFormatError says
    what is missing."""
    checkpoint = open_checkpoint(folder, allow_rounded=True)
    config = checkpoint.config
    tensors = list(checkpoint.entries.values())
    metadata = tokenizer_metadata(folder, checkpoint.raw_config, config.vocabulary, checkpoint.warnings)
    return {
        "file": str(folder),
        "bytes": sum(tensor.n_bytes for tensor in tensors),
        "gguf_version": None,
        "architecture": config.to_gguf()["general.architecture"],
        "name": checkpoint.name,
        "license": None,
        "parameters": sum(map(n_values, tensors)),
        "bits_per_weight": bits_per_weight(tensors),
        "types": types(tensors),
        "tokenizer": tokenizer(metadata),
        "template": template(metadata),
        "kind": "model",
        "is_supported": True,
        "refusal": None,
        "notices": [],
        "vision_tensors": 0,
        "vision_bytes": 0,
        "problems": [],
        **config_facts(config),
        "missing_tensors": [],
        "unexpected_tensors": [],
        "warnings": checkpoint.warnings,
    }
