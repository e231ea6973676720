"""What the grammar of calls lets a model write, without a model: texts that it takes or refuses, and random walks."""

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conforms import conforms
from random_schemas import parameters

from qwen35_local import _core, hub
from qwen35_local.chat.arguments import ToolSchemas
from qwen35_local.chat.call_grammar import LARK, call_grammar
from qwen35_local.chat.events import ToolCallDone
from qwen35_local.chat.parser import OutputParser
from qwen35_local.engine.grammar import Grammar, GrammarCompiler
from qwen35_local.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(Tokenizer(_core.GgufFile(hub.embedded_model()).metadata))


def grammar_of(compiler: GrammarCompiler, tools: dict[str, Any]) -> tuple[Grammar, list[str]]:
    schemas = ToolSchemas({"name": name, "parameters": parameters} for name, parameters in tools.items())
    closer = compiler._tokenizer.special_tokens["</tool_call>"]
    grammar = call_grammar(tools, schemas, closer, compiler.accepts)
    return compiler.compiled(grammar.text), grammar.notes


def takes(compiler: GrammarCompiler, grammar: Grammar, text: str) -> bool:
    """Whether it allows every token of a text, and `</tool_call>` behind it."""
    place = grammar.copy()
    for token in [*compiler._tokenizer.encode(text), compiler._tokenizer.special_tokens["</tool_call>"]]:
        if not allowed(place)[token]:
            return False
        place.accept(token)
    return place.is_complete


def allowed(grammar: Grammar) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.unpackbits(grammar.mask().view(np.uint8), bitorder="little").astype(bool)


def written(**arguments: str) -> str:
    parameters = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in arguments.items())
    return f"\n<function=f>\n{parameters}</function>\n"


PATCH = """start: begin line+ end
begin: "*** Begin" LF
end: "*** End" LF?
line: "+" /(.*)/ LF -> line
%import common.LF
"""
ROOT: dict[str, Any] = {
    "$defs": {
        "Unit": {"enum": ["c", "f", 7]},
        "Small": {"type": "number", "minimum": -2000, "maximum": 2000},
        "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}},
    },
    "properties": {
        "text": {"type": "string"},
        "n": {"type": "integer", "minimum": 3, "maximum": 12},
        "flag": {"type": "boolean"},
        "unit": {"$ref": "#/$defs/Unit"},
        "either": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}, {"const": "x"}]},
        "mixed": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "array", "items": {"type": "null"}}]},
        "code": {"type": "string", "pattern": "^[a-z]/\\d{2}$"},
        "patch": {"type": "string", LARK: PATCH},
        "node": {"$ref": "#/$defs/Node"},
        "options": {
            "type": ["object", "null"],
            "properties": {"a": {"$ref": "#/$defs/Small"}},
            "additionalProperties": False,
        },
        "free": {},
    },
}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("text", ["", "5", 'two\nlines "and" <b>\n', "</function>\n", "</parameter", "naïve 字"], ["a</parameter>b"]),
        ("n", ["3", "12"], ["2", "13", "3.5", '"3"', "three", ""]),
        ("flag", ["true", "False"], ["yes", "TRUE", '"true"']),
        ("unit", ["c", "7"], ["k", '"c"', "77"]),
        ("either", ["", "abc", "a\nb", "null", "None", "x"], ["abcd", "nulls"]),
        ("mixed", ["abc", "abcd", "[null]", "[ null, null]"], []),
        ("code", ["a/12"], ["a/1", "a/123", "A/12", "a/12\n"]),
        ("patch", ["*** Begin\n+a\n+}\n*** End", "*** Begin\n+\n*** End\n"], ["", "*** Begin\n*** End", "a"]),
        ("node", ['{"next": {"next": {}}}', "{}", '{\n  "next": {}\n}'], ["[]", '{"next": 5}', "{" + " " * 60 + "}"]),
        ("options", ["null", "None", "{}", '{"a": -1500.5}'], ['{"b": 1}', "{'a': 1}"]),
        ("free", ["anything", "{", "5"], []),
    ],
)
def test_values(compiler: GrammarCompiler, name: str, good: list[str], bad: list[str]) -> None:
    grammar, notes = grammar_of(compiler, {"f": ROOT})
    assert notes == []
    for value in good:
        assert takes(compiler, grammar, written(**{name: value})), value
    for value in bad:
        assert not takes(compiler, grammar, written(**{name: value})), value


@pytest.mark.parametrize("grammar", ["start: (", 5, "start: nothing", 'start: "a" } | %lark { start: "b"'])
def test_a_grammar_that_cannot_be_followed_binds_nothing_and_is_told(compiler: GrammarCompiler, grammar: Any) -> None:
    compiled, notes = grammar_of(compiler, {"f": {"properties": {"text": {"type": "string", LARK: grammar}}}})
    assert notes == ["f: the values of text are not held to their grammar"]
    assert takes(compiler, compiled, written(text="anything"))


def test_parameters_come_in_any_order_each_once_and_those_required_always(compiler: GrammarCompiler) -> None:
    parameters = {"properties": {name: {"type": "integer"} for name in "abc"}, "required": ["c", "a"]}
    grammar, _ = grammar_of(compiler, {"f": parameters})
    for names in ("ac", "ca", "abc", "cba", "bca"):
        assert takes(compiler, grammar, written(**dict.fromkeys(names, "1"))), names
    for names in ("", "a", "ab", "acd"):
        assert not takes(compiler, grammar, written(**dict.fromkeys(names, "1"))), names
    twice = written(a="1", c="1").replace("</function>", "<parameter=a>\n1\n</parameter>\n</function>")
    assert not takes(compiler, grammar, twice)


