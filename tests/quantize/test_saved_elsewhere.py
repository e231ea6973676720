"""Checkpoints as other tools save them: the same file as from the clean folder, byte for byte, or a refusal by name."""

import codecs
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors_bytes
import tiny_checkpoints
from safetensors_bytes import Tensor, Tensors, change, change_json, tensor
from tiny_checkpoints import Tiny

from qwen35_local.cli.info_checkpoint import describe_checkpoint
from qwen35_local.cli.model import model_path
from qwen35_local.errors import FormatError
from qwen35_local.quantize import Report, convert
from qwen35_local.quantize.settle import is_published_with_head

MOE = Tiny(is_moe=True, is_tied=False)


class Folders:
    """A clean checkpoint and copies of it to be changed, converted side by side."""

    def __init__(self, root: Path, tiny: Tiny) -> None:
        self.root, self.tiny = root, tiny
        tiny_checkpoints.write(root / "clean" / "m", tiny)
        convert(root / "clean" / "m", root / "clean.gguf", "F32")
        self.wanted = (root / "clean.gguf").read_bytes()

    def copy(self, tiny: Tiny | None = None) -> Path:
        number = len(list(self.root.iterdir()))
        folder = self.root / str(number) / "m"
        tiny_checkpoints.write(folder, tiny or self.tiny)
        return folder

    def convert(self, folder: Path) -> tuple[Report, bool]:
        """The report, and whether the file is that of the clean folder."""
        out = folder.parent / "out.gguf"
        report = convert(folder, out, "F32", overwrite=True)
        return report, out.read_bytes() == self.wanted


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("dense"), Tiny())


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("moe"), MOE)


def refused(folder: Path) -> str:
    """The message of the refusal, after which nothing is left beside the folder."""
    with pytest.raises(FormatError) as error:
        convert(folder, folder.parent / "out.gguf", "F32")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return str(error.value)


