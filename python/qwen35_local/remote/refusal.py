"""What a server's refusal is to whoever asked."""

import re

from qwen35_local import json_file
from qwen35_local.engine.reply import ContextFull
from qwen35_local.errors import Busy, FormatError, InputError, Qwen35Error, RemoteError

_MOST_WORDS = 300  # of a server's, in characters
_KEY_OPTIONS = "give a file with one: --api-key-file of `qwen35 chat`, --upstream-key-file of `qwen35 serve`"
_MISTAKES = (400, 404, 405, 413, 415, 422)
_PROMPT_LENGTH = re.compile(
    r"(\d{1,12}) (?:in the messages|input tokens)|prompt contains at least (\d{1,12})|prompt is (\d{1,12}) tokens"
)
_TOKENS = {"n_prompt_tokens", "n_ctx"}  # llama.cpp's own words for a prompt that is too long


def refusal(server: str, status: int, said: bytes, wait: int = 0, *, has_key: bool = True) -> Qwen35Error:
    """`said`: the body of the answer, of whatever kind; `wait`: seconds that it asks for; `has_key`: whether it was
    given one."""
    try:
        body = json_file.parse(said, "answer", lone_surrogates=True)
    except FormatError:
        body = said.decode("utf-8", "replace")
    if status in (401, 403):
        brief = f"{server} " + ("does not accept the key" if has_key else "asks for a key")
        advice = "it has to be on the first line of the file" if has_key else _KEY_OPTIONS
        return RemoteError(f"{brief} ({words(body)}); {advice}.", f"{brief}.")
    if status == 429:
        return Busy(f"{server} is busy: {words(body)}", wait or 5)
    if 300 <= status < 400:
        return RemoteError(f"{server} points elsewhere (HTTP {status}); give the address that it points to.")
    if status not in _MISTAKES:
        return RemoteError(f"{server} failed (HTTP {status}): {words(body)}", f"{server} failed (HTTP {status}).")
    full = _context_full(body)
    return full or InputError(f"{server} refuses the request (HTTP {status}): {words(body)}")


def words(body: object) -> str:
    """What a body says, in one line: OpenAI's `error.message` and its relatives."""
    found = body
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    text = " ".join(str(found).split())
    return text[:_MOST_WORDS] + "…" * (len(text) > _MOST_WORDS) if text else "no reason given"


def _context_full(body: object) -> ContextFull | None:
    """A prompt that does not fit, where the server says so with both lengths: llama.cpp in fields, vLLM, and this
    program's own server, in words."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None
    if all(type(error.get(key)) is int for key in _TOKENS):
        return ContextFull(error["n_prompt_tokens"], error["n_ctx"])
    said = str(error.get("message", ""))[:2000]
    context = re.search(r"context(?: length (?:is|of))? (\d{1,12})", said)
    prompt = _PROMPT_LENGTH.search(said)
    if context is None or prompt is None:
        return None
    return ContextFull(int(next(filter(None, prompt.groups()))), int(context[1]))
