import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen35_local.chat.argument_text import ArgumentText
from qwen35_local.chat.arguments import ToolSchemas

ROOT: dict[str, Any] = {
    "$defs": {
        "Colour": {"enum": ["red", "blue"]},
        "Whole": {"type": ["integer", "null"]},
        "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"type": "integer"}]},
        "More": {"properties": {"referred": {"type": "array"}, "string": {"type": "integer"}}},
    },
    "properties": {
        "string": {"type": "string"},
        "integer": {"type": "integer"},
        "number": {"type": "number"},
        "boolean": {"type": "boolean"},
        "object": {"type": "object"},
        "array": {"type": "array"},
        "optional": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "either": {"type": ["integer", "string"]},
        "colour": {"$ref": "#/$defs/Colour"},
        "loop": {"$ref": "#/$defs/Loop"},
        "digits": {"enum": [1, 2]},
        "untyped": {},
        "mixed": {"enum": ["5", 6, "true", None]},
        "listed": {"anyOf": [{"const": "5"}, {"type": "integer"}]},
        "numbers": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]},
        "place": {
            "type": ["string", "object"],
            "properties": {"x": {"$ref": "#/$defs/Whole"}},
            "required": ["x"],
        },
        "small": {"oneOf": [{"type": "integer", "maximum": 9}, {"type": "string"}, {"type": "array"}]},
        "endless": {"anyOf": [{"$ref": "#/properties/endless"}, {"type": "string"}, {"type": "object"}]},
        "wrapped": {"allOf": [{"$ref": "#/$defs/Loop"}], "description": "a loop"},
    },
    "allOf": [{"$ref": "#/$defs/More"}, {"properties": {"inherited": {"type": "integer"}}, "required": ["inherited"]}],
    "required": ["string"],
    "additionalProperties": {"type": "boolean"},
}
SCHEMAS = ToolSchemas([{"type": "function", "function": {"name": "f", "parameters": ROOT}}])


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        ("string", "5", "5"),
        ("string", "null", "null"),
        ("string", " {} ", " {} "),
        ("integer", " -12\n", -12),
        ("integer", "3.0", 3),
        ("integer", "\r\n7\r\n", 7),
        ("integer", "3.5", "3.5"),
        ("integer", "007", "007"),
        ("integer", "9" * 5000, "9" * 5000),
        ("integer", "five", "five"),
        ("number", "5", 5),
        ("number", "2.5\r\n", 2.5),
        ("number", "-1.5e3", -1500.0),
        ("number", "1e999", sys.float_info.max),
        ("number", "-1e999", -sys.float_info.max),
        ("array", "[1e999]", [sys.float_info.max]),
        ("number", "NaN", "NaN"),
        ("boolean", "True", True),
        ("boolean", "false", False),
        ("boolean", "yes", "yes"),
        ("object", '{"a": [1, null]}', {"a": [1, None]}),
        ("object", "[1]", "[1]"),
        ("object", "{'a': 1}", "{'a': 1}"),
        ("array", '["x", {}]', ["x", {}]),
        ("array", "[" * 100000, "[" * 100000),
        ("array", '["a\nb"]', ["a\nb"]),
        ("optional", "null", None),
        ("optional", "None", None),
        ("optional", "x", "x"),
        ("either", "5", 5),
        ("either", "5a", "5a"),
        ("colour", "red", "red"),
        ("loop", "7", 7),
        ("digits", "2", 2),
        ("untyped", "5", "5"),
        ("unknown", "5", "5"),
        ("unknown", "true", True),
        ("mixed", "5", "5"),
        ("mixed", "6", 6),
        ("mixed", "true", "true"),
        ("mixed", "null", None),
        ("listed", "5", 5),
        ("wrapped", "5", 5),
        ("numbers", "[1, 2.5]", [1, 2.5]),
        ("numbers", '["a"]', '["a"]'),
        ("numbers", "[1, [2]]", "[1, [2]]"),
        ("place", '{"x": 1}', {"x": 1}),
        ("place", '{"y": 1}', '{"y": 1}'),
        ("place", '{"x": "far"}', '{"x": "far"}'),
        ("small", "7", 7),
        ("small", "70", "70"),
        ("small", "[70]", [70]),
        ("endless", "{}", {}),
        ("inherited", "5", 5),
        ("referred", "[5]", [5]),
    ],
)
def test_values_by_schema(parameter: str, text: str, value: Any) -> None:
    read = SCHEMAS.read("f", parameter, text)
    assert read == value and type(read) is type(value)


def test_parameters_of_a_schema_put_together() -> None:
    assert [*SCHEMAS.declared("f")][-2:] == ["inherited", "referred"]
    assert SCHEMAS.declared("f")["string"] == {"type": "string"}
    assert SCHEMAS.required("f") == {"string", "inherited"}


def argument_text(written: str) -> str:
    text = ArgumentText()
    return text.push(written) + text.finish()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("\nx\n", "x"),
        ("\n\nx\n\n", "\nx\n"),
        ("\r\nx\r\n", "x"),
        ("\r\n\r\nx\r\n\r\n", "\r\nx\r\n"),
        ("\r\nx\n", "x"),
        ("\nx\r\n\n", "x\r\n"),
        ("\nx\r\n", "x\r"),
        ("\r\nx\r\ny", "x\r\ny"),
        ("x\n", "x\n"),
        ("x\r\n", "x\r\n"),
        (" x\n", " x\n"),
        ("\rx\n", "\rx\n"),
        ("\nx", "x"),
        ("\n", ""),
        ("\r\n", ""),
        ("\n\n", ""),
        ("\r\n\r\n", ""),
        ("\n\n\n", "\n"),
        ("", ""),
    ],
)
def test_one_line_break_on_each_side_is_layout(written: str, value: str) -> None:
    assert argument_text(written) == value


@given(st.text("\r\n a"), st.integers(0, 9), st.integers(0, 9))
def test_the_text_of_an_argument_does_not_depend_on_how_it_came(written: str, first: int, second: int) -> None:
    text = ArgumentText()
    first, second = sorted((first, second))
    told = [text.push(written[:first]), text.push(written[first:second]), text.push(written[second:]), text.finish()]
    assert "".join(told) == str(text) == argument_text(written)


@given(st.text() | st.text("\r\n a"))
def test_every_value_survives_its_layout(value: str) -> None:
    assert argument_text(f"\n{value}\n") == value
    assert argument_text(f"\r\n{value}x\r\n") == value + "x"
    if not value.startswith(("\n", "\r\n")):
        assert argument_text(value) == value


def test_unknown_tool_is_text() -> None:
    assert SCHEMAS.read("g", "integer", "5") == "5"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "function", "parameters", "properties", "p", "type", "$ref", "anyOf", "enum", "const"]
            ),
            inner | st.sampled_from(["p", "f", "#/properties/p", "integer"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=3), st.text())
def test_malformed_schemas_never_raise(tools: list[Any], text: str) -> None:
    schemas = ToolSchemas(tools)
    for tool in ("f", "p"):
        schemas.read(tool, "p", text)


def test_wide_and_deep_schemas_take_linear_time() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(200):
        schema = {"anyOf": [schema] * 10}
    schemas = ToolSchemas([{"name": "f", "parameters": {"properties": {"p": schema}}}])
    assert schemas.read("f", "p", "5") == 5
