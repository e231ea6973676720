"""A GGUF as the source: other types, the same model."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import tiny_checkpoints
from tiny_checkpoints import Tiny

from qwen35_local.errors import FormatError, InputError
from qwen35_local.quantize import convert


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf_source")
    tiny_checkpoints.write(path / "m", Tiny(is_moe=True, is_tied=False))
    for preset in ("F32", "BF16", "Q8_0", "Q4_K_M"):
        convert(path / "m", path / f"m-{preset}.gguf", preset)
    return path


def fields(path: Path) -> dict[str, tuple[Any, list[str]]]:
    found = gguf.GGUFReader(path).fields
    return {k: (f.contents(), [t.name for t in f.types]) for k, f in found.items() if not k.startswith("GGUF.")}


@pytest.mark.parametrize(("source", "preset"), [("F32", "Q4_K_M"), ("BF16", "Q8_0"), ("BF16", "IQ4_XS")])
def test_same_bytes_as_from_the_checkpoint(folder: Path, tmp_path: Path, source: str, preset: str) -> None:
    convert(folder / "m", tmp_path / "direct.gguf", preset)
    report = convert(folder / f"m-{source}.gguf", tmp_path / "again.gguf", preset)
    assert (tmp_path / "direct.gguf").read_bytes() == (tmp_path / "again.gguf").read_bytes()
    assert not report.warnings


def test_metadata_and_their_types_are_kept(folder: Path, tmp_path: Path) -> None:
    convert(folder / "m-Q8_0.gguf", tmp_path / "out.gguf", "Q4_0")
    before, after = fields(folder / "m-Q8_0.gguf"), fields(tmp_path / "out.gguf")
    assert list(before) == list(after)
    assert {k for k in before if before[k] != after[k]} == {"general.file_type"}


def test_a_tensor_that_has_its_type_is_copied(folder: Path, tmp_path: Path) -> None:
    report = convert(folder / "m-Q4_K_M.gguf", tmp_path / "out.gguf", "Q4_K_M")
    assert (folder / "m-Q4_K_M.gguf").read_bytes() == (tmp_path / "out.gguf").read_bytes()
    assert not report.worst()
    assert "rounding twice" in report.warnings[0]


def test_default_name_drops_the_old_type(folder: Path, tmp_path: Path) -> None:
    assert convert(folder / "m-F32.gguf", tmp_path, "Q6_K").path.name == "m-Q6_K.gguf"


def test_more_bits_than_the_source_has_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mostly|most of its weights are Q4_K.*--allow-requantize"):
        convert(folder / "m-Q4_K_M.gguf", tmp_path / "out.gguf", "Q8_0")
    report = convert(folder / "m-Q4_K_M.gguf", tmp_path / "out.gguf", "Q8_0", allow_requantize=True)
    assert {t.dtype for t in report.tensors} == {"F32", "Q8_0"}
    assert report.warnings


def types(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def test_single_tensors_do_not_gain_bits(folder: Path, tmp_path: Path) -> None:
    """llama.cpp's Q4_K_M wants Q6_K for values; those that are Q4_K already stay so."""
    wanted = {t.name: t.dtype for t in convert(folder / "m", tmp_path, recipe="llama", dry_run=True).tensors}
    convert(folder / "m-Q4_K_M.gguf", tmp_path / "out.gguf", "Q4_K_M", recipe="llama")
    before, after = types(folder / "m-Q4_K_M.gguf"), types(tmp_path / "out.gguf")
    coarse = [name for name, dtype in before.items() if dtype == "Q4_K"]
    assert {wanted[name] for name in coarse} == {"Q4_K", "Q6_K"}
    assert {after[name] for name in coarse} == {"Q4_K"}


def test_four_bits_are_not_rounded_again(folder: Path, tmp_path: Path) -> None:
    """Q4_K_S has the same type for most tensors, and fewer bits for some."""
    with pytest.raises(InputError, match=r"most of its weights are Q4_K.*--allow-requantize"):
        convert(folder / "m-Q4_K_M.gguf", tmp_path / "out.gguf", "Q4_K_S")
    with pytest.raises(InputError, match="--allow-requantize"):
        convert(folder / "m-Q4_K_M.gguf", tmp_path / "out.gguf", "Q4_K_M", types={"*.ffn_up*": "Q3_K"})
    convert(folder / "m-Q4_K_M.gguf", tmp_path / "out.gguf", "Q4_K_S", allow_requantize=True)
    assert "IQ4_XS" in types(tmp_path / "out.gguf").values()


def test_damaged_and_foreign_files(folder: Path, tmp_path: Path) -> None:
    good = (folder / "m-Q8_0.gguf").read_bytes()
    foreign = good.replace(b"qwen35moe", b"qwen99moe")
    for n, data in enumerate((good[: len(good) // 2], good[:100], b"GGUF", b"", foreign)):
        (tmp_path / f"{n}.gguf").write_bytes(data)
        with pytest.raises(FormatError):
            convert(tmp_path / f"{n}.gguf", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("name", ["blk.1.ffn_down_exps.weight", "blk.3.attn_q_norm.weight"])
def test_a_missing_tensor_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    damaged = (folder / "m-Q8_0.gguf").read_bytes().replace(name.encode(), name.replace("n", "m", 1).encode())
    (tmp_path / "x.gguf").write_bytes(damaged)
    with pytest.raises(FormatError, match=f"tensor {name} is missing"):
        convert(tmp_path / "x.gguf", tmp_path / "out.gguf", "Q4_0")
