import unicodedata
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers import Tokenizer as OracleTokenizer
from vocabularies import QWEN35_VOCABULARY, SPECIAL, needs_vocabulary, read_metadata, tiny_bpe

from qwen35_local import _core, hub
from qwen35_local.errors import FormatError, InputError
from qwen35_local.text.tokenizer import Tokenizer

TINY = Tokenizer(tiny_bpe())
SPELLINGS = [token for token, _ in SPECIAL]
PIECES = ["hello", " world", "\n\n", "12", "It's", "\u0301", "é", "中文", " \t", "...", "👩\u200d🚀", "(a)", "\r\n"]
text_with_tags = st.lists(st.text(max_size=8) | st.sampled_from([*SPELLINGS, "hello", "<|", "user\n"])).map("".join)


def family_oracle() -> OracleTokenizer:
    """The usual way: one string, special tokens found wherever they are spelled."""
    oracle = OracleTokenizer.from_str(TINY._encoder._tokenizer.to_str())  # type: ignore[attr-defined]
    oracle.add_tokens([AddedToken(token, normalized=False, special=kind == 3) for token, kind in SPECIAL])
    return oracle


def without_special(text: str) -> bool:
    return not any(token in text for token in SPELLINGS)


@given(text_with_tags)
def test_text_never_yields_special_tokens_and_comes_back(text: str) -> None:
    ids = TINY.encode(text)
    assert not any(TINY.is_special(n) or TINY.is_control(n) for n in ids)
    assert max(ids, default=0) < TINY.n_used
    assert TINY.decode(ids) == unicodedata.normalize("NFC", text)


@given(st.lists(st.tuples(text_with_tags, st.booleans())))
def test_only_template_parts_yield_special_tokens(segments: list[tuple[str, bool]]) -> None:
    ids = TINY.encode_prompt(segments)
    wanted = sum(text.count(token) for text, is_template in segments if is_template for token in SPELLINGS[:-2])
    assert sum(map(TINY.is_special, ids)) == wanted


@given(st.text().filter(without_special), st.text().filter(without_special))
def test_prompt_has_the_ids_of_the_whole_string(first: str, second: str) -> None:
    parts = [
        ("<|im_start|>user\n", True),
        (first, False),
        ("<|im_end|>\n<think>", True),
        (second, False),
        (".\n", True),
    ]
    whole = "".join(text for text, _ in parts)
    if sum(whole.count(token) for token in SPELLINGS) == 3:
        alphabet = {token: n for n, token in enumerate(tiny_bpe()["tokenizer.ggml.tokens"])}
        oracle = [alphabet[token] for token in family_oracle().encode(whole).tokens]
        assert TINY.encode_prompt(parts) == oracle


def test_turns_cut_at_special_tokens_join_to_the_prompt() -> None:
    turns = [[("<|im_start|>user\n", True), ("hello.", False), ("\n<|im_end|>\n", True)], [("<|im_start|>", True)]]
    first, second = TINY.encode_turns(turns)
    assert first + second == TINY.encode_prompt(turns[0] + turns[1])


def test_facts_about_the_vocabulary() -> None:
    assert TINY.vocab_size - TINY.n_used == 2
    assert TINY.stop_ids == {TINY.token_id("<|im_end|>"), TINY.token_id("<|endoftext|>")}
    assert TINY.is_control(TINY.token_id("<|im_end|>")) and not TINY.is_control(TINY.token_id("<think>"))
    assert "[PAD0]" not in TINY.special_tokens
    assert TINY.bos_id is None
    ids = TINY.encode_prompt([("<think>", True), ("hello", False), ("<|im_end|>", True)])
    assert TINY.decode(ids) == "<think>hello<|im_end|>"
    assert TINY.decode(ids, keep_control=False) == "<think>hello"
    assert TINY.token_bytes(TINY.token_id("Ã")) == b"\xc3"
    for wrong in (-1, TINY.vocab_size, 2**40):
        with pytest.raises(InputError, match="outside the vocabulary"):
            TINY.token_bytes(wrong)
    with pytest.raises(InputError, match="no token"):
        TINY.token_id("<|nothing|>")


def test_bos_comes_first_and_once() -> None:
    metadata = tiny_bpe() | {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 5}
    tokenizer = Tokenizer(metadata)
    assert tokenizer.encode_turns([[("a", False)], [("b", False)]]) == [[5, *TINY.encode("a")], TINY.encode("b")]
    assert tokenizer.encode("a") == TINY.encode("a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "qwen35"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.merges": ["a nothing"]}, "tokenizer.ggml.merges"),
        ({"tokenizer.ggml.merges": ["a"]}, "tokenizer.ggml.merges"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.scores"),
        (
            {"tokenizer.ggml.tokens": ["x"], "tokenizer.ggml.token_type": [1], "tokenizer.ggml.eos_token_id": 0},
            "single-byte",
        ),
    ],
)
def test_broken_metadata_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Tokenizer(tiny_bpe() | change)


def test_a_merge_cannot_make_a_special_token() -> None:
    metadata = tiny_bpe()
    metadata["tokenizer.ggml.tokens"] += ["<thin", "k>"]
    metadata["tokenizer.ggml.token_type"] += [1, 1]
    metadata["tokenizer.ggml.merges"] += ["<thin k>"]
    with pytest.raises(FormatError, match=r"tokenizer\.ggml\.merges"):
        Tokenizer(metadata)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(InputError, match="surrogates"):
        TINY.encode("a\ud800")


@pytest.mark.parametrize("character", ["A", "中", "7", ".", " ", "\n", "\u0301", "👩\u200d", "a1 .\n中", "\t x"])
def test_long_runs_of_one_kind(character: str) -> None:
    text = character * (1 << 16)
    assert TINY.decode(TINY.encode(text)) == unicodedata.normalize("NFC", text)


