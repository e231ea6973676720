"""The calibration text of the converter: what is in it, how it is cut, and that what judges is not what was learned."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vocabularies import tiny_bpe

from qwen35_local.chat import jinja_worker
from qwen35_local.chat.family import VARIANTS, Options
from qwen35_local.chat.foreign import context
from qwen35_local.chat.messages import read_messages
from qwen35_local.chat.template import Template
from qwen35_local.errors import InputError, TemplateError
from qwen35_local.quantize.calibration import Conversation, Document, Part, documents, windows
from qwen35_local.quantize.calibration.generated import generated
from qwen35_local.quantize.calibration.windows import encoded, interleaved
from qwen35_local.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
TEMPLATES = [
    *sorted((ROOT / "tests/golden/templates").glob("*.jinja")),
    ROOT / "models/demo/checkpoint/chat_template.jinja",
]
PARTS: tuple[Part, ...] = ("calibration", "held_out")
TINY = Tokenizer(tiny_bpe())
CONVERSATIONS = [d for d in documents() if isinstance(d.content, Conversation)]

# Words that a page of the language cannot do without and that others lack; or else letters that only it has.
LANGUAGES = {
    "ar": r"[\u0621-\u064a]",
    "de": r"\b(?:und|nicht|ist)\b",
    "en": r"\b(?:the|which|with)\b",
    "es": r"\b(?:los|las|pero|muy|más)\b",
    "fr": r"\b(?:les|est|dans)\b",
    "hi": r"[\u0904-\u0939]",
    "it": r"\b(?:della|che|non)\b",
    "ja": r"[\u3041-\u30fa]",
    "ko": r"[\uac00-\ud7a3]",
    "pt": r"\b(?:não|uma|com|em|ao)\b",
    "ru": r"[а-яё]",
    "tr": r"[ğş]",
    "vi": r"[ạảấầẩậắằẵặẹẻếềểệịọỏốồổộớờợụủứừửựỳỷ]",
    "zh": r"[的了是在]",
}


def test_documents_are_the_same_at_every_call() -> None:
    first = documents()
    documents.cache_clear()
    assert documents() == first


def test_generated_text_is_the_same_on_every_machine() -> None:
    text = "\n".join(document for _, made in sorted(generated().items()) for document in made)
    assert sha256(text.encode()).hexdigest() == "c415933077e0b121220d7cbf222da70cf769ce8c5219fb0069bffca3d6b2436c"


def test_text_is_of_the_stated_size() -> None:
    """At most 500 kB in a wheel."""
    folder = resources.files("qwen35_local.quantize.calibration").joinpath("texts")
    assert 250_000 < sum(path.stat().st_size for path in Path(str(folder)).rglob("*.*")) <= 500_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_prose_is_in_its_language(language: str) -> None:
    found = Counter[str]()
    for document in documents():
        if document.name.startswith("prose/"):
            found[document.subject] += len(re.findall(LANGUAGES[language], document.text, re.I))
    own, others = found.pop(f"prose/{language}"), max(found.values())
    assert own > 30 and own > 4 * others, found


def test_every_subject_is_in_both_parts() -> None:
    assert {d.subject for d in documents()} >= {f"prose/{language}" for language in LANGUAGES}
    assert len({d.name for d in documents()}) == len(documents())
    for subject in {d.subject for d in documents()}:
        assert {d.part for d in documents() if d.subject == subject} == set(PARTS), subject


def test_an_eighth_is_held_out() -> None:
    sizes = {part: sum(len(d.text.encode()) for d in documents() if d.part == part) for part in PARTS}
    assert 0.09 < sizes["held_out"] / sum(sizes.values()) < 0.16


def test_parts_share_no_line() -> None:
    calibrated, held_out = ({line for d in documents() if d.part == part for line in lines(d)} for part in PARTS)
    assert len(held_out) > 100
    assert not calibrated & held_out


def lines(document: Document) -> list[str]:
    """Those that say something; tools are described in the same words in several conversations."""
    if isinstance(document.content, Conversation):
        document = Document(document.name, Conversation(document.content.messages), document.part)
    return [line.strip() for line in document.text.split("\n") if len(line.strip()) > 50]


def test_no_text_is_of_others() -> None:
    marks = r"copyright|licen[cs]ed under|all rights reserved|SPDX|GNU (?:General|Lesser)|Apache License|MIT License|©"
    assert not [d.name for d in documents() if re.search(marks, d.text, re.I)]


def test_no_text_spells_a_special_token() -> None:
    assert not [(d.name, found) for d in documents() if (found := TINY.specials_in(d.text))]


@cache
def templates() -> list[Template]:
    return [Template.for_model(path.read_text()) for path in TEMPLATES]


@cache
def compiled(text: str) -> Any:
    return jinja_worker.environment().from_string(text)


@pytest.mark.parametrize("document", CONVERSATIONS, ids=[d.name for d in CONVERSATIONS])
def test_every_template_renders_every_conversation(document: Document) -> None:
    """By the family's code, as the model's own Jinja text does; and all that was said is there."""
    content = document.content
    assert isinstance(content, Conversation)
    for template in templates():
        options = Options(add_generation_prompt=False, preserve_thinking=content.preserve_thinking)
        prompt = template.render(
            content.messages, content.tools, add_generation_prompt=False, preserve_thinking=content.preserve_thinking
        )
        variables = context(read_messages(content.messages), content.tools, options)
        assert prompt.text == compiled(template.text).render(variables)
        assert [m["content"] for m in content.messages if m["content"].strip() not in prompt.text] == []
        assert [tool for tool in content.tools if tool["function"]["name"] not in prompt.text] == []


def test_conversations_have_what_conversations_have() -> None:
    messages = [m for d in CONVERSATIONS if isinstance(d.content, Conversation) for m in d.content.messages]
    roles = Counter(message["role"] for message in messages)
    assert min(roles[role] for role in ("system", "user", "assistant", "tool")) > 15
    replies = [m for m in messages if m["role"] == "assistant"]
    thoughtful = sum(1 for m in replies if m.get("reasoning_content"))
    assert thoughtful > 25 and len(replies) - thoughtful > 25
    assert sum(len(m.get("tool_calls", ())) for m in replies) > 20


def test_conversation_is_encoded_as_the_model_reads_it() -> None:
    template = Template.for_variant("qwen3.5")
    document = next(d for d in CONVERSATIONS if d.name == "conversations/tools/0")
    ids = encoded(document, TINY, template)
    special = TINY.special_tokens
    assert ids[0] == special["<|im_start|>"]
    assert Counter(ids)[special["<|im_start|>"]] == Counter(ids)[special["<|im_end|>"]] > 5
    assert special["<tool_call>"] in ids and special["<|endoftext|>"] not in ids


def test_plain_text_ends_as_documents_do() -> None:
    document = next(d for d in documents() if isinstance(d.content, str))
    ids = encoded(document, TINY, None)
    assert ids.count(TINY.special_tokens["<|endoftext|>"]) == 1
    assert TINY.decode(ids[:-1]) == document.text and ids[-1] == TINY.special_tokens["<|endoftext|>"]


@pytest.mark.parametrize("template", [None, "refuses"])
def test_conversation_without_a_template_is_plain_text(template: str | None) -> None:
    class Refusing:
        def render(self, *args: Any, **options: Any) -> Any:
            raise TemplateError("Conversation roles must alternate user/assistant")

    document = CONVERSATIONS[0]
    ids = encoded(document, TINY, None if template is None else Refusing())
    assert TINY.decode(ids[:-1]) == document.text
    assert isinstance(document.content, Conversation)
    assert all(message["content"] in document.text for message in document.content.messages)


class SubjectTokenizer:
    """A token per four characters, which says whose document it is: the index of the document among `documents()`."""

    bos_id = None
    special_tokens: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.numbers = {d.text: n for n, d in enumerate(documents())}

    def encode_prompt(self, segments: Iterable[tuple[str, bool]]) -> list[int]:
        text = "".join(text for text, _ in segments)
        return [self.numbers[text]] * (len(text) // 4)


def kinds(window: Sequence[int]) -> Counter[str]:
    return Counter(documents()[n].name.partition("/")[0] for n in window)


@pytest.mark.parametrize("length", [256, 1024])
def test_every_beginning_has_its_share_of_all_subjects(length: int) -> None:
    """To within two windows."""
    found = [kinds(window.tolist()) for window in windows(SubjectTokenizer(), None, length)]
    whole = sum(found, Counter())
    for count in range(len(found)):
        beginning = sum(found[:count], Counter())
        for kind, tokens in whole.items():
            assert abs(beginning[kind] - count / len(found) * tokens) <= 2 * length, (kind, count)


@pytest.mark.parametrize("length", [1, 100, 512, 2048])
@pytest.mark.parametrize("part", PARTS)
def test_windows_mix_no_more_than_needed(length: int, part: Part) -> None:
    cut = [window.tolist() for window in windows(SubjectTokenizer(), None, length, part=part)]
    assert all(len(window) == length for window in cut)
    sizes = {n: len(d.text) // 4 for n, d in enumerate(documents()) if d.part == part}
    assert len(cut) == sum(sizes.values()) // length, "less than a window is left over"
    tokens = Counter(n for window in cut for n in window)
    assert all(tokens[n] <= size for n, size in sizes.items()) and set(tokens) <= set(sizes)
    assert sum(len(set(window)) == 1 for window in cut) >= sum(size // length for size in sizes.values())
    assert sum(len(kinds(window)) > 1 for window in cut) < len({d.name.partition("/")[0] for d in documents()})


def test_windows_are_the_same_at_every_call() -> None:
    template = Template.for_variant("qwen3.6")
    first, second = ([*windows(TINY, template, 4096)] for _ in range(2))
    assert len(first) > 30 and all(window.dtype == np.int32 and window.shape == (4096,) for window in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert max(int(window.max()) for window in first) < TINY.n_used


def test_a_window_has_a_length() -> None:
    with pytest.raises(InputError, match="windows of 0 tokens"):
        next(windows(TINY, None, 0))


def test_streams_are_spread_evenly() -> None:
    assert "".join(interleaved(["aaaa", "bb", "c", ""])) == "abacaba"


def test_every_variant_of_the_family_is_among_the_templates() -> None:
    names = {template.name for template in templates()}
    assert names >= {name for name in VARIANTS if name != "qwen3.5-small"}
