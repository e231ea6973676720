import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from outputs import parse_output

from qwen35_local.chat.events import (
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
    merged,
)
from qwen35_local.chat.parser import OutputParser
from qwen35_local.chat.wishes import FREE_CHOICE, ToolChoice

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "text": {"type": "string"},
    "tags": {"type": "array"},
}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": PROPERTIES}}}]


def call_text(name: str = "look", **arguments: str) -> str:
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


def brief(events: list[Event]) -> list[Any]:
    """("reason", text), ("text", text), ("start", name) and ("call", name, arguments, is_closed)."""
    short: list[Any] = []
    for event in events:
        match event:
            case ReasoningDelta(text):
                short.append(("reason", text))
            case TextDelta(text):
                short.append(("text", text))
            case ToolCallStart(_, name):
                short.append(("start", name))
            case ToolCallDone(_, call, _, is_closed):
                short.append(("call", call.name, dict(call.arguments), is_closed))
    return short


def called(name: str = "look", is_closed: bool = True, **arguments: Any) -> list[Any]:
    return [("start", name), ("call", name, arguments, is_closed)]


BERN = call_text(city="Bern")
CODE = "if a < b and c</b:\n    x = '<parameter=city>'\n  </function>\n<tool_call> </parameter> <b> </tool_call> <"

