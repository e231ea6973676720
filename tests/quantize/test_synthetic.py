"""Models made of nothing: exact shapes, sane numbers, and the same ones in memory and in a file."""

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from random_model import super_block_config, tiny_config

from qwen35_local import _core
from qwen35_local.errors import FormatError, InputError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import SIZES, parameters
from qwen35_local.quantize.recipe import FILE_TYPES
from qwen35_local.quantize.synthetic import Synthetic, of_config, size_names, synthetic

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]


def in_memory(model: Synthetic, folder: Path) -> _core.Model:
    model.write_header(folder / "header.gguf")
    return _core.Model(folder / "header.gguf", threads=2, tensors=model.pattern)


def logits(model: _core.Model) -> np.ndarray:
    return _core.Sequence(model).append(TOKENS, logits="all")


@pytest.mark.parametrize("name", SIZES)
def test_sizes_have_their_parameters(name: str) -> None:
    model = synthetic(name.removeprefix("Qwen3.5-").lower())
    assert model.n_values == parameters(replace(SIZES[name].config, mtp_layers=0)).text
    assert {"F32", "Q4_K", "Q5_K", "Q6_K"} <= {tensor.dtype for tensor in model.tensors}


def test_first_layers_are_those_of_the_whole() -> None:
    part = {tensor.name: tensor.shape for tensor in synthetic("35b-a3b:4").tensors}
    whole = {tensor.name: tensor.shape for tensor in synthetic("35b-a3b").tensors}
    assert part.items() <= whole.items()
    assert {name.split(".")[1] for name in part if name.startswith("blk.")} == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    "text", ["1b", "", "0.8b:", "0.8b:0", "0.8b:3", "0.8b:28", "0.8b:-4", "0.8b:four", "0.8b:4:4", "9b:\u0664"]
)
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        synthetic(text)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"Q9_9.*choose one of"):
        synthetic("0.8b", "Q9_9")


def test_names_are_those_of_the_registry() -> None:
    assert size_names() == [name.removeprefix("Qwen3.5-").lower() for name in SIZES]


@pytest.mark.parametrize("preset", FILE_TYPES)
@pytest.mark.parametrize("config", [super_block_config(), super_block_config(moe=True)], ids=["dense", "moe"])
def test_memory_and_file_are_the_same_model(tmp_path: Path, preset: str, config: ModelConfig) -> None:
    model = of_config("tiny", config, preset)
    steps: list[tuple[int, int]] = []
    model.write(tmp_path / "whole.gguf", lambda done, total: steps.append((done, total)))
    assert steps[-1] == (model.n_bytes, model.n_bytes)
    expected = logits(in_memory(model, tmp_path))
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    whole = _core.Model(tmp_path / "whole.gguf", threads=1)
    assert np.array_equal(logits(whole), expected)
    assert (tmp_path / "header.gguf").stat().st_size < 1 << 13


def test_another_reader_finds_every_tensor(tmp_path: Path) -> None:
    model = of_config("tiny", tiny_config(moe=True, tied=True), "Q4_K_M")
    model.write(tmp_path / "whole.gguf")
    reader = gguf.GGUFReader(tmp_path / "whole.gguf")
    found = [(t.name, tuple(int(n) for n in reversed(t.shape)), t.tensor_type.name) for t in reader.tensors]
    assert found == [(t.name, t.shape, t.dtype) for t in model.tensors]
    fields = {name: reader.fields[name].contents() for name in ("tokenizer.ggml.model", "qwen35moe.vocab_size")}
    assert fields == {"tokenizer.ggml.model": "no_vocab", "qwen35moe.vocab_size": 300}
    assert ModelConfig.from_gguf(_core.GgufFile(tmp_path / "whole.gguf").metadata, embeddings_are_tied=True) == replace(
        model.config, mtp_layers=0
    )


def test_tokens_choose_experts_all_over_the_place() -> None:
    config = SIZES["Qwen3.5-35B-A3B"].config
    model = synthetic("35b-a3b:4")
    rows = np.random.default_rng(0).standard_normal((256, config.hidden))
    for layer in (0, 3):
        router = model.pattern(f"blk.{layer}.ffn_gate_inp.weight").view(np.float32).reshape(config.experts, -1)
        chosen = np.argsort(rows @ router.T)[:, -config.experts_per_token :]
        counts = np.bincount(chosen.reshape(-1), minlength=config.experts)
        assert counts.min() > 0, "every expert has its tokens"
        assert counts.max() < 5 * counts.mean(), "and none has most of them"


def test_a_header_alone_is_no_model(tmp_path: Path) -> None:
    of_config("tiny", tiny_config(), "Q8_0").write_header(tmp_path / "header.gguf")
    with pytest.raises(FormatError, match=r"truncated|larger than the file"):
        _core.Model(tmp_path / "header.gguf")


def test_what_is_given_for_a_tensor_is_checked(tmp_path: Path) -> None:
    model = of_config("tiny", tiny_config(), "Q8_0")
    path = tmp_path / "header.gguf"
    model.write_header(path)
    with pytest.raises(InputError, match=r"'token_embd\.weight' are empty"):
        _core.Model(path, tensors=lambda name: np.zeros(0, np.uint8))
    with pytest.raises(InputError, match="not a contiguous array of uint8"):
        _core.Model(path, tensors=lambda name: np.zeros(4, np.float32))  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        _core.Model(path, tensors=lambda name: np.zeros(1 // 0, np.uint8))


def test_a_header_is_checked_like_a_file(tmp_path: Path) -> None:
    model = of_config("tiny", tiny_config(), "Q8_0")
    model.write_header(tmp_path / "header.gguf")
    other = of_config("tiny", tiny_config(feed_forward=192), "Q8_0")
    wrong = replace(other, config=model.config)
    wrong.write_header(tmp_path / "wrong.gguf")
    with pytest.raises(FormatError, match="of another shape"):
        _core.Model(tmp_path / "wrong.gguf", tensors=wrong.pattern)
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "header.gguf").read_bytes()[:-200])
    with pytest.raises(FormatError, match="truncated"):
        _core.Model(tmp_path / "cut.gguf", tensors=model.pattern)
