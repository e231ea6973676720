"""A quantized local runtime for the Qwen3.5 family."""

__version__ = "0.1.0"
