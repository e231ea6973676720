"""The form that an answer is to have, as OpenAI's API and others ask for it."""

import json
from collections.abc import Iterator
from typing import Any

from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.fields import FLAG, OBJECT, TEXT, Kind
from qwen35_local.server.body import Body
from qwen35_local.server.errors import bad
from qwen35_local.server.service import Service

_SCHEMA: Kind[Any] = Kind("a JSON schema", lambda v: type(v) in (dict, bool))
_CHOICES: Kind[list[str]] = Kind(
    "a list of texts", lambda v: type(v) is list and 0 < len(v) <= 1000 and all(type(text) is str for text in v)
)
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "structural_tag": (),
    "whitespace_pattern": (),
    "disable_additional_properties": (False,),
}


def read_format(body: Body, service: Service) -> OutputFormat | None:
    """`response_format`; `json_schema` and `grammar` of llama.cpp; `guided_*` and `structured_outputs` of vLLM, whose
    grammars are Lark here. Raises Refused."""
    found = dict(_asked(body))
    if len(found) > 1:
        fields = " and ".join(found)
        raise bad(next(iter(found)), f"{fields}: the request asks for two forms of the answer at once; expected one.")
    return next((service.checked(wanted, where) for where, wanted in found.items()), None)


def of_kind(body: Body) -> OutputFormat | None:
    """An object with `type` text, json_object or json_schema, the schema inside `json_schema` or beside."""
    kind = body.need("type", TEXT)
    if kind == "text":
        return None
    if kind == "json_object":
        schema = body.find("schema", OBJECT)
        return OutputFormat("json_object") if schema is None else of_schema(schema)
    if kind == "json_schema":
        inner = body.object("json_schema") or body
        inner.ignore("name", "strict", "description")
        return of_schema(inner.need("schema", _SCHEMA))
    raise body.refuse("type", "text, json_object or json_schema")


def of_schema(schema: Any) -> OutputFormat:
    return OutputFormat("json_schema", json.dumps(schema))


def _asked(body: Body) -> Iterator[tuple[str, OutputFormat]]:
    """Each form that is asked for, and the field that does."""
    response = body.object("response_format")
    if response is not None and (wanted := of_kind(response)) is not None:
        yield "response_format", wanted
    yield from _extension(body, "guided_json", "guided_regex", "guided_choice", "guided_grammar")
    body.unsupported({"guided_whitespace_pattern": ()}, "")
    structured = body.object("structured_outputs")
    if structured is not None:
        structured.unsupported(_UNSUPPORTED, "")
        for key, wanted in _extension(structured, "json", "regex", "choice", "grammar"):
            yield f"structured_outputs.{key}", wanted
        if structured.find("json_object", FLAG):
            yield "structured_outputs.json_object", OutputFormat("json_object")
    schema = body.find("json_schema", _SCHEMA)
    if schema is not None:
        yield "json_schema", of_schema(schema)
    grammar = body.find("grammar", TEXT, "")
    if grammar and not grammar.startswith("%llguidance"):
        raise bad("grammar", "grammar: GBNF is not supported; give a json_schema, or Lark after a line %llguidance {}.")
    if grammar:
        yield "grammar", OutputFormat("lark", grammar)


def _extension(
    body: Body, schema_key: str, regex_key: str, choice_key: str, lark_key: str
) -> Iterator[tuple[str, OutputFormat]]:
    schema = body.any(schema_key)
    if isinstance(schema, str):
        yield schema_key, OutputFormat("json_schema", schema)
    elif schema is not None:
        yield schema_key, of_schema(body.need(schema_key, _SCHEMA))
    regex = body.find(regex_key, TEXT)
    if regex is not None:
        yield regex_key, OutputFormat("regex", regex)
    choices = body.find(choice_key, _CHOICES)
    if choices is not None:
        yield choice_key, OutputFormat("lark", "start: " + " | ".join(json.dumps(choice) for choice in choices))
    grammar = body.find(lark_key, TEXT)
    if grammar:
        yield lark_key, OutputFormat("lark", grammar)
