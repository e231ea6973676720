"""Prompts as texts and token ids."""

from typing import Any

from qwen35_local.fields import integer
from qwen35_local.server.body import Body
from qwen35_local.server.errors import Refused
from qwen35_local.server.service import Service


def read_prompt(body: Body, key: str, service: Service) -> list[int]:
    """Ids [n], n > 0: of a text, in which special tokens may be spelled, of ids, or of a list of both. Raises
    Refused."""
    value = body.any(key)
    if not isinstance(value, str | list):
        raise body.refuse(key, "a text or a list of token ids")
    parts = [value] if isinstance(value, str) else value
    if len(parts) > 1 and all(isinstance(part, str) for part in parts):
        raise body.refuse(key, "one prompt: a list of texts alone stands for as many; ask for one after the other")
    tokenizer = service.engine.tokenizer
    tokens: list[int] = []
    if tokenizer.bos_id is not None and parts and isinstance(parts[0], str):
        tokens.append(tokenizer.bos_id)
    known = integer(0, tokenizer.n_used - 1)
    for part in parts:
        if isinstance(part, str):
            tokens += tokenizer.encode_turns([(), [(part, True)]])[1]
        elif known.fits(part):
            tokens.append(part)
        else:
            raise _refuse(body, key, part, known.expected)
    if not tokens:
        raise body.refuse(key, "a text or token ids, at least one token")
    return tokens


def _refuse(body: Body, key: str, part: Any, ids: str) -> Refused:
    return body.refuse(key, f"a text, a list of token ids ({ids}), or a list of both; {part!r:.60} is neither")
