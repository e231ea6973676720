"""A file whose metadata is missing, absurd or inconsistent is refused by key, before anything is allocated for it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extended import with_yarn
from random_model import TOKENS_USED, random_weights, tiny_config, write_gguf

from qwen35_local import _core
from qwen35_local.errors import FormatError
from qwen35_local.models.config import ModelConfig

DENSE = tiny_config(mtp=True)
MOE = tiny_config(moe=True)
OPTIONAL = {"full_attention_interval", "rope.dimension_sections", "expert_shared_feed_forward_length"}


def refused(folder: Path, config: Any, metadata: dict[str, Any]) -> str:
    """The message for a file with these changes. It holds no tensors: metadata must fail first."""
    path = folder / "model.gguf"
    write_gguf(path, config, {"token_embd.weight": np.zeros((300, 96), np.float32)}, metadata=metadata)
    with pytest.raises(FormatError) as error:
        _core.Model(path, threads=1)
    assert str(path) in str(error.value)
    return str(error.value)


def keys(config: Any) -> list[str]:
    return [key for key in config.to_gguf() if key != "general.architecture"]


@pytest.mark.parametrize("config", [DENSE, MOE], ids=["dense", "moe"])
def test_every_key(config: Any, tmp_path: Path) -> None:
    for key in keys(config):
        short = key.split(".", 1)[1]
        is_real = short.endswith(("epsilon", "freq_base"))
        message = refused(tmp_path, config, {key: None})
        missing_is_refused = f"{key} is missing" in message
        assert missing_is_refused or short in OPTIONAL or short == "nextn_predict_layers", message
        wrong = ["text", [np.uint32(1)] * 3000]
        if is_real:
            wrong += [np.float32(x) for x in (0.0, -1.0, np.nan, np.inf, -np.inf, 1e30)]
        elif short != "rope.dimension_sections":
            wrong += [np.uint32(2**31), np.uint32(2**32 - 1), np.uint64(2**63), np.int32(-1), np.float32(1.5)]
            wrong += [np.uint32(0)] if short != "nextn_predict_layers" else []
        for value in wrong:
            assert key in refused(tmp_path, config, {key: value}), (key, value)


def stated(message: str) -> tuple[float, float]:
    """The range that a refusal expects."""
    found = re.search(r"expected (?:an integer from |a finite number from )?(\S+) to ([^\s,.]+(?:\.\d+)?)", message)
    assert found, message
    return float(found[1]), float(found[2])


# Relations in one reader or both, not a range: of the width of heads, of the experts, of what devices do; and more than
# one MTP block, which only the core would take.
RELATED = {
    "rope.dimension_count",
    "attention.value_length",
    "expert_used_count",
    "ssm.conv_kernel",
    "nextn_predict_layers",
}


@pytest.mark.parametrize("config", [with_yarn(DENSE, 4.0), MOE], ids=["dense", "moe"])
def test_python_and_the_core_state_the_same_ranges(config: Any, tmp_path: Path) -> None:
    metadata = config.to_gguf()
    compared = 0
    for key, value in metadata.items():
        short = key.split(".", 1)[1]
        if key.startswith("general.") or isinstance(value, str) or short in RELATED:
            continue
        beyond: Any = np.float32(1e30) if isinstance(value, np.float32) else np.uint64(1 << 40)
        with pytest.raises(FormatError) as error:
            ModelConfig.from_gguf(metadata | {key: beyond}, vocabulary=300)
        assert key in str(error.value)
        least, most = stated(str(error.value))
        if short == "rope.dimension_sections":
            beyond = [np.uint32(1 << 30)] * 4
        core_least, core_most = stated(refused(tmp_path, config, {key: beyond}))
        # In Python a width of 0 is that of a feed-forward which is not there.
        assert (least or core_least, most) == (core_least, core_most), key
        compared += 1
    assert compared > 15


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attention.head_count_kv": 3}, "head_count_kv is 3, expected a divisor of head_count 4"),
        ({"attention.head_count": 258, "attention.head_count_kv": 2}, "at most 128 times"),
        ({"attention.key_length": 40, "attention.value_length": 40}, "key_length is 40"),
        ({"attention.value_length": 64}, "value_length is 64, expected key_length 32"),
        ({"rope.dimension_count": 34}, "rope.dimension_count is 34"),
        ({"rope.dimension_count": 15}, "rope.dimension_count is 15"),
        ({"ssm.conv_kernel": 3}, "ssm.conv_kernel is 3, expected 4"),
        (
            {"ssm.time_step_rank": 5, "ssm.inner_size": 160},
            "ssm.time_step_rank is 5, expected a multiple of group_count",
        ),
        ({"ssm.inner_size": 120}, "ssm.inner_size is 120"),
        ({"ssm.inner_size": 64}, "ssm.inner_size is 64"),
        ({"ssm.state_size": 1025}, "ssm.state_size is 1025"),
        ({"nextn_predict_layers": 5}, "nextn_predict_layers is 5, expected fewer than block_count 5"),
    ],
)
def test_numbers_that_do_not_fit_together(changes: dict[str, int], named: str, tmp_path: Path) -> None:
    metadata = {f"qwen35.{key}": np.uint32(value) for key, value in changes.items()}
    assert named in refused(tmp_path, DENSE, metadata)


def test_more_experts_chosen_than_there_are(tmp_path: Path) -> None:
    message = refused(tmp_path, MOE, {"qwen35moe.expert_used_count": np.uint32(7)})
    assert "expert_used_count is 7, expected 1 to 6" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.head_count", [np.uint32(4)] * 3),
        ("attention.head_count", [np.uint32(4)] * 6),
        ("attention.head_count", [np.uint32(n) for n in (0, 0, 0, 4, 2)]),
        ("attention.head_count", [np.uint32(n) for n in (0, 0, 0, 0, 4)]),
        ("attention.head_count_kv", [np.uint32(0)] * 5),
        ("attention.head_count_kv", ["2"] * 5),
        ("rope.dimension_sections", [np.int32(n) for n in (3, 3, -2, 0)]),
        ("rope.dimension_sections", [np.int32(n) for n in (3, 2, 2, 0)]),
        ("rope.dimension_sections", [np.int32(8)]),
        ("rope.scaling.type", "linear"),
        ("ssm.v_head_reordered", False),
    ],
    ids=str,
)
def test_lists_and_kinds(key: str, value: Any, tmp_path: Path) -> None:
    assert f"qwen35.{key}" in refused(tmp_path, DENSE, {f"qwen35.{key}": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("factor", None),
        ("factor", np.float32(0.5)),
        ("factor", np.float32(np.nan)),
        ("original_context_length", np.uint32(0)),
        ("yarn_beta_fast", np.float32(0.5)),
        ("yarn_attn_factor", np.float32(0)),
        ("yarn_ext_factor", np.float32(0.5)),
    ],
    ids=str,
)
def test_yarn(key: str, value: Any, tmp_path: Path) -> None:
    config = with_yarn(tiny_config(), 4.0)
    assert f"rope.scaling.{key}" in refused(tmp_path, config, {f"qwen35.rope.scaling.{key}": value})


@pytest.mark.parametrize("architecture", ["llama", "qwen3next", "", None, "qwen35\x1b[31m"])
def test_another_architecture(architecture: str | None, tmp_path: Path) -> None:
    assert "general.architecture" in refused(tmp_path, DENSE, {"general.architecture": architecture})


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"tokenizer.ggml.tokens": ["t"] * 301}, "tokenizer.ggml.tokens is a list of 301"),
        ({"tokenizer.ggml.tokens": [np.int32(1)] * 300}, None),
        ({"tokenizer.ggml.token_type": [np.int32(1)] * 299}, "tokenizer.ggml.token_type is a list of 299"),
        ({"tokenizer.ggml.token_type": [np.int32(5)] * 300}, "tokenizer.ggml.token_type is 5"),
        ({"tokenizer.ggml.token_type": ["1"] * 300}, "tokenizer.ggml.token_type"),
    ],
)
def test_vocabulary(metadata: dict[str, Any], named: str | None, tmp_path: Path) -> None:
    message = refused(tmp_path, DENSE, metadata)
    assert named is None or named in message


def loaded(folder: Path, config: Any, metadata: dict[str, Any]) -> _core.Model:
    path = folder / "model.gguf"
    write_gguf(path, config, random_weights(config), metadata=metadata)
    return _core.Model(path, threads=1)


def test_ids_beyond_the_tokenizer_are_counted_out(tmp_path: Path) -> None:
    config = tiny_config()
    assert loaded(tmp_path, config, {}).n_tokens_used == TOKENS_USED
    types = [np.int32(5 if i in {7, 299} else 1) for i in range(300)]
    assert loaded(tmp_path, config, {"tokenizer.ggml.token_type": types}).n_tokens_used == 299
    assert loaded(tmp_path, config, {"tokenizer.ggml.token_type": None}).n_tokens_used == 300
    shorter = {"tokenizer.ggml.tokens": ["t"] * 270, "tokenizer.ggml.token_type": [np.int32(1)] * 270}
    assert loaded(tmp_path, config, shorter).n_tokens_used == 270
    none = {"tokenizer.ggml.tokens": None, "tokenizer.ggml.token_type": None}
    assert loaded(tmp_path, config, none).n_tokens_used == 300


def test_head_counts_per_block_and_unknown_keys(tmp_path: Path) -> None:
    config = tiny_config(mtp=True)
    per_block = {
        "qwen35.attention.head_count": [np.uint32(n) for n in (0, 0, 0, 4, 4)],
        "qwen35.attention.head_count_kv": [np.uint32(n) for n in (0, 2, 0, 2, 2)],
        "qwen35.feed_forward_length": [np.uint32(160)] * 5,
        "qwen35.some.later.key": np.uint32(2**32 - 1),
        "qwen35.full_attention_interval": None,
        "qwen35.rope.dimension_sections": None,
    }
    model = loaded(tmp_path, config, per_block)
    assert (model.config["heads"], model.config["kv_heads"], model.config["layers"]) == (4, 2, 4)
    assert model.metadata["qwen35.some.later.key"] == 2**32 - 1