def renamed(new: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {new(name): value for name, value in tensors.items()}


def bare(name: str) -> str:
    return name.removeprefix("model.")


PREFIXES: dict[str, Callable[[str], str]] = {
    "repeated": lambda n: "model.language_model.language_model.language_model." + bare(n),
    "peft": lambda n: "base_model.model." + n,
    "peft of a multimodal model": lambda n: "base_model.model.model.language_model." + bare(n),
    "mlx": lambda n: "language_model.model." + bare(n),
    "data parallel": lambda n: "module." + n,
    "compiled": lambda n: "_orig_mod." + n,
    "compiled layer by layer": lambda n: n.replace("layers.1.", "layers.1._orig_mod."),
    "fsdp": lambda n: "_fsdp_wrapped_module." + n.replace("layers.0.", "layers.0._fsdp_wrapped_module."),
    "recomputed layers": lambda n: n.replace("layers.2.", "layers.2._checkpoint_wrapped_module."),
    "none": bare,
    "mixed": lambda n: ("model.language_model." if "layers.1." in n else "base_model.model.model.") + bare(n),
}


@pytest.mark.parametrize("kind", PREFIXES)
def test_prefixes(kind: str, dense: Folders) -> None:
    folder = dense.copy()
    change(folder, renamed(PREFIXES[kind]))
    report, is_same = dense.convert(folder)
    assert is_same
    assert not report.warnings


def test_a_prefix_that_nobody_knows(dense: Folders) -> None:
    folder = dense.copy()
    change(folder, renamed(lambda n: "transformer." + bare(n)))
    message = refused(folder)
    assert "embed_tokens.weight" in message
    assert "transformer.embed_tokens.weight" in message
    assert "save_pretrained" in message


def test_prefixes_that_name_one_tensor_twice(dense: Folders) -> None:
    folder = dense.copy()
    name = "model.layers.0.mlp.up_proj.weight"
    change(folder, lambda t: {**t, "base_model.model." + name: t[name]})
    assert "is there twice" in refused(folder)


def test_experts_as_mlx_stacks_them(moe: Folders) -> None:
    def stacked(tensors: Tensors) -> Tensors:
        found = {}
        for name, t in tensors.items():
            stem, is_fused, _ = name.partition("experts.gate_up_proj")
            if is_fused:
                for half, part in enumerate(("gate", "up")):
                    values = t.values()[:, half * MOE.ffn : (half + 1) * MOE.ffn]
                    found[f"{stem}switch_mlp.{part}_proj.weight"] = tensor(values, t.dtype)
            else:
                found[name.replace("experts.down_proj", "switch_mlp.down_proj.weight")] = t
        return found

    folder = moe.copy()
    change(folder, stacked)
    assert moe.convert(folder)[1]


def test_experts_fused_in_the_layers_and_apart_in_the_mtp_block(moe: Folders) -> None:
    def apart(tensors: Tensors) -> Tensors:
        found = {}
        for name, t in tensors.items():
            if name == "mtp.layers.0.mlp.experts.gate_up_proj":
                for expert, values in enumerate(t.values()):
                    stem = f"mtp.layers.0.mlp.experts.{expert}"
                    found[f"{stem}.gate_proj.weight"] = tensor(values[: MOE.ffn], t.dtype)
                    found[f"{stem}.up_proj.weight"] = tensor(values[MOE.ffn :], t.dtype)
            else:
                found[name] = t
        return found

    folder = moe.copy()
    change(folder, apart)
    assert moe.convert(folder)[1]


def test_the_other_name_for_the_number_of_experts(moe: Folders) -> None:
    folder = moe.copy()
    change_json(folder, "config.json", lambda c: c.update(num_local_experts=c.pop("num_experts")))
    assert moe.convert(folder)[1]
    change_json(folder, "config.json", lambda c: c.update(num_experts=c["num_local_experts"]))
    assert moe.convert(folder)[1]
    (folder.parent / "out.gguf").unlink()
    change_json(folder, "config.json", lambda c: c.update(num_experts=8))
    assert "num_experts is 8" in refused(folder)


@pytest.mark.parametrize("scope", ["flat", "nested"])
def test_quantisation_that_only_the_configuration_knows_of(scope: str, dense: Folders) -> None:
    folder = dense.copy(replace(dense.tiny, is_nested=scope == "nested"))
    stale = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    change_json(folder, "config.json", lambda c: c.get("text_config", c).update(quantization_config=stale))
    report, is_same = dense.convert(folder)
    assert is_same
    assert any("bitsandbytes" in warning for warning in report.warnings)


def test_weights_in_64_bits(dense: Folders) -> None:
    folder = dense.copy()
    name = "model.layers.0.mlp.up_proj.weight"
    change(folder, lambda t: t.update({name: Tensor("F64", [256, 256], bytes(256 * 256 * 8))}))
    assert f"{name} is F64; save the checkpoint again in F32" in refused(folder)


@pytest.mark.parametrize(("method", "dtype"), [("gptq", "I32"), ("bitsandbytes", "U8"), ("", "F8_E5M2")])
def test_weights_that_are_quantised(method: str, dtype: str, dense: Folders) -> None:
    folder = dense.copy()
    name = "model.layers.0.mlp.up_proj.weight"
    size = {"I32": 4}.get(dtype, 1)
    change(folder, lambda t: t.update({name: Tensor(dtype, [256, 256], bytes(256 * 256 * size))}))
    if method:
        change_json(folder, "config.json", lambda c: c.update(quantization_config={"quant_method": method}))
    message = refused(folder)
    assert name in message
    assert dtype in message
    assert f"already quantised ({method})" in message if method else "already quantised;" in message


class TestHead:
    """The output matrix and `tie_word_embeddings`."""

    @pytest.mark.parametrize("flag", [False, None])
    def test_none_though_the_flag_wants_one(self, flag: bool | None, dense: Folders) -> None:
        folder = dense.copy()
        change_json(folder, "config.json", lambda c: c.update(tie_word_embeddings=flag))
        report, is_same = dense.convert(folder)
        assert is_same
        assert "tie_word_embeddings" in report.warnings[0]

    def test_published_models_that_have_one(self, dense: Folders) -> None:
        from qwen35_local.models.registry import SIZES

        wanted = {name for name, size in SIZES.items() if not size.config.embeddings_are_tied}
        assert {name for name, size in SIZES.items() if is_published_with_head(size.config)} == wanted

    def test_missing_where_every_published_model_has_one(self, dense: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = dense.copy(replace(dense.tiny, is_tied=False))
        change(folder, lambda t: {name: v for name, v in t.items() if name != "lm_head.weight"})
        monkeypatch.setattr("qwen35_local.quantize.settle.is_published_with_head", lambda config: True)
        assert "lm_head.weight is missing" in (message := refused(folder))
        assert "tie_word_embeddings is false" in message

    @pytest.mark.parametrize("flag", [True, False, None])
    @pytest.mark.parametrize("dtype", ["BF16", "F32"])
    def test_a_copy_of_the_embedding_table(self, flag: bool | None, dtype: str, dense: Folders) -> None:
        folder = dense.copy()
        change(folder, lambda t: {**t, "lm_head.weight": tensor(t["model.embed_tokens.weight"].values(), dtype)})
        change_json(folder, "config.json", lambda c: c.update(tie_word_embeddings=flag))
        report, is_same = dense.convert(folder)
        assert is_same
        assert bool(report.warnings) == (flag is not True)

    @pytest.mark.parametrize("flag", [True, False, None])
    def test_one_that_differs_is_kept(self, flag: bool | None, dense: Folders) -> None:
        untied = replace(dense.tiny, is_tied=False)
        clean, folder = dense.copy(untied), dense.copy(untied)
        change_json(folder, "config.json", lambda c: c.update(tie_word_embeddings=flag))
        report, _ = dense.convert(folder)
        dense.convert(clean)
        assert (folder.parent / "out.gguf").read_bytes() == (clean.parent / "out.gguf").read_bytes()
        assert bool(report.warnings) == (flag is True)
        assert any(t.name == "output.weight" for t in report.tensors)

    def test_one_value_makes_it_another(self, dense: Folders) -> None:
        folder = dense.copy()

        def last_value_changed(tensors: Tensors) -> None:
            table = tensors["model.embed_tokens.weight"]
            tensors["lm_head.weight"] = table._replace(data=table.data[:-2] + b"\x00\x40")

        change(folder, last_value_changed)
        report, is_same = dense.convert(folder)
        assert not is_same
        assert "differs" in report.warnings[0]

    def test_flag_of_the_text_model(self, dense: Folders) -> None:
        folder = dense.copy(replace(dense.tiny, is_nested=True))
        change_json(
            folder, "config.json", lambda c: c["text_config"].update(tie_word_embeddings=c.pop("tie_word_embeddings"))
        )
        report, is_same = dense.convert(folder)
        assert is_same
        assert not report.warnings


class TestRows:
    """Rows of the embedding table against `vocab_size` and the tokenizer."""

    @pytest.mark.parametrize("stated", [200, 300, 4096])
    def test_the_table_counts(self, stated: int, dense: Folders) -> None:
        folder = dense.copy()
        change_json(folder, "config.json", lambda c: c.update(vocab_size=stated))
        report, is_same = dense.convert(folder)
        assert is_same
        assert f"vocab_size {stated}" in report.warnings[0]
        assert "320 rows" in report.warnings[0]

    def test_a_token_without_a_row(self, dense: Folders) -> None:
        folder = dense.copy()
        change_json(folder, "tokenizer.json", lambda t: t["added_tokens"][3].update(id=400))
        message = refused(folder)
        assert "'<|fim_prefix|>' has id 400" in message
        assert "320 rows" in message

    def test_a_table_that_lacks_rows_of_tokens(self, dense: Folders) -> None:
        folder = dense.copy()
        table = "model.embed_tokens.weight"
        change(folder, lambda t: t.update({table: tensor(t[table].values()[:200], "BF16")}))
        message = refused(folder)
        assert "'<|fim_prefix|>' has id 263" in message
        assert "200 rows" in message

    def test_a_head_of_other_rows(self, dense: Folders) -> None:
        folder = dense.copy(replace(dense.tiny, is_tied=False))
        change(folder, lambda t: t.update({"lm_head.weight": tensor(np.zeros((300, 256)), "BF16")}))
        assert "lm_head.weight has shape [300, 256]" in refused(folder)


JSON_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


@pytest.mark.parametrize("name", [*JSON_FILES, "model.safetensors.index.json"])
def test_byte_order_marks(name: str, dense: Folders) -> None:
    folder = dense.copy(replace(dense.tiny, n_shards=2))
    path = folder / name
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert dense.convert(folder)[1]
    (folder.parent / "out.gguf").unlink()
    text = path.read_bytes().decode("utf-8-sig")
    for encoding in ("utf-16", "utf-16-be", "utf-16-le", "utf-32"):
        path.write_bytes(text.encode(encoding))
        message = refused(folder)
        assert name in message
        assert "UTF-16" in message


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 7284736\n"
NOT_WEIGHTS = {
    "pointer": (LFS.encode(), "Git LFS pointer.*git lfs pull"),
    "page": (b"\n<!DOCTYPE html>\n<html><head></head></html>", "saved web page"),
    "nothing": (b"", "is empty"),
    "gguf": (b"GGUF" + bytes(600), "is a GGUF"),
    "torch.save": (b"PK\x03\x04" + bytes(600), "zip archive"),
    "pickle": (b"\x80\x02}q\x00." + bytes(600), "pickle, which is never loaded"),
}


@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_files_that_are_no_weights(kind: str, dense: Folders) -> None:
    data, message = NOT_WEIGHTS[kind]
    folder = dense.copy()
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(FormatError, match=f"model.safetensors: .*{message}"):
        convert(folder, folder.parent / "out.gguf")


def test_a_tokenizer_that_was_not_downloaded(dense: Folders) -> None:
    folder = dense.copy()
    (folder / "tokenizer.json").write_text(LFS)
    assert "tokenizer.json" in (message := refused(folder))
    assert "Git LFS pointer" in message


@pytest.mark.parametrize(("data", "what"), [(LFS, "Git LFS pointer"), ("<!DOCTYPE html>", "web page"), ("", "empty")])
def test_a_template_that_was_not_downloaded(data: str, what: str, dense: Folders) -> None:
    folder = dense.copy()
    (folder / "chat_template.jinja").write_text(data)
    assert "chat_template.jinja" in (message := refused(folder))
    assert what in message


def test_only_a_pickle(dense: Folders) -> None:
    folder = dense.copy()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "args.bin").touch()
    message = refused(folder)
    assert "pytorch_model.bin is a pickle" in message
    assert "safe_serialization=True" in message


def test_every_command_says_what_was_found(
    dense: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = dense.copy()
    change_json(folder, "config.json", lambda c: c.update(quantization_config={"quant_method": "awq"}))
    wanted = "config.json says that the weights are quantised (awq)"
    assert any(wanted in warning for warning in describe_checkpoint(folder)["warnings"])
    monkeypatch.setenv("QWEN35_HOME", str(tmp_path))
    assert model_path(str(folder)).is_file()
    assert wanted in capsys.readouterr().err


def test_a_shape_that_cannot_be_is_refused_before_anything_is_converted(dense: Folders) -> None:
    folder = dense.copy()
    name = "model.layers.0.mlp.up_proj.weight"
    change(folder, lambda t: t.update({name: t[name]._replace(shape=[128, 512])}))
    with pytest.raises(FormatError, match=r"up_proj.weight has shape \[128, 512\]"):
        describe_checkpoint(folder)


def test_safetensors_bytes_round_to_nearest_even() -> None:
    """The tests' own encoder, on ties."""
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-9], np.float32)
    assert safetensors_bytes.tensor(values, "BF16").values().tolist() == [1.0, 1 + 2**-6, -1.0]
