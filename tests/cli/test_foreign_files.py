"""The commands on files of other writers: alike on each of them, and what is odd is said once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dialects
import gguf
import numpy as np
import pytest
from random_model import random_model, super_block_config, tiny_config
from rewritten import rewrite
from typer.testing import CliRunner, Result

from qwen35_local import _core, hub
from qwen35_local.cli.app import app
from qwen35_local.errors import Qwen35Error

WITHOUT_MTP = "qwen35.nextn_predict_layers is 1, but the multi-token-prediction block is not in the file"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments: str | Path) -> str:
    """What the command ends with, exit code 2 in the program."""
    error = run(*arguments).exception
    assert isinstance(error, Qwen35Error), (arguments, error)
    return str(error)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo model as llama.cpp, a fine-tune that lost its MTP block, and Ollama write it."""
    folder, demo = tmp_path_factory.mktemp("files"), hub.embedded_model()
    ollama = dialects.ollama_name(8)
    return {
        "plain": demo,
        "gone": rewrite(demo, folder / "gone.gguf", name=lambda n: None if n.startswith("blk.8.") else n),
        "ollama": rewrite(
            demo,
            folder / "sha256-0123",
            name=ollama,
            put={
                "qwen35.nextn_predict_layers": None,
                "qwen35.block_count": 8,
                "qwen35.attention.head_count_kv": [0, 0, 0, 1] * 2,
                "qwen35.rope.dimension_sections": [11, 11, 10],
                "qwen35.mrope_sections": [11, 11, 10],
                "qwen35.vision.block_count": 1,
                "qwen35.image_token_id": 4076,
            },
            add=dialects.vision(),
        ),
    }


@pytest.mark.parametrize("kind", ["gone", "ollama"])
def test_same_answer_and_one_notice(kind: str, files: dict[str, Path]) -> None:
    ask = ("-p", "What is the capital of France?", "--temperature", "0", "--threads", "1")
    expected, found = (run("chat", files[k], *ask) for k in ("plain", kind))
    assert found.exit_code == 0 and found.stdout == expected.stdout and "Paris" in found.stdout
    assert found.stderr.count(WITHOUT_MTP) == (kind == "gone")


