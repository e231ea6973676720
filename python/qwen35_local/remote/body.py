"""A request as the body of `/v1/chat/completions`.

Settings of the sampler are always said, since a server's own are rarely those of the model's card. Fields beyond
OpenAI's are those that vLLM, SGLang and llama.cpp share, or that the server's kind is known to take.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qwen35_local import json_file
from qwen35_local.chat.messages import Media, Message, ToolCall
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.unfinished_call import json_text
from qwen35_local.chat.wishes import OutputFormat, ToolChoice
from qwen35_local.engine.generation import REPLY_TOKENS
from qwen35_local.engine.reply import Completion, Request
from qwen35_local.engine.thinking import CLOSING
from qwen35_local.errors import InputError, Unavailable
from qwen35_local.remote.server import Kind, RemoteModel

_NEVER = -100.0
"""OpenAI's least bias, which bans a token; JSON has no minus infinity."""


def body(request: Request, model: RemoteModel, choice: int) -> dict[str, Any]:
    """`choice`: which of the replies. Raises InputError for what a remote engine cannot be asked."""
    built: dict[str, Any] = {
        "model": model.name,
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request.sampling.of_choice(choice)),
        **conversation_body(request, model.kind),
    }
    if request.max_tokens:
        built["max_tokens"] = request.max_tokens
    if request.logprobs is not None:
        built |= {"logprobs": True, "top_logprobs": request.logprobs}
    if request.output_format is not None:
        built |= format_body(request.output_format, model.kind)
    if request.thinking_tokens is not None and request.thinking is not False:
        built |= _budget(request.thinking_tokens, model.kind)
    return built


def completion_body(asked: Completion, model: RemoteModel, choice: int, server: str) -> dict[str, Any]:
    """Of `/v1/completions`. Raises Unavailable, InputError for what a remote engine cannot be asked."""
    if model.kind == "other":
        raise Unavailable(f"{server} is asked for chats alone; a text cannot be continued there.")
    if asked.logprobs is not None:
        raise InputError(f"logprobs: {server} is not asked how likely plain text is; leave them out.")
    longest = model.context_tokens - len(asked.tokens) if model.context_tokens else REPLY_TOKENS
    return {
        "model": model.name,
        "prompt": [*asked.tokens],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": asked.max_tokens or max(1, min(REPLY_TOKENS, longest)),  # vLLM's default is 16
        **_sampling(asked.sampling.of_choice(choice)),
        **({} if asked.output_format is None else format_body(asked.output_format, model.kind)),
    }


def conversation_body(request: Request, kind: Kind) -> dict[str, Any]:
    """What the template makes a prompt of. Raises InputError."""
    built: dict[str, Any] = {
        "messages": [message_body(message) for message in request.messages],
        **_tools(request.tools, request.tool_choice),
    }
    switches = {"enable_thinking": request.thinking, "preserve_thinking": request.keep_thinking}
    given = request.given
    if given is not None:
        switches["enable_thinking"] = False
        built |= _going_on(kind)
        built["messages"][-1] = _given(given.reasoning or "", given.text, kind)
    said = {name: value for name, value in switches.items() if value is not None}
    return {**built, "chat_template_kwargs": said} if said else built


def answer_body(asked: dict[str, Any], thoughts: str, kind: Kind, max_tokens: int) -> dict[str, Any]:
    """The request for the answer alone, behind `thoughts` that were ended. A server of another kind cannot be given
    them: it answers without. `max_tokens` 0: no limit."""
    built = {name: value for name, value in asked.items() if name not in _BUDGETS and name != "max_tokens"}
    built["chat_template_kwargs"] = {**asked.get("chat_template_kwargs", {}), "enable_thinking": False}
    if max_tokens:
        built["max_tokens"] = max_tokens
    if kind == "other":
        return built
    last = _given((thoughts + CLOSING).strip(), "", kind)
    return {**built, "messages": [*asked["messages"], last], **_going_on(kind)}


def _going_on(kind: Kind) -> dict[str, Any]:
    """The reply goes on from the last message. Raises InputError."""
    if kind == "other":
        raise InputError("this server is not known to go on from a text; llama.cpp's and vLLM are.")
    return {"continue_final_message": "content" if kind == "llama.cpp" else True, "add_generation_prompt": False}


