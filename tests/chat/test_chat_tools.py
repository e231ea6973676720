"""Definitions of tools as OpenAI, Anthropic and MCP servers write them: the model is told the same of each."""

import json
from typing import Any

import pytest
from goldens import official_text
from outputs import parse_output
from wrong_values import DEEP

from qwen35_local.chat.events import ToolCallDone
from qwen35_local.chat.template import Template
from qwen35_local.chat.tools import read_tools
from qwen35_local.errors import InputError

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
OPENAI = {"type": "function", "function": {"name": "add", "description": "Adds <1>.", "parameters": SCHEMA}}
MCP = {"name": "add", "title": "Add", "description": "Adds <1>.", "inputSchema": SCHEMA, "annotations": {"a": 1}}
FORMS: dict[str, Any] = {
    "mcp": [MCP],
    "what an mcp server answers": {"tools": [MCP], "nextCursor": "x"},
    "mcp, order of keys": [dict(reversed(MCP.items()))],
    "anthropic": [{"name": "add", "description": "Adds <1>.", "input_schema": SCHEMA, "type": "custom"}],
    "wrapped": [{"type": "function", "function": {"name": "add", "description": "Adds <1>.", "inputSchema": SCHEMA}}],
    "openai": [OPENAI],
}
CALL = "<tool_call>\n<function=add>\n<parameter=n>\n5\n</parameter>\n</function>\n</tool_call>"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_openais(form: str) -> None:
    assert json.dumps(read_tools(FORMS[form])) == json.dumps([OPENAI])


@pytest.mark.parametrize("form", ["mcp", "anthropic", "wrapped", "openai"])
def test_an_argument_is_read_by_the_schema_of_every_form(form: str) -> None:
    done = parse_output(CALL, FORMS[form])[-1]
    assert isinstance(done, ToolCallDone) and done.call.arguments == {"n": 5}


@pytest.mark.parametrize("is_official", [False, True])
def test_the_prompt_shows_every_form_alike(is_official: bool) -> None:
    template = Template.for_model(official_text("qwen3.5") + "{#-#}" if is_official else "{{ tools | tojson }}")
    prompts = [template.render([{"role": "user", "content": "q"}], FORMS[form]).text for form in FORMS]
    assert set(prompts) == {template.render([{"role": "user", "content": "q"}], [OPENAI]).text}
    assert json.dumps(OPENAI) in prompts[0]


def test_openais_forms_are_as_given() -> None:
    bare = {"name": "g", "parameters": {}, "strict": True}
    both = {"name": "h", "parameters": {}, "inputSchema": SCHEMA}
    assert read_tools([OPENAI, bare, both, {"name": "i"}]) == [OPENAI, bare, both, {"name": "i"}]
    assert read_tools(None) == read_tools({"tools": []}) == []


@pytest.mark.parametrize(
    ("tools", "fault"),
    [
        ({"name": "f"}, "list"),
        (5, "list of tool definitions, got 5"),
        ("tools", "list"),
        ([5], r"tools\[0\]"),
        ([{}], "name"),
        ([{"name": "f", "x": {1}}], "JSON"),
        ([{"name": "f", "parameters": DEEP}], r"tools\[0\]: expected plain JSON values: nested too deeply"),
        ([DEEP], r"tools\[0\]: expected an object, got \[\[\["),
        ([{"name": "f"}, {"name": "g", "inputSchema": []}], r"tools\[1\]\.inputSchema: expected an object, got \[\]"),
        ([{"name": "g", "input_schema": None}], r"tools\[0\]\.input_schema: expected an object, got None"),
    ],
)
def test_faults_are_named(tools: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        read_tools(tools)
