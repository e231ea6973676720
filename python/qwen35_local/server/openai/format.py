"""The form that an answer is to have, as OpenAI's API and others ask for it."""

import json
from typing import Any

from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.fields import OBJECT, TEXT, Kind
from qwen35_local.server.body import Body
from qwen35_local.server.errors import bad

_SCHEMA: Kind[Any] = Kind("a JSON schema", lambda v: type(v) in (dict, bool))
_CHOICES: Kind[list[str]] = Kind(
    "a list of texts", lambda v: type(v) is list and 0 < len(v) <= 1000 and all(type(text) is str for text in v)
)


def read_format(body: Body) -> OutputFormat | None:
    """`response_format`; `json_schema` of llama.cpp; `guided_*` and `structured_outputs` of vLLM. Raises Refused."""
    found = [form for form in (_response_format(body), *_extensions(body)) if form is not None]
    if len(found) > 1:
        raise bad("response_format", "the request asks for two forms of the answer at once; expected one.")
    return found[0] if found else None


def of_kind(body: Body, where: str) -> OutputFormat | None:
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


def _response_format(body: Body) -> OutputFormat | None:
    inner = body.object("response_format")
    return None if inner is None else of_kind(inner, "response_format")


def _extensions(body: Body) -> list[OutputFormat | None]:
    structured = body.object("structured_outputs")
    found: list[OutputFormat | None] = [_extension(structured, "json", "regex", "choice")] if structured else []
    found.append(_extension(body, "guided_json", "guided_regex", "guided_choice"))
    schema = body.find("json_schema", _SCHEMA)
    found.append(None if schema is None else of_schema(schema))
    return found


def _extension(body: Body, schema_key: str, regex_key: str, choice_key: str) -> OutputFormat | None:
    schema = body.any(schema_key)
    if isinstance(schema, str):
        return OutputFormat("json_schema", schema)
    if schema is not None:
        return of_schema(body.need(schema_key, _SCHEMA))
    regex = body.find(regex_key, TEXT)
    if regex is not None:
        return OutputFormat("regex", regex)
    choices = body.find(choice_key, _CHOICES)
    if choices is not None:
        return OutputFormat("lark", "start: " + " | ".join(json.dumps(choice) for choice in choices))
    return None
