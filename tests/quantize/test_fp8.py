"""Block-scaled FP8 checkpoints: every value is code times scale, exactly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoints
from numpy.typing import NDArray
from safetensors_bytes import Tensor, Tensors, change, change_json, read, tensor, write
from tiny_checkpoints import Tiny

from qwen35_local.errors import FormatError
from qwen35_local.quantize import convert, fp8

DENSE = Tiny(hidden=256, ffn=224, dtype="F32")  # 224 rows: the last block is ragged
MOE = Tiny(is_moe=True, is_tied=False, ffn=160, dtype="F32")
APART = replace(MOE, has_fused_experts=False)
KEPT = (
    "norm",
    "embed_tokens",
    "lm_head",
    "in_proj_a",
    "in_proj_b",
    "conv1d",
    "mlp.gate.",
    "shared_expert_gate",
    "mtp.fc",
)


def decoded(code: int) -> float:
    """E4M3, from its definition."""
    sign, exponent, mantissa = -1.0 if code & 128 else 1.0, code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return float("nan")
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


CODES = np.array([decoded(code) for code in range(256)], np.float32)


def test_every_code() -> None:
    np.testing.assert_array_equal(fp8.VALUES, CODES)
    assert np.nanmax(fp8.VALUES) == 448.0
    assert np.signbit(fp8.VALUES[128])


def quantised(name: str, shape: list[int], seed: int, scale_dtype: str) -> tuple[Tensors, NDArray[np.float32]]:
    """A random FP8 tensor with its scales, and the fp32 values it stands for, block by block."""
    stream = np.random.default_rng(seed)
    codes = stream.choice([c for c in range(256) if c & 127 != 127], shape).astype(np.uint8)
    blocks = (*shape[:-2], -(-shape[-2] // 128), -(-shape[-1] // 128))
    scales = tensor(stream.uniform(1e-4, 2e-4, blocks), scale_dtype)
    values = CODES[codes]
    for at in np.ndindex(*blocks):
        block = (*at[:-2], *(slice(128 * n, 128 * n + 128) for n in at[-2:]))
        values[block] *= scales.values()[at]
    scale_name = name + "_scale_inv"
    return {name: Tensor("F8_E4M3", shape, codes.tobytes()), scale_name: scales}, values


def as_fp8(tensors: Tensors, scale_dtype: str) -> tuple[Tensors, Tensors]:
    """The checkpoint with FP8 in every matrix that the official ones have in FP8, and the same values in F32."""
    packed: Tensors = {}
    plain: Tensors = {}
    for number, (name, t) in enumerate(tensors.items()):
        if len(t.shape) < 2 or any(part in name for part in KEPT):
            packed[name] = plain[name] = t
        else:
            new, values = quantised(name, t.shape, number, scale_dtype)
            packed |= new
            plain[name] = tensor(values, "F32")
    return packed, plain


@pytest.mark.parametrize("scale_dtype", ["BF16", "F32"])
@pytest.mark.parametrize("tiny", [DENSE, MOE, APART], ids=["dense", "moe-fused", "moe-apart"])
def test_the_same_file_as_from_the_values_in_f32(
    tiny: Tiny, scale_dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where slices begin inside of blocks."""
    for name in ("packed", "plain"):
        tiny_checkpoints.write(tmp_path / name / "m", tiny)
    packed, plain = as_fp8(read(tmp_path / "plain/m/model.safetensors"), scale_dtype)
    write(tmp_path / "packed/m/model.safetensors", packed)
    write(tmp_path / "plain/m/model.safetensors", plain)
    config = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["lm_head"],
    }
    change_json(tmp_path / "packed/m", "config.json", lambda c: c.update(quantization_config=config))
    convert(tmp_path / "plain/m", tmp_path / "plain.gguf", "F32")
    monkeypatch.setattr("qwen35_local.quantize.encode._SLICE_VALUES", 9000)
    report = convert(tmp_path / "packed/m", tmp_path / "packed.gguf", "F32")
    assert (tmp_path / "packed.gguf").read_bytes() == (tmp_path / "plain.gguf").read_bytes()
    n_scaled = sum(name.endswith("_scale_inv") for name in packed)
    assert f"{n_scaled} weights are FP8" in report.warnings[0]


NAME = "model.layers.0.mlp.up_proj.weight"
SCALES = NAME + "_scale_inv"


def nan(tensors: Tensors) -> None:
    data = bytearray(tensors[NAME].data)
    data[-1] = 0xFF
    tensors[NAME] = tensors[NAME]._replace(data=bytes(data))


def put(name: str, value: Tensor) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({name: value})


REFUSED: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "not a number": (nan, f"tensor {NAME} holds values that are not finite"),
    "infinite scale": (put(SCALES, tensor(np.full((2, 2), np.inf), "F32")), f"tensor {NAME} holds values"),
    "no scales": (lambda t: t.pop(SCALES), f"tensor {NAME} is F8_E4M3 without {SCALES}"),
    "scales of nothing": (lambda t: t.pop(NAME), f"{SCALES} holds the scales of a tensor that is missing"),
    "scales of plain values": (put(NAME, tensor(np.ones((224, 256)), "BF16")), "that is BF16 and not F8_E4M3"),
    "scales of other blocks": (put(SCALES, tensor(np.ones((4, 4)), "F32")), r"\[4, 4\]; expected F32 or BF16 \[2, 2\]"),
    "one scale": (put(SCALES, tensor(np.ones(1), "F32")), r"\[1\]; expected F32 or BF16 \[2, 2\]"),
    "scales that are integers": (put(SCALES, Tensor("I32", [2, 2], bytes(16))), "is I32"),
    "wrong shape": (put(NAME, Tensor("F8_E4M3", [256, 224], bytes(224 * 256))), r"shape \[256, 224\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    damage, message = REFUSED[case]
    tiny_checkpoints.write(tmp_path / "m", DENSE)
    change(tmp_path / "m", lambda t: t | quantised(NAME, [224, 256], 1, "BF16")[0])
    change(tmp_path / "m", lambda t: damage(t) and None)
    with pytest.raises(FormatError, match=message):
        convert(tmp_path / "m", tmp_path / "out.gguf", "Q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
