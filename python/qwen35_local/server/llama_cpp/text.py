"""`/tokenize`, `/detokenize` and `/apply-template`; the first two in vLLM's words too, and its `/tokenizer_info`
(https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html), which evaluation harnesses ask."""

from typing import Any

from qwen35_local.engine.face import Face, Tokens
from qwen35_local.fields import FLAG, TEXT, integer, list_of
from qwen35_local.server.body import Body
from qwen35_local.server.conversation import conversation, going_on
from qwen35_local.server.json_text import encoded
from qwen35_local.server.openai.chat import read_goes_on
from qwen35_local.server.openai.thinking import read_thinking
from qwen35_local.server.openai.tools import read_tools
from qwen35_local.server.service import Service


def tokenize(body: Body, service: Service) -> bytes:
    """`POST /tokenize`. Raises Refused, or an error of this package."""
    if body.any("content") is None and body.any("prompt") is not None:
        return _tokenize_prompt(body, service)
    tokenizer = service.engine.tokenizer
    content = body.need("content", TEXT)
    tokens = _tokens(tokenizer, content, body.find("parse_special", FLAG, True), body.find("add_special", FLAG, False))
    if not body.find("with_pieces", FLAG, False):
        return encoded({"tokens": tokens})
    return encoded({"tokens": [{"id": token, "piece": _piece(tokenizer.token_bytes(token))} for token in tokens]})


def _tokenize_prompt(body: Body, service: Service) -> bytes:
    """In vLLM's words."""
    tokenizer = service.engine.tokenizer
    tokens = _tokens(tokenizer, body.need("prompt", TEXT), True, body.find("add_special_tokens", FLAG, True))
    strings = None
    if body.find("return_token_strs", FLAG, False):
        strings = [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in tokens]
    length = service.engine.context_tokens
    return encoded({"count": len(tokens), "max_model_len": length, "tokens": tokens, "token_strs": strings})


def _tokens(tokenizer: Tokens, text: str, has_special: bool, begins: bool) -> list[int]:
    tokens = tokenizer.encode_turns([(), [(text, has_special)]])[1]
    return [tokenizer.bos_id, *tokens] if begins and tokenizer.bos_id is not None else tokens


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
    text = tokenizer.decode(tokens)
    return encoded({"content": text, "prompt": text})


def tokenizer_info(service: Service) -> dict[str, Any]:
    """`GET /tokenizer_info`."""
    tokenizer = service.engine.tokenizer
    return {
        "bos_token": None if tokenizer.bos_id is None else tokenizer.decode([tokenizer.bos_id]),
        "eos_token": end_of_turn(tokenizer),
        "chat_template": service.engine.template.text,
        "model_max_length": service.engine.context_tokens,
    }


def end_of_turn(tokenizer: Tokens) -> str:
    """The spelling of the token that ends a turn: of this family, <|im_end|>."""
    return tokenizer.decode(sorted(tokenizer.stop_ids)[-1:])


def apply_template(body: Body, service: Service) -> bytes:
    """`POST /apply-template`: the prompt of a conversation in OpenAI's form, as a request for a chat would have it.
    Raises what such a request does."""
    thinking, keeps_thinking = read_thinking(body)
    messages = conversation(body, service.limits)
    body.ignore("tool_choice", "parallel_tool_calls")  # of the reply, not of its prompt
    opens = body.find("add_generation_prompt", FLAG, True)
    given = None
    if read_goes_on(body, service.limits.messages):
        thinking, opens = going_on(messages, thinking, "continue_final_message"), True
        *messages, given = messages
    prompt = service.engine.template.render(
        messages,
        read_tools(body, service).definitions,
        add_generation_prompt=opens,
        enable_thinking=thinking.is_on if given is None else bool(given.reasoning),
        preserve_thinking=keeps_thinking,
    )
    if given is None:
        return encoded({"prompt": prompt.text})
    return encoded({"prompt": prompt.with_thinking(given.reasoning or "").text + given.text})


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