def _given(thoughts: str, text: str, kind: Kind) -> dict[str, Any]:
    """The last message, which a reply goes on from."""
    if kind == "llama.cpp":
        return {"role": "assistant", "reasoning_content": thoughts, "content": text}
    return {"role": "assistant", "content": (f"<think>\n{thoughts}\n</think>\n\n" if thoughts else "") + text}


def message_body(message: Message) -> dict[str, Any]:
    """A message in OpenAI's form; thinking under both of its names. Raises InputError for media that are no
    addresses."""
    content: Any = message.content if isinstance(message.content, str) else [_part(part) for part in message.content]
    built: dict[str, Any] = {"role": message.role, "content": content}
    if message.reasoning:
        built |= {"reasoning_content": message.reasoning, "reasoning": message.reasoning}
    if message.tool_calls:
        built["tool_calls"] = [_call(call, n) for n, call in enumerate(message.tool_calls)]
    if message.name is not None:
        built["name"] = message.name
    if message.tool_call_id is not None:
        built["tool_call_id"] = message.tool_call_id
    return built


def _call(call: ToolCall, number: int) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json_text(dict(call.arguments))}
    return {"id": call.id or f"call_{number}", "type": "function", "function": function}


def _part(part: str | Media) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part.source, str) or not part.source.startswith(("http://", "https://", "data:")):
        raise InputError(f"an {part.kind} for a remote engine has to be an address, as in https://… or data:…")
    return {"type": f"{part.kind}_url", f"{part.kind}_url": {"url": part.source}}


def _sampling(settings: Sampling) -> dict[str, Any]:
    built: dict[str, Any] = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": settings.top_k,
        "min_p": settings.min_p,
        "presence_penalty": settings.presence_penalty,
    }
    if settings.frequency_penalty:
        built["frequency_penalty"] = settings.frequency_penalty
    if settings.repetition_penalty != 1:  # by vLLM's name, and by llama.cpp's
        built |= dict.fromkeys(("repetition_penalty", "repeat_penalty"), settings.repetition_penalty)
    if settings.seed is not None:
        built["seed"] = settings.seed % 2**63  # what vLLM takes
    if settings.logit_bias:
        built["logit_bias"] = {
            str(token): _NEVER if bias == -math.inf else bias for token, bias in settings.logit_bias.items()
        }
    return built


def _tools(tools: Sequence[Mapping[str, Any]], choice: ToolChoice) -> dict[str, Any]:
    """OpenAI's `allowed_tools` is known to few servers: of an allowed set the others are left out."""
    names = choice.names
    offered = [
        tool if "function" in tool else {"type": "function", "function": dict(tool)}
        for tool in tools
        if names is None or tool.get("function", tool).get("name") in names
    ]
    if not offered:
        return {}
    built: dict[str, Any] = {"tools": offered}
    if not choice.is_parallel:
        built["parallel_tool_calls"] = False
    if choice.mode == "required" and names is not None and len(names) == 1:
        built["tool_choice"] = {"type": "function", "function": {"name": names[0]}}
    elif choice.mode != "auto":
        built["tool_choice"] = choice.mode
    return built


def format_body(form: OutputFormat, kind: Kind) -> dict[str, Any]:
    """Raises InputError for a form that such a server cannot be asked for."""
    if form.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if form.kind == "json_schema":
        try:
            schema = json_file.parse_written(form.definition)
        except ValueError as error:
            raise InputError(f"the schema is no JSON ({error}); expected a JSON schema.") from None
        wanted = {"name": "answer", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": wanted}}
    if form.kind == "regex" and kind == "vllm":
        return {"structured_outputs": {"regex": form.definition}}
    raise InputError(f"this server cannot be asked for an answer in the form of a {form.kind}; give a JSON schema.")


_BUDGETS = ("thinking_budget_tokens", "reasoning_budget_message", "thinking_token_budget")


def _budget(tokens: int, kind: Kind) -> dict[str, Any]:
    """The server's own budget; where it has none, or does not keep it, `answer_body` is asked."""
    if kind == "llama.cpp":
        return {"thinking_budget_tokens": tokens, "reasoning_budget_message": CLOSING}
    return {"thinking_token_budget": tokens} if kind == "vllm" else {}