EMBEDDED = Tokenizer(_core.GgufFile(hub.embedded_model()).metadata)
MODEL_OWN = OracleTokenizer.from_file(str(Path(__file__).parents[2] / "models/demo/checkpoint/tokenizer.json"))


@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_ids_of_the_embedded_vocabulary(text: str) -> None:
    """The tokenizer.json that the model was trained with, and the one rebuilt from the GGUF of it."""
    if not any(token in text for token in EMBEDDED.special_tokens):
        assert EMBEDDED.encode(text) == MODEL_OWN.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("It's 2024!", ["It", "'s", " ", "2", "0", "2", "4", "!"]),  # one digit a piece
        ("DON'T (stop)", ["DON", "'T", " (", "stop", ")"]),
        ("(hi)", ["(hi", ")"]),  # one character that is no letter may lead a word
        ("n\u0303a \u0915\u093f", ["n\u0303a", " \u0915\u093f"]),  # combining marks are letters; not in Qwen2
        ("x  y\n\n z \n", ["x", " ", " y", "\n\n", " z", " \n"]),
        (" ...\n\n\tif", [" ...\n\n", "\tif"]),
    ],
)
def test_words_of_the_pretokenizer(text: str, pieces: list[str]) -> None:
    """Cut by hand, by the pattern of docs/architecture.md 8.6."""
    words = MODEL_OWN.pre_tokenizer.pre_tokenize_str(text)
    rebuilt = EMBEDDED._encoder._tokenizer.pre_tokenizer.pre_tokenize_str(text)  # type: ignore[attr-defined]
    for found in (words, rebuilt):
        assert [text[first:last] for _, (first, last) in found] == pieces


@needs_vocabulary
def test_llama_cpp_ids_of_the_qwen35_pretokenizer() -> None:
    """The file's own texts and ids; llama.cpp does not normalise, so NFC changes the three decomposed texts."""
    qwen35_metadata = read_metadata(QWEN35_VOCABULARY)
    separator = "\n__ggml_vocab_test__\n"
    inputs = Path(f"{QWEN35_VOCABULARY}.inp").read_bytes().decode().split(separator)
    outputs = Path(f"{QWEN35_VOCABULARY}.out").read_text().split("\n")
    wanted = [[int(n) for n in line.split()] for line in outputs][: len(inputs)]
    raw, normal = Tokenizer(qwen35_metadata, normalize=False), Tokenizer(qwen35_metadata)
    assert len(inputs) >= 50
    assert [raw.encode(text) for text in inputs] == wanted
    differ = [text for text, ids in zip(inputs, wanted, strict=True) if normal.encode(text) != ids]
    assert len(differ) == 3
    assert all(not unicodedata.is_normalized("NFC", text) for text in differ)
    assert (raw.vocab_size, raw.n_used) == (151936, 151646)


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory: pytest.TempPathFactory) -> sentencepiece.SentencePieceProcessor:
    folder = tmp_path_factory.mktemp("spm")
    corpus = folder / "corpus.txt"
    corpus.write_text("hello world\nthe quick brown fox\nthe lazy dog says hello\n" * 20)
    sentencepiece.SentencePieceTrainer.Train(
        input=str(corpus), model_prefix=str(folder / "m"), vocab_size=340, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        control_symbols=["<|im_start|>", "<|im_end|>"], user_defined_symbols=["<think>"], hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "m.model"))


def sentencepiece_metadata(model: sentencepiece.SentencePieceProcessor) -> dict[str, Any]:
    ids = range(model.GetPieceSize())
    kinds = [
        6
        if model.IsByte(n)
        else 2
        if model.IsUnknown(n)
        else 3
        if model.IsControl(n)
        else 5
        if model.IsUnused(n)
        else 1
        for n in ids
    ]
    tokens = [model.IdToPiece(n) for n in ids]
    kinds[tokens.index("<think>")] = 4
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [model.GetScore(n) for n in ids],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.add_space_prefix": False,
    }


def test_sentencepiece_rebuilt_from_metadata(sentencepiece_model: sentencepiece.SentencePieceProcessor) -> None:
    tokenizer = Tokenizer(sentencepiece_metadata(sentencepiece_model))
    for text in ["hello world", "  the  fox\n\nsays\t", "Ünïcødé 中 👩‍🚀", "", "<s></s><|im_end|>", "<0x0A>"]:
        ids = tokenizer.encode(text)
        assert ids == sentencepiece_model.EncodeAsIds(text)
        assert tokenizer.decode(ids) == text
        assert not any(map(tokenizer.is_control, ids))
    assert tokenizer.token_id("<think>") not in tokenizer.encode("<think>")
    assert tokenizer.decode(tokenizer.encode("a <think>")) == "a <think>"
    prompt = tokenizer.encode_prompt([("<|im_start|>", True), ("<think> hello", False), ("<think><|im_end|>", True)])
    assert [tokenizer.is_special(n) for n in prompt].count(True) == 3
    assert tokenizer.decode(prompt) == "<|im_start|><think> hello<think><|im_end|>"
    with pytest.raises(InputError, match="surrogates"):
        tokenizer.encode("\ud800")


def test_sentencepiece_faults_are_named(sentencepiece_model: sentencepiece.SentencePieceProcessor) -> None:
    metadata = sentencepiece_metadata(sentencepiece_model)
    metadata["tokenizer.ggml.token_type"] = [1] * len(metadata["tokenizer.ggml.tokens"])
    with pytest.raises(FormatError, match="not a SentencePiece model"):
        Tokenizer(metadata)
