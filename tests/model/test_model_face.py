"""What Python sees of a loaded model."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_model import TOKENS_USED

import qwen35_local
from qwen35_local import _core, errors
from qwen35_local.errors import FormatError, InputError, Unavailable
from qwen35_local.models.config import ModelConfig


def test_versions_agree() -> None:
    assert _core.__version__ == qwen35_local.__version__


def test_isas() -> None:
    assert _core.available_isas()[0] == "reference"
    assert _core.isa() in _core.available_isas()


def test_the_core_raises_the_errors_of_the_package(tmp_path: Path) -> None:
    """Each caught as the package's, as Python's own, and as the one base."""
    path = tmp_path / "text.gguf"
    path.write_text("not a model")
    for expected in (errors.FormatError, errors.Qwen35Error, ValueError):
        with pytest.raises(expected, match="not a GGUF file"):
            _core.GgufFile(path)
    for expected in (errors.InputError, errors.Qwen35Error, ValueError):
        with pytest.raises(expected, match="threads is -1, expected at least 0"):
            _core.read_memory(1, threads=-1)
    with pytest.raises(errors.InputError) as caught:
        _core.read_memory(1, threads=-1)
    assert type(caught.value) is errors.InputError
    assert not issubclass(errors.Cancelled, errors.InputError)


def test_numbers_of_a_model(tiny: Any) -> None:
    source = tiny(moe=True, mtp=True, ratio=3)
    model = _core.Model(source.path, threads=3, drafts=1)
    assert model.threads == 3
    assert model.device.startswith("cpu-")
    assert (model.n_vocab, model.n_tokens_used, model.context_tokens) == (300, TOKENS_USED, 4096)
    values = sum(w.size for w in source.weights.values())
    assert values <= model.weight_bytes // 4 <= 2 * values
    assert model.metadata["general.architecture"] == "qwen35moe"
    assert len(model.metadata["tokenizer.ggml.tokens"]) == 300


@pytest.mark.parametrize("kind", [{}, {"moe": True, "mtp": True, "ratio": 3}])
def test_the_core_reads_the_configuration_that_python_reads(tiny: Any, kind: dict[str, Any]) -> None:
    model = _core.Model(tiny(**kind).path)
    config = ModelConfig.from_gguf(model.metadata, vocabulary=model.n_vocab, embeddings_are_tied=False)
    found: dict[str, Any] = {**model.config}
    named = {field.name: getattr(config, field.name) for field in fields(config) if field.name in found}
    assert len(named) == 23
    assert {name: found.pop(name) for name in named} == pytest.approx(named, rel=1e-7)
    assert found == {
        "architecture": "qwen35moe" if kind else "qwen35",
        "name": "tiny",
        "attention_layers": 1,
        "delta_layers": 3,
        "rope_factor": 1.0,
    }


def test_what_cannot_be_opened(tiny: Any, tmp_path: Path) -> None:
    path = tiny().path
    with pytest.raises(FileNotFoundError):
        _core.Model(tmp_path / "absent.gguf")
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(FormatError):
        _core.Model(tmp_path / "text.gguf")
    for threads in (-1, 10_000, 2**70):
        with pytest.raises(InputError, match="threads"):
            _core.Model(path, threads=threads)
    with pytest.raises(InputError, match="context_tokens"):
        _core.Model(path, context_tokens=-1)
    with pytest.raises(InputError, match="device"):
        _core.Model(path, device="abacus")
    with pytest.raises(Unavailable, match="device 'cuda'"):
        _core.Model(path, device="cuda")


def test_logits_are_the_callers(tiny: Any) -> None:
    """Each answer is its own array: nothing is overwritten by a later call."""
    sequence = _core.Sequence(_core.Model(str(tiny().path)))
    first = sequence.append([1, 2, 3], logits="all")
    kept = first.copy()
    second = sequence.append([4])
    assert first.shape == (3, 300)
    assert second.shape == (1, 300)
    assert first.dtype == second.dtype == np.float32
    assert first.flags.writeable and first.flags.owndata
    assert np.array_equal(first, kept)
