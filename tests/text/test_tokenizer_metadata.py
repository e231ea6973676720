"""Each key that a tokenizer is read from, with a value of each type: a tokenizer that works, or an error that names the
key."""

from typing import Any

import pytest
from vocabularies import byte_alphabet, tiny_bpe
from wrong_values import VALUES, is_one_of

from qwen35_local.errors import FormatError
from qwen35_local.text.tokenizer import Tokenizer

BPE = tiny_bpe()
SIZE = len(BPE["tokenizer.ggml.tokens"])


def tiny_sentencepiece() -> dict[str, Any]:
    """The unknown piece, all bytes, a few letters."""
    tokens = ["<unk>", *(f"<0x{n:02X}>" for n in range(256)), "<|im_end|>", "a", "b", "ab"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, *[6] * 256, 3, 1, 1, 1],
        "tokenizer.ggml.scores": [-float(n) for n in range(len(tokens))],
        "tokenizer.ggml.add_space_prefix": False,
    }


SPM = tiny_sentencepiece()

# What may stand under each key, of VALUES; anything else is refused by name.
AN_ID, A_FLAG = [0, 7], [True, False]
BPE_KEYS: dict[str, list[Any]] = {
    "model": [],
    "pre": [],
    "tokens": [],
    "token_type": [],
    "merges": [[]],
    "bos_token_id": AN_ID,
    "eos_token_id": AN_ID,
    "eot_token_id": AN_ID,
    "add_bos_token": A_FLAG,
}
SPM_KEYS: dict[str, list[Any]] = {
    "scores": [],
    "tokens": [],
    "token_type": [],
    "add_space_prefix": A_FLAG,
    "remove_extra_whitespaces": A_FLAG,
}
CASES = [(BPE, key, good) for key, good in BPE_KEYS.items()] + [(SPM, key, good) for key, good in SPM_KEYS.items()]


@pytest.mark.parametrize(("metadata", "key", "accepted"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_each_key_with_each_type(metadata: dict[str, Any], key: str, accepted: list[Any]) -> None:
    for value in VALUES:
        changed = metadata | {f"tokenizer.ggml.{key}": value}
        if is_one_of(value, accepted):
            tokenizer = Tokenizer(changed)
            ids = tokenizer.encode_prompt([("ab é", False), ("<|im_end|>", True)])
            assert "ab" in tokenizer.decode(ids)
            assert all(0 <= n < tokenizer.vocab_size for n in [*ids, *tokenizer.stop_ids])
        else:
            named = f"{key}|token_type" if key == "tokens" else key  # a list of another length
            with pytest.raises(FormatError, match=rf"^tokenizer\.ggml\.({named}) "):
                Tokenizer(changed)


@pytest.mark.parametrize(
    ("metadata", "change", "message"),
    [
        (BPE, {"bos_token_id": SIZE}, f"bos_token_id is {SIZE}; expected an integer from 0 to {SIZE - 1}"),
        (BPE, {"token_type": [1] * (SIZE - 1)}, f"a list of {SIZE - 1} entries .int.; expected a list of {SIZE}"),
        (BPE, {"token_type": [*[1] * (SIZE - 1), -1]}, "token_type"),
        (BPE, {"token_type": [*[1] * (SIZE - 1), 7]}, "each an integer from 0 to 6"),
        (BPE, {"token_type": [*[1] * (SIZE - 1), True]}, "token_type"),
        (BPE, {"tokens": [*byte_alphabet(), 5]}, "tokens is a list of 257 entries .int, str.; expected a list, each a"),
        (SPM, {"scores": [str(n) for n in SPM["tokenizer.ggml.scores"]]}, "scores is a list of 261 entries .str."),
        (SPM, {"scores": [*SPM["tokenizer.ggml.scores"][:-1], 1e300]}, "scores"),
        (SPM, {"scores": None}, "scores is missing"),
        (SPM, {"tokens": ["<unk>", "<0xZZ>", *SPM["tokenizer.ggml.tokens"][2:]]}, "the byte piece '<0xZZ>'"),
        (SPM, {"tokens": ["<unk>", *["a"] * 260]}, "the byte piece 'a'"),
    ],
)
def test_lengths_and_ranges(metadata: dict[str, Any], change: dict[str, Any], message: str) -> None:
    changed = metadata | {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    with pytest.raises(FormatError, match=message):
        Tokenizer(changed)
