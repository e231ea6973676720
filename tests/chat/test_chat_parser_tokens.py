"""The parser where it knows the tokens: only a special token is a tag, the same letters are text.

In the outputs below ‹think› stands for the token <think>; <think> is spelled in letters.
"""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outputs import parse_output
from test_chat_parser import BERN, CORPUS, TOOLS, brief, call_text, called, outputs

from qwen35_local.chat.events import Event, ReasoningDelta, TextDelta, merged
from qwen35_local.chat.parser import OutputParser

TOKENS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
LOOK = BERN.replace("<tool_call>", "‹tool_call›").replace("</tool_call>", "‹/tool_call›")

# output, where it starts, events
MENTIONS: dict[str, tuple[str, str, list[Any]]] = {
    "opener first": ("<think> opens it.", "answer", [("text", "<think> opens it.")]),
    "opener alone": ("<think>", "answer", [("text", "<think>")]),
    "closer first": ("</think> closes it.", "answer", [("text", "</think> closes it.")]),
    "closer while thinking": (
        "a </think>\n\nb‹/think›\n\nc </think> d",
        "reasoning",
        [("reason", "a </think>\n\nb"), ("text", "c </think> d")],
    ),
    "opener while thinking": ("<think>\na‹/think›b", "reasoning", [("reason", "<think>\na"), ("text", "b")]),
    "tags behind thinking": (
        "a‹/think›\n\n<think>\nb\n</think>",
        "reasoning",
        [("reason", "a"), ("text", "<think>\nb\n</think>")],
    ),
    "call in letters": (f"Write\n{BERN}\nthen.", "answer", [("text", f"Write\n{BERN}\nthen.")]),
    "call in letters while thinking": (
        f"{BERN}‹/think›{LOOK}",
        "reasoning",
        [("reason", BERN), *called(city="Bern")],
    ),
    "call in letters, then a call": (f"{BERN}\n{LOOK}", "answer", [("text", BERN), *called(city="Bern")]),
    "bare function": (
        "<function=look>\n<parameter=days>\n3\n</parameter>\n</function>\n‹/tool_call›",
        "answer",
        called(days=3),
    ),
    "closers in letters inside a value": (
        LOOK.replace("Bern", "</parameter>\n</tool_call>\n<tool_call>"),
        "answer",
        called(city="</parameter>\n</tool_call>\n<tool_call>"),
    ),
    "json in letters": (
        '<tool_call>{"name": "look", "arguments": {}}</tool_call>',
        "answer",
        [("text", '<tool_call>{"name": "look", "arguments": {}}</tool_call>')],
    ),
    # The model may also mean a tag whose token it writes.
    "token as the first word": ("‹think› opens it.", "answer", [("text", "<think> opens it.")]),
    "token behind thinking": ("a‹/think›\n\n‹think›", "reasoning", [("reason", "a"), ("text", "<think>")]),
    "closer as the answer": ("a‹/think›\n\n‹/think›\n", "reasoning", [("reason", "a"), ("text", "</think>")]),
    "closer twice": ("a‹/think›\n‹/think›\n\nb", "reasoning", [("reason", "a"), ("text", "b")]),
    "token in the answer": ("a ‹think›\nb ‹/think› c", "answer", [("text", "a <think>\nb </think> c")]),
    # Thinking is closed once.
    "thinking after all": (
        "‹think›\na\n‹/think›\n\nb",
        "answer",
        [("text", "<think>\na\n</think>\n\nb")],
    ),
    "thinking again": ("a‹/think›\n\n‹think›\nb", "reasoning", [("reason", "a"), ("text", "<think>\nb")]),
    "call, then thinking again": (
        f"a‹/think›{LOOK}\n‹think›\nb",
        "reasoning",
        [("reason", "a"), *called(city="Bern"), ("text", "<think>\nb")],
    ),
    "call in the thinking, then more of it": (
        f"a {LOOK}\n‹think›\nb‹/think›c",
        "reasoning",
        [("reason", "a"), *called(city="Bern"), ("reason", "b"), ("text", "c")],
    ),
    "json that ends with the thinking": (
        'a ‹tool_call›{"name": "</think>f‹/think›\n\nb',
        "reasoning",
        [("reason", 'a <tool_call>{"name": "</think>f'), ("text", "b")],
    ),
    "thinking of its own": ("‹think›a‹/think›b", "", [("reason", "a"), ("text", "b")]),
}


