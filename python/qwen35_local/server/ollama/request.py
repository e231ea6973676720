"""What `/api/chat` and `/api/generate` ask for."""

import json
from typing import Any, NamedTuple

from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.tools import read_tools
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.engine.reply import Completion, Request
from qwen35_local.fields import ANY_LIST, FLAG, OBJECT, TEXT, integer
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import normalised
from qwen35_local.server.dialect import Asked
from qwen35_local.server.errors import bad
from qwen35_local.server.ollama.encoder import LineEncoder
from qwen35_local.server.openai.sampling import read_sampling, read_stop
from qwen35_local.server.service import Service
from qwen35_local.server.thinking import OFF, ON, Thinking, of_effort

_OF_THE_MACHINE = (
    "num_keep",
    "num_batch",
    "num_gpu",
    "num_thread",
    "main_gpu",
    "numa",
    "low_vram",
    "f16_kv",
    "logits_all",
    "vocab_only",
    "use_mmap",
    "use_mlock",
    "embedding_only",
    "penalize_newline",
    "draft_num_predict",
)
_PREDICT = integer(-2, 2**31 - 1)
_CONTEXT = integer(0, 2**31 - 1)
_TOP_LOGPROBS = integer(0, 20)


class Options(NamedTuple):
    """What both requests have: how to sample, the longest reply (0: the engine's own limit), where to stop."""

    sampling: Sampling
    max_tokens: int
    stop: tuple[str, ...]


def read_chat(body: Body, service: Service) -> Asked | bytes:
    """`POST /api/chat`. Raises Refused, or an error of this package."""
    model, streams = _head(body)
    messages = [_message(entry) for entry in body.objects("messages", service.limits.messages)]
    tools = read_tools([_tool(entry) for entry in body.objects("tools", service.limits.tools)])
    thinking = _thinking(body)
    goes_on = bool(messages) and messages[-1].role == "assistant" and not messages[-1].tool_calls
    if goes_on and not messages[-1].reasoning:
        thinking = OFF  # as Ollama has it: what was said is behind the thinking
    options = _options(body, service, thinking)
    request = Request(
        normalised(messages),
        options.sampling,
        tools=tools,
        thinking=thinking.is_on,
        thinking_tokens=thinking.budget_tokens,
        max_tokens=options.max_tokens,
        stop=options.stop,
        logprobs=_logprobs(body),
        output_format=_format(body, service),
        goes_on=goes_on,
    )
    encoder = LineEncoder(model, service.clock, is_chat=True)
    if not messages:
        return encoder.loaded()
    return Asked((request,), encoder, streams)


def read_generate(body: Body, service: Service) -> Asked | bytes:
    """`POST /api/generate`: the prompt is a message of the user, or, `raw`, the text that the model goes on from.
    Raises Refused, or an error of this package."""
    model, streams = _head(body)
    prompt = body.find("prompt", TEXT, "")
    system = body.find("system", TEXT, "")
    is_raw = body.find("raw", FLAG, False)
    body.unsupported(
        {"suffix": ("",), "template": ("",), "context": ([],), "images": ([],)}, "; /api/chat takes a conversation"
    )
    body.ignore("width", "height", "steps")
    thinking = OFF if is_raw else _thinking(body)
    options = _options(body, service, thinking)
    logprobs, output_format = _logprobs(body), _format(body, service)
    encoder = LineEncoder(model, service.clock, is_chat=False)
    if not prompt:
        return encoder.loaded()
    if is_raw:
        body.ignore("think")
        tokens = service.engine.tokenizer.encode_prompt([(prompt, True)])
        asked: Completion | Request = Completion(
            tokens, options.sampling, options.max_tokens, options.stop, logprobs, output_format=output_format
        )
    else:
        asked = Request(
            [Message("system", system)] * bool(system) + [Message("user", prompt)],
            options.sampling,
            thinking=thinking.is_on,
            thinking_tokens=thinking.budget_tokens,
            max_tokens=options.max_tokens,
            stop=options.stop,
            logprobs=logprobs,
            output_format=output_format,
        )
    return Asked((asked,), encoder, streams)


