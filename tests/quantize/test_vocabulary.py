"""Tokenizers become the arrays that llama.cpp's converter writes."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints

from qwen35_local.errors import FormatError
from qwen35_local.quantize.vocabulary import tokenizer_metadata
from qwen35_local.text.spm import model_proto
from qwen35_local.text.tokenizer import Tokenizer


def metadata(folder: Path, rows: int = 270, **config: Any) -> dict[str, Any]:
    return tokenizer_metadata(folder, config, rows, [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tiny_checkpoints.tokenizer()))
    settings = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}, "bos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_tokens_types_and_padding(folder: Path) -> None:
    found = metadata(folder)
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert tokens[:256] == tiny_checkpoints.BYTE_TOKENS
    assert tokens[256:264] == ["he", "ll", "hell", "hello", "<|endoftext|>", "<|im_end|>", "<think>", "<|fim_prefix|>"]
    assert tokens[264:] == [f"[PAD{n}]" for n in range(264, 270)]
    assert types == [1] * 260 + [3, 3, 4, 3] + [5] * 6
    assert found["tokenizer.ggml.merges"] == ["h e", "l l", "he ll", "hell o"]
    assert found["tokenizer.ggml.model"] == "gpt2"
    assert found["tokenizer.ggml.pre"] == "qwen35"
    assert found["tokenizer.ggml.eos_token_id"] == 261
    assert found["tokenizer.ggml.padding_token_id"] == 260
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert "tokenizer.ggml.bos_token_id" not in found


def test_both_spellings_of_merges(folder: Path) -> None:
    tokenizer = tiny_checkpoints.tokenizer()
    tokenizer["model"]["merges"] = ["h e", "l l", "he ll", "hell o"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = metadata(folder)
    assert found["tokenizer.ggml.merges"] == ["h e", "l l", "he ll", "hell o"]


def test_the_split_of_qwen2_is_that_of_the_family(folder: Path) -> None:
    """Marks stay with their letters whatever a tokenizer was saved with, so that text becomes the same ids."""
    text = "नमस्ते ไทย é x\u0301"
    tokenizer = tiny_checkpoints.tokenizer()
    merges, vocabulary = tokenizer["model"]["merges"], tokenizer["model"]["vocab"]
    for left, right in (("Ì", "ģ"), ("x", "Ìģ")):  # U+0301, alone and behind a letter
        merges.append([left, right])
        vocabulary[left + right] = 263 + len(vocabulary) - 259
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    clean = metadata(folder)
    ids = Tokenizer(clean).encode(text)
    assert ids[-1] == vocabulary["xÌģ"]
    assert Tokenizer({**clean, "tokenizer.ggml.pre": "qwen2"}).encode(text) != ids
    split = tokenizer["pre_tokenizer"]["pretokenizers"][0]
    split["pattern"] = {"Regex": tiny_checkpoints.SPLIT.replace(r"[\p{L}\p{M}]", r"\p{L}").replace(r"\p{M}", "")}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    warnings: list[str] = []
    found = tokenizer_metadata(folder, {}, 270, warnings)
    assert found == clean
    assert Tokenizer(found).encode(text) == ids
    assert "as Qwen2 does" in warnings[0]


@pytest.mark.parametrize("merges", [[], [["a"]], [["a", "b", "c"]], ["ab"], [["a b", "c"]], [3], None])
def test_bad_merges(folder: Path, merges: object) -> None:
    tokenizer = tiny_checkpoints.tokenizer()
    tokenizer["model"]["merges"] = merges
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(FormatError, match="merge"):
        metadata(folder)


@pytest.mark.parametrize("number", [-1, 1.5, True, None, "7", 1 << 24])
def test_bad_ids(folder: Path, number: object) -> None:
    tokenizer = tiny_checkpoints.tokenizer()
    tokenizer["added_tokens"][0]["id"] = number
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(FormatError, match="id"):
        metadata(folder)


def test_two_tokens_with_one_id(folder: Path) -> None:
    tokenizer = tiny_checkpoints.tokenizer()
    tokenizer["added_tokens"][0]["id"] = 0
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(FormatError, match="same id 0"):
        metadata(folder)


def test_end_token_from_the_configurations(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    assert metadata(folder, eos_token_id=260)["tokenizer.ggml.eos_token_id"] == 260
    (folder / "generation_config.json").write_text('{"eos_token_id": [261, 260]}')
    assert metadata(folder, eos_token_id=260)["tokenizer.ggml.eos_token_id"] == 261
    (folder / "generation_config.json").unlink()
    assert metadata(folder, text_config={"eos_token_id": 260})["tokenizer.ggml.eos_token_id"] == 260


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("chat_template.jinja", "T"),
        ("chat_template.json", '{"chat_template": "T"}'),
        ("tokenizer_config.json", '{"eos_token": "<|im_end|>", "chat_template": "T"}'),
        (
            "tokenizer_config.json",
            '{"eos_token": "<|im_end|>", "chat_template": [{"name": "tool", "template": "U"}, '
            '{"name": "default", "template": "T"}]}',
        ),
    ],
)
def test_chat_template(folder: Path, file: str, content: str) -> None:
    assert "tokenizer.chat_template" not in metadata(folder)
    (folder / file).write_text(content)
    assert metadata(folder)["tokenizer.chat_template"] == "T"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (5, "chat_template is 5; expected a text"),
        ({"default": "T"}, "chat_template is an object of 1 keys; expected a text"),
        (["T"], "chat_template is a list"),
        ([{"name": "default", "template": 5}], "template is 5; expected a text"),
        ([{"template": "T"}], "name is missing; expected a text"),
        ([{"name": "rag", "template": "T"}, {"name": "tool", "template": "U"}], "has rag, tool; expected one"),
    ],
)
@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.json"])
def test_a_chat_template_of_another_type_is_refused(folder: Path, file: str, template: object, fault: str) -> None:
    (folder / file).write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": template}))
    with pytest.raises(FormatError, match=f"{file}: .*{fault}"):
        metadata(folder)


def test_the_only_named_template_is_used(folder: Path) -> None:
    named = [{"name": "chat", "template": "T"}]
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": named}))
    assert metadata(folder)["tokenizer.chat_template"] == "T"


PIECES = [
    ("<unk>", 0.0, 2),
    ("<s>", 0.0, 3),
    ("</s>", 0.0, 3),
    ("<0x0A>", 0.0, 6),
    ("\u2581the", -1.5, 1),
    ("x", -2.0, 4),
]


def test_sentencepiece(tmp_path: Path) -> None:
    proto = model_proto(PIECES, add_space_prefix=False, collapse_spaces=True)
    (tmp_path / "tokenizer.model").write_bytes(proto)
    settings = {
        "eos_token": "</s>",
        "bos_token": "<s>",
        "added_tokens_decoder": {"6": {"content": "<|im_end|>", "special": True}, "1": {"content": "<s>"}},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = metadata(tmp_path, rows=8)
    assert found["tokenizer.ggml.model"] == "llama"
    assert found["tokenizer.ggml.tokens"] == [text for text, _, _ in PIECES] + ["<|im_end|>", "[PAD7]"]
    assert found["tokenizer.ggml.token_type"] == [kind for _, _, kind in PIECES] + [3, 5]
    assert found["tokenizer.ggml.scores"] == [score for _, score, _ in PIECES] + [-1000.0] * 2
    assert found["tokenizer.ggml.add_space_prefix"] is False
    assert found["tokenizer.ggml.remove_extra_whitespaces"] is True
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"]) == (1, 2)


def test_damaged_sentencepiece(tmp_path: Path) -> None:
    proto = model_proto(PIECES, add_space_prefix=False, collapse_spaces=False)
    path = tmp_path / "tokenizer.model"
    for size in range(len(proto)):
        path.write_bytes(proto[:size])
        with pytest.raises(FormatError):
            metadata(tmp_path, rows=8)