# output, whether it starts inside reasoning, events
CORPUS: dict[str, tuple[str, bool, list[Any]]] = {
    "empty": ("", False, []),
    "text": ("Hello, a < b <3 </x>.\n", False, [("text", "Hello, a < b <3 </x>.\n")]),
    "reasoning": ("why\n\nnot\n</think>\n\nSo.", True, [("reason", "why\n\nnot"), ("text", "So.")]),
    "endless reasoning": ("hm ", True, [("reason", "hm ")]),
    "reasoning opened again": (
        "a\n</think>\n\n<think>\nb\n</think>\n\nc",
        True,
        [("reason", "a"), ("text", "<think>\nb\n</think>\n\nc")],
    ),
    "reasoning opened again, for good": ("a</think>\n\n<think>\nb", True, [("reason", "a"), ("text", "<think>\nb")]),
    "closers alone": ("a</think>\n\n</think>\n</think>", True, [("reason", "a"), ("text", "</think>")]),
    "empty reasoning": ("\n\n</think>\n\n  So.", True, [("text", "  So.")]),
    "reasoning opened by the model": ("<think>\na\n</think>\n\nb", False, [("reason", "a"), ("text", "b")]),
    "reasoning opened twice": ("\n<think>\na\n</think>\nb", True, [("reason", "a"), ("text", "b")]),
    "reasoning closed twice": ("a</think>\n</think>\n\nb", True, [("reason", "a"), ("text", "b")]),
    "stray opener at the end": ("The answer.\n<think>", False, [("text", "The answer.\n<think>")]),
    "stray closer": ("a </think> b", False, [("text", "a </think> b")]),
    "half a tag at the end": ("a </thin", True, [("reason", "a </thin")]),
    "call": (BERN, False, called(city="Bern")),
    "text and calls": (f"Look:\n\n{BERN}\n{BERN}\n", False, [("text", "Look:"), *called(city="Bern") * 2]),
    "call and text": (f"{BERN}\n\nDone. ", False, [*called(city="Bern"), ("text", "Done. ")]),
    "typed": (call_text(days="3", tags='["a"]', city="3"), False, called(days=3, tags=["a"], city="3")),
    "mistyped": (call_text(days="many", tags="{"), False, called(days="many", tags="{")),
    "unknown tool": (call_text("fly", days="3"), False, called("fly", days="3")),
    "no arguments": (call_text(), False, called()),
    "code": (call_text(text=CODE, days="1"), False, called(text=CODE, days=1)),
    "blank lines kept": (call_text(text="\n a \n"), False, called(text="\n a \n")),
    "value on the line of its tag": (
        "<tool_call>\n<function=look>\n<parameter=text>a\n</parameter>\n</function>\n</tool_call>",
        False,
        called(text="a\n"),
    ),
    "lines that end in CR LF": (
        call_text(text="a\n", days="3").replace("\n", "\r\n"),
        False,
        called(text="a\r\n", days=3),
    ),
    "closer inside a value": (call_text(text="a</parameter>b"), False, called(text="a</parameter>b")),
    "on one line": (
        "<tool_call><function=look><parameter=days>3</parameter></function></tool_call>x",
        False,
        [*called(days=3), ("text", "x")],
    ),
    "call while thinking": (
        f"hm {BERN}\n</think>\n\nok",
        True,
        [("reason", "hm"), *called(city="Bern"), ("text", "ok")],
    ),
    "tag while thinking": (
        "use <tool_call> or <function=x> then</think>ok",
        True,
        [("reason", "use <tool_call> or <function=x> then"), ("text", "ok")],
    ),
    "no opener": (
        "<function=look>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        False,
        called(days=3),
    ),
    "no opener, unknown tool": ("<function=fly>\n</function>", False, [("text", "<function=fly>\n</function>")]),
    "no </parameter>": (
        "<tool_call>\n<function=look>\n<parameter=days>\n3\n</function>\n</tool_call>",
        False,
        called(days=3),
    ),
    "no </function>": (
        "<tool_call>\n<function=look>\n<parameter=days>\n3\n</parameter>\n</tool_call>",
        False,
        called(days=3),
    ),
    "no </tool_call>": (f"{BERN.removesuffix('</tool_call>')} so", False, [*called(city="Bern"), ("text", "so")]),
    "next call instead of closers": (
        f"<tool_call>\n<function=look>\n<parameter=days>\n3\n</parameter>\n{BERN}",
        False,
        [*called(days=3), *called(city="Bern")],
    ),
    "two functions in one call": (
        "<tool_call>\n<function=a>\n</function>\n<function=b>\n</function>\n</tool_call>",
        False,
        [*called("a"), *called("b")],
    ),
    "doubled closer": (
        "<tool_call>\n<function=look>\n<parameter=days>\n3\n</parameter>\n</parameter>\n</function>\n</tool_call>",
        False,
        called(days=3),
    ),
    "closer of a function twice": (
        BERN.replace("</function>", "</function>\n</function>") + "!",
        False,
        [*called(city="Bern"), ("text", "!")],
    ),
    "closer of a call twice": (f"{BERN}\n</tool_call>\n\nDone.", False, [*called(city="Bern"), ("text", "Done.")]),
    "closers of both twice": (
        f"{BERN}\n</function>\n</tool_call>\n\nDone </function>.",
        False,
        [*called(city="Bern"), ("text", "Done </function>.")],
    ),
    "closer of a call in the answer": (
        f"{BERN}a </tool_call>",
        False,
        [*called(city="Bern"), ("text", "a </tool_call>")],
    ),
    "ends after a value": (
        "<tool_call>\n<function=look>\n<parameter=days>\n3\n</parameter>\n",
        False,
        called(is_closed=False, days=3),
    ),
    "ends inside a value": (
        "<tool_call>\n<function=look>\n<parameter=text>\nhal",
        False,
        called(is_closed=False, text="hal"),
    ),
    "ends inside a parameter name": ("<tool_call>\n<function=look>\n<parameter=te", False, called(is_closed=False)),
    "ends inside a closer": (
        "<tool_call>\n<function=look>\n<parameter=days>\n3\n</parameter>\n</func",
        False,
        called(is_closed=False, days=3),
    ),
    "ends inside a function name": ("<tool_call>\n<function=lo", False, [("text", "<tool_call>\n<function=lo")]),
    "no call": ("a\n<tool_call>\nnothing</tool_call>", False, [("text", "a\n<tool_call>\nnothing</tool_call>")]),
    "call turns out to be none": (
        "a\n<tool_call>\n<function=look>\nwell</think>",
        True,
        [("reason", "a"), ("start", "look"), ("reason", "\n<tool_call>\n<function=look>\nwell")],
    ),
    "opener twice": (f"<tool_call>\n{BERN}", False, [("text", "<tool_call>"), *called(city="Bern")]),
    "json": (
        '<tool_call>\n{"name": "look", "arguments": {"text": "a } \\" </tool_call>", "days": 3}}\n</tool_call>!',
        False,
        [*called(text='a } " </tool_call>', days=3), ("text", "!")],
    ),
    "json in json": ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', False, called("f", a=1)),
    "json of something else": ('<tool_call>{"a": 1}</tool_call>', False, [("text", '<tool_call>{"a": 1}</tool_call>')]),
    "broken json": ('<tool_call>{"name": <b>', False, [("text", '<tool_call>{"name": <b>')]),
    "json that ends with the thinking": (
        'a <tool_call>{"name": "f\\\\</think>\n\nb',
        True,
        [("reason", 'a <tool_call>{"name": "f\\\\'), ("text", "b")],
    ),
    "endless json": ('<tool_call>\n{"name": "f', False, [("text", '<tool_call>\n{"name": "f')]),
}