@pytest.mark.parametrize("kind", ["gone", "ollama"])
def test_same_perplexity(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("My name is Ann. The capital of Italy is Rome.\n" * 3)
    expected, found = (run("perplexity", files[k], text, "--threads", "1", "--json") for k in ("plain", kind))
    assert json.loads(found.stdout) == json.loads(expected.stdout) | {"model": str(files[kind])}
    assert found.stderr.count(WITHOUT_MTP) == (kind == "gone")


@pytest.mark.parametrize("kind", ["gone", "ollama"])
def test_selftest_and_bench(kind: str, files: dict[str, Path]) -> None:
    checked = run("selftest", files[kind], "--scenarios", "1", "--ctx", "512", "--threads", "1")
    timed = run(
        "bench", files[kind], "-p", "8", "-n", "2", "-d", "0", "--batch", "1", "-r", "1", "-t", "1", "-o", "json"
    )
    for said in (checked, timed):
        assert said.exit_code == 0 and said.stderr.count(WITHOUT_MTP) == (kind == "gone"), said.stderr


def test_info(files: dict[str, Path]) -> None:
    plain, gone, ollama = (json.loads(run("info", files[k], "--json").stdout) for k in ("plain", "gone", "ollama"))
    for facts in (plain, gone, ollama):
        assert facts["is_supported"] and facts["layers"] == 8
        assert facts["missing_tensors"] == facts["unexpected_tensors"] == []
    assert (plain["has_mtp"], gone["has_mtp"], ollama["has_mtp"]) == (True, False, True)
    assert (plain["parameters"], plain["types"]) == (ollama["parameters"], ollama["types"])
    assert (ollama["vision_tensors"], ollama["vision_bytes"]) == (2, 512)
    assert plain["notices"] == ollama["notices"] == [] and WITHOUT_MTP in gone["notices"][0]
    assert f"note        {WITHOUT_MTP}" in run("info", files["gone"]).stdout
    assert "vision      2 tensors" in run("info", files["ollama"]).stdout


def test_plan(files: dict[str, Path]) -> None:
    ask = ("--memory", "4G", "--ctx", "4096", "--json")
    plain, gone, ollama = (json.loads(run("plan", files[k], *ask).stdout) for k in ("plain", "gone", "ollama"))
    assert plain["plans"][0]["parts"] == ollama["plans"][0]["parts"]
    parts, without = plain["plans"][0]["parts"], gone["plans"][0]["parts"]
    assert without["mtp"] == 0 < parts["mtp"] and without["weights"] == parts["weights"]
    assert WITHOUT_MTP in run("plan", files["gone"], *ask).stderr


def tensors(path: Path) -> dict[str, Any]:
    return {t.name: (t.tensor_type, t.shape.tolist(), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


def values(path: Path) -> dict[str, Any]:
    return {k: f.contents() for k, f in gguf.GGUFReader(path).fields.items() if not k.startswith("GGUF.")}


def test_quantize(files: dict[str, Path], tmp_path: Path) -> None:
    out = {kind: tmp_path / f"{kind}.gguf" for kind in files}
    options = ("--type", "Q4_0", "--name", "demo", "--recipe", "llama", "--calibrate", "none", "--allow-requantize")
    said = {kind: run("quantize", files[kind], out[kind], *options) for kind in files}
    assert all(result.exit_code == 0 for result in said.values()), said
    expected = tensors(out["plain"])
    assert tensors(out["ollama"]) == expected and values(out["ollama"]) == values(out["plain"])
    assert tensors(out["gone"]) == {n: t for n, t in expected.items() if not n.startswith("blk.8.")}
    assert values(out["gone"])["qwen35.block_count"] == 8
    assert "qwen35.nextn_predict_layers" not in values(out["gone"])
    assert "left out: 2 vision tensors" in said["ollama"].stdout
    assert f"warning: {WITHOUT_MTP}" in said["gone"].stderr


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One model with its experts' gate and up apart, and as one."""
    shape = super_block_config(moe=True, mtp=True)
    return tuple(  # type: ignore[return-value]
        random_model(tmp_path_factory.mktemp(f"fused{fused}"), shape, dtype="BF16", fused=fused).path
        for fused in (False, True)
    )


def test_fused_experts_are_described_and_planned_as_they_load(experts: tuple[Path, Path]) -> None:
    for path in experts:
        facts = json.loads(run("info", path, "--json").stdout)
        assert facts["missing_tensors"] == facts["unexpected_tensors"] == []
        parts = json.loads(run("plan", path, "--memory", "4G", "--ctx", "4096", "--json").stdout)["plans"][0]["parts"]
        assert parts["weights"] + parts["mtp"] == _core.Model(path, threads=1, drafts=8).weight_bytes


@pytest.mark.parametrize("preset", ["BF16", "Q4_K_M"])
def test_fused_experts_are_written_apart(preset: str, experts: tuple[Path, Path], tmp_path: Path) -> None:
    out = [tmp_path / "apart.gguf", tmp_path / "fused.gguf"]
    for source, target in zip(experts, out, strict=True):
        assert run("quantize", source, target, "--type", preset, "--name", "m").exit_code == 0
    assert tensors(out[0]) == tensors(out[1]) and values(out[0]) == values(out[1])


TYPES = ["NVFP4", "TQ1_0", "TQ2_0", "IQ1_S", "IQ1_M"]


@pytest.mark.parametrize("dtype", TYPES)
def test_types_that_are_not_run(dtype: str, tmp_path: Path) -> None:
    if dtype not in gguf.GGMLQuantizationType.__members__:
        pytest.skip(f"this gguf package does not know {dtype}")
    plain = random_model(tmp_path, super_block_config(), dtype="BF16").path
    scales = {f"blk.1.{n}": np.ones(1, np.float32) for n in ("attn_qkv.scale", "attn_qkv.input_scale")}
    path = rewrite(plain, tmp_path / "x.gguf", retype={"blk.1.attn_qkv.weight": dtype}, add=scales)
    said = f"tensor blk.1.attn_qkv.weight is {dtype}, a type that is not run here (1 of {dtype}); get the same model"
    commands: list[tuple[str | Path, ...]] = [
        ("chat", path, "-p", "x"),
        ("quantize", path, tmp_path / "out.gguf", "--type", "Q4_0"),
        ("perplexity", path, "--ids", tmp_path / "ids.txt"),
    ]
    (tmp_path / "ids.txt").write_text("1 2 3")
    for command in commands:
        message = refusal(*command)
        assert said in message and "as Q4_K_M" in message and str(path) in message
    assert not (tmp_path / "out.gguf").exists()
    facts = json.loads(run("info", path, "--json").stdout)
    assert said in facts["refusal"] and dtype in {row["type"] for row in facts["types"]}
    assert f"problem     {said[:60]}" in run("info", path).stdout
    planned = run("plan", path, "--memory", "4G", "--ctx", "4096", "--json")
    assert planned.exit_code == 0 and said in planned.stderr
    sizes = {row["dtype"]: row["file_bytes"] for row in json.loads(planned.stdout)["plans"][0]["weights"]}
    block, n_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]]
    assert sizes[dtype] == (2 * 4 * 32 + 8 * 64) * 256 // block * n_bytes


OTHERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "projector": ({"general.architecture": "clip", "general.type": "mmproj"}, "image encoder", 'without "mmproj"'),
    "adapter": ({"general.type": "adapter", "adapter.type": "lora"}, "adapter (LoRA", "merge it into its base model"),
    "importance matrix": ({"general.type": "imatrix"}, "importance matrix", "the model's own GGUF"),
    "other": ({"general.architecture": "qwen3next"}, '"qwen3next", expected qwen35 or', "Qwen3.5, 3.6 or 3.8"),
    "vocabulary": ({}, "vocabulary without weights", "the whole model"),
    "draft": ({}, "multi-token-prediction block alone", "the whole model"),
}


