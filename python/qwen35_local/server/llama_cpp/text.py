"""`/tokenize`, `/detokenize` and `/apply-template`."""

from typing import Any

from qwen35_local.engine.face import Face
from qwen35_local.fields import ANY_LIST, FLAG, TEXT, integer, list_of
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import conversation
from qwen35_local.server.json_text import encoded
from qwen35_local.server.openai.thinking import read_thinking
from qwen35_local.server.openai.tools import read_tools
from qwen35_local.server.service import Service


def tokenize(body: Body, service: Service) -> bytes:
    """`POST /tokenize`. Raises Refused, or an error of this package."""
    tokenizer = service.engine.tokenizer
    content = body.need("content", TEXT)
    tokens = tokenizer.encode_turns([(), [(content, body.find("parse_special", FLAG, True))]])[1]
    if body.find("add_special", FLAG, False) and tokenizer.bos_id is not None:
        tokens.insert(0, tokenizer.bos_id)
    if not body.find("with_pieces", FLAG, False):
        return encoded({"tokens": tokens})
    return encoded({"tokens": [{"id": token, "piece": _piece(tokenizer.token_bytes(token))} for token in tokens]})


def _piece(data: bytes) -> str | list[int]:
    """The text of a token, or its bytes where they are a part of a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def detokenize(body: Body, service: Service) -> bytes:
    """`POST /detokenize`. Raises Refused."""
    tokenizer = service.engine.tokenizer
    tokens = body.need("tokens", list_of(integer(0, tokenizer.n_used - 1)))
    return encoded({"content": tokenizer.decode(tokens)})


def apply_template(body: Body, service: Service) -> bytes:
    """`POST /apply-template`: the prompt of a conversation in OpenAI's form, as a request for a chat would have it.
    Raises what such a request does."""
    thinking, keeps_thinking = read_thinking(body)
    prompt = service.engine.template.render(
        conversation(body.need("messages", ANY_LIST), service.limits),
        read_tools(body, service.limits).definitions,
        add_generation_prompt=body.find("add_generation_prompt", FLAG, True),
        enable_thinking=thinking.is_on,
        preserve_thinking=keeps_thinking,
    )
    return encoded({"prompt": prompt.text})


def template_capabilities(engine: Face) -> dict[str, Any]:
    """What the template of a model of this family can show."""
    return {
        "supports_tools": True,
        "supports_tool_calls": True,
        "supports_parallel_tool_calls": True,
        "supports_system_role": True,
        "supports_string_content": True,
        "supports_typed_content": True,
        "supports_preserve_reasoning": engine.template.variant is not None,
        "supports_object_arguments": True,
    }
