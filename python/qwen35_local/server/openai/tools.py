"""Tools and the choice among them, in the forms of OpenAI's two APIs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwen35_local.chat.call_grammar import LARK
from qwen35_local.chat.wishes import FREE_CHOICE, OutputFormat, ToolChoice
from qwen35_local.fields import FLAG, OBJECT, OBJECTS, TEXT, Kind, describe
from qwen35_local.server.body import Body
from qwen35_local.server.errors import bad
from qwen35_local.server.service import Service

_NAME: Kind[str] = Kind(
    "a name of 1 to 256 characters without white space, < and >",
    lambda v: type(v) is str and re.fullmatch(r"[^\s<>]{1,256}", v) is not None,
)
_FORMAT: Kind[str] = Kind("text or grammar", lambda v: v in ("text", "grammar"))
_SYNTAX: Kind[str] = Kind("lark or regex", lambda v: v in ("lark", "regex"))
_MODE: Kind[str] = Kind("auto or required", lambda v: v in ("auto", "required"))

INPUT = "input"
"""The one argument of the function that stands for a custom tool: free text."""


@dataclass(frozen=True)
class Tools:
    """`definitions` as the template takes them. `custom`: names of those that were given as custom tools."""

    definitions: tuple[dict[str, Any], ...] = ()
    custom: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.definitions]


def read_tools(body: Body, service: Service, *, key: str = "tools", ignores: Sequence[str] = ()) -> Tools:
    """Function and custom tools; of both, the name may be inside or beside (as Responses has it). `ignores`: types that
    are left out, since only OpenAI's own servers have them. Raises Refused."""
    definitions: list[dict[str, Any]] = []
    custom: set[str] = set()
    for n, tool in enumerate(body.objects(key, service.limits.tools)):
        where = f"{key}[{n}]"
        kind = tool.find("type", TEXT, "function")
        if kind in ignores:
            continue
        if kind not in ("function", "custom"):
            raise bad(f"{where}.type", f"{where}.type is {describe(kind)}; expected function or custom.")
        inner = tool.object(kind) or tool
        for place in (tool, inner):
            place.ignore("strict", "cache_control", "defer_loading")
        name = inner.need("name", _NAME)
        if name in (known["function"]["name"] for known in definitions):
            raise bad(f"{where}.name", f"{where} has the name {name!a} of another tool; expected one of its own.")
        function: dict[str, Any] = {"name": name}
        description = inner.find("description", TEXT)
        if description is not None:
            function["description"] = description
        if kind == "custom":
            custom.add(name)
            function["parameters"] = _free_text(inner, service, where)
        else:
            function["parameters"] = inner.find("parameters", OBJECT) or {"type": "object", "properties": {}}
        definitions.append({"type": "function", "function": function})
    return Tools(tuple(definitions), frozenset(custom))


def _free_text(tool: Body, service: Service, where: str) -> dict[str, Any]:
    """The input of a custom tool: any text, or one by a Lark grammar or a regular expression, inside `grammar` (of chat
    completions) or beside. Raises Refused."""
    described: dict[str, Any] = {"type": "string"}
    format = tool.object("format")
    if format is not None and format.need("type", _FORMAT) == "grammar":
        grammar = format.object("grammar") or format
        definition = grammar.need("definition", TEXT)
        syntax = grammar.find("syntax", _SYNTAX, "lark")
        service.checked(OutputFormat("regex" if syntax == "regex" else "lark", definition), f"{where}.format")
        if syntax == "regex":
            described["pattern"] = f"^(?:{definition})$"
        else:
            described |= {"description": "A text by this grammar.", LARK: definition}
    return {"type": "object", "properties": {INPUT: described}, "required": [INPUT]}


def read_tool_choice(body: Body, tools: Tools) -> ToolChoice:
    """`tool_choice` in all its forms, and `parallel_tool_calls`. Raises Refused."""
    is_parallel = body.find("parallel_tool_calls", FLAG, True)
    value = body.any("tool_choice")
    if value is None or value == "auto":
        return ToolChoice(is_parallel=is_parallel)
    if value == "none":
        return ToolChoice("none", is_parallel=is_parallel)
    if not tools.definitions:
        raise bad("tool_choice", "tool_choice asks for a tool and there are none; give tools.")
    if value in ("required", "any"):
        return ToolChoice("required", is_parallel=is_parallel)
    if not OBJECT.fits(value):
        raise body.refuse("tool_choice", "none, auto, required, or an object that names a function or allowed_tools")
    return _chosen(Body(value, "tool_choice."), tools, is_parallel)


def _chosen(choice: Body, tools: Tools, is_parallel: bool) -> ToolChoice:
    kind = choice.find("type", TEXT, "function")
    if kind in ("function", "custom"):
        name = (choice.object(kind) or choice).need("name", TEXT)
        return ToolChoice("required", (_known(name, tools),), is_parallel)
    if kind == "allowed_tools":
        inner = choice.object("allowed_tools") or choice
        mode = inner.find("mode", _MODE, "auto")
        allowed = [Body(entry, "tool_choice.tools.") for entry in inner.need("tools", OBJECTS)]
        names = [(entry.object(entry.find("type", TEXT, "function")) or entry).need("name", TEXT) for entry in allowed]
        if not names:
            raise inner.refuse("tools", "at least one tool")
        known = tuple(dict.fromkeys(_known(name, tools) for name in names))
        return ToolChoice("required" if mode == "required" else "auto", known, is_parallel)
    raise choice.refuse("type", "function, custom or allowed_tools")


def _known(name: str, tools: Tools) -> str:
    if name not in tools.names:
        raise bad("tool_choice", f"tool_choice names {describe(name)}; expected one of the tools given.")
    return name


def is_free(choice: ToolChoice) -> bool:
    """Whether the model may do as it likes."""
    return choice == FREE_CHOICE