def fed(pieces: list[str], in_reasoning: bool, choice: ToolChoice = FREE_CHOICE) -> list[Event]:
    parser = OutputParser(TOOLS, in_reasoning=in_reasoning, choice=choice)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return merged(events + parser.finish())


@pytest.mark.parametrize("name", CORPUS)
def test_corpus(name: str) -> None:
    output, in_reasoning, wanted = CORPUS[name]
    assert brief(parse_output(output, TOOLS, in_reasoning=in_reasoning)) == wanted


@pytest.mark.parametrize("name", CORPUS)
def test_every_split_gives_the_same_events(name: str) -> None:
    output, in_reasoning, _ = CORPUS[name]
    whole = parse_output(output, TOOLS, in_reasoning=in_reasoning)
    assert fed(list(output), in_reasoning) == whole
    for cut in range(1, len(output)):
        assert fed([output[:cut], output[cut:]], in_reasoning) == whole


tags = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<function=look>", "</function>", "<parameter=days>",
    "<parameter=text>", "</parameter>", "\n", " ", "3", "a", "<", "{", "}", '"', "\\", '{"name":"f"}', "x" * 70,
    "\n" * 70,
]  # fmt: skip
outputs = st.lists(st.sampled_from(tags) | st.text(max_size=3), max_size=16).map("".join)


@given(
    outputs, st.lists(st.integers(0, 200)), st.booleans(), st.sampled_from([FREE_CHOICE, ToolChoice(is_parallel=False)])
)
def test_any_split_of_anything_gives_the_same_events(
    output: str, cuts: list[int], in_reasoning: bool, choice: ToolChoice
) -> None:
    bounds = sorted({0, len(output), *(cut % (len(output) + 1) for cut in cuts)})
    pieces = [output[start:end] for start, end in pairwise(bounds)]
    assert fed(pieces, in_reasoning, choice) == fed([output], in_reasoning, choice)


def is_whole(output: str, kept: str) -> bool:
    """Whether `kept` is `output` less some of its thinking tags; white space is left out of both."""
    output, kept = "".join(output.split()), "".join(kept.split())
    lengths: list[set[int]] = [set() for _ in range(len(output) + 1)]  # of kept, that the output so far may stand for
    lengths[0].add(0)
    for i, character in enumerate(output):
        lengths[i + 1] |= {n + 1 for n in lengths[i] if kept[n : n + 1] == character}
        for tag in ("<think>", "</think>", "</tool_call>"):
            if output.startswith(tag, i):
                lengths[i + len(tag)] |= lengths[i]
    return len(kept) in lengths[-1]


@given(outputs, st.booleans())
@example("<think><tool_call></think><think><tool_call>", False)
def test_nothing_is_lost(output: str, in_reasoning: bool) -> None:
    """What the events hold, plus tags and white space around them, is the output."""
    events = parse_output(output, TOOLS, in_reasoning=in_reasoning)
    shown = [e for e in events if not isinstance(e, ToolCallStart | ToolCallDelta)]
    parts = [e.raw if isinstance(e, ToolCallDone) else e.text for e in shown]
    assert is_whole(output, "".join(parts))


def told_arguments(events: list[Event]) -> list[str]:
    """What was told of the arguments of each call that was one."""
    told: dict[int, str] = {}
    for event in events:
        if isinstance(event, ToolCallStart):  # of a call that turned out to be none the index comes again
            told[event.index] = ""
        elif isinstance(event, ToolCallDelta):
            told[event.index] += event.text
    return [told[event.index] for event in events if isinstance(event, ToolCallDone)]


@given(outputs, st.booleans())
@example(call_text(text="a", days="3"), False)
@example(call_text(text="a", days="3")[:-30], False)
@example(call_text(text="a")[:-40], False)
def test_the_arguments_are_told_as_their_json(output: str, in_reasoning: bool) -> None:
    events = parse_output(output, TOOLS, in_reasoning=in_reasoning)
    calls = [event for event in events if isinstance(event, ToolCallDone)]
    for told, done in zip(told_arguments(events), calls, strict=True):
        whole = json.dumps(done.call.arguments, ensure_ascii=False)
        if done.is_closed:
            assert told == whole
        else:  # nobody takes it for a call that can be run
            assert whole.startswith(told)
            with pytest.raises(json.JSONDecodeError):
                json.loads(told)


