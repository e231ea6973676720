"""Norms that hold 1 + w, as MLX saves them: never increased a second time, whatever else was put back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_checkpoints
from numpy.typing import NDArray
from safetensors_bytes import Tensors, change, read, tensor, write
from tiny_checkpoints import Tiny

from qwen35_local.errors import FormatError
from qwen35_local.quantize import convert
from qwen35_local.quantize.gains import Stored, Verdict, judge
from qwen35_local.quantize.shard import read_shard

INCREASED = (  # by MLX
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
    "q_norm.weight",
    "k_norm.weight",
    "model.norm.weight",
    "mtp.norm.weight",
    "pre_fc_norm_hidden.weight",
    "pre_fc_norm_embedding.weight",
)
DEMO = Path(__file__).parents[2] / "models/demo/checkpoint/model.safetensors"

Chosen = Callable[[str], bool]


def increased(tensors: Tensors, chosen: Chosen = lambda name: True, by: float = 1.0) -> Tensors:
    """With 1 + w in the chosen norms, in their own type."""
    return {
        name: tensor(t.values() + np.float32(by), t.dtype) if name.endswith(INCREASED) and chosen(name) else t
        for name, t in tensors.items()
    }


def channels_last(tensors: Tensors) -> Tensors:
    """With convolutions as [C, taps, 1]."""
    return {
        name: t._replace(shape=[t.shape[0], t.shape[2], 1]) if name.endswith("conv1d.weight") else t
        for name, t in tensors.items()
    }


def converted(folder: Path, *, allow: bool = False) -> tuple[bytes, list[str]]:
    out = folder.parent / "out.gguf"
    report = convert(folder, out, "F32", allow_requantize=allow, overwrite=True)
    return out.read_bytes(), report.warnings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    return tmp_path / "m"


@pytest.mark.parametrize("conv", [False, True], ids=["conv-restored", "conv-as-saved"])
def test_exact_ones_are_taken_as_they_are(conv: bool, tmp_path: Path) -> None:
    """w in F32 that are F32(1 + w) less than half a bit off: what a conversion would compute itself."""
    tiny_checkpoints.write(tmp_path / "m", Tiny(dtype="F32"))
    clean, _ = converted(tmp_path / "m")
    change(tmp_path / "m", increased)
    if conv:
        change(tmp_path / "m", channels_last)
    found, warnings = converted(tmp_path / "m")
    assert found == clean
    assert "1 + w" in warnings[0]


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_rounded_ones_are_refused_unless_allowed(dtype: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    tiny_checkpoints.write(folder, Tiny(dtype=dtype))
    converted(folder)
    clean = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    change(folder, increased)
    change(folder, channels_last)
    with pytest.raises(FormatError, match=r"saved by MLX.*rounded to 16 bits.*--allow-requantize"):
        converted(folder)
    assert "rounded to 16 bits" in converted(folder, allow=True)[1][0]
    for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors:
        is_norm = t.name.endswith("norm.weight") and "ssm" not in t.name
        bound = 2.0**-8 if is_norm else 0.0  # half a unit in the last of the 8 bits of BF16
        assert np.all(np.abs(t.data - clean[t.name]) <= bound * np.abs(clean[t.name])), t.name


def test_16_bits_in_a_wider_type_are_rounded_too(folder: Path) -> None:
    change(folder, increased)
    change(folder, lambda t: {n: tensor(v.values(), "F32") if n.endswith(INCREASED) else v for n, v in t.items()})
    with pytest.raises(FormatError, match="saved by MLX"):
        converted(folder)


def test_only_the_convolutions_are_mlx(folder: Path) -> None:
    clean, _ = converted(folder)
    change(folder, channels_last)
    assert converted(folder) == (clean, [])


PARTS: dict[str, Chosen] = {
    "layers": lambda n: not n.startswith("mtp."),
    "mtp": lambda n: n.startswith("mtp."),
    "before the mixer": lambda n: "input_layernorm" in n,
    "before the feed-forward": lambda n: "post_attention" in n,
    "queries and keys": lambda n: "q_norm" in n or "k_norm" in n,
    "all but queries and keys": lambda n: "q_norm" not in n and "k_norm" not in n,
    "all but the last": lambda n: not n.endswith(".norm.weight"),
    "some layers": lambda n: "layers.1." in n or "layers.2." in n,
    "one layer": lambda n: "layers.1." in n,
    "all but one layer": lambda n: "layers.1." not in n,
}


@pytest.mark.parametrize("source", ["demo", "random", "narrow"])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("part", PARTS)
def test_some_norms_only(part: str, dtype: str, source: str, tmp_path: Path) -> None:
    """A part of any kind is told, in every type; but for a last norm that nothing but its level speaks about."""
    tensors = norms(tmp_path, source, dtype)
    if part == "all but the last" and source != "demo":
        pytest.skip("w of the last norm lies where gains do")
    write(tmp_path / "x.safetensors", increased(tensors, PARTS[part]))
    with pytest.raises(FormatError, match=r"stores its gains as|neither w"):
        judge(read_norms(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("name", ["model.language_model.norm.weight", "mtp.norm.weight"])
@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_a_last_norm_that_needs_more_bits_than_the_others_was_increased(name: str, dtype: str, tmp_path: Path) -> None:
    tensors = norms(tmp_path, "demo", dtype)
    write(tmp_path / "x.safetensors", increased(tensors, lambda n: n == name))
    with pytest.raises(FormatError, match=rf"tensor {name} .* stores its gains as 1 \+ w"):
        judge(read_norms(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("trace", ["names", "convolutions"])
def test_a_last_norm_that_may_be_increased_beside_what_mlx_left(trace: str, folder: Path) -> None:
    change(
        folder,
        lambda t: {n: tensor(np.abs(v.values()), v.dtype) if n == "mtp.norm.weight" else v for n, v in t.items()},
    )
    change(folder, lambda t: increased(t, lambda name: name == "mtp.norm.weight"))
    assert "mtp.norm.weight may hold w or 1 + w" in converted(folder)[1][0]
    change(
        folder, channels_last if trace == "convolutions" else lambda t: {"language_model." + n: v for n, v in t.items()}
    )
    with pytest.raises(FormatError, match=r"mtp.norm.weight may hold w or 1 \+ w.*as MLX\s+saves"):
        converted(folder)


@pytest.mark.parametrize("source", ["demo", "random", "narrow"])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_all_or_none(dtype: str, source: str, tmp_path: Path) -> None:
    tensors = norms(tmp_path, source, dtype)
    path = tmp_path / "x.safetensors"
    write(path, tensors)
    doubtful = () if source == "demo" else ("model.norm.weight", "mtp.norm.weight")
    assert judge(read_norms(path)) == Verdict(Stored.OFFSET, doubtful=doubtful)
    write(path, increased(tensors))
    assert judge(read_norms(path)) == Verdict(Stored.GAIN, dtype != "F32")
    write(path, increased(tensors, by=2.0))
    with pytest.raises(FormatError, match="added to them twice"):
        judge(read_norms(path))


def test_a_last_norm_that_only_the_others_speak_for_is_named(folder: Path) -> None:
    change(folder, lambda t: increased(t, lambda name: name == "mtp.norm.weight"))
    change(
        folder,
        lambda t: {n: tensor(np.abs(v.values()), v.dtype) if n == "mtp.norm.weight" else v for n, v in t.items()},
    )
    (warning,) = converted(folder)[1]
    assert "mtp.norm.weight may hold w or 1 + w" in warning


def norms(folder: Path, source: str, dtype: str) -> Tensors:
    """Of the trained demo model, or random ones whose means are those of the published models, spread wide or not."""
    if source == "demo":
        found = read(DEMO)
    else:
        tiny_checkpoints.write(folder / "m", Tiny(layers=8))
        spread = 0.15 if source == "random" else 0.03
        found = published_levels(read(folder / "m" / "model.safetensors"), spread, dtype)
    return {name: tensor(t.values(), dtype) for name, t in found.items() if name.endswith(INCREASED)}


LEVELS = {  # means of w in published MTP blocks (youssofal/MTPLX#511); those of layers are alike
    "q_norm": 0.79,
    "k_norm": 0.78,
    "input_layernorm": 0.04,
    "post_attention_layernorm": 0.21,
    "pre_fc_norm_hidden": -0.16,
    "pre_fc_norm_embedding": -0.46,
    "norm": 1.25,
}


def published_levels(tensors: Tensors, spread: float, dtype: str) -> Tensors:
    """Norms, spread around the published means, that were trained in `dtype`."""

    def level(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.float32(LEVELS[name.split(".")[-2]]) + values * np.float32(spread / values.std())

    return {n: tensor(level(n, t.values()), dtype) for n, t in tensors.items() if n.endswith(INCREASED)}


def read_norms(path: Path) -> dict[str, object]:
    """By canonical name."""
    return {
        name.removeprefix("model.").removeprefix("language_model."): entry for name, entry in read_shard(path).items()
    }


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_norms_as_initialised(dtype: str, tmp_path: Path) -> None:
    """All zeros, w of an untrained model, and all ones, its gains."""
    zeros = {n: tensor(np.zeros_like(t.values()), dtype) for n, t in norms(tmp_path, "random", "F32").items()}
    write(tmp_path / "x.safetensors", zeros)
    assert judge(read_norms(tmp_path / "x.safetensors")) == Verdict(Stored.OFFSET)
    write(tmp_path / "x.safetensors", increased(zeros))
    assert judge(read_norms(tmp_path / "x.safetensors")) == Verdict(Stored.GAIN, True)


def test_a_checkpoint_without_an_mtp_block(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", replace(Tiny(), has_mtp=False, dtype="F32"))
    clean, _ = converted(tmp_path / "m")
    change(tmp_path / "m", increased)
    assert converted(tmp_path / "m")[0] == clean
