"""Where a model comes from: a Hugging Face folder or a GGUF."""

from pathlib import Path

from qwen35_local.errors import InputError
from qwen35_local.quantize.checkpoint import open_checkpoint
from qwen35_local.quantize.gguf_source import open_gguf, plan_gguf
from qwen35_local.quantize.metadata import checkpoint_metadata
from qwen35_local.quantize.plan import Plan, plan_checkpoint
from qwen35_local.quantize.recipe import Mixture


def plan_of(source: Path, mixture: Mixture, allow_requantize: bool) -> tuple[str, Plan]:
    """The model's own name, and what will be written. Raises FormatError, InputError."""
    if source.is_dir():
        checkpoint = open_checkpoint(source, allow_rounded=allow_requantize)
        return checkpoint.name, plan_checkpoint(
            checkpoint, mixture, checkpoint_metadata(checkpoint, mixture.preset, checkpoint.name)
        )
    if source.is_file():
        if source.suffix == ".safetensors":
            raise InputError(f"{source}: give the folder of the checkpoint, not one of its files.")
        gguf = open_gguf(source)
        return gguf.name, plan_gguf(gguf, mixture, allow_requantize=allow_requantize)
    raise InputError(f"{source}: no such folder or file; expected a Hugging Face checkpoint folder or a GGUF.")
