"""The core's logits against the numpy page, for every variety of the family."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extended import with_yarn
from numpy.typing import NDArray
from random_model import ALWAYS_F32, RandomModel, random_model, random_tokens, relative_error, tiny_config

from qwen35_local import _core
from qwen35_local.errors import InputError
from qwen35_local.models.reference import Reference

# fp32 against float64: 24 bits, some 200 roundings deep, with room for the random models' conditioning.
F32_BOUND = 1e-4
# Keys and values rounded to 11 bits.
F16_BOUND = 1e-3
VARIETIES = [
    {"ratio": 1, "tied": True},
    {"ratio": 2},
    {"ratio": 3, "mtp": True},
    {"ratio": 4, "tied": True, "mtp": True},
    {"ratio": 1, "moe": True, "tied": True},
    {"ratio": 2, "moe": True, "mtp": True},
    {"ratio": 3, "moe": True, "fused": True},
    {"ratio": 4, "moe": True, "fused": True, "mtp": True},
    {"layers": 7, "full_attention_interval": 2, "head_width": 48, "rope_width": 48, "rope_sections": (8, 8, 8)},
    {"layers": 3},  # no attention at all
    {"layers": 2, "full_attention_interval": 1},  # nothing but attention
    {"delta_key_width": 48, "delta_value_width": 64, "kv_heads": 4},
]


def read(path: Path, tokens: list[int], *, kv: str = "f32", threads: int = 2, **options: Any) -> NDArray[np.float32]:
    sequence = _core.Sequence(_core.Model(path, threads=threads, **options), kv=kv)
    return sequence.append(tokens, logits="all")


@pytest.mark.parametrize("variety", VARIETIES, ids=str)
def test_logits_are_the_reference(tiny: Any, variety: dict[str, Any]) -> None:
    model = tiny(**variety)
    tokens = random_tokens(300, seed=1)
    expected = model.logits(tokens)
    core = _core.Model(model.path, threads=2)
    for count in (1, 2, 3, 15, 31, 63, 65, 129, 255, 257, 300):
        found = _core.Sequence(core, kv="f32").append(tokens[:count])
        assert found.shape == (1, model.config.vocabulary)
        assert relative_error(found[0], expected[count - 1]) < F32_BOUND
    everything = _core.Sequence(core, kv="f32").append(tokens, logits="all")
    assert relative_error(everything, expected) < F32_BOUND
    halved = _core.Sequence(core, kv="f16").append(tokens, logits="all")
    assert relative_error(halved, expected) < F16_BOUND


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("moe", [False, True])
def test_every_instruction_set_gives_the_reference(tiny: Any, isa: str, moe: bool, tmp_path: Path) -> None:
    model = tiny(moe=moe, ratio=3)
    tokens = random_tokens(70, seed=2)
    out = tmp_path / "logits.npy"
    script = (
        "import sys, numpy as np\n"
        "from qwen35_local import _core\n"
        "path, out, *tokens = sys.argv[1:]\n"
        "sequence = _core.Sequence(_core.Model(path, threads=2), kv='f32')\n"
        "np.save(out, sequence.append([int(t) for t in tokens], logits='all'))\n"
        "assert sequence is not None and _core.isa() in _core.Model(path).device\n"
    )
    environment = os.environ | {"QWEN35_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(model.path), str(out), *map(str, tokens)]
    subprocess.run(command, env=environment, check=True)
    assert relative_error(np.load(out), model.logits(tokens)) < F32_BOUND


class QuantisesItsInput(np.ndarray):  # type: ignore[type-arg]
    """A weight whose products take their other side in 8 bits, one scale per 32 values, as the kernels do."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(i).view(np.ndarray) for i in inputs]
        if ufunc is np.matmul:
            blocks = plain[0].reshape(*plain[0].shape[:-1], -1, 32)
            scale = np.abs(blocks).max(-1, keepdims=True) / 127
            scale[scale == 0] = 1
            plain[0] = (np.rint(blocks / scale) * scale).reshape(plain[0].shape)
        return getattr(ufunc, method)(*plain, **options)


def rounding_reference(model: RandomModel) -> Reference:
    reference = model.reference()
    for name, weight in reference.weights.items():
        if weight.ndim > 1 and not name.endswith(ALWAYS_F32):
            reference.weights[name] = weight.view(QuantisesItsInput)
            if name.startswith("blk."):
                _, block, part = name.split(".", 2)
                reference.blocks[int(block)][part] = reference.weights[name]
    return reference


def rms_error(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Per row."""
    return np.sqrt(((found - expected) ** 2).mean(-1) / (expected**2).mean(-1))


@pytest.mark.parametrize("moe", [False, True], ids=["dense", "moe"])
@pytest.mark.parametrize(
    "dtype",
    [
        "Q8_0",
        "Q4_0",
        "Q4_1",
        "Q5_0",
        "Q5_1",
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
        "IQ4_NL",
        "IQ4_XS",
        "IQ2_S",
        "IQ3_XXS",
        "MXFP4",
    ],
)
def test_quantised_weights_cost_what_rounding_the_activations_costs(tiny: Any, dtype: str, moe: bool) -> None:
    model = tiny(wide=True, dtype=dtype, moe=moe, fused=moe)
    tokens = random_tokens(40, seed=3)
    found = read(model.path, tokens)
    exact = model.logits(tokens)
    rounded = np.asarray(rounding_reference(model).forward(tokens))
    cost = rms_error(rounded, exact)
    # The first row has the fewest roundings: there the arithmetic shows, unless a value lies on the edge of two codes
    # and falls the other way, which costs a part of what all the roundings together do.
    assert rms_error(found, rounded).min() < max(1e-5, 0.5 * cost.min())
    assert np.median(rms_error(found, rounded)) < 0.75 * np.median(cost)
    assert np.median(rms_error(found, exact)) < 1.25 * np.median(cost)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_weights_are_exact(tiny: Any, dtype: str) -> None:
    model = tiny(dtype=dtype, moe=True)
    tokens = random_tokens(40, seed=3)
    assert relative_error(read(model.path, tokens), model.logits(tokens)) < F32_BOUND


def test_yarn_of_the_file(tmp_path: Path) -> None:
    plain = tiny_config(context_tokens=64)
    model = random_model(tmp_path, with_yarn(plain, 4.0))
    tokens = random_tokens(150, seed=4)
    found = read(model.path, tokens)
    assert relative_error(found, model.logits(tokens)) < F32_BOUND
    assert relative_error(found, Reference(model.weights, plain).forward(tokens)) > 0.01
    assert _core.Model(model.path).context_tokens == 256


def test_more_context_than_the_model_has_switches_yarn_on(tmp_path: Path) -> None:
    config = tiny_config(context_tokens=64)
    model = random_model(tmp_path, config)
    tokens = random_tokens(150, seed=4)
    found = read(model.path, tokens, context_tokens=160)
    assert relative_error(found, Reference(model.weights, with_yarn(config, 2.5)).forward(tokens)) < F32_BOUND
    assert _core.Model(model.path, context_tokens=160).config["rope_factor"] == 2.5
    shorter = _core.Model(model.path, context_tokens=32)
    assert (shorter.context_tokens, shorter.config["rope_factor"]) == (32, 1.0)
    with pytest.raises(InputError, match="at most 256"):
        _core.Model(model.path, context_tokens=257)
