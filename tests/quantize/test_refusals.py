"""Bad input is one clear message and exit code 2, and leaves nothing behind."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoints
from tiny_checkpoints import Tiny

from qwen35_local.cli.main import main
from qwen35_local.errors import FormatError, InputError
from qwen35_local.quantize import convert

Damage = Callable[[Path], object]


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Damage that changes a JSON file of the folder."""

    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return damage


def weights(change: Callable[[tiny_checkpoints.Arrays], Any], dtype: str = "BF16") -> Damage:
    """Damage that writes the folder's weights again after a change."""

    def damage(folder: Path) -> None:
        arrays = tiny_checkpoints.values(Tiny())
        change(arrays)
        tiny_checkpoints.write_safetensors(folder / "model.safetensors", arrays, dtype)

    return damage


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 2)


def relabel(folder: Path) -> None:
    """Weights that claim to be 8-bit floats, with half the columns."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for entry in header.values():
        if "dtype" in entry:
            entry |= {"dtype": "F8_E4M3", "shape": [*entry["shape"][:-1], 2 * entry["shape"][-1]]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def put(arrays: tiny_checkpoints.Arrays, name: str, shape: tuple[int, ...], value: float = 0.0) -> None:
    arrays[name] = np.full(shape, value, np.float32)


NORM = "model.layers.0.input_layernorm.weight"
REFUSED: dict[str, tuple[Damage, str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
    "key twice in config": (lambda f: (f / "config.json").write_text('{"a":1,"a":2}'), "occurs twice"),
    "unknown architecture": (edit("config.json", lambda c: c.update(model_type="llama")), "model_type"),
    "8-bit floats": (relabel, "F8_E4M3"),
    "more layers in config": (edit("config.json", lambda c: c.update(num_hidden_layers=8)), "layers.4.*missing"),
    "fewer layers in config": (
        edit("config.json", lambda c: c.update(num_hidden_layers=3)),
        "layers.3.*not part of the model",
    ),
    "truncated": (truncate, "truncated"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no .safetensors"),
    "only a pickle": (only_pickle, "pickle, which is never loaded"),
    "missing tensor": (weights(lambda a: a.pop(NORM)), "layers.0.input_layernorm.weight is missing"),
    "half an MTP block": (weights(lambda a: a.pop("mtp.fc.weight")), "mtp.fc.weight is missing"),
    "unknown tensor": (weights(lambda a: put(a, "model.layers.0.mlp.extra", (3,))), "mlp.extra is not part"),
    "wrong shape": (weights(lambda a: put(a, NORM, (255,))), r"shape \[255\].*\[256\]"),
    "tensor twice": (weights(lambda a: put(a, NORM.replace("model.", "model.language_model."), (256,))), "there twice"),
    "not finite": (weights(lambda a: put(a, NORM, (256,), np.nan)), "not finite"),
    "infinite": (weights(lambda a: put(a, "model.layers.1.mlp.up_proj.weight", (256, 256), np.inf)), "not finite"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "tokenizer of another model": (
        edit("tokenizer.json", lambda t: t["added_tokens"][0].update(id=320)),
        "'<|endoftext|>' has id 320, but the embedding table has 320 rows",
    ),
    "unknown split": (
        edit("tokenizer.json", lambda t: t["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": r"\s+"})),
        "cuts text",
    ),
    "unigram": (edit("tokenizer.json", lambda t: t["model"].update(type="Unigram")), "Unigram"),
    "no end token": (
        lambda f: (
            edit("config.json", lambda c: c.pop("eos_token_id"))(f),
            edit("tokenizer_config.json", lambda c: c.pop("eos_token"))(f),
        )[0],
        "no end-of-text token",
    ),
    "template of other bytes": (lambda f: (f / "chat_template.jinja").write_bytes(b"\xff"), "UTF-8"),
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """`qwen35 quantize ...` in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["qwen35", "quantize", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


@pytest.mark.parametrize("case", REFUSED)
def test_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = REFUSED[case]
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    damage(tmp_path / "m")
    before = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert run(monkeypatch, tmp_path / "m", tmp_path / "out.gguf") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    with pytest.raises((FormatError, InputError), match=message):
        convert(tmp_path / "m", tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == before


SHARD = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


def remove_shard_and_index(folder: Path) -> None:
    (folder / SHARD).unlink()
    (folder / INDEX).unlink()


REFUSED_SHARDS: dict[str, tuple[Damage, str]] = {
    "missing shard": (lambda f: (f / SHARD).unlink(), f"1 of 3 shards are missing, first {SHARD}"),
    "missing shard and index": (remove_shard_and_index, "2 of 3 shards are here"),
    "index names a path": (
        edit(INDEX, lambda i: i["weight_map"].update({"x": "../m/model-00001-of-00003.safetensors"})),
        "not the name of a safetensors file",
    ),
    "index names a pickle": (edit(INDEX, lambda i: i["weight_map"].update({"x": "x.bin"})), "not the name"),
    "tensor in another shard": (
        edit(INDEX, lambda i: i["weight_map"].update({"model.embed_tokens.weight": SHARD})),
        f"model.embed_tokens.weight should be in {SHARD}",
    ),
    "index is empty": (edit(INDEX, lambda i: i.update(weight_map={})), "no weight_map"),
    "same tensor in two shards": (
        lambda f: (f / SHARD).write_bytes((f / SHARD.replace("2-of", "1-of")).read_bytes()),
        "different downloads",
    ),
}


@pytest.mark.parametrize("case", REFUSED_SHARDS)
def test_refused_shards(case: str, tmp_path: Path) -> None:
    damage, message = REFUSED_SHARDS[case]
    tiny_checkpoints.write(tmp_path / "m", Tiny(n_shards=3))
    damage(tmp_path / "m")
    with pytest.raises(FormatError, match=message):
        convert(tmp_path / "m", tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_shards_without_index_are_fine_when_all_are_here(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny(n_shards=3))
    convert(tmp_path / "m", tmp_path / "with.gguf", "Q8_0")
    (tmp_path / "m" / INDEX).unlink()
    convert(tmp_path / "m", tmp_path / "without.gguf", "Q8_0")
    assert (tmp_path / "with.gguf").read_bytes() == (tmp_path / "without.gguf").read_bytes()


def test_code_and_pickles_beside_the_weights_are_never_touched(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny(changes={"auto_map": {"AutoConfig": "evil.Config"}}))
    canary = tmp_path / "canary"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (canary,))

    for name in ("pytorch_model.bin", "model.pt", "training_args.bin"):
        (tmp_path / "m" / name).write_bytes(pickle.dumps(Trap()))
    (tmp_path / "m" / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    convert(tmp_path / "m", tmp_path / "out.gguf")
    assert not canary.exists()


def test_output_that_is_there_is_kept_unless_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    out = tmp_path / "out.gguf"
    out.write_text("old")
    assert run(monkeypatch, tmp_path / "m", out) == 2
    assert out.read_text() == "old"
    assert run(monkeypatch, tmp_path / "m", out, "--force") == 0
    assert out.read_bytes().startswith(b"GGUF")


def test_output_that_is_the_source_is_refused(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    convert(tmp_path / "m", tmp_path / "a.gguf", "F16")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "a.gguf")
    os.link(tmp_path / "a.gguf", tmp_path / "hard.gguf")
    for target in ("a.gguf", "link.gguf", "hard.gguf"):
        with pytest.raises(InputError, match="source"):
            convert(tmp_path / "a.gguf", tmp_path / target, "Q4_0", overwrite=True)


@pytest.mark.parametrize(
    ("source", "out", "preset", "message"),
    [
        ("nowhere", "o.gguf", "Q4_K_M", "no such folder or file"),
        ("m", "no/such/o.gguf", "Q4_K_M", "no such folder"),
        ("m", "o.gguf", "Q3_K_L", "unknown type"),
        ("m/model.safetensors", "o.gguf", "Q4_K_M", "give the folder"),
        ("m/tokenizer.json", "o.gguf", "Q4_K_M", "tokenizer.json"),
    ],
)
def test_arguments(source: str, out: str, preset: str, message: str, tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    with pytest.raises((InputError, FormatError), match=message):
        convert(tmp_path / source, tmp_path / out, preset)


def test_values_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    weights(lambda a: put(a, "model.layers.1.mlp.up_proj.weight", (256, 256), 1e6))(tmp_path / "m")
    with pytest.raises(InputError, match=r"blk\.1\.ffn_up\.weight.*BF16"):
        convert(tmp_path / "m", tmp_path / "out.gguf", "F16")
    convert(tmp_path / "m", tmp_path / "out.gguf", "BF16")


@pytest.mark.parametrize("name", ["a b", "quote'\"", "new\nline", "-dash", "$(touch x)", "ümlaut"])
def test_odd_folder_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_checkpoints.write(tmp_path / name, Tiny())
    monkeypatch.chdir(tmp_path)
    report = convert(tmp_path / name, None, "Q4_0")
    assert report.path.parent == tmp_path
    assert report.path.name.endswith("-Q4_0.gguf")
    assert not report.path.name.startswith("-")


def test_report_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny(is_nested=True, has_vision=True))
    assert run(monkeypatch, tmp_path / "m", tmp_path / "out.gguf", "--type", "q4_k_m") == 0
    out = capsys.readouterr().out
    assert "bits per weight" in out
    assert "left out: 2 vision tensors" in out
    assert run(monkeypatch, tmp_path / "m", tmp_path / "out.gguf", "--type", "q4_0", "--dry-run") == 0
    assert "%  1 tensor: token_embd 1\n" in capsys.readouterr().out
    assert run(monkeypatch, tmp_path / "m", tmp_path / "out.gguf", "--json", "--dry-run") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["dry_run"]
    assert len(report["vision_left_out"]) == 2
