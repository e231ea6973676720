"""A configuration whose context YaRN extends."""

from dataclasses import replace

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.rope import Yarn


def with_yarn(config: ModelConfig, factor: float) -> ModelConfig:
    return replace(config, yarn=Yarn(factor=factor, original_context_tokens=config.context_tokens))
