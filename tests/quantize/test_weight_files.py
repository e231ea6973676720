"""Folders with more than one download in them: the right files are read, and what is left out is said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
from safetensors_bytes import Tensors, change, read, tensor, write
from tiny_checkpoints import Tiny

from qwen35_local.errors import FormatError
from qwen35_local.quantize import convert

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    tiny_checkpoints.write(folder / "m", Tiny())
    convert(folder / "m", folder / "out.gguf", "F32")
    return folder


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    shutil.copytree(clean / "m", tmp_path / "m")
    return tmp_path / "m"


def converted(folder: Path, clean: Path) -> list[str]:
    """The warnings of a conversion that gives the clean folder's file."""
    report = convert(folder, folder.parent / "out.gguf", "F32")
    assert (folder.parent / "out.gguf").read_bytes() == (clean / "out.gguf").read_bytes()
    return report.warnings


def refused(folder: Path) -> str:
    with pytest.raises(FormatError) as error:
        convert(folder, folder.parent / "out.gguf", "F32")
    return str(error.value)


def split(folder: Path, *, mtp: str = "mtp.safetensors", listed: bool = True, index: bool = True) -> Tensors:
    """Two shards and the MTP block in a file of its own; returns what the single file held."""
    tensors = read(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    body = [name for name in tensors if not name.startswith("mtp.")]
    parts = {
        "model-00001-of-00002.safetensors": body[:20],
        "model-00002-of-00002.safetensors": body[20:],
        mtp: [name for name in tensors if name.startswith("mtp.")],
    }
    for name, members in parts.items():
        write(folder / name, {member: tensors[member] for member in members})
    if index:
        weight_map = {member: name for name, members in parts.items() if listed or name != mtp for member in members}
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return tensors


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("name", ["mtp.safetensors", "model-mtp.safetensors", "extra_weights.safetensors"])
def test_mtp_in_a_file_of_its_own(name: str, index: bool, listed: bool, folder: Path, clean: Path) -> None:
    split(folder, mtp=name, listed=listed, index=index)
    assert not converted(folder, clean)


@pytest.mark.parametrize("has_mtp", [True, False], ids=["whole", "body"])
@pytest.mark.parametrize("index", [True, False])
def test_a_copy_beside_the_shards(index: bool, has_mtp: bool, folder: Path, clean: Path) -> None:
    tensors = split(folder, index=index)
    copy = {n: t for n, t in tensors.items() if has_mtp or not n.startswith("mtp.")}
    write(folder / "model.safetensors", {"base_model.model." + n: t for n, t in copy.items()})
    assert any(".safetensors is a copy of what" in warning for warning in converted(folder, clean))


@pytest.mark.parametrize("index", [True, False])
def test_another_model_beside_the_shards(index: bool, folder: Path) -> None:
    tensors = split(folder, index=index)
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name] = tensor(-tensors[name].values(), "BF16")
    write(folder / "model.safetensors", tensors)
    message = refused(folder)
    assert "different values" in message
    assert "model.safetensors" in message
    assert "of-00002.safetensors" in message


def test_one_byte_in_the_middle_makes_another_model(folder: Path) -> None:
    tensors = split(folder)
    name = "model.embed_tokens.weight"
    data = bytearray(tensors[name].data)
    data[len(data) // 2] ^= 1
    write(folder / "model.safetensors", {name: tensors[name]._replace(data=bytes(data))})
    assert f"{name} is there twice with different values" in refused(folder)


SHARD = "model-00001-of-00002.safetensors"


def index_of_shards_that_are_gone(folder: Path) -> None:
    names = read(folder / "model.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, SHARD)}))


def one_shard_is_left(folder: Path) -> None:
    index_of_shards_that_are_gone(folder)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    names = list(weight_map)
    tensors = read(folder / "model.safetensors")
    write(folder / SHARD, {name: tensors[name] for name in names[:9]})
    weight_map |= dict.fromkeys(names[9:], SHARD.replace("1-of", "2-of"))
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def index_of_an_fp8_model(folder: Path) -> None:
    index_of_shards_that_are_gone(folder)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    weight_map["model.layers.0.mlp.up_proj.weight_scale_inv"] = SHARD
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def index_of_a_model_with_an_image_encoder(folder: Path) -> None:
    index_of_shards_that_are_gone(folder)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    weight_map = {n.replace("model.", "model.language_model."): s for n, s in weight_map.items()}
    weight_map |= {"model.visual.patch_embed.proj.weight": SHARD, "lm_head.weight": SHARD}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    "stale",
    [index_of_an_fp8_model, index_of_shards_that_are_gone, one_shard_is_left, index_of_a_model_with_an_image_encoder],
)
def test_a_stale_index_beside_a_complete_file(stale: Callable[[Path], None], folder: Path, clean: Path) -> None:
    stale(folder)
    assert any(f"{INDEX} is stale" in warning for warning in converted(folder, clean))


def test_a_stale_index_beside_complete_shards(folder: Path, clean: Path) -> None:
    split(folder, mtp="model-mtp.safetensors")
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace("-of-00002", "-of-00009"))
    assert any("is stale" in warning for warning in converted(folder, clean))


