"""Files of other writers are the same model: same configuration, same tensors, same logits to the last bit."""

from pathlib import Path
from typing import Any

import dialects
import numpy as np
import pytest
from dialects import EXPERTS, LOSING_MTP, WITH_MTP, Dialect, Written
from random_model import random_tokens, random_weights, tiny_config, write_gguf

from qwen35_local import _core
from qwen35_local.errors import FormatError
from qwen35_local.models.tensors import tensor_table

DENSE, MOE = tiny_config(mtp=True), tiny_config(moe=True, mtp=True)
TOKENS = random_tokens(24)
CASES = [(DENSE, d) for d in WITH_MTP.values()] + [(MOE, d) for d in (*WITH_MTP.values(), *EXPERTS.values())]
LOSSES = [(config, d) for config in (DENSE, MOE) for d in LOSING_MTP.values()]


def write(folder: Path, config: Any, written: Written) -> Path:
    path = folder / "blob"  # as Ollama keeps them, without an extension
    write_gguf(path, config, written.weights, metadata=written.metadata(config))
    return path


def logits(path: Path) -> Any:
    return _core.Sequence(_core.Model(path, threads=1)).append(TOKENS, logits="all")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[_core.GgufFile, Any]]:
    found = {}
    for config in (DENSE, MOE):
        path = write(tmp_path_factory.mktemp("plain"), config, dialects.plain(config, random_weights(config)))
        found[config.architecture] = (_core.GgufFile(path), logits(path))
    return found


def names(case: Any) -> str:
    return case.__name__ if callable(case) else case.architecture


@pytest.mark.parametrize("is_header", [False, True], ids=["whole", "header"])
@pytest.mark.parametrize(("config", "dialect"), CASES, ids=names)
def test_same_directory(config: Any, dialect: Dialect, is_header: bool, tmp_path: Path, plain: Any) -> None:
    file = _core.GgufFile(write(tmp_path, config, dialect(config, random_weights(config))), header=is_header)
    expected, _ = plain[config.architecture]
    assert (file.kind, file.refusal, file.notices) == ("model", None, [])
    shapes = {t.name: t.shape for t in file.tensors if "_exps" not in t.name}
    assert shapes == {t.name: t.shape for t in expected.tensors if "_exps" not in t.name}
    for key in config.to_gguf():
        assert file.metadata[key] == expected.metadata[key], key
    assert {t.name for t in file.vision} <= set(dialects.vision())
    assert not file.broken_mtp
    kinds = "tokenizer.ggml.token_type"
    assert file.metadata[kinds] == expected.metadata[kinds]


@pytest.mark.parametrize(("config", "dialect"), CASES, ids=names)
def test_same_logits(config: Any, dialect: Dialect, tmp_path: Path, plain: Any) -> None:
    path = write(tmp_path, config, dialect(config, random_weights(config)))
    assert np.array_equal(logits(path), plain[config.architecture][1])


@pytest.mark.parametrize(("config", "dialect"), LOSSES, ids=names)
def test_an_mtp_block_that_is_not_whole_is_left_out(config: Any, dialect: Dialect, tmp_path: Path, plain: Any) -> None:
    path = write(tmp_path, config, dialect(config, random_weights(config)))
    file = _core.GgufFile(path)
    assert np.array_equal(logits(path), plain[config.architecture][1])
    assert file.metadata[f"{config.architecture}.block_count"] == config.layers
    assert f"{config.architecture}.nextn_predict_layers" not in file.metadata
    assert not any(t.name.startswith("blk.4.") for t in file.tensors)
    (notice,) = file.notices
    assert notice.endswith("the model runs without it")
    if dialect is dialects.mtp_half_gone:
        assert "missing are blk.4.attn_k.weight, blk.4.nextn.enorm.weight)" in notice
        assert {t.name.split(".")[1] for t in file.broken_mtp} == {"4"}
    elif "layer_left" in dialect.__name__:
        assert "missing are blk.4.nextn.eh_proj.weight" in notice and file.broken_mtp
    else:
        counted = "block_count is 5" if dialect is dialects.mtp_gone_and_its_key else "nextn_predict_layers is 1"
        assert f"{counted}, but" in notice and not file.broken_mtp


