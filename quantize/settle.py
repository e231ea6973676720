"""Where config.json and the tensors disagree, the tensors are right; what was believed against config.json is said."""

from dataclasses import replace
from typing import Any

import numpy as np

from qwen35_local.errors import FormatError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import SIZES
from qwen35_local.quantize.rows import Entry, RowReader

_TABLE, _HEAD = "embed_tokens.weight", "lm_head.weight"
_CHUNK_VALUES = 1 << 20

Entries = dict[str, Entry]


def settle_rows(fields: dict[str, Any], entries: Entries, warnings: list[str]) -> ModelConfig:
    """The configuration of `fields`, those of config.json, with as many tokens as the embedding table has rows. Raises
    FormatError."""
    table = entries.get(_TABLE)
    if table is None or len(table.shape) != 2 or table.shape[0] == fields["vocabulary"]:
        return ModelConfig(**fields)
    rows = table.shape[0]
    warnings.append(
        f"config.json says vocab_size {fields['vocabulary']}; the embedding table has {rows} rows, which count"
    )
    # Which token lacks a row is for the tokenizer to say.
    return ModelConfig(**fields | {"vocabulary": rows, "eos_ids": tuple(t for t in fields["eos_ids"] if t < rows)})


def settle_mtp(config: ModelConfig, entries: Entries, warnings: list[str]) -> ModelConfig:
    """There is an MTP block when there are tensors of one."""
    is_there = any(name.startswith("mtp.") for name in entries)
    if is_there == bool(config.mtp_layers):
        return config
    if config.mtp_layers:
        warnings.append("config.json announces an MTP block that the checkpoint lacks; converted without it")
    return replace(config, mtp_layers=int(is_there))


def settle_head(
    config: ModelConfig, is_stated: bool, entries: Entries, left_out: list[str], warnings: list[str]
) -> ModelConfig:
    """The output matrix is the embedding table when there is no other, or one with the same values (which is left
    out). `is_stated`: config.json has `tie_word_embeddings`. Raises FormatError when a matrix must be missing."""
    flag = str(config.embeddings_are_tied).lower() if is_stated else "missing"
    said = f"tie_word_embeddings is {flag} in config.json"
    table, head = entries.get(_TABLE), entries.get(_HEAD)
    if table is None:
        return config
    if head is None:
        if config.embeddings_are_tied:
            return config
        if is_published_with_head(config):
            raise FormatError(
                f"{table.path.parent}: {_HEAD} is missing, which every model of this width has, and {said}. Download "
                "the weights again; if the model does share its embedding table, set tie_word_embeddings to true."
            )
        warnings.append(f"{said}, but there is no {_HEAD}: the embedding table is the output matrix")
        return replace(config, embeddings_are_tied=True)
    if not _are_equal(head, table, config.hidden):
        if config.embeddings_are_tied:
            warnings.append(f"{said}, but {_HEAD} differs from the embedding table: both are kept")
        return replace(config, embeddings_are_tied=False)
    left_out.append(entries.pop(_HEAD).name)
    if not config.embeddings_are_tied:
        warnings.append(f"{said}, but {_HEAD} equals the embedding table: stored once")
    return replace(config, embeddings_are_tied=True)


def is_published_with_head(config: ModelConfig) -> bool:
    """Whether the published models of this width and kind have an output matrix of their own."""
    alike = [s.config for s in SIZES.values() if (s.config.hidden, s.config.is_moe) == (config.hidden, config.is_moe)]
    return any(not published.embeddings_are_tied for published in alike)


def _are_equal(one: Entry, other: Entry, cols: int) -> bool:
    """Whether two matrices of `cols` columns hold the same values, in whatever types."""
    rows = one.shape[0] if one.shape else 0
    if one.shape != (rows, cols) or other.shape != (rows, cols):
        return False
    step = max(1, _CHUNK_VALUES // cols)
    reader = RowReader()
    left, right = (np.empty((step, cols), np.float32) for _ in range(2))
    try:
        for first in range(0, rows, step):
            n = min(step, rows - first)
            reader.read_values(one, first, left[:n])
            reader.read_values(other, first, right[:n])
            if not np.array_equal(left[:n], right[:n]):
                return False
    finally:
        reader.close()
    return True
