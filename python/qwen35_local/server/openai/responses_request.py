"""`/v1/responses`: the request."""

from dataclasses import dataclass, field
from typing import Any

from qwen35_local.chat.messages import Message
from qwen35_local.engine.reply import Request
from qwen35_local.fields import FLAG, OBJECT, TEXT, TEXTS, Kind, integer
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import normalised
from qwen35_local.server.errors import Refused, bad
from qwen35_local.server.openai.format import of_kind
from qwen35_local.server.openai.responses_items import read_items
from qwen35_local.server.openai.responses_store import ResponseStore
from qwen35_local.server.openai.sampling import read_max_tokens, read_sampling
from qwen35_local.server.openai.thinking import read_thinking
from qwen35_local.server.openai.tools import Tools, read_tool_choice, read_tools
from qwen35_local.server.service import Service

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "prompt": (),
    "moderation": (),
    "context_management": ([],),
    "messages": (),
    "n": (1,),
    "stop": ([],),
    "logprobs": (False,),
    "response_format": (),
    "grammar": ("",),
    "guided_grammar": ("",),
    "structured_outputs": (),
}
_WITHOUT_EFFECT = (
    "access_programs",
    "background_options",
    "client_metadata",
    "image",
    "max_tool_calls",
    "personality",
    "prompt_cache_options",
)
_TOP_LOGPROBS = integer(0, 20)
_TRUNCATION: Kind[str] = Kind("auto or disabled", lambda v: v in ("auto", "disabled"))
_ELSEWHERE = ("web_search", "web_search_preview")
"""Tools that run on OpenAI's servers and that agents offer always: the model is not told of them."""

ECHOED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
"""Fields of a request that its response repeats."""


@dataclass(frozen=True)
class Read:
    """`items`: the input as it was given. `before`: the conversation with it, without instructions; `size`: of it in
    bytes, about. `echo`: what the response repeats. `shows_summary`: the thinking is told as its summary."""

    request: Request
    tools: Tools
    items: list[Any]
    before: tuple[Message, ...]
    size: int
    echo: dict[str, Any] = field(default_factory=dict)
    is_kept: bool = True
    shows_summary: bool = False
    seals_thinking: bool = False


def read_request(body: Body, service: Service, store: ResponseStore) -> Read:
    """The conversation and how it is to be answered. Raises Refused, InputError."""
    body.unsupported(_NEUTRAL, " by responses")
    body.ignore(*_WITHOUT_EFFECT)
    items, before, size = _conversation(body, service, store)
    instructions = body.find("instructions", TEXT)
    leading = [Message("system", instructions)] if instructions else []
    tools = read_tools(body, service, ignores=_ELSEWHERE)
    thinking, keeps_thinking = read_thinking(body)
    thinks = service.engine.thinks_by_default if thinking.is_on is None else thinking.is_on
    include = body.find("include", TEXTS) or []
    top = body.find("top_logprobs", _TOP_LOGPROBS)
    text = body.object("text") or Body({}, "text.")
    text.ignore("verbosity")
    format = text.object("format")
    wanted = None if format is None else of_kind(format)
    metadata = body.find("metadata", OBJECT) or {}
    request = Request(
        normalised([*leading, *before]),
        read_sampling(body, service, thinks=thinks),
        tools.definitions,
        thinking=thinking.is_on,
        keep_thinking=keeps_thinking,
        max_tokens=read_max_tokens(body, "max_output_tokens"),
        when_full="compact" if body.find("truncation", _TRUNCATION) == "auto" else "stop",
        logprobs=(top or 0) if top or "message.output_text.logprobs" in include else None,
        tool_choice=read_tool_choice(body, tools),
        output_format=None if wanted is None else service.checked(wanted, "text.format"),
        thinking_tokens=thinking.budget_tokens,
    )
    reasoning = body.find("reasoning", OBJECT) or {}
    return Read(
        request,
        tools,
        items,
        before,
        size,
        {key: body.values.get(key) for key in ECHOED} | {"metadata": metadata},
        is_kept=body.find("store", FLAG, True),
        shows_summary=bool(reasoning.get("summary") or reasoning.get("generate_summary")),
        seals_thinking="reasoning.encrypted_content" in include,
    )


def _conversation(body: Body, service: Service, store: ResponseStore) -> tuple[list[Any], tuple[Message, ...], int]:
    """The items given, and all messages: those of the response before it first."""
    value = body.any("input")
    items = [{"type": "message", "role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise body.refuse("input", "a text or a list of items")
    if len(items) > service.limits.messages:
        raise body.refuse("input", f"at most {service.limits.messages} items")
    items = [_resolved(item, n, store) for n, item in enumerate(items)]
    before: tuple[Message, ...] = ()
    size = 0
    previous = body.find("previous_response_id", TEXT)
    if previous is not None:
        kept = store.find(previous)
        if kept is None:
            raise unknown(previous, "previous_response_id", 400)
        before, size = kept.messages, kept.size
    messages = (*before, *read_items(items))
    if not messages:
        raise bad("input", "input is empty; expected a text or at least one item.")
    if len(messages) > service.limits.messages:
        raise body.refuse("input", f"at most {service.limits.messages} items with those before it")
    return items, messages, size


def _resolved(item: Any, n: int, store: ResponseStore) -> Any:
    """What a reference to an item of an earlier response stands for; anything else as it is. Raises Refused."""
    if not isinstance(item, dict) or not (item.get("type") == "item_reference" or item.keys() <= {"type", "id"}):
        return item
    found = store.item(Body(item, f"input[{n}].").need("id", TEXT))
    if found is None:
        raise bad(
            f"input[{n}].id",
            f"input[{n}] refers to an item that is not kept, or no longer; send the item itself.",
        )
    return found


def unknown(identifier: str, param: str, status: int) -> Refused:
    return Refused(
        status,
        f"there is no response {identifier[:100]!a}: it was not stored, or is no longer; send the whole conversation.",
        param=param,
        code="previous_response_not_found" if status == 400 else "not_found",
    )