def keeps(kind: str) -> Callable[[str], str | None]:
    if kind == "vocabulary":
        return lambda n: None
    return lambda n: None if kind == "draft" and n.startswith(("blk.0.", "blk.1.", "blk.2.", "blk.3.")) else n


@pytest.mark.parametrize("kind", OTHERS)
def test_files_that_are_no_model(kind: str, tmp_path: Path) -> None:
    plain = random_model(tmp_path, tiny_config(mtp=True)).path
    put, what, instead = OTHERS[kind]
    path = rewrite(plain, tmp_path / "x.gguf", put=put, name=keeps(kind))
    (tmp_path / "ids.txt").write_text("1 2 3")
    for command in (
        ("chat", path, "-p", "x"),
        ("plan", path, "--memory", "4G"),
        ("quantize", path, tmp_path / "out.gguf"),
        ("perplexity", path, "--ids", tmp_path / "ids.txt"),
    ):
        message = refusal(*command)
        assert what in message and instead in message and str(path) in message
    facts = json.loads(run("info", path, "--json").stdout)
    assert facts["kind"] == kind and not facts["is_supported"] and what in facts["refusal"]
    shown = run("info", path).stdout
    assert f"kind        {kind}" in shown and "problem     " in shown


def test_an_adapter_is_told_by_its_tensors(tmp_path: Path) -> None:
    plain = random_model(tmp_path, tiny_config()).path
    pair = {f"blk.0.ffn_up.weight.lora_{half}": np.ones((8, 8), np.float32) for half in "ab"}
    path = rewrite(plain, tmp_path / "x.gguf", name=lambda n: None, add=pair)
    assert "adapter (LoRA" in refusal("chat", path, "-p", "x")


def test_plan_says_what_keeps_a_file_from_being_run(tmp_path: Path) -> None:
    plain, ask = random_model(tmp_path, tiny_config()).path, ("--memory", "4G", "--ctx", "512")
    less = rewrite(plain, tmp_path / "less.gguf", name=lambda n: None if n == "blk.3.ffn_up.weight" else n)
    more = rewrite(plain, tmp_path / "more.gguf", add={"blk.0.x.weight": np.ones(8, np.float32)})
    assert "no complete model: 1 tensor missing, first blk.3.ffn_up.weight" in run("plan", less, *ask).stderr
    assert "no complete model: 1 tensor unexpected, first blk.0.x.weight" in run("plan", more, *ask).stderr
    assert run("plan", plain, *ask).stderr == ""
    heads = {"qwen35.attention.head_count_kv": [0, 0, 0, -1]}
    path = rewrite(plain, tmp_path / "heads.gguf", put=heads)
    assert refusal("plan", path, *ask) == refusal("chat", path, "-p", "x")


def test_bench_opens_its_files_before_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qwen35_local.engine import machine

    monkeypatch.setattr(machine, "measure", lambda threads: pytest.fail("the machine is measured for nothing"))
    (tmp_path / "x.gguf").write_text("<html>")
    (tmp_path / "out.csv").write_text("kept")
    assert "a web page" in refusal("bench", hub.embedded_model(), tmp_path / "x.gguf", "--output", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "kept"


def test_selftest_names_the_file(tmp_path: Path) -> None:
    path = random_model(tmp_path, tiny_config()).path
    assert refusal("selftest", path, "--scenarios", "1", "--ctx", "512").startswith(f"{path}: tokenizer.ggml.tokens")