@pytest.mark.parametrize("missing", ["mtp.safetensors", SHARD])
def test_a_download_that_is_not_complete(missing: str, folder: Path) -> None:
    split(folder)
    (folder / missing).unlink()
    assert f"1 of 3 shards are missing, first {missing}" in refused(folder)


def test_a_stale_index_beside_a_file_that_lacks_weights(folder: Path) -> None:
    index_of_shards_that_are_gone(folder)
    change(folder, lambda t: {n: v for n, v in t.items() if "layers.3." not in n})
    assert "1 of 1 shards are missing" in refused(folder)


def adapter(folder: Path, prefix: str = "base_model.model.model.") -> Tensors:
    stem = f"{prefix}layers.0.mlp.up_proj."
    return {f"{stem}lora_{part}.weight": tensor(np.zeros((8, 8)), "F32") for part in "AB"}


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "lora.safetensors"])
def test_an_adapter_beside_the_weights(name: str, folder: Path, clean: Path) -> None:
    write(folder / name, adapter(folder))
    (warning,) = converted(folder, clean)
    assert f"{name} is an adapter" in warning


def test_an_adapter_in_a_pickle_beside_the_weights(folder: Path, clean: Path) -> None:
    (folder / "adapter_model.bin").touch()
    (warning,) = converted(folder, clean)
    assert "adapter_model.bin is an adapter" in warning


def test_the_original_of_a_module_that_an_adapter_replaces(folder: Path) -> None:
    name = "model.embed_tokens.weight"
    change(folder, lambda t: {n.replace("embed_tokens.", "embed_tokens.original_module."): v for n, v in t.items()})
    assert name.replace("weight", "original_module.weight") in (message := refused(folder))
    assert "merge it first" in message


def test_an_adapter_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    write(folder / "adapter_model.safetensors", adapter(folder))
    assert "only an adapter" in refused(folder)
    (folder / "config.json").rename(folder / "adapter_config.json")
    assert "holds an adapter and no model" in refused(folder)


def test_an_adapter_that_was_not_merged(folder: Path) -> None:
    def wrapped(tensors: Tensors) -> Tensors:
        name = "model.layers.0.mlp.up_proj.weight"
        return {
            n.replace("up_proj.weight", "up_proj.base_layer.weight") if n == name else n: t for n, t in tensors.items()
        } | adapter(folder)

    change(folder, wrapped)
    assert "merge it first" in refused(folder)


def test_damaged_files_that_nothing_needs(folder: Path, clean: Path) -> None:
    split(folder)
    (folder / "old.safetensors").write_bytes(b"")
    (folder / "._model-00001-of-00002.safetensors").write_bytes(b"\0\5\26\7")
    (warning,) = converted(folder, clean)
    assert "old.safetensors" in warning
    assert "empty" in warning


def test_foreign_weights_that_the_index_does_not_list(folder: Path, clean: Path) -> None:
    split(folder)
    write(folder / "classifier.safetensors", {"score.weight": tensor(np.zeros((2, 256)), "F32")})
    (warning,) = converted(folder, clean)
    assert "classifier.safetensors" in warning
    assert "score.weight" in warning


def test_an_index_that_spells_the_prefixes_in_another_way(folder: Path, clean: Path) -> None:
    split(folder)
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('"model.layers.', '"base_model.model.model.layers.'))
    assert "base_model" in (folder / INDEX).read_text()
    assert not converted(folder, clean)


@pytest.mark.parametrize("index", [True, False])
def test_a_file_without_tensors(index: bool, folder: Path, clean: Path) -> None:
    split(folder, index=index)
    write(folder / "extra.safetensors", {})
    assert not converted(folder, clean)


def test_only_files_without_tensors(folder: Path) -> None:
    write(folder / "model.safetensors", {})
    assert "no file here holds a tensor" in refused(folder)


def test_files_without_numbers_and_without_an_index(folder: Path, clean: Path) -> None:
    tensors = read(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for part in range(3):
        write(folder / f"part{part}.safetensors", dict(list(tensors.items())[part::3]))
    assert not converted(folder, clean)
