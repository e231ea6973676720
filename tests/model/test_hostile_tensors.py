"""A file whose tensors are not exactly the model's is refused, and every tensor at fault is named."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from random_model import Weights, fuse_experts, random_tokens, random_weights, tiny_config, write_gguf

from qwen35_local import _core
from qwen35_local.errors import FormatError

VARIETIES = {
    "dense": tiny_config(mtp=True),
    "moe": tiny_config(moe=True, tied=True, mtp=True),
}


def refused(folder: Path, config: Any, weights: Weights) -> str:
    path = folder / "model.gguf"
    write_gguf(path, config, weights)
    with pytest.raises(FormatError) as error:
        _core.Model(path, threads=1)
    return str(error.value)


@pytest.mark.parametrize("variety", VARIETIES)
def test_each_tensor_missing_renamed_or_of_another_shape(variety: str, tmp_path: Path) -> None:
    config = VARIETIES[variety]
    # Small stand-ins keep this fast; their shapes are right, which is all that is looked at before the refusal.
    weights = random_weights(config)
    names = [n for n in weights if n.startswith(("blk.0.", "blk.3.", "blk.4.", "token", "output_norm"))]
    rest = {n: w for n, w in weights.items() if n not in names}
    for name in names:
        without = {n: w for n, w in weights.items() if n != name}
        if not name.startswith("blk.4."):  # of the MTP block, without which a model runs
            assert f"1 tensor is missing: {name}" in refused(tmp_path, config, without)
        if not name.startswith(("token_embd", "blk.4.")):
            message = refused(tmp_path, config, without | {name + ".x": weights[name]})
            assert f"missing: {name}." in message
            assert f"unexpected: {name}.x." in message
        tensor = weights[name]
        wrong = tensor[..., :-1] if tensor.ndim == 1 else np.ascontiguousarray(np.swapaxes(tensor, -1, -2))
        if wrong.shape != tensor.shape:
            assert name in refused(tmp_path, config, without | {name: wrong})
    assert rest or variety


def test_many_faults_are_named_and_then_counted(tmp_path: Path) -> None:
    config = VARIETIES["dense"]
    weights = {n: w for n, w in random_weights(config).items() if not n.startswith("blk.1.")}
    message = refused(tmp_path, config, weights | {"blk.9.attn_q.weight": np.zeros((2, 2), np.float32)})
    assert "14 tensors are missing: " in message
    assert message.count("blk.1.") == 10
    assert " and 4 more" in message
    assert "unexpected: blk.9.attn_q.weight" in message


def test_an_untied_head_of_another_size(tmp_path: Path) -> None:
    config = VARIETIES["dense"]
    weights = random_weights(config)
    weights["output.weight"] = np.zeros((299, 96), np.float32)
    assert "output.weight ([96, 299], expected [96, 300])" in refused(tmp_path, config, weights)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("blk.0.ssm_norm.weight", "Q8_0"), ("output_norm.weight", "I32"), ("blk.0.attn_qkv.weight", "I32")],
)
def test_types(name: str, dtype: str, tmp_path: Path) -> None:
    config = tiny_config()
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen35")
    from random_model import tokenizer_metadata, write_value

    for key, value in {**config.to_gguf(), **tokenizer_metadata(300)}.items():
        if key != "general.architecture":
            write_value(writer, key, value)
    for tensor, weight in random_weights(config).items():
        if tensor != name:
            writer.add_tensor(tensor, weight)
        elif dtype == "Q8_0":
            data = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor, data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(tensor, weight.astype(np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(FormatError, match=f"{name}.*{dtype}"):
        _core.Model(tmp_path / "model.gguf")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_hold_numbers(value: float, tmp_path: Path) -> None:
    config = tiny_config()
    weights = random_weights(config)
    weights["blk.2.ssm_a"][1] = value
    assert "blk.2.ssm_a holds a value that is not finite" in refused(tmp_path, config, weights)


def test_spellings_that_are_the_same_model(tmp_path: Path) -> None:
    """Fused or split experts, a shared gate of one or two dimensions, a vision tower in the same file."""
    config = VARIETIES["moe"]
    weights = random_weights(config)
    tokens = random_tokens(20)

    def logits(these: Weights) -> Any:
        write_gguf(tmp_path / "model.gguf", config, these)
        return _core.Sequence(_core.Model(tmp_path / "model.gguf", threads=1)).append(tokens, logits="all")

    expected = logits(weights)
    others = {n: w[None] if n.endswith("ffn_gate_inp_shexp.weight") else w for n, w in weights.items()}
    assert np.array_equal(logits(others), expected)
    assert np.array_equal(logits(fuse_experts(weights)), expected)
    assert np.array_equal(logits(weights | {"v.blk.0.ln1.weight": np.ones(8, np.float32)}), expected)
    own_head = weights | {"blk.4.nextn.shared_head_head.weight": weights["token_embd.weight"]}
    assert np.array_equal(logits(own_head), expected)


def test_weights_are_counted_once(tiny: Any) -> None:
    tied, untied = (_core.Model(tiny(tied=t).path) for t in (True, False))
    assert untied.weight_bytes - tied.weight_bytes >= 300 * 96 * 4
    assert tied.config["embeddings_are_tied"] and not untied.config["embeddings_are_tied"]
    assert _core.Model(tiny(mtp=True).path, drafts=1).weight_bytes > untied.weight_bytes
