"""What a person types, and what it means."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen35_local.errors import InputError
from qwen35_local.hub.filename import Part, is_model, part, plain_type, type_in
from qwen35_local.hub.names import OtherName, RepositoryName, SizeName, parse, size_named

NINE = "Qwen3.5-9B"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("9b", SizeName(NINE)),
        ("9B", SizeName(NINE)),
        ("0.8b", SizeName("Qwen3.5-0.8B")),
        ("35b-a3b", SizeName("Qwen3.5-35B-A3B")),
        ("35b", SizeName("Qwen3.5-35B-A3B")),
        ("qwen3.5:397b", SizeName("Qwen3.5-397B-A17B")),
        ("Qwen3.5-9B", SizeName(NINE)),
        ("qwen3.5:9b", SizeName(NINE)),
        ("qwen3.6:27b", SizeName("Qwen3.6-27B")),
        ("qwen3.6-35b-a3b", SizeName("Qwen3.6-35B-A3B")),
        ("qwen3.5:9b-q4_K_M", SizeName(NINE, "Q4_K_M")),
        ("qwen3.5:35b-a3b-q8_0", SizeName("Qwen3.5-35B-A3B", "Q8_0")),
        ("9b:ud-q4_k_xl", SizeName(NINE, "UD-Q4_K_XL")),
        ("9b-bf16", SizeName(NINE, "BF16")),
        ("9b:fp16", SizeName(NINE, "F16")),
        ("Qwen/Qwen3.5-9B", RepositoryName("Qwen", NINE)),
        ("unsloth/Qwen3.5-9B-GGUF:q4_k_m", RepositoryName("unsloth", "Qwen3.5-9B-GGUF", "Q4_K_M")),
        ("user/repo:latest", RepositoryName("user", "repo")),
        ("hf.co/user/repo", RepositoryName("user", "repo")),
        ("HuggingFace.co/user/repo:IQ4_XS", RepositoryName("user", "repo", "IQ4_XS")),
        ("https://huggingface.co/user/repo/", RepositoryName("user", "repo")),
        ("https://huggingface.co/user/repo/tree/main?x=1", RepositoryName("user", "repo")),
        (
            "https://huggingface.co/u/r/blob/main/BF16/r-BF16-00001-of-00002.gguf?download=true",
            RepositoryName("u", "r", "BF16"),
        ),
        ("/models/x.gguf", Path("/models/x.gguf")),
        ("./9b", Path("./9b")),
        ("~/9b", Path("~/9b")),
        ("..", Path("..")),
        ("C:\\models\\x.gguf", Path("C:\\models\\x.gguf")),
        ("x.gguf", OtherName("x.gguf")),
        ("models/x.gguf", OtherName("models/x.gguf")),
        ("publisher/model/x.gguf", OtherName("publisher/model/x.gguf")),
        ("my-model:latest", OtherName("my-model:latest")),
        ("10b", OtherName("10b")),
        ("qwen3.6:9b", OtherName("qwen3.6:9b")),
        ("qwen3.5:9b-mlx-bf16", OtherName("qwen3.5:9b-mlx-bf16")),
        ("user/../repo", OtherName("user/../repo")),
        ("user/re..po", OtherName("user/re..po")),
        ("user/repo:tag!", OtherName("user/repo:tag!")),
    ],
)
def test_name(typed: str, meant: object) -> None:
    assert parse(typed) == meant


@pytest.mark.parametrize(
    "typed", ["", "a\nb", "9b\0", "hf.co/", "hf.co/user", "hf.co/../x", "hf.co/u/r:no", "hf.co/u/r/blob/main/x.gguf"]
)
def test_refused(typed: str) -> None:
    with pytest.raises(InputError, match=r"expected|give"):
        parse(typed)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        meant = parse(text)
    except InputError:
        return
    if isinstance(meant, SizeName | RepositoryName):
        assert parse(str(meant)) == meant


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen3.5-9B-GGUF", NINE),
        ("Qwen_Qwen3.5-9B-GGUF", NINE),
        ("Qwen3.6-27B", "Qwen3.6-27B"),
        ("Huihui-Qwen3.5-9B-abliterated", None),
        ("Qwen3.5-9B-Base", None),
        ("Qwen3.5-9B-Q4_K_M", None),
    ],
)
def test_size_of_a_repository(name: str, size: str | None) -> None:
    assert size_named(name) == size


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("Qwen3.5-9B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen3.5-9b.q4_k_m.gguf", "Q4_K_M"),
        ("Qwen3.5-9B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Q8_0/Qwen3.5-9B-Q8_0-00001-of-00002.gguf", "Q8_0"),
        ("model.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("Qwen3.5-35B-A3B-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("model-fp16.gguf", "F16"),
        ("FAQ4_K.gguf", None),
        ("model.gguf", None),
    ],
)
def test_type_in_a_file_name(name: str, type: str | None) -> None:
    assert type_in(name) == type


def test_words_that_are_no_type() -> None:
    assert [plain_type(word) for word in ("latest", "Q4", "Q4_K_M ", "", "instruct")] == [None] * 5


def test_parts_and_files_beside() -> None:
    assert part("m-00002-of-00003.gguf") == Part("m", 2, 3)
    assert [part(name) for name in ("m.gguf", "m-00004-of-00003.gguf", "m-00000-of-00003.gguf")] == [None] * 3
    assert is_model("Qwen3.5-9B-Q4_K_M.gguf")
    for name in (
        "mmproj-F16.gguf",
        "Qwen3.5-9B-mmproj-bf16.gguf",
        "style-lora.gguf",
        "imatrix.gguf",
        "model.safetensors",
    ):
        assert not is_model(name)
