"""What `/v1/messages` asks for."""

import json
from typing import Any

from qwen35_local.chat.presets import STOP
from qwen35_local.chat.tools import read_tools
from qwen35_local.chat.wishes import OutputFormat, ToolChoice
from qwen35_local.engine.reply import Request
from qwen35_local.fields import FLAG, OBJECT, TEXT, integer
from qwen35_local.server.anthropic.content import read_conversation
from qwen35_local.server.anthropic.encoder import MessageEncoder
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import going_on
from qwen35_local.server.dialect import Asked
from qwen35_local.server.errors import bad
from qwen35_local.server.json_text import encoded
from qwen35_local.server.openai.sampling import read_sampling
from qwen35_local.server.service import Service
from qwen35_local.server.thinking import OFF, Thinking, of_effort

_TOKENS = integer(1, 2**31 - 1)
_WITHOUT_EFFECT = (
    "cache_control",
    "inference_geo",
    "speed",
    "context_management",
    "diagnostics",
    "betas",
    "user_profile_id",
)
_OF_A_TOOL = (
    "cache_control",
    "strict",
    "defer_loading",
    "allowed_callers",
    "input_examples",
    "eager_input_streaming",
)


def read_message(body: Body, service: Service) -> Asked:
    """`POST /v1/messages`. Raises Refused, or an error of this package."""
    model = body.need("model", TEXT)
    max_tokens = body.need("max_tokens", _TOKENS)
    request, shows_thinking = _request(body, service, max_tokens)
    streams = body.find("stream", FLAG, False)
    return Asked((request,), MessageEncoder(model, shows_thinking=shows_thinking), streams, reports_reading=True)


def count_tokens(body: Body, service: Service) -> bytes:
    """`POST /v1/messages/count_tokens`: of the whole prompt, the start of the reply included. Raises what
    `read_message` does."""
    body.need("model", TEXT)
    request, _ = _request(body, service, 0)
    return encoded({"input_tokens": service.engine.count(request)})


def _request(body: Body, service: Service, max_tokens: int) -> tuple[Request, bool]:
    limits = service.limits
    messages = read_conversation(body, limits.messages)
    tools = _tools(body, limits.tools)
    thinking, shows_thinking = _thinking(body)
    goes_on = messages[-1].role == "assistant"
    if goes_on:
        thinking = going_on(messages, thinking)
    body.ignore(*_WITHOUT_EFFECT)
    body.unsupported({"container": (), "mcp_servers": ([],), "fallbacks": ([],)}, " by this server")
    request = Request(
        messages,
        read_sampling(body, service, thinks=thinking.of(service.engine)),
        tools=tools,
        thinking=thinking.is_on,
        thinking_tokens=thinking.budget_tokens,
        max_tokens=max_tokens,
        stop=body.find("stop_sequences", STOP, []),
        tool_choice=_tool_choice(body, [tool["function"]["name"] for tool in tools]),
        output_format=_format(body, service),
        goes_on=goes_on,
    )
    return request, shows_thinking


def _tools(body: Body, most: int) -> list[dict[str, Any]]:
    tools = []
    for tool in body.objects("tools", most):
        kind = tool.find("type", TEXT, "custom")
        tool.ignore(*_OF_A_TOOL)
        if kind != "custom":
            raise tool.refuse("type", 'a tool of the client\'s own, of type "custom" with an input_schema')
        if not tool.need("name", TEXT):
            raise tool.refuse("name", "the name of a tool")
        definition = {"name": tool.values["name"], "input_schema": tool.need("input_schema", OBJECT)}
        description = tool.find("description", TEXT)
        tools.append(definition if description is None else definition | {"description": description})
    return read_tools(tools)


def _tool_choice(body: Body, names: list[str]) -> ToolChoice:
    choice = body.object("tool_choice")
    if choice is None:
        return ToolChoice()
    kind = choice.need("type", TEXT)
    is_parallel = not choice.find("disable_parallel_tool_use", FLAG, False)
    if kind == "auto":
        return ToolChoice("auto", is_parallel=is_parallel)
    if kind == "none":
        return ToolChoice("none")
    if kind not in ("any", "tool"):
        raise choice.refuse("type", "auto, any, tool or none")
    if not names:
        raise bad("tool_choice", f'tool_choice of type "{kind}" needs tools; give some, or choose auto.')
    if kind == "any":
        return ToolChoice("required", is_parallel=is_parallel)
    if choice.need("name", TEXT) not in names:
        raise choice.refuse("name", "the name of one of the tools")
    return ToolChoice("required", (choice.values["name"],), is_parallel)


def _thinking(body: Body) -> tuple[Thinking, bool]:
    """And whether the client wants to see it."""
    effort = Thinking()
    config = body.object("output_config")
    if config is not None and (word := config.find("effort", TEXT)) is not None:
        effort = of_effort(word, "output_config.effort")
    asked = body.object("thinking")
    if asked is None:
        return effort, True
    kind = asked.need("type", TEXT)
    shows = asked.find("display", TEXT, "summarized") != "omitted"
    asked.ignore("budget_tokens")
    if kind == "disabled":
        return OFF, shows
    if kind == "adaptive":
        return effort.with_switch(True), shows
    if kind == "enabled":
        return Thinking(True, asked.need("budget_tokens", _TOKENS)), shows
    raise asked.refuse("type", "enabled, disabled or adaptive")


def _format(body: Body, service: Service) -> OutputFormat | None:
    config = body.object("output_config")
    holder = config if config is not None and config.values.get("format") is not None else body
    key = "format" if holder is config else "output_format"
    form = holder.object(key)
    if form is None:
        return None
    if form.need("type", TEXT) != "json_schema":
        raise form.refuse("type", "json_schema")
    where = "output_config.format" if holder is config else key
    return service.checked(OutputFormat("json_schema", json.dumps(form.need("schema", OBJECT))), where)
