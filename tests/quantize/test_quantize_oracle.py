"""A checkpoint that transformers wrote, converted: the same logits."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
from tiny_checkpoints import Tiny

from qwen35_local import _core
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.reference import Reference
from qwen35_local.quantize import convert

TOKENS = [int(n) for n in np.random.default_rng(3).integers(0, 264, 48)]


def reference_logits(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Logits [T, V] of the numpy page over the weights of a GGUF."""
    file = _core.GgufFile(path)
    weights = {tensor.name: file.decode(tensor.name) for tensor in file.tensors}
    config = ModelConfig.from_gguf(
        file.metadata,
        vocabulary=weights["token_embd.weight"].shape[0],
        embeddings_are_tied="output.weight" not in weights,
    )
    return np.asarray(Reference(weights, config).forward(TOKENS))


@pytest.mark.oracle
@pytest.mark.parametrize("is_moe", [False, True], ids=["dense", "moe"])
def test_transformers_checkpoint(is_moe: bool, tmp_path: Path) -> None:
    """save_pretrained -> convert -> numpy page, against the transformers model itself."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    tiny = Tiny(is_moe=is_moe, is_tied=not is_moe, has_mtp=False)
    kind = "Qwen3_5Moe" if is_moe else "Qwen3_5"
    config = getattr(transformers, f"{kind}TextConfig")(**tiny.config())
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif "conv1d" not in name:
                parameter.normal_(0, 1.2 / parameter.shape[-1] ** 0.5)
        expected = model(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps(tiny_checkpoints.tokenizer()))
    convert(tmp_path / "m", tmp_path / "out.gguf", "F32")
    np.testing.assert_allclose(reference_logits(tmp_path / "out.gguf"), expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("is_moe", [False, True], ids=["dense", "moe"])
def test_core_agrees_with_the_numpy_page(is_moe: bool, tmp_path: Path) -> None:
    """The core reads what was written: every type the presets use, through the whole model."""
    tiny_checkpoints.write(tmp_path / "m", Tiny(is_moe=is_moe, is_tied=not is_moe))
    for preset in ("F32", "Q8_0", "Q4_K_M", "IQ4_XS"):
        convert(tmp_path / "m", tmp_path / f"{preset}.gguf", preset)
        model = _core.Model(tmp_path / f"{preset}.gguf", threads=2)
        found = _core.Sequence(model, kv="f32").append(TOKENS, logits="all")
        expected = reference_logits(tmp_path / f"{preset}.gguf")
        # With quantised weights activations are 8 bits wide, and now and then a token takes another expert: the median.
        limit = 1e-4 if preset == "F32" else 0.1
        errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert np.median(errors) < limit, preset
