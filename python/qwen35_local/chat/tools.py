"""Definitions of tools, in the one form that templates and the parser are given (OpenAI's).

The official templates write a definition into the prompt as the JSON it is, so the form decides what the model reads.
It was trained on OpenAI's: `{"type": "function", "function": {"name", "description", "parameters"}}`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from qwen35_local import json_file
from qwen35_local.chat.messages import as_object, in_short
from qwen35_local.errors import InputError

_OTHER_SCHEMAS = ("inputSchema", "input_schema")
"""What the Model Context Protocol and Anthropic's API call `parameters`."""


def read_tools(tools: object) -> list[dict[str, Any]]:
    """Tool definitions in OpenAI's form: those that are, or are its bare inner part, as they were given; those with an
    `inputSchema` or `input_schema` rewritten, also inside the `{"tools": [...]}` that an MCP server answers.

    Raises InputError naming the tool by its index."""
    if isinstance(tools, Mapping) and isinstance(tools.get("tools"), (list, tuple)):
        tools = tools["tools"]
    if not isinstance(tools, Iterable | None) or isinstance(tools, str | bytes | Mapping):
        raise InputError(f"tools: expected a list of tool definitions, got {in_short(tools)}.")
    return [_checked(read_tool(tool, f"tools[{n}]"), f"tools[{n}]") for n, tool in enumerate(tools or ())]


def read_tool(tool: Any, where: str = "tool") -> dict[str, Any]:
    """One definition in OpenAI's form. Raises InputError naming `where`."""
    body = as_object(tool, where)
    function = as_object(body.get("function", body), f"{where}.function")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise InputError(f"{where}: expected a function with a name, got {in_short(function)}.")
    key = next((key for key in _OTHER_SCHEMAS if key in function), None)
    if key is None or "parameters" in function:
        return dict(body)
    kept = {name: function[name] for name in ("name", "description") if name in function}
    schema = dict(as_object(function[key], f"{where}.{key}"))
    return {"type": "function", "function": {**kept, "parameters": schema}}


def _checked(tool: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        json_file.plain_text(tool)
    except ValueError as error:
        raise InputError(f"{where}: expected plain JSON values: {error}.") from error
    return tool
