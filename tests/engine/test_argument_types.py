"""Arguments by random schemas: where a text, or what it spells, is of the schema, that is what it is read as."""

import json
import sys
from random import Random
from typing import Any

import pytest
from conforms import conforms
from random_schemas import parameters, value

from qwen35_local.chat.arguments import ToolSchemas
from qwen35_local.chat.schema_fit import fits


def spelt(text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except ValueError:
        return []


@pytest.mark.parametrize("seed", range(40))
def test_what_is_of_the_schema_is_read_so(seed: int) -> None:
    rng = Random(seed)
    root = parameters(rng)
    schemas = ToolSchemas([{"name": "f", "parameters": root}])
    for name in "xyz" * 40:
        given = value(rng)
        text = given if isinstance(given, str) else json.dumps(given)
        schema = root["properties"][name]
        if any(conforms(each, schema, root) for each in (text, *spelt(text))):
            found = schemas.read("f", name, text)
            assert conforms(found, schema, root), (schema, text, found)


def test_the_check_is_that_of_the_tests() -> None:
    outcomes = {True: 0, False: 0}
    for seed in range(200):
        rng = Random(seed)
        root = parameters(rng)
        for name in "xyz" * 20:
            given, schema = value(rng), root["properties"][name]
            expected = conforms(given, schema, root)
            assert fits(given, schema, root) == expected, (schema, given)
            outcomes[expected] += 1
    assert min(outcomes.values()) > 500


def test_a_schema_made_of_references_to_itself_takes_no_time() -> None:
    definitions: dict[str, Any] = {"Loop": {"$ref": "#/$defs/Loop"}}
    for n in range(40):  # two to the 40 ways
        definitions[f"D{n}"] = {"allOf": [{"$ref": f"#/$defs/D{n + 1}"}] * 2}
    definitions["D40"] = {"type": "object"}
    definitions["Deep"] = {"properties": {"a": {"$ref": "#/$defs/Deep"}}, "type": ["object", "string"]}
    root = {"$defs": definitions, "properties": {"x": {"anyOf": [{"$ref": "#/$defs/D0"}, {"type": "string"}]}}}
    assert fits({}, {"$ref": "#/$defs/Loop"}, root)
    assert ToolSchemas([{"name": "f", "parameters": root}]).read("f", "x", "{}") == {}
    deep: Any = {}
    for _ in range(60):
        deep = {"a": deep}
    assert fits(deep, definitions["Deep"], root)
    assert not fits({"a": 5}, definitions["Deep"], root)


def test_a_schema_that_refers_to_itself_leaves_most_of_the_stack() -> None:
    ways = {"anyOf": [{"allOf": [{"$ref": "#/$defs/A"}]}]}

    def checked(frames: int) -> bool:
        return checked(frames - 1) if frames else fits({}, ways, {"$defs": {"A": ways}})

    assert checked(sys.getrecursionlimit() // 2)
