"""The `general.*` metadata of a converted checkpoint: what it is called, how big it is, where it came from."""

import re
from pathlib import Path

from qwen35_local import json_file
from qwen35_local.models.tensors import tensor_table
from qwen35_local.quantize import recipe
from qwen35_local.quantize.checkpoint import Checkpoint
from qwen35_local.quantize.vocabulary import tokenizer_metadata

QUANTIZATION_VERSION = 2  # of ggml's block formats
_SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])\d+(\.\d+)?[BM](-A\d+(\.\d+)?B)?(?![A-Za-z0-9])")
_CARD_KEYS = {
    "license": "general.license",
    "license_name": "general.license.name",
    "license_link": "general.license.link",
}
_SAMPLING = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
}


def checkpoint_metadata(checkpoint: Checkpoint, preset: str, name: str) -> dict[str, object]:
    """All metadata of the file a Hugging Face folder becomes. Raises FormatError."""
    count = 0
    for spec in tensor_table(checkpoint.config):
        size = 1
        for n in spec.shape:
            size *= n
        count += size
    model = dict(checkpoint.config.to_gguf())
    metadata: dict[str, object] = {"general.architecture": model.pop("general.architecture")}
    metadata |= {"general.type": "model", "general.name": name, "general.size_label": size_label(name, count)}
    metadata |= _card(checkpoint.folder / "README.md")
    if checkpoint.repository:
        metadata["general.source.url"] = f"https://huggingface.co/{checkpoint.repository}"
    metadata["general.parameter_count"] = count
    metadata |= _sampling(checkpoint.folder)
    metadata |= file_metadata(preset)
    metadata |= model
    return metadata | tokenizer_metadata(
        checkpoint.folder, checkpoint.raw_config, checkpoint.config.vocabulary, checkpoint.warnings
    )


def file_metadata(preset: str) -> dict[str, object]:
    """The two keys that say how a file is quantised."""
    return {
        "general.file_type": recipe.file_type(preset).number,
        "general.quantization_version": QUANTIZATION_VERSION,
    }


def size_label(name: str, parameter_count: int) -> str:
    """The size a model's name states ("35B-A3B"), else its parameter count in two digits or more ("8.3M")."""
    found = _SIZE_IN_NAME.search(name)
    if found:
        return found[0]
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if parameter_count >= scale:
            return f"{parameter_count / scale:.{1 if parameter_count < 10 * scale else 0}f}{suffix}"
    return f"{parameter_count / 1e3:.0f}K"


def _card(path: Path) -> dict[str, object]:
    """Licence lines of a model card's front matter; only plain `key: value` lines are read."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        lines = file.read(1 << 16).decode("utf-8", "replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    found: dict[str, object] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            return found
        key, _, value = line.partition(":")
        value = value.strip().strip("'\"")
        if key in _CARD_KEYS and value and len(value) < 1000:
            found[_CARD_KEYS[key]] = value
    return {}


def _sampling(folder: Path) -> dict[str, object]:
    settings = json_file.read_object_if_there(folder / "generation_config.json")
    found: dict[str, object] = {}
    for key, name in _SAMPLING.items():
        value = settings.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = int(value) if key == "top_k" else float(value)
    return found