def test_more_parameters_than_bits_come_in_order(compiler: GrammarCompiler) -> None:
    names = [f"p{n}" for n in range(70)]
    grammar, _ = grammar_of(compiler, {"f": {"properties": {name: {} for name in names}, "required": ["p5"]}})
    assert takes(compiler, grammar, written(p1="x", p5="x", p69="x"))
    assert not takes(compiler, grammar, written(p1="x", p69="x"))
    assert not takes(compiler, grammar, written(p5="x", p1="x"))


def test_a_tool_without_parameters_takes_none_or_any(compiler: GrammarCompiler) -> None:
    closed, _ = grammar_of(compiler, {"f": {"type": "object", "properties": {}}})
    assert takes(compiler, closed, written()) and not takes(compiler, closed, written(a="1"))
    free, _ = grammar_of(compiler, {"f": {"type": "object", "additionalProperties": True}})
    assert takes(compiler, free, written()) and takes(compiler, free, written(a="1", b="x"))
    assert not takes(compiler, free, written().replace("=f", "=g"))


def test_names_that_cannot_be_written_are_left_out(compiler: GrammarCompiler) -> None:
    parameters = {"properties": {"a>b": {}, ' "q"': {}, "good name": {}}, "required": ["a>b", "absent"]}
    grammar, notes = grammar_of(compiler, {"f": parameters})
    assert takes(compiler, grammar, written(**{"good name": "1"}))
    assert len(notes) == 3 and "absent" in " ".join(notes)


def walks(compiler: GrammarCompiler, grammar: Grammar, seeds: range) -> Iterator[str]:
    """Random texts of a grammar. Raw text and strings are brought to an end, which chance alone would not do."""
    tokenizer = compiler._tokenizer
    for seed in seeds:
        rng, place, text = random.Random(seed), grammar.copy(), [tokenizer.special_tokens["<tool_call>"]]
        closing: list[int] = []
        while not place.is_complete:
            free = np.flatnonzero(allowed(place)).tolist()
            if len(free) > 500 and not closing and rng.random() < 0.2:
                value = tokenizer.decode(text).rpartition("<parameter=")[2].partition(">\n")[2]
                closing = tokenizer.encode('"' if value.startswith(("[", "{")) else "</parameter>")
            token = closing.pop(0) if closing and closing[0] in free else rng.choice(free)
            place.accept(token)
            assert place.failure == ""
            text.append(token)
        yield tokenizer.decode(text)


SOUND = {**ROOT, "type": "object", "required": ["n", "unit"]}
SOUND["properties"] = {
    name: each for name, each in ROOT["properties"].items() if name not in ("node", "mixed", "patch")
}


def test_whatever_it_lets_be_written_is_read_as_a_call_with_arguments_of_the_schema(compiler: GrammarCompiler) -> None:
    tools = [
        {"name": "f", "parameters": SOUND},
        {"name": "g", "parameters": {"properties": {"x": {"type": "array", "items": {"type": "integer"}}}}},
    ]
    grammar, _ = grammar_of(compiler, {tool["name"]: tool["parameters"] for tool in tools})
    names = set()
    for text in walks(compiler, grammar, range(150)):
        parser = OutputParser(tools)
        events = parser.feed(text) + parser.finish()
        assert isinstance(events[-1], ToolCallDone), (text, events)
        done = events[-1]
        assert done.raw == text and done.is_closed
        schema = next(tool["parameters"] for tool in tools if tool["name"] == done.call.name)
        assert conforms(json.loads(json.dumps(done.call.arguments)), schema), text
        names.add(done.call.name)
    assert names == {"f", "g"}


@pytest.mark.parametrize("seed", range(25))
def test_arguments_are_of_random_schemas(compiler: GrammarCompiler, seed: int) -> None:
    tools = [{"name": "f", "parameters": parameters(random.Random(seed))}]
    grammar, notes = grammar_of(compiler, {"f": tools[0]["parameters"]})
    assert notes == []
    for text in walks(compiler, grammar, range(6)):
        parser = OutputParser(tools)
        done = [*parser.feed(text), *parser.finish()][-1]
        assert isinstance(done, ToolCallDone) and done.raw == text and done.is_closed, text
        assert conforms(json.loads(json.dumps(done.call.arguments)), tools[0]["parameters"]), text


def test_a_closing_tag_in_a_string_of_json_ends_nothing(compiler: GrammarCompiler) -> None:
    item = {"type": "object", "properties": {"old": {"type": "string"}}}
    schema = {"properties": {"edits": {"type": "array", "items": item}, "text": {"type": "string"}}}
    grammar, _ = grammar_of(compiler, {"f": schema})
    for old in ("</parameter></function></tool_call>", "a</parameter> <parameter=text>", '\\" </tool_call><tool_call>'):
        value = json.dumps([{"old": old}])
        text = written(edits=value, text="x")
        assert takes(compiler, grammar, text)
        for size in (1, 3, len(text)):
            parser = OutputParser([{"name": "f", "parameters": schema}])
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            events = parser.feed("<tool_call>", is_token=True)
            events += [event for piece in pieces for event in parser.feed(piece)]
            events += [*parser.feed("</tool_call>", is_token=True), *parser.finish()]
            done = events[-1]
            assert isinstance(done, ToolCallDone) and done.is_closed
            assert done.call.arguments == {"edits": [{"old": old}], "text": "x"}


def test_a_string_of_json_that_is_broken_ends_with_its_line() -> None:
    parser = OutputParser([{"name": "f", "parameters": {"properties": {"a": {"type": "array"}}}}])
    events = parser.feed('<tool_call>\n<function=f>\n<parameter=a>\n["x\n</parameter>\n</function>\n</tool_call>')
    done = [*events, *parser.finish()][-1]
    assert isinstance(done, ToolCallDone) and done.is_closed
    assert done.call.arguments == {"a": '["x'}