def _head(body: Body) -> tuple[str, bool]:
    if not body.need("model", TEXT):
        raise body.refuse("model", "the name of a model")
    keep_alive = body.any("keep_alive")
    if isinstance(keep_alive, bool | list | dict):
        raise body.refuse("keep_alive", "a number of seconds, or a text as in 5m")
    return body.values["model"], body.find("stream", FLAG, True)


def _message(entry: Body) -> Message:
    role = entry.need("role", TEXT)
    if role not in ("system", "user", "assistant", "tool"):
        raise entry.refuse("role", "system, user, assistant or tool")
    if entry.find("images", ANY_LIST):
        raise entry.refuse("images", "none: this server reads text only")
    calls = tuple(_call(call) for call in entry.objects("tool_calls", 1_000))
    if calls and role != "assistant":
        raise entry.refuse("tool_calls", "none in a message that is not the assistant's")
    return Message(
        role,  # type: ignore[arg-type]
        entry.find("content", TEXT, ""),
        entry.find("thinking", TEXT) or None,
        calls,
        name=entry.find("tool_name", TEXT),
        tool_call_id=entry.find("tool_call_id", TEXT),
    )


def _call(entry: Body) -> ToolCall:
    entry.ignore("type")
    function = entry.object("function")
    if function is None:
        raise entry.refuse("function", "an object with a name and arguments")
    function.ignore("index", "description")
    if not function.need("name", TEXT):
        raise function.refuse("name", "the name of a tool")
    arguments = function.find("arguments", OBJECT, {})
    return ToolCall.from_dict({"id": entry.find("id", TEXT), "name": function.values["name"], "arguments": arguments})


def _tool(entry: Body) -> dict[str, Any]:
    entry.ignore("type", "items")
    function = entry.object("function")
    if function is None:
        raise entry.refuse("function", "an object with a name, a description and parameters")
    function.ignore("strict")
    if not function.need("name", TEXT):
        raise function.refuse("name", "the name of a tool")
    function.find("description", TEXT)
    function.find("parameters", OBJECT)
    return {"type": "function", "function": {k: v for k, v in function.values.items() if v is not None}}


def _thinking(body: Body) -> Thinking:
    asked = body.any("think")
    if asked is None or asked == "":
        return Thinking()
    if isinstance(asked, bool):
        return ON if asked else OFF
    if not isinstance(asked, str):
        raise body.refuse("think", "true, false, or a level as in low")
    return of_effort(asked, "think")


def _format(body: Body, service: Service) -> OutputFormat | None:
    asked = body.any("format")
    if asked is None or asked == "":
        return None
    if asked == "json":
        return OutputFormat("json_object")
    if not isinstance(asked, dict):
        raise body.refuse("format", 'the text "json" or a JSON schema')
    return service.checked(OutputFormat("json_schema", json.dumps(asked)), "format")


def _logprobs(body: Body) -> int | None:
    wanted, top = body.find("logprobs", FLAG, False), body.find("top_logprobs", _TOP_LOGPROBS, 0)
    if top and not wanted:
        raise bad("top_logprobs", "top_logprobs needs logprobs to be true.")
    return top if wanted else None


def _options(body: Body, service: Service, thinking: Thinking) -> Options:
    options = body.object("options") or Body({}, "options.")
    settings = read_sampling(options, service, thinks=thinking.of(service.engine))
    options.unsupported({"tfs_z": (1, 1.0)}, "")
    options.ignore(*_OF_THE_MACHINE)
    context = service.engine.context_tokens
    if options.find("num_ctx", _CONTEXT, 0) > context:
        service.note_once(f"/api: options.num_ctx above the {context:,} tokens that were loaded has no effect")
    return Options(settings, max(0, options.find("num_predict", _PREDICT, 0)), read_stop(options))