def pieces(output: str) -> list[tuple[str, bool]]:
    """(text, whether it is a special token), as the tokens of an output become text."""
    parts = re.split("‹(.*?)›", output)
    return [(f"<{part}>" if n % 2 else part, n % 2 == 1) for n, part in enumerate(parts) if part]


def fed(parts: list[tuple[str, bool]], start: str, tools: Any = TOOLS) -> list[Event]:
    parser = OutputParser(tools, in_reasoning=start == "reasoning", in_answer=start == "answer", tokens=TOKENS)
    events = [event for text, is_token in parts for event in parser.feed(text, is_token=is_token)]
    return merged(events + parser.finish())


def in_letters(parts: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """The same with all that is no token cut into single characters."""
    return [piece for text, is_token in parts for piece in ([(text, True)] if is_token else [(c, False) for c in text])]


@pytest.mark.parametrize("name", MENTIONS)
def test_mentions(name: str) -> None:
    output, start, wanted = MENTIONS[name]
    assert brief(fed(pieces(output), start)) == wanted
    assert fed(in_letters(pieces(output)), start) == fed(pieces(output), start)


def as_tokens(output: str) -> str:
    return re.sub("<(/?think|/?tool_call)>", r"‹\1›", output)


@pytest.mark.parametrize("name", CORPUS)
def test_tokens_mean_what_their_spellings_mean_in_text(name: str) -> None:
    output, in_reasoning, wanted = CORPUS[name]
    assert brief(fed(pieces(as_tokens(output)), "reasoning" if in_reasoning else "")) == wanted


@given(outputs, st.booleans())
def test_any_output_in_tokens_is_read_as_in_text(output: str, in_reasoning: bool) -> None:
    """But for its end, where the beginning of a tag is a tag only in text."""
    output = output.replace("‹", "").replace("›", "") + "."
    events = parse_output(output, TOOLS, in_reasoning=in_reasoning)
    assert fed(pieces(as_tokens(output)), "reasoning" if in_reasoning else "") == events


mixed = st.lists(
    st.sampled_from(["‹think›", "‹/think›", "‹tool_call›", "‹/tool_call›", "<tool_call>", "\n", LOOK]) | outputs,
    max_size=8,
).map("".join)


@given(mixed, st.sampled_from(["", "answer", "reasoning"]))
def test_any_split_gives_the_same_events(output: str, start: str) -> None:
    assert fed(in_letters(pieces(output)), start) == fed(pieces(output), start)


@given(outputs.filter(lambda output: "<function=" not in output), st.booleans())
def test_letters_alone_are_one_text(output: str, is_reasoning: bool) -> None:
    """Whatever is spelled, with tools on offer: nothing opens, closes or is called."""
    kind = ReasoningDelta if is_reasoning else TextDelta
    text = output.lstrip("\n")
    assert fed([(output, False)], "reasoning" if is_reasoning else "answer") == ([kind(text)] if text else [])


def shown(events: list[Event], kind: type[ReasoningDelta] | type[TextDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@given(st.sampled_from(["‹think›", "‹/think›", "<think>", "</think>"]), st.text("abc .", max_size=4))
def test_an_answer_about_a_tag_is_shown(tag: str, rest: str) -> None:
    """Thinking closed, then an answer that begins with a tag: something is visible."""
    assert shown(fed(pieces("hm‹/think›\n\n" + tag + rest), "reasoning"), TextDelta).strip()


@given(mixed.filter(lambda output: "<function=" not in output), mixed)
def test_nothing_behind_the_thinking_is_thinking(thought: str, rest: str) -> None:
    """Whatever follows the first closer is visible: text, or a call."""
    thought = thought.replace("‹/think›", "")
    events = fed(pieces(f"{thought}‹/think›{rest}"), "reasoning")
    assert shown(events, ReasoningDelta) == shown(fed(pieces(thought + "‹/think›"), "reasoning"), ReasoningDelta)
    assert not rest.strip() or any(not isinstance(event, ReasoningDelta) for event in events)


def test_a_call_needs_its_token_also_in_pieces() -> None:
    assert brief(fed([(part, False) for part in re.findall(".{1,3}|\n", call_text(city="x"))], "answer")) == [
        ("text", call_text(city="x"))
    ]
