"""`/completion`: what follows a prompt, as plain text."""

from collections.abc import Sequence
from typing import Any

from qwen35_local.chat.events import TextDelta
from qwen35_local.chat.presets import LOGPROBS
from qwen35_local.engine.job import Reading
from qwen35_local.engine.reply import Completion, Done, Event, Logprobs, Reason, TokenLogprob, Usage
from qwen35_local.fields import FLAG, integer
from qwen35_local.server.body import Body
from qwen35_local.server.dialect import EVENT_STREAM, Asked
from qwen35_local.server.errors import Refused
from qwen35_local.server.json_text import encoded
from qwen35_local.server.llama_cpp.errors import error_body
from qwen35_local.server.llama_cpp.prompt import read_prompt
from qwen35_local.server.openai.format import read_format
from qwen35_local.server.openai.sampling import read_sampling, read_stop
from qwen35_local.server.service import Service

_WITHOUT_EFFECT = (
    *("n_keep", "response_fields"),
    *("speculative.n_max", "speculative.n_min", "speculative.p_min", "speculative.type"),
)
_NEUTRAL: dict[str, Sequence[Any]] = {
    "n_indent": (0,),
    "t_max_predict_ms": (0, -1),
    "post_sampling_probs": (False,),
    "image_data": ([],),
    "input_prefix": ("",),
    "input_suffix": ("",),
}
_PREDICT = integer(-2, 2**31 - 1)
_STOP_TYPES: dict[Reason, str] = {"length": "limit", "context": "limit", "loop": "limit", "cancelled": "none"}


def read_completion(body: Body, service: Service) -> Asked:
    """`POST /completion`. Raises Refused, or an error of this package."""
    tokens = read_prompt(body, "prompt", service)
    settings = read_sampling(body, service, thinks=False)
    n_predict = body.find("n_predict", _PREDICT, body.find("max_tokens", _PREDICT, -1))
    if n_predict == 0:
        raise body.refuse("n_predict", "a number of tokens from 1, or -1 for this server's own limit")
    n_probs = body.find("n_probs", LOGPROBS, 0)
    body.ignore(*_WITHOUT_EFFECT)
    body.unsupported(_NEUTRAL, "")
    completion = Completion(
        tokens,
        settings,
        max(0, n_predict),
        read_stop(body),
        logprobs=n_probs or None,
        n=body.find("n", integer(1, 1), 1),
        output_format=read_format(body, service),
    )
    streams = body.find("stream", FLAG, False)
    encoder = CompletionEncoder(service.name, body.find("return_progress", FLAG, False))
    return Asked((completion,), encoder, streams, reports_reading=encoder.reports_reading)


class CompletionEncoder:
    """Of one completion."""

    media_type = EVENT_STREAM

    def __init__(self, model: str, reports_reading: bool) -> None:
        self.reports_reading = reports_reading
        self._model = model
        self._generated = 0
        self._probs: list[dict[str, Any]] = []

    def start(self) -> bytes:
        return b""

    def ping(self, reading: Reading | None) -> bytes:
        if reading is None or not self.reports_reading:
            return b": still here\n\n"
        progress = {"total": reading.total, "processed": reading.done}
        return _data(self._part("") | {"prompt_progress": progress})

    def event(self, event: Event) -> bytes:
        match event:
            case TextDelta(text):
                return _data(self._part(text))
            case Logprobs():
                self._generated += 1
                self._probs.append(_logprob(event))
            case Done():
                return _data(self._part("") | self._ending(event))
        return b""

    def end(self) -> bytes:
        return b""

    def failure(self, refused: Refused) -> bytes:
        return _data(error_body(refused))

    def whole(self, replies: Sequence[Done]) -> bytes:
        done = replies[0]
        self._probs = [_logprob(entry) for entry in done.logprobs]
        return encoded(self._part(done.message.text) | self._ending(done))

    def _part(self, text: str) -> dict[str, Any]:
        told = {"completion_probabilities": self._probs} if self._probs else {}
        self._probs = []
        return {"index": 0, "content": text, "tokens": [], "stop": False, "id_slot": -1} | told

    def _ending(self, done: Done) -> dict[str, Any]:
        usage = done.usage
        stop_type = "word" if done.stop_string is not None else _STOP_TYPES.get(done.reason, "eos")
        return {
            "stop": True,
            "model": self._model,
            "tokens_predicted": usage.generated_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "tokens_cached": usage.reused_tokens,
            "truncated": False,
            "stop_type": stop_type,
            "stopping_word": done.stop_string or "",
            "timings": timings(usage),
        }


def timings(usage: Usage) -> dict[str, Any]:
    """Milliseconds, and tokens per second. The prompt's time ends with the first token."""
    drafts = {"draft_n": usage.drafted_tokens, "draft_n_accepted": usage.accepted_tokens}
    read = usage.first_token_seconds
    written = max(0.0, usage.seconds - read)
    return {
        "cache_n": usage.reused_tokens,
        "prompt_n": usage.evaluated_tokens,
        "prompt_ms": 1e3 * read,
        "prompt_per_second": usage.evaluated_tokens / read if read > 0 else 0.0,
        "predicted_n": usage.generated_tokens,
        "predicted_ms": 1e3 * written,
        "predicted_per_second": usage.tokens_per_second,
        **(drafts if usage.drafted_tokens else {}),
    }


def _logprob(told: Logprobs) -> dict[str, Any]:
    return _token(told.token) | {"top_logprobs": [_token(token) for token in told.top]}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"id": token.id, "token": token.text, "bytes": list(token.data), "logprob": token.logprob}


def _data(value: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % encoded(value)
