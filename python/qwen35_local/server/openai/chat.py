"""`/v1/chat/completions`: the request."""

from dataclasses import dataclass
from typing import Any

from qwen35_local.engine.reply import Request
from qwen35_local.fields import FLAG, TEXTS, integer
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import conversation, going_on
from qwen35_local.server.dialect import Asked
from qwen35_local.server.errors import bad
from qwen35_local.server.openai.chat_encoder import ChatEncoder
from qwen35_local.server.openai.format import read_format
from qwen35_local.server.openai.sampling import read_max_tokens, read_n, read_sampling, read_stop, read_user
from qwen35_local.server.openai.thinking import read_thinking
from qwen35_local.server.openai.tools import Tools, read_tool_choice, read_tools
from qwen35_local.server.service import Service

_TOP_LOGPROBS = integer(0, 20)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "web_search_options": (),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "echo": (False,),
    "suffix": ("",),
    "chat_template": (),
    "moderation": (),
    "reasoning_format": ("auto", "deepseek"),
    "separate_reasoning": (True,),
}


@dataclass(frozen=True)
class Read:
    """A request, and what of it only the answer's form depends on."""

    request: Request
    tools: Tools


def read(body: Body, service: Service) -> Asked:
    """What is asked, and how the answer is written. Raises Refused, InputError."""
    found = read_request(body, service)
    streams = body.find("stream", FLAG, False)
    options = body.object("stream_options")
    if options is not None:
        options.ignore("include_obfuscation", "continuous_usage_stats")
    shows_usage = options is not None and options.find("include_usage", FLAG, False)
    progress = body.find("return_progress", FLAG, False)
    encoder = ChatEncoder(
        service,
        found.request.n,
        found.tools.custom,
        shows_usage=shows_usage,
        shows_progress=progress,
        shows_cost=body.find("return_cost", FLAG, False),
        shows_thinking=_shows_thinking(body),
        streams=streams,
    )
    return Asked((found.request,), encoder, streams, read_user(body), reports_reading=progress, id=encoder.id)


def read_request(body: Body, service: Service) -> Read:
    """The conversation and how it is to be answered. Raises Refused, InputError."""
    body.unsupported(_NEUTRAL, "")
    modalities = body.find("modalities", TEXTS) or ["text"]
    if modalities != ["text"]:
        raise body.refuse("modalities", '["text"]')
    messages = conversation(body, service.limits)
    tools = read_tools(body, service)
    thinking, keeps_thinking = read_thinking(body)
    goes_on = read_goes_on(body, service.limits.messages)
    body.unsupported({"add_generation_prompt": (not goes_on,)}, "" if goes_on else " without continue_final_message")
    if goes_on:
        thinking = going_on(messages, thinking, "continue_final_message")
    thinks = service.engine.thinks_by_default if thinking.is_on is None else thinking.is_on
    request = Request(
        messages,
        read_sampling(body, service, thinks=thinks),
        tools.definitions,
        thinking=thinking.is_on,
        keep_thinking=keeps_thinking,
        max_tokens=read_max_tokens(body, "max_completion_tokens", "max_tokens", "n_predict"),
        stop=read_stop(body),
        logprobs=_logprobs(body),
        n=read_n(body),
        tool_choice=read_tool_choice(body, tools),
        output_format=read_format(body, service),
        thinking_tokens=thinking.budget_tokens,
        goes_on=goes_on,
    )
    return Read(request, tools)


def _shows_thinking(body: Body) -> bool:
    """`include_reasoning` of vLLM and OpenRouter, whose `reasoning` has the reverse."""
    reasoning = body.object("reasoning")
    is_hidden = reasoning is not None and reasoning.find("exclude", FLAG, False)
    return body.find("include_reasoning", FLAG, True) and not is_hidden


def read_goes_on(body: Body, most: int) -> bool:
    """Whether the reply goes on behind the last of at most so many messages, as vLLM's API has it; llama.cpp's names
    the part of it, and others mark the message. Raises Refused."""
    last = body.objects("messages", most)[-1]
    is_marked = True in [last.find(word, FLAG) for word in ("prefix", "partial")]
    asked = body.any("continue_final_message")
    if asked not in (None, False, True, "content"):
        raise body.refuse("continue_final_message", 'true, false or "content"')
    return bool(asked) or is_marked


def _logprobs(body: Body) -> int | None:
    is_wanted = body.find("logprobs", FLAG, False)
    top = body.find("top_logprobs", _TOP_LOGPROBS)
    if top and not is_wanted:
        raise bad("top_logprobs", "top_logprobs is given without logprobs; expected logprobs: true beside it.")
    return (top or 0) if is_wanted else None
