"""What a checkpoint folder is, in the words of `qwen35 info`."""

from pathlib import Path
from typing import Any

from qwen35_local import json_file
from qwen35_local.cli.info import bits_per_weight, config_facts, n_values, template, tokenizer, types
from qwen35_local.errors import naming
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import parameters
from qwen35_local.quantize.checkpoint import open_checkpoint
from qwen35_local.quantize.vocabulary import tokenizer_metadata


def describe_config(folder: Path, n_bytes: int) -> dict[str, Any]:
    """Of a checkpoint of `n_bytes` that is on a hub, of which the folder has config.json alone. Raises
    FormatError."""
    raw = json_file.read_object(folder / "config.json")
    with naming(folder / "config.json"):
        config = ModelConfig.from_hf(raw)
    counts = parameters(config)
    return _common(config) | {
        "name": None,
        "parameters": counts.text + counts.mtp,
        "bits_per_weight": 8 * n_bytes / (counts.text + counts.mtp),
        "types": [],
    }


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """The same plain values as for a GGUF; there is no `gguf_version`. The folder is whole, or FormatError says
    what is missing."""
    checkpoint = open_checkpoint(folder, allow_rounded=True)
    config = checkpoint.config
    tensors = list(checkpoint.entries.values())
    metadata = tokenizer_metadata(folder, checkpoint.raw_config, config.vocabulary, checkpoint.warnings)
    return _common(config) | {
        "file": str(folder),
        "bytes": sum(tensor.n_bytes for tensor in tensors),
        "name": checkpoint.name,
        "parameters": sum(map(n_values, tensors)),
        "bits_per_weight": bits_per_weight(tensors),
        "types": types(tensors),
        "tokenizer": tokenizer(metadata),
        "template": template(metadata),
        "warnings": checkpoint.warnings,
    }


def _common(config: ModelConfig) -> dict[str, Any]:
    """What the configuration says, and what no checkpoint that can be read has."""
    return {
        "gguf_version": None,
        "architecture": config.to_gguf()["general.architecture"],
        "license": None,
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
    }
