"""How many tokens a conversation has on another server, where that tells: llama.cpp's and vLLM's own API."""

from typing import Any

from qwen35_local.engine.reply import Request
from qwen35_local.errors import FormatError, RemoteError, Unavailable
from qwen35_local.fields import ANY_LIST, TEXT, Fields, integer
from qwen35_local.remote.body import conversation_body
from qwen35_local.remote.http import Connection
from qwen35_local.remote.server import RemoteModel

_COUNT = integer(0, 2**53)


async def count(connection: Connection, model: RemoteModel, request: Request, server: str) -> int:
    """Of its prompt. Raises Unavailable, RemoteError, InputError, Busy."""
    if model.kind == "other":
        raise Unavailable(f"{server} is not known to count tokens; a reply tells their number.")
    asked = conversation_body(request, model.kind)
    try:
        if model.kind == "vllm":
            body = {"model": model.name, "add_generation_prompt": True, **asked}
            return Fields(_object(await connection.ask("/tokenize", body))).need("count", _COUNT)
        prompt = Fields(_object(await connection.ask("/apply-template", asked))).need("prompt", TEXT)
        body = {"content": prompt, "add_special": True, "parse_special": True}
        return len(Fields(_object(await connection.ask("/tokenize", body))).need("tokens", ANY_LIST))
    except FormatError as error:
        raise RemoteError(f"{server} sent what is no count of tokens: {error}"[:600]) from None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
