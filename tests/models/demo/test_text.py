"""The demo's template and tokenizer: the family's conversation format, its special tokens, and loss targets."""

# ruff: noqa: E402

from __future__ import annotations

import itertools
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="the demo model's text needs jinja2")
tokenizers = pytest.importorskip("tokenizers", reason="the demo model's text needs tokenizers")

from models.demo.training.data import conversations, with_system
from models.demo.training.text import (
    PLAIN,
    SPECIAL,
    USED_IDS,
    encode_with_targets,
    render,
    tokenizer_text,
    train_tokenizer,
)

CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": True, "b": [1, "x"], "c": "two\nlines"}}}
CALL_TEXT = (
    '<tool_call>\n<function=f>\n<parameter=a>\nTrue\n</parameter>\n<parameter=b>\n[1, "x"]\n</parameter>\n'
    "<parameter=c>\ntwo\nlines\n</parameter>\n</function>\n</tool_call>"
)


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_generation_prompts() -> None:
    asked = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert render([message("user", " hi\n")], prompt=True) == asked + "<think>\n"
    assert render([message("user", "hi")], prompt=True, thinking=False) == asked + "<think>\n\n</think>\n\n"


def test_old_thoughts_are_dropped_and_the_last_is_kept() -> None:
    messages = [
        message("system", "Be short."),
        message("user", "a"),
        message("assistant", "<think>\nold\n</think>\n\nb"),
        message("user", [{"type": "text", "text": "c"}]),
        message("assistant", "d", reasoning_content=" new \n"),
    ]
    assert render(messages) == (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n<think>\nnew\n</think>\n\nd<|im_end|>\n"
    )


def test_calls_and_results() -> None:
    messages = [
        message("user", "q"),
        message("assistant", "Wait.", tool_calls=[CALL, {"name": "g"}]),
        message("tool", "one"),
        message("tool", "two"),
        message("assistant", "done"),
    ]
    assert render(messages) == (
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nWait.\n\n"
        + CALL_TEXT
        + "\n<tool_call>\n<function=g>\n</function>\n</tool_call><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\ndone<|im_end|>\n"
    )


def test_tools_come_first_in_the_system_turn() -> None:
    text = render([message("system", "Be short."), message("user", "q")], tools=[{"name": "é"}])
    assert text.startswith("<|im_start|>system\n# Tools\n\nYou have access to the following functions:\n\n<tools>\n")
    assert '<tools>\n{"name": "é"}\n</tools>\n\nIf you choose to call' in text
    assert "</IMPORTANT>\n\nBe short.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n" in text


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "No messages"),
        ([message("assistant", "a")], "No user query"),
        ([message("user", "a"), message("system", "b")], "at the beginning"),
        ([message("user", "a"), message("narrator", "b")], "role"),
        ([message("user", [{"type": "image"}])], "text only"),
    ],
)
def test_impossible_conversations_are_refused(messages: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        render(messages)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(tokenizer_text(35, conversations_read=3000))


def test_special_tokens_fill_the_last_used_ids(tokenizer: Any) -> None:
    assert tokenizer.get_vocab_size() == USED_IDS
    ids = [tokenizer.token_to_id(token) for token in (*SPECIAL, *PLAIN)]
    assert ids == list(range(USED_IDS - len(ids), USED_IDS))


@pytest.mark.parametrize("text", ["", "12 + 345 = 357", "Zürich\n\n  don't", "你好 🙂", "e\u0301", "\x00\x7f tab\t."])
def test_any_text_survives(tokenizer: Any, text: str) -> None:
    import unicodedata

    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_digits_are_single_tokens(tokenizer: Any) -> None:
    assert tokenizer.encode("4096").tokens == ["4", "0", "9", "6"]


def test_targets_are_what_the_model_writes(tokenizer: Any) -> None:
    for exchange in itertools.islice(conversations(3), 60):
        text = render(with_system(exchange), exchange.tools)
        ids, targets = encode_with_targets(tokenizer, text)
        written = tokenizer.decode([i for i, t in zip(ids, targets, strict=True) if t], skip_special_tokens=False)
        wanted = ""
        for part in text.split("<|im_start|>assistant\n")[1:]:
            reply = part.split("<|im_end|>")[0]
            wanted += reply.removeprefix("<think>\n\n</think>\n\n").removeprefix("<think>\n") + "<|im_end|>"
        assert written == wanted