@pytest.mark.parametrize("config", [DENSE, MOE], ids=names)
def test_an_mtp_block_needs_every_tensor_of_the_table(config: Any, tmp_path: Path) -> None:
    """The core's list of them (csrc/dialect/mtp.cpp) is that of models/tensors.py."""
    weights = random_weights(config)
    block = [spec.name for spec in tensor_table(config) if spec.name.startswith("blk.4.")]
    assert len(block) > 14
    for name in block:
        path = write(tmp_path, config, Written({key: value for key, value in weights.items() if key != name}))
        (notice,) = _core.GgufFile(path, header=True).notices
        assert f"(missing are {name})" in notice


def test_a_main_layer_is_never_taken_for_the_mtp_block(tmp_path: Path, plain: Any) -> None:
    """Counted down to its main layers, with the MTP key left behind: the last layer stays."""
    path = write(tmp_path, DENSE, dialects.mtp_gone_and_blocks_counted_down(DENSE, random_weights(DENSE)))
    assert _core.Model(path, threads=1).config["layers"] == DENSE.layers


def test_mtp_gains_without_their_one_are_not_used(tmp_path: Path, plain: Any) -> None:
    """Ollama's older converter added it to every norm but these three."""
    weights = random_weights(DENSE)
    weights["blk.4.nextn.enorm.weight"] = weights["blk.4.nextn.enorm.weight"] - 1
    path = write(tmp_path, DENSE, dialects.ollama(DENSE, weights))
    (notice,) = _core.GgufFile(path).notices
    assert "the gains of mtp.pre_fc_norm_embedding.weight lack the 1" in notice
    assert np.array_equal(logits(path), plain["qwen35"][1])


@pytest.mark.parametrize("name", ["mtp.layers.0.mlp.experts.3.up_proj.weight", "mtp.layers.1.attn_q.weight", "mtp.x"])
def test_mtp_tensors_that_have_no_place(name: str, tmp_path: Path, plain: Any) -> None:
    written = dialects.ollama(MOE, random_weights(MOE))
    written.weights[name] = np.ones((8, 8), np.float32)
    path = write(tmp_path, MOE, written)
    file = _core.GgufFile(path)
    assert f"({name} has no place in it)" in file.notices[0]
    assert {t.name for t in file.broken_mtp} >= {name, "mtp.fc.weight"}
    assert np.array_equal(logits(path), plain["qwen35moe"][1])


def test_both_names_of_one_tensor_are_refused(tmp_path: Path) -> None:
    weights = random_weights(DENSE)
    weights["blk.1.ssm_dt"] = weights["blk.1.ssm_dt.bias"]
    with pytest.raises(FormatError, match=r"1 tensor is unexpected: blk\.1\.ssm_dt\."):
        _core.Model(write(tmp_path, DENSE, Written(weights)))


def test_an_interval_is_told_by_the_tensors(tmp_path: Path) -> None:
    config = tiny_config(full_attention_interval=2)
    path = write(tmp_path, config, dialects.no_interval(config, random_weights(config)))
    assert _core.GgufFile(path).metadata["qwen35.full_attention_interval"] == 2
    assert _core.Model(path, threads=1).config["attention_layers"] == 2


@pytest.mark.parametrize(
    ("last", "unused"),
    [
        (["[PAD0]", "[PAD1]"], 2),
        (["[PAD0]", "x"], 0),
        (["x", "[PAD9]"], 1),
        (["[PADx]", "[PAD]"], 0),
        (["a", "PAD1]"], 0),
    ],
    ids=str,
)
def test_padding_is_told_by_its_name(last: list[str], unused: int, tmp_path: Path) -> None:
    """At the end, numbered, of the kind that users define; a token that a person added stays."""
    tokens = ["[PAD0]", *(f"t{i}" for i in range(297)), *last]
    kinds = [np.int32(1)] * 298 + [np.int32(4)] * 2
    metadata = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
    file = _core.GgufFile(write(tmp_path, DENSE, Written(random_weights(DENSE), metadata)))
    assert file.metadata["tokenizer.ggml.token_type"] == [1] * 298 + [4] * (2 - unused) + [5] * unused


def test_bytes_by_either_name(tmp_path: Path) -> None:
    file = _core.GgufFile(write(tmp_path, DENSE, dialects.ollama(DENSE, random_weights(DENSE))))
    assert np.array_equal(file.tensor("blk.0.ssm_dt"), file.tensor("blk.0.ssm_dt.bias"))
    assert file.decode("v.blk.0.attn_q.weight").shape == (8, 8)
