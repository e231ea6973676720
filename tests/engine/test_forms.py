"""The form of a reply, whatever the model would rather write: embedded and random models, thinking on and off, at a
temperature at which nearly any token is drawn."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from queue import Queue
from typing import Any

import numpy as np
import pytest
from conforms import conforms
from talkers import random_talker

from qwen35_local import _core, hub
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.tools import read_tools
from qwen35_local.chat.wishes import OutputFormat, ToolChoice
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.grammar import Grammar
from qwen35_local.engine.job import Failed, Told
from qwen35_local.engine.reply import Completion, Done, Request
from qwen35_local.errors import InputError

SCHEMA: dict[str, Any] = {
    "$defs": {
        "part": {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
            "additionalProperties": False,
        }
    },
    "type": "object",
    "properties": {
        "kind": {"enum": ["red", "green", 3, None]},
        "name": {"type": "string", "maxLength": 6},
        "code": {"type": "string", "pattern": "^[a-z]{2}[0-9]$"},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "minItems": 1, "maxItems": 2},
        "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    },
    "required": ["kind", "name", "code", "parts", "either"],
    "additionalProperties": False,
}
FORMATS = {
    "schema": OutputFormat("json_schema", json.dumps(SCHEMA)),
    "regex": OutputFormat("regex", r"(yes|no), [A-Z]{2,4}\d{1,3}/\d"),
    "lark": OutputFormat("lark", 'start: "a" (b | "c"){2} "."\nb: "b" b "b" | "x"'),
}
PARAMETERS: dict[str, Any] = {
    "$defs": {"unit": {"enum": ["c", "f"]}},
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 8},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"$ref": "#/$defs/unit"},
        "at": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 2},
        "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
        "exact": {"type": "boolean"},
        "box": {
            "type": "object",
            "properties": {"a": {"type": "string", "maxLength": 3}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
    "required": ["city", "days", "at"],
}
TOOLS = read_tools(
    [
        {"name": "weather", "parameters": PARAMETERS},
        {"name": "now", "parameters": {"type": "object", "properties": {}}},
        {"name": "stop_it", "parameters": {"type": "object", "properties": {"why": {"enum": ["a", "b"]}}}},
    ]
)
SCHEMAS = {tool["name"]: tool["parameters"] for tool in TOOLS}
HOT = Sampling(temperature=2.0)
QUESTION = [Message("user", "What is the weather in Bern?")]


@pytest.fixture(scope="module")
def demo_engine() -> Engine:
    return Engine(_core.Model(hub.embedded_model(), threads=1))


@pytest.fixture(scope="module")
def random_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(_core.Model(random_talker(tmp_path_factory.mktemp("talker"), moe=False), threads=1))


def ask(engine: Engine, sampling: Sampling = HOT, seed: int = 0, **options: Any) -> Iterator[Done]:
    request = Request(QUESTION, replace(sampling, seed=seed), **{"max_tokens": 2000, **options})
    return (event for event in engine.reply(request) if isinstance(event, Done))


def has_form(kind: str, text: str) -> bool:
    match kind:
        case "schema":
            return conforms(json.loads(text), SCHEMA)
        case "regex":
            return re.fullmatch(FORMATS["regex"].definition, text) is not None
    return re.fullmatch(r"a(b*xb*|c){2}\.", text) is not None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("thinking", [True, False])
def test_an_answer_has_its_form(demo_engine: Engine, kind: str, thinking: bool) -> None:
    options = {"thinking": thinking, "output_format": FORMATS[kind]}
    replies = [*ask(demo_engine, n=3, **options), *ask(demo_engine, Sampling(temperature=0.0), **options)]
    for done in replies:
        assert done.reason == "stop" and has_form(kind, done.message.text), done
        assert bool(done.message.reasoning) == thinking
        assert not done.notes
    assert len({done.message.text for done in replies}) > 1


@pytest.mark.parametrize("kind", FORMATS)
def test_a_random_model_answers_in_the_form_too(random_engine: Engine, kind: str) -> None:
    for done in ask(random_engine, n=6, thinking=False, output_format=FORMATS[kind]):
        assert done.reason == "stop" and has_form(kind, done.message.text), done


def test_any_json_object(demo_engine: Engine) -> None:
    whole = 0
    for done in ask(
        demo_engine, Sampling(temperature=1.0), n=3, max_tokens=300, output_format=OutputFormat("json_object")
    ):
        whole += done.reason == "stop"
        assert done.reason in ("stop", "length")
        assert done.reason == "length" or isinstance(json.loads(done.message.text), dict)
    assert whole


def test_what_follows_tokens_has_its_form(demo_engine: Engine) -> None:
    prompt = demo_engine.tokenizer.encode("The answer is")
    events = demo_engine.complete(Completion(prompt, HOT, output_format=FORMATS["regex"], n=3))
    texts = [event.message.text for event in events if isinstance(event, Done)]
    assert len(texts) == 3 and all(has_form("regex", text) for text in texts)


@pytest.mark.parametrize("seed", range(3))
def test_the_thinking_is_what_it_is_without_a_form(demo_engine: Engine, seed: int) -> None:
    (free,) = ask(demo_engine, Sampling(temperature=1.0), seed)
    (formed,) = ask(demo_engine, Sampling(temperature=1.0), seed, output_format=FORMATS["schema"])
    assert free.message.reasoning == formed.message.reasoning != ""
    assert not has_form("regex", free.message.text)


def test_a_form_that_is_cut_short_ends_for_length(demo_engine: Engine) -> None:
    (done,) = ask(demo_engine, max_tokens=8, thinking=False, output_format=FORMATS["schema"])
    assert done.reason == "length" and done.usage.generated_tokens == 8


def test_a_stop_string_ends_a_form(demo_engine: Engine) -> None:
    (done,) = ask(demo_engine, thinking=False, output_format=FORMATS["schema"], stop=['"name"'])
    assert done.stop_string == '"name"' and '"kind"' in done.message.text and '"name"' not in done.message.text


def test_each_of_several_is_what_its_seed_gives_alone(demo_engine: Engine) -> None:
    options = {"tools": TOOLS, "output_format": FORMATS["schema"]}
    together = [*ask(demo_engine, seed=5, n=3, **options)]
    alone = [done for n in range(3) for done in ask(demo_engine, seed=5 + n, **options)]
    by_choice = sorted(together, key=lambda done: done.choice)
    assert [done.message for done in by_choice] == [done.message for done in alone]


def submitted(engine: Engine, asked: Request) -> Queue[Told]:
    told: Queue[Told] = Queue()
    engine.submit(asked, lambda each: told.put(each) if isinstance(each, Done | Failed) else None)
    return told


def test_several_at_once_are_what_each_is_alone_and_a_contradiction_ends_only_its_own(demo_engine: Engine) -> None:
    forms = [FORMATS["regex"], None, FORMATS["schema"]]
    asked = [
        Request(QUESTION, replace(HOT, seed=n), max_tokens=150, thinking=n % 2 == 0, output_format=form)
        for n, form in enumerate(forms)
    ]
    nothing = dict.fromkeys(demo_engine.tokenizer.encode("0123456789"), -np.inf)
    contradiction = Request(
        QUESTION, Sampling(logit_bias=nothing), thinking=False, output_format=OutputFormat("regex", "x[0-9]")
    )
    together = [submitted(demo_engine, each) for each in [contradiction, *asked]]
    failed, *ends = [told.get(timeout=300) for told in together]
    assert isinstance(failed, Failed) and "none to choose" in str(failed.error)
    alone = [event for each in asked for event in demo_engine.reply(each) if isinstance(event, Done)]
    assert [end.message for end in ends if isinstance(end, Done)] == [done.message for done in alone]


def check_calls(done: Done) -> None:
    for call in done.message.tool_calls:
        assert conforms(call.arguments, {**SCHEMAS[call.name], "additionalProperties": False}), call


@pytest.mark.parametrize("thinking", [True, False])
def test_a_call_that_is_required_is_one_of_the_tools(demo_engine: Engine, thinking: bool) -> None:
    assert not all(done.message.tool_calls for done in ask(demo_engine, n=4, thinking=thinking, tools=TOOLS))
    for done in ask(demo_engine, n=4, thinking=thinking, tools=TOOLS, tool_choice=ToolChoice("required")):
        assert done.reason == "tool_calls" and done.message.text == "", done
        check_calls(done)


def test_a_random_model_calls_as_it_has_to(random_engine: Engine) -> None:
    choice = ToolChoice("required", ("weather",))
    arguments = set()
    for done in ask(random_engine, n=8, thinking=False, tools=TOOLS, tool_choice=choice):
        assert done.reason == "tool_calls", done
        assert {call.name for call in done.message.tool_calls} == {"weather"}
        check_calls(done)
        arguments |= {frozenset(call.arguments) for call in done.message.tool_calls}
    assert len(arguments) > 1  # those that are not required come or do not


@pytest.mark.parametrize("name", ["now", "stop_it"])
def test_the_one_function_is_called_once(demo_engine: Engine, name: str) -> None:
    choice = ToolChoice("required", (name,), is_parallel=False)
    for done in ask(demo_engine, n=3, tools=TOOLS, tool_choice=choice):
        assert [call.name for call in done.message.tool_calls] == [name]
        check_calls(done)


def test_a_free_choice_is_held_to_the_schemas_once_a_call_begins(demo_engine: Engine) -> None:
    """At this temperature the embedded model writes calls that are none, or of no tool, without a grammar."""
    n_calls = 0
    for done in ask(demo_engine, Sampling(temperature=1.2), n=12, tools=TOOLS):
        check_calls(done)
        n_calls += len(done.message.tool_calls)
        assert "<tool_call>" not in done.message.text or done.reason == "length"
    assert n_calls > 3


def test_only_the_tools_that_are_allowed_are_called(demo_engine: Engine) -> None:
    names = set()
    for done in ask(demo_engine, Sampling(temperature=1.0), n=8, tools=TOOLS, tool_choice=ToolChoice("auto", ("now",))):
        names |= {call.name for call in done.message.tool_calls}
    assert names == {"now"}


@pytest.mark.parametrize("thinking", [True, False])
def test_none_is_no_call(demo_engine: Engine, thinking: bool) -> None:
    opener = demo_engine.tokenizer.special_tokens["<tool_call>"]
    greedy = Sampling(temperature=0.0)
    (free,) = ask(demo_engine, greedy, thinking=thinking, tools=TOOLS[:1])
    assert free.message.tool_calls
    biased = replace(greedy, logit_bias={opener: 20.0})
    (done,) = ask(demo_engine, biased, thinking=thinking, tools=TOOLS[:1], tool_choice=ToolChoice("none"))
    assert not done.message.tool_calls and "<tool_call>" not in done.message.text and done.message.text


def test_tools_beside_a_form_are_called_or_the_answer_has_it(demo_engine: Engine) -> None:
    kinds = set()
    for done in ask(demo_engine, Sampling(temperature=1.0), n=6, tools=TOOLS, output_format=FORMATS["regex"]):
        check_calls(done)
        kinds.add(bool(done.message.tool_calls))
        assert done.message.tool_calls or has_form("regex", done.message.text)
    bias = {demo_engine.tokenizer.special_tokens["<tool_call>"]: -100.0}
    (done,) = ask(demo_engine, Sampling(temperature=1.0, logit_bias=bias), tools=TOOLS, output_format=FORMATS["regex"])
    assert True in kinds and has_form("regex", done.message.text)


def test_a_reply_without_a_form_loads_no_grammars() -> None:
    code = (
        "import sys; from qwen35_local import Model; "
        "print(Model.from_file(threads=1).chat('Hello!', max_tokens=2, tools=[]).finish_reason, *sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("length") and "llguidance" not in run.stdout.split()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (OutputFormat("json_schema", "{"), "not valid JSON"),
        (OutputFormat("json_schema", "[]"), "a JSON schema is an object, got list"),
        (OutputFormat("json_schema", '{"not": {}}'), '["not"]'),
        (OutputFormat("json_schema", '{"uniqueItems": true, "type": "array"}'), '["uniqueItems"]'),
        (OutputFormat("json_schema", '{"type": "string", "format": "poem"}'), "Unknown format: poem"),
        (OutputFormat("json_schema", '{"type": "string", "pattern": "(?=a)"}'), "look-around"),
        (OutputFormat("json_schema", '{"$ref": "https://example.com/a"}'), "https://example.com/a"),
        (OutputFormat("json_schema", '{"$ref": "#/$defs/a"}'), "'/$defs/a' does not exist"),
        (OutputFormat("json_schema", "false"), "Unsatisfiable"),
        (OutputFormat("json_schema", '{"items": ' * 101 + "{}" + "}" * 101), "nested too deeply"),
        (OutputFormat("json_schema", json.dumps({"properties": {f"p{n}": {} for n in range(401)}})), "401 properties"),
        (OutputFormat("json_schema", " " * 300_000), "300,000 characters"),
        (OutputFormat("regex", "(("), "unclosed group"),
        (OutputFormat("regex", "a" * 20_000), "20,000 characters"),
        (OutputFormat("lark", "start: b"), 'unknown name: "b"'),
    ],
)
def test_a_form_that_cannot_be_held_is_refused_when_it_is_asked_for(
    demo_engine: Engine, wanted: OutputFormat, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        demo_engine.submit(Request(QUESTION, HOT, output_format=wanted), lambda told: None)
    assert str(refused.value).startswith("output_format: ") and said in str(refused.value)
    assert "\n" not in str(refused.value) and "%llguidance" not in str(refused.value)


@pytest.mark.parametrize(
    ("choice", "tools", "said"),
    [
        (ToolChoice("required"), [], "there is no tool to call"),
        (ToolChoice("auto", ("fly",)), TOOLS, "'fly'"),
        (ToolChoice("required", ()), TOOLS, "there is no tool to call"),
        (ToolChoice("required"), [{"name": "a>b"}], "'a>b' cannot be written"),
    ],
)
def test_a_call_that_cannot_be_had_is_refused(demo_engine: Engine, choice: ToolChoice, tools: Any, said: str) -> None:
    with pytest.raises(InputError, match="tool_choice") as refused:
        demo_engine.submit(Request(QUESTION, HOT, tools=tools, tool_choice=choice), lambda told: None)
    assert said in str(refused.value)


def test_schemas_of_tools_are_never_refused(demo_engine: Engine) -> None:
    parameters = {
        "properties": {
            "odd": {"type": "array", "uniqueItems": True, "maxItems": 1, "items": {"type": "null"}},
            "far": {"$ref": "https://example.com/a"},
            "a<b": {"type": "string"},
        },
        "required": ["odd", "a<b"],
    }
    tools = read_tools([{"name": "f", "parameters": parameters}])
    choice = ToolChoice("required", is_parallel=False)
    (done,) = ask(
        demo_engine, Sampling(temperature=0.7), max_tokens=400, thinking=False, tools=tools, tool_choice=choice
    )
    said = " ".join(done.notes)
    assert "odd" in said and "a<b" in said and "far" not in said  # of no known type: text
    for call in done.message.tool_calls:
        assert isinstance(call.arguments["odd"], list)


@pytest.mark.parametrize("schema", [{"a": {"pattern": f"^{'(a|b)' * 20}{{1,300}}$", "type": "string"}}, {}])
def test_a_grammar_that_fails_leaves_the_rest_free_and_says_so(
    demo_engine: Engine, monkeypatch: pytest.MonkeyPatch, schema: dict[str, Any]
) -> None:
    whole = Grammar.mask
    monkeypatch.setattr(Grammar, "mask", lambda self: whole(self) if len(drawn) < 3 else np.zeros_like(whole(self)))
    drawn: list[int] = []
    accept = Grammar.accept
    monkeypatch.setattr(Grammar, "accept", lambda self, token: (drawn.append(token), accept(self, token))[1])
    (done,) = ask(demo_engine, max_tokens=30, thinking=False, output_format=FORMATS["schema"])
    assert len(done.notes) == 1 and "form that was asked for is not held" in done.notes[0]
    assert len(drawn) == 3 and done.usage.generated_tokens > 3
