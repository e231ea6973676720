"""Checkpoint folder in, GGUF out, in constant memory."""

from qwen35_local.quantize.convert import TensorProgress, convert
from qwen35_local.quantize.recipe import DEFAULT_TYPE, FILE_TYPES
from qwen35_local.quantize.report import Report, TensorReport

__all__ = ["DEFAULT_TYPE", "FILE_TYPES", "Report", "TensorProgress", "TensorReport", "convert"]
