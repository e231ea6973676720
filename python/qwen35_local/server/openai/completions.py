"""`/v1/completions`: text that goes on, with no conversation around it."""

import secrets
from collections.abc import Sequence
from typing import Any

from qwen35_local.chat.events import TextDelta
from qwen35_local.engine.job import Reading
from qwen35_local.engine.reply import Completion, Done, Event, Logprobs, PromptScores, Usage
from qwen35_local.fields import FLAG, describe, integer
from qwen35_local.server.body import Body
from qwen35_local.server.dialect import EVENT_STREAM, Asked
from qwen35_local.server.errors import Refused, bad
from qwen35_local.server.json_text import encoded
from qwen35_local.server.openai.chat_encoder import finish
from qwen35_local.server.openai.errors import error_body
from qwen35_local.server.openai.format import read_format
from qwen35_local.server.openai.sampling import read_max_tokens, read_n, read_sampling, read_stop, read_user
from qwen35_local.server.openai.token_lists import TokenLists
from qwen35_local.server.openai.usage import usage_body
from qwen35_local.server.service import Service

DEFAULT_TOKENS = 16
"""What OpenAI's API documents."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {"suffix": ("",), "tools": ([],), "messages": ()}
_LOGPROBS = integer(0, 20)
_NOTHING = integer(0, 0)


def read(body: Body, service: Service) -> Asked:
    """What is asked, and how the answer is written. Raises Refused, InputError."""
    body.unsupported(_NEUTRAL, " by completions")
    prompts = _prompts(body, service)
    n = read_n(body)
    if len(prompts) * n > service.limits.prompts:
        most = service.limits.prompts
        raise bad("prompt", f"{len(prompts)} prompts of {n} replies each; expected at most {most} replies in all.")
    logprobs = body.find("logprobs", _LOGPROBS)
    echoes = body.find("echo", FLAG, False)
    scores_prompt = echoes and logprobs is not None
    if scores_prompt:
        _check_scores(prompts, n, logprobs or 0, service.limits.scores)
    writes = not (scores_prompt and _NOTHING.fits(body.any("max_tokens")))
    sampling = read_sampling(body, service, thinks=False)
    stop, format = read_stop(body), read_format(body, service)
    max_tokens = _max_tokens(body) if writes else 0
    streams = body.find("stream", FLAG, False)
    options = body.object("stream_options")
    if options is not None:
        options.ignore("include_obfuscation", "continuous_usage_stats")
    shows_usage = options is not None and options.find("include_usage", FLAG, False)
    texts = [service.engine.tokenizer.decode(tokens) if echoes else "" for tokens in prompts]
    encoder = CompletionEncoder(service, [text for text in texts for _ in range(n)], n, shows_usage=shows_usage)
    requests = tuple(
        Completion(tokens, sampling, max_tokens, stop, logprobs, n, format, scores_prompt=scores_prompt, writes=writes)
        for tokens in prompts
    )
    return Asked(requests, encoder, streams, read_user(body), param="prompt")


def _max_tokens(body: Body) -> int:
    return read_max_tokens(body, "max_tokens", "n_predict") or (0 if body.any("max_tokens") == -1 else DEFAULT_TOKENS)


def _check_scores(prompts: Sequence[Sequence[int]], n: int, top: int, most: int) -> None:
    """Raises Refused where more would be told of the prompts' tokens than one answer may hold."""
    told = (1 + top) * n * sum(map(len, prompts))
    if told > most:
        raise bad("prompt", f"echo with logprobs of {told:,} tokens; expected at most {most:,} in all: send fewer.")


def _prompts(body: Body, service: Service) -> list[list[int]]:
    """The tokens of each prompt: a text, token ids, or a list of either. Tags of the template in a text are tokens."""
    value = body.any("prompt")
    many = value if isinstance(value, list) and value and isinstance(value[0], str | list) else [value]
    if len(many) > service.limits.prompts:
        raise bad("prompt", f"prompt has {len(many)} entries; expected at most {service.limits.prompts}.")
    tokenizer = service.engine.tokenizer
    token = integer(0, tokenizer.n_used - 1)
    prompts = []
    for prompt in many:
        if isinstance(prompt, str):
            prompts.append(tokenizer.encode_prompt([(prompt, True)]))
        elif isinstance(prompt, list):
            wrong = next((entry for entry in prompt if not token.fits(entry)), None)
            if wrong is not None:
                raise bad("prompt", f"prompt holds {describe(wrong)}; expected token ids, {token.expected}.")
            prompts.append(prompt)
        else:
            raise body.refuse("prompt", "a text, token ids, or a list of either")
        if not prompts[-1]:
            raise bad("prompt", "a prompt is empty; expected at least one token.")
    return prompts


class _Choice:
    """`prompt`: what is repeated before its text."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.has_begun = False
        self.tokens = TokenLists(len(prompt))


class CompletionEncoder:
    """`prompts`: of each choice, what is repeated before its text; `n`: choices of each prompt."""

    media_type = EVENT_STREAM

    def __init__(self, service: Service, prompts: Sequence[str], n: int, *, shows_usage: bool) -> None:
        self._head = {
            "id": "cmpl-" + secrets.token_hex(12),
            "object": "text_completion",
            "created": int(service.clock()),
            "model": service.name,
            "system_fingerprint": service.fingerprint,
        }
        self._choices = [_Choice(prompt) for prompt in prompts]
        self._n = n
        self._shows_usage = shows_usage
        self._usages: dict[int, Usage] = {}

    def start(self) -> bytes:
        return b""

    def event(self, event: Event) -> bytes:
        match event:
            case TextDelta(text=text):
                return self._piece(event.choice, text)
            case PromptScores():
                self._choices[event.choice].tokens.add_prompt(event)
                return self._piece(event.choice, "")
            case Logprobs():
                self._choices[event.choice].tokens.add(event)
            case Done():
                self._usages[event.choice] = event.usage
                return self._piece(event.choice, "", finish(event))
            case _:
                pass
        return b""

    def ping(self, reading: Reading | None) -> bytes:
        return b": ping\n\n"

    def end(self) -> bytes:
        last = b"data: [DONE]\n\n"
        if not self._shows_usage:
            return last
        return _line({**self._head, "choices": [], "usage": usage_body(self._usages, self._n)}) + last

    def failure(self, refused: Refused) -> bytes:
        return _line(error_body(refused)) + b"data: [DONE]\n\n"

    def whole(self, replies: Sequence[Done]) -> bytes:
        choices = []
        for done in replies:
            choice = self._choices[done.choice]
            if done.prompt_scores is not None:
                choice.tokens.add_prompt(done.prompt_scores)
            for told in done.logprobs:
                choice.tokens.add(told)
            text = choice.prompt + done.message.text
            choices.append({"index": done.choice, "text": text, "logprobs": choice.tokens.take(), **finish(done)})
        usage = usage_body({done.choice: done.usage for done in replies}, self._n)
        return encoded({**self._head, "choices": choices, "usage": usage})

    def _piece(self, number: int, text: str, end: dict[str, Any] | None = None) -> bytes:
        choice = self._choices[number]
        if not choice.has_begun:
            choice.has_begun = True
            text = choice.prompt + text
        body = {"index": number, "text": text, "logprobs": choice.tokens.take(), **(end or {"finish_reason": None})}
        return _line({**self._head, "choices": [body]})


def _line(value: Any) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"