@given(st.dictionaries(st.sampled_from([*PROPERTIES, 'a"b']), st.text('\n\r"\\ é\x00<a3') | st.just('["\\n"]')))
def test_any_argument_is_told_as_its_json(arguments: dict[str, str]) -> None:
    events = parse_output(call_text(**arguments), TOOLS)
    (told,) = told_arguments(events)
    (call,) = (event.call for event in events if isinstance(event, ToolCallDone))
    assert list(call.arguments) == list(arguments)
    assert told == json.dumps(call.arguments, ensure_ascii=False)


def test_a_string_is_told_while_it_is_written_and_a_number_once_it_is_whole() -> None:
    def told(piece: str) -> str:
        return "".join(event.text for event in parser.feed(piece) if isinstance(event, ToolCallDelta))

    parser = OutputParser(TOOLS)
    assert told("<tool_call>\n<function=look>\n<parameter=text>") == '{"text": "'
    assert told('\nHe said "no') == 'He said \\"no'
    assert told("\n") == ""  # may be the line break before the closing tag
    assert told("more<") == "\\nmore"
    assert told("/parameter>\n<parameter=days>") == '", "days": '
    assert told("\n12") == told("3\n") == ""
    assert told("</parameter>\n</function>\n") == "123"
    assert told("</tool_call>") == "}"


def test_a_parameter_that_is_written_twice_keeps_its_first_value() -> None:
    twice = call_text(city="Bern").replace("</function>", "<parameter=city>\nBasel\n</parameter>\n</function>")
    events = parse_output(twice, TOOLS)
    assert brief(events) == called(city="Bern")
    assert told_arguments(events) == ['{"city": "Bern"}']


def test_half_a_character_of_json_can_be_written() -> None:
    (told,) = told_arguments(
        parse_output(r'<tool_call>{"name": "look", "arguments": {"text": "\ud83d"}}</tool_call>', TOOLS)
    )
    assert told.encode() == rb'{"text": "\ud83d"}'


CHOICES = {
    "none": (ToolChoice("none"), [("text", f"{BERN}\n{BERN}\n{call_text('now')}")]),
    "one": (ToolChoice(is_parallel=False), [*called(city="Bern"), ("text", f"{BERN}\n{call_text('now')}")]),
    "another": (ToolChoice(names=("now",)), [("text", f"{BERN}\n{BERN}"), *called("now")]),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("opener", ["<tool_call>\n", ""])
def test_calls_that_there_may_not_be_are_text(name: str, opener: str) -> None:
    choice, wanted = CHOICES[name]
    output = f"{BERN}\n{BERN}\n{call_text('now')}".replace("<tool_call>\n", opener)
    parser = OutputParser([*TOOLS, {"name": "now"}], choice=choice)
    events = brief(merged(parser.feed(output) + parser.finish()))
    wanted = [
        (kind, *(rest if kind != "text" else [rest[0].replace("<tool_call>\n", opener)])) for kind, *rest in wanted
    ]
    assert [event for event in events if event != ("start", "look")] == [e for e in wanted if e != ("start", "look")]


def test_what_is_whole() -> None:
    assert is_whole("<think>a b</think>c", "abc")
    assert is_whole("<think>", "<think>")
    assert not is_whole("<think>a</think>b", "a")
    assert not is_whole("ab", "ba")


@given(st.text() | outputs)
def test_without_tools_and_thinking_all_is_text(output: str) -> None:
    events = parse_output("a" + output)
    assert events == [TextDelta("a" + output)]


def test_state_while_parsing() -> None:
    parser = OutputParser(TOOLS, in_reasoning=True)
    assert parser.in_reasoning
    parser.feed("hm</thi")
    assert parser.in_reasoning
    parser.feed("nk>\n\n<tool_call>")
    assert not parser.in_reasoning


@pytest.mark.parametrize("unit", ["<", "<tool_call>", "<tool_call>{", '"', "</parameter>\n", "</think>", "\n", "\\"])
@pytest.mark.parametrize("opening", ["", "<tool_call><function=look><parameter=text>", '<tool_call>{"'])
def test_long_hostile_outputs_are_text_or_a_call(unit: str, opening: str) -> None:
    output = opening + unit * (20000 // len(unit))
    pieces = [output[n : n + 7] for n in range(0, len(output), 7)]
    assert fed(pieces, False) == parse_output(output, TOOLS)
