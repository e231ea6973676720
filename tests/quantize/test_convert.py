"""Folders of every layout become the GGUF of docs/architecture.md 8, value for value."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_checkpoints
from numpy.typing import NDArray
from tiny_checkpoints import Tiny

from qwen35_local.quantize import FILE_TYPES, TensorProgress, convert

Weights = dict[str, NDArray[Any]]

LAYOUTS = {
    "dense": Tiny(),
    "dense-untied": Tiny(is_tied=False),
    "dense-ratio1": Tiny(ratio=1),
    "dense-ratio3": Tiny(ratio=3),
    "dense-without-mtp": Tiny(has_mtp=False),
    "f16": Tiny(dtype="F16"),
    "f32": Tiny(dtype="F32"),
    "multimodal": Tiny(is_nested=True, has_vision=True),
    "sharded": Tiny(n_shards=3, is_tied=False),
    "moe-fused": Tiny(is_moe=True, is_tied=False),
    "moe-apart": Tiny(is_moe=True, is_tied=False, has_fused_experts=False),
    "moe-multimodal-sharded": Tiny(is_moe=True, is_nested=True, has_vision=True, n_shards=4, is_tied=False),
}


def load(path: Path) -> Weights:
    """Every tensor decoded by the gguf package, shapes slowest dimension first."""
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        found[tensor.name] = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
    return found


def expected_block(tiny: Tiny, hf: Weights, source: str, attends: bool) -> Weights:
    """One block by the rules of docs/architecture.md 8, written out head by head."""
    w = {name.removeprefix(source): array for name, array in hf.items() if name.startswith(source)}
    out: Weights = {
        "attn_norm.weight": w["input_layernorm.weight"] + 1,
        "post_attention_norm.weight": w["post_attention_layernorm.weight"] + 1,
    }
    if attends:
        for gguf_name, name in (("q", "q"), ("k", "k"), ("v", "v"), ("output", "o")):
            out[f"attn_{gguf_name}.weight"] = w[f"self_attn.{name}_proj.weight"]
        for part in "qk":
            out[f"attn_{part}_norm.weight"] = w[f"self_attn.{part}_norm.weight"] + 1
    else:
        out |= expected_delta_net(tiny, {k.removeprefix("linear_attn."): v for k, v in w.items()})
    mlp = {k.removeprefix("mlp."): v for k, v in w.items() if k.startswith("mlp.")}
    if not tiny.is_moe:
        return out | {f"ffn_{part}.weight": mlp[f"{part}_proj.weight"] for part in ("gate", "up", "down")}
    out["ffn_gate_inp.weight"] = mlp["gate.weight"]
    out["ffn_gate_inp_shexp.weight"] = mlp["shared_expert_gate.weight"][0]
    for part in ("gate", "up", "down"):
        out[f"ffn_{part}_shexp.weight"] = mlp[f"shared_expert.{part}_proj.weight"]
    for part, rows in (("gate", slice(0, tiny.ffn)), ("up", slice(tiny.ffn, None)), ("down", slice(None))):
        fused = "experts.down_proj" if part == "down" else "experts.gate_up_proj"
        if tiny.has_fused_experts:
            stack = [mlp[fused][e][rows] for e in range(tiny.experts)]
        else:
            stack = [mlp[f"experts.{e}.{part}_proj.weight"] for e in range(tiny.experts)]
        out[f"ffn_{part}_exps.weight"] = np.stack(stack)
    return out


def expected_delta_net(tiny: Tiny, w: Weights) -> Weights:
    heads, keys = tiny.key_heads * tiny.ratio, 2 * tiny.key_heads * 128
    old_of_new = [0] * heads
    for g in range(tiny.key_heads):
        for i in range(tiny.ratio):
            old_of_new[i * tiny.key_heads + g] = g * tiny.ratio + i

    def tiled(rows: NDArray[Any], width: int) -> NDArray[Any]:
        return np.concatenate([rows[head * width : (head + 1) * width] for head in old_of_new])

    qkv, conv = w["in_proj_qkv.weight"], w["conv1d.weight"][:, 0]
    return {
        "attn_qkv.weight": np.concatenate([qkv[:keys], tiled(qkv[keys:], 128)]),
        "attn_gate.weight": tiled(w["in_proj_z.weight"], 128),
        "ssm_beta.weight": tiled(w["in_proj_b.weight"], 1),
        "ssm_alpha.weight": tiled(w["in_proj_a.weight"], 1),
        "ssm_conv1d.weight": np.concatenate([conv[:keys], tiled(conv[keys:], 128)]),
        "ssm_dt.bias": tiled(w["dt_bias"], 1),
        "ssm_a": -np.exp(tiled(w["A_log"], 1)),
        "ssm_norm.weight": w["norm.weight"],
        "ssm_out.weight": tiled(w["out_proj.weight"].T, 128).T,
    }


def expected(tiny: Tiny, hf: Weights) -> Weights:
    p, n = tiny.prefix, tiny.layers
    out: Weights = {"token_embd.weight": hf[f"{p}embed_tokens.weight"], "output_norm.weight": hf[f"{p}norm.weight"] + 1}
    if not tiny.is_tied:
        out["output.weight"] = hf["lm_head.weight"]
    for block in range(n):
        parts = expected_block(tiny, hf, f"{p}layers.{block}.", attends=(block + 1) % 4 == 0)
        out |= {f"blk.{block}.{name}": array for name, array in parts.items()}
    if tiny.has_mtp:
        parts = expected_block(tiny, hf, "mtp.layers.0.", attends=True)
        parts["nextn.eh_proj.weight"] = hf["mtp.fc.weight"]
        names = {"enorm": "pre_fc_norm_embedding", "hnorm": "pre_fc_norm_hidden", "shared_head_norm": "norm"}
        parts |= {f"nextn.{to}.weight": hf[f"mtp.{name}.weight"] + 1 for to, name in names.items()}
        out |= {f"blk.{n}.{name}": array for name, array in parts.items()}
    return out


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_converts_value_for_value(layout: str, tmp_path: Path) -> None:
    tiny = LAYOUTS[layout]
    wanted = expected(tiny, tiny_checkpoints.write(tmp_path / "m", tiny))
    report = convert(tmp_path / "m", tmp_path / "out.gguf", "F32")
    found = load(tmp_path / "out.gguf")
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=2e-7 if name.endswith("ssm_a") else 0, err_msg=name)
    assert sorted(report.vision) == sorted(name for name in tiny_checkpoints.shapes(tiny) if "visual" in name)
    assert report.file_bytes == (tmp_path / "out.gguf").stat().st_size


def test_layouts_of_one_model_give_the_same_file(tmp_path: Path) -> None:
    plain = Tiny(is_moe=True, is_tied=False)
    variants = {
        "plain": plain,
        "nested": Tiny(is_moe=True, is_tied=False, is_nested=True, has_vision=True),
        "sharded": Tiny(is_moe=True, is_tied=False, n_shards=2),
    }
    files = []
    for name, tiny in variants.items():
        tiny_checkpoints.write(tmp_path / name / "m", tiny)
        convert(tmp_path / name / "m", tmp_path / f"{name}.gguf", "Q8_0")
        files.append((tmp_path / f"{name}.gguf").read_bytes())
    assert files[0] == files[1] == files[2]


RELATIVE_RMSE = {
    "F16": 3e-4,
    "BF16": 2e-3,
    "Q8_0": 0.007,
    "Q6_K": 0.022,
    "Q5_K": 0.045,
    "Q4_K": 0.085,
    "Q4_0": 0.095,
    "Q3_K": 0.17,
}


@pytest.mark.parametrize("preset", FILE_TYPES)
@pytest.mark.parametrize("is_moe", [False, True], ids=["dense", "moe"])
def test_every_type_reads_back_within_its_error(preset: str, is_moe: bool, tmp_path: Path) -> None:
    tiny = Tiny(is_moe=is_moe, is_tied=not is_moe)
    wanted = expected(tiny, tiny_checkpoints.write(tmp_path / "m", tiny))
    report = convert(tmp_path / "m", tmp_path / "out.gguf", preset, threads=2)
    found = load(tmp_path / "out.gguf")
    assert {name: array.shape for name, array in found.items()} == {n: a.shape for n, a in wanted.items()}
    for tensor in report.tensors:
        w, f = wanted[tensor.name].astype(np.float64), found[tensor.name]
        error = float(np.sqrt(((f - w) ** 2).sum() / (w**2).sum()))
        if tensor.dtype == "F32":
            assert error < 1e-6, tensor.name
            continue
        assert error < RELATIVE_RMSE.get(tensor.dtype, 0.095), (tensor.name, tensor.dtype)
        assert tensor.relative_rmse == pytest.approx(error, rel=1e-3, abs=1e-9), tensor.name
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    assert {t.name: t.tensor_type.name for t in reader.tensors} == {t.name: t.dtype for t in report.tensors}
    assert reader.fields["general.file_type"].contents() == FILE_TYPES[preset].number


def test_rows_that_are_not_whole_blocks_fall_back(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny(hidden=64, ffn=96))
    for preset, fallback in (("Q4_K_M", "Q5_0"), ("Q5_K_M", "Q5_1"), ("Q6_K", "Q8_0"), ("IQ4_XS", "IQ4_NL")):
        report = convert(tmp_path / "m", tmp_path / f"{preset}.gguf", preset)
        types = {tensor.name: tensor.dtype for tensor in report.tensors}
        assert types["blk.0.ffn_gate.weight"] == fallback
        assert types["token_embd.weight"] == "Q8_0"
        assert load(tmp_path / f"{preset}.gguf").keys() == types.keys()


def test_result_does_not_depend_on_threads_or_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny(is_moe=True))
    convert(tmp_path / "m", tmp_path / "one.gguf", "Q4_K_M", threads=1)
    monkeypatch.setattr("qwen35_local.quantize.encode._SLICE_VALUES", 5000)
    convert(tmp_path / "m", tmp_path / "many.gguf", "Q4_K_M", threads=3)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "many.gguf").read_bytes()


def test_metadata(tmp_path: Path) -> None:
    folder = tmp_path / "models--Qwen--Qwen3.5-0.8B" / "snapshots" / "abc"
    tiny_checkpoints.write(folder, Tiny())
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlicense_link: https://example.org/l\n---\n# Card\n")
    report = convert(folder, tmp_path, "q4_k_m")
    assert report.path == tmp_path / "Qwen3.5-0.8B-Q4_K_M.gguf"
    fields = gguf.GGUFReader(report.path).fields
    found = {key: field.contents() for key, field in fields.items()}
    assert {key: found[key] for key in found if key.startswith("general.") and "sampling" not in key} == {
        "general.architecture": "qwen35",
        "general.type": "model",
        "general.name": "Qwen3.5-0.8B",
        "general.size_label": "0.8B",
        "general.license": "apache-2.0",
        "general.license.link": "https://example.org/l",
        "general.source.url": "https://huggingface.co/Qwen/Qwen3.5-0.8B",
        "general.parameter_count": report.n_values,
        "general.file_type": 15,
        "general.quantization_version": 2,
    }
    assert found["general.sampling.top_k"] == 20
    assert found["qwen35.block_count"] == 5
    assert found["qwen35.nextn_predict_layers"] == 1
    kinds = {key: field.types[0].name for key, field in fields.items()}
    assert {kinds[k] for k in ("qwen35.block_count", "tokenizer.ggml.eos_token_id", "general.file_type")} == {"UINT32"}
    assert kinds["general.parameter_count"] == "UINT64"
    assert fields["qwen35.rope.dimension_sections"].types[1].name == "INT32"
    assert fields["tokenizer.ggml.token_type"].types[1].name == "INT32"


def test_mtp_is_what_the_tensors_say(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny(has_mtp=False, changes={"mtp_num_hidden_layers": 1}))
    report = convert(tmp_path / "m", tmp_path / "without.gguf", "F16")
    assert "lacks" in report.warnings[0]
    tiny_checkpoints.write(tmp_path / "n", Tiny(has_mtp=True, changes={"mtp_num_hidden_layers": 0}))
    report = convert(tmp_path / "n", tmp_path / "with.gguf", "F16")
    assert any(".nextn." in tensor.name for tensor in report.tensors)


def test_dry_run_tells_sizes_and_writes_nothing(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    dry = convert(tmp_path / "m", tmp_path / "out.gguf", dry_run=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
    wet = convert(tmp_path / "m", tmp_path / "out.gguf")
    assert dry.bytes_by_type() == wet.bytes_by_type()
    assert dry.file_bytes == pytest.approx(wet.file_bytes, rel=0.02)
    assert not dry.worst()
    assert len(wet.worst()) == 5


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    seen: list[TensorProgress] = []
    report = convert(tmp_path / "m", tmp_path / "out.gguf", progress=seen.append)
    assert seen[-1].done_bytes == seen[-1].total_bytes == report.source_bytes
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)
    assert {p.tensor for p in seen} == {tensor.name for tensor in report.tensors}
