"""Conversations to text and token ids: the demo model's template and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from .data import conversations, with_system
from .skills.core import Message, Tool

WORDS = Path(__file__).with_name("words.txt")

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PAIRS = ["object_ref", "box", "quad"]
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|{name}_{side}|>" for name in _PAIRS for side in ("start", "end")),
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
PLAIN = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
USED_IDS = 4090


def _fail(message: str) -> None:
    raise ValueError(message)


@cache
def template() -> Template:
    """The compiled chat template, in the environment checkpoints are rendered in."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = _fail
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def render(
    messages: list[Message], tools: list[Tool] | None = None, prompt: bool = False, thinking: bool = True
) -> str:
    """The text of a conversation; with `prompt` it ends where the model continues."""
    return template().render(messages=messages, tools=tools, add_generation_prompt=prompt, enable_thinking=thinking)


def tokenizer_text(seed: int, conversations_read: int = 12000) -> Iterator[str]:
    """Conversations of the generator, and common words so that other text does not fall apart into bytes."""
    source = conversations(seed)
    for _ in range(conversations_read):
        exchange = next(source)
        yield render(with_system(exchange), exchange.tools)
    words = WORDS.read_text(encoding="utf-8").split()
    for _ in range(40):
        yield " ".join(words)
        yield "\n".join(word.capitalize() for word in words)


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE with every byte, the family's split, and its special tokens on the last used ids."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    size = USED_IDS - len(SPECIAL) - len(PLAIN)
    trainer = BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != size:
        raise ValueError(
            f"the text gave {tokenizer.get_vocab_size()} entries, {size} are wanted: train on more varied text"
        )
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in PLAIN])
    return tokenizer


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer_config.json, with the fields the family's own files have."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    entries = {
        str(tokenizer.token_to_id(token)): {"content": token, **flags, "special": token in SPECIAL}
        for token in (*SPECIAL, *PLAIN)
    }
    return {
        "add_prefix_space": False,
        "add_bos_token": False,
        "added_tokens_decoder": entries,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 262144,
        "pad_token": "<|endoftext|>",
        "pretokenize_regex": SPLIT,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def id_of(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that must exist."""
    number = tokenizer.token_to_id(token)
    if number is None:
        raise ValueError(f"the tokenizer has no {token!r}")
    return number


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def encode_with_targets(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[bool]]:
    """Token ids, and which of them the model itself would write: replies without the think tags the prompt gives."""
    ids = encode(tokenizer, text)
    start, end, think, close = (tokenizer.token_to_id(t) for t in ("<|im_start|>", "<|im_end|>", "<think>", "</think>"))
    role = encode(tokenizer, "assistant\n")
    targets = [False] * len(ids)
    i = 0
    while i < len(ids):
        if ids[i] != start or ids[i + 1 : i + 1 + len(role)] != role:
            i += 1
            continue
        i += 1 + len(role)
        if ids[i] == think:
            i += 4 if ids[i + 2] == close else 2
        while i < len(ids):
            targets[i] = True
            i += 1
            if ids[i - 1] == end:
                break
    return ids, targets
