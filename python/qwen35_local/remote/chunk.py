"""One event of a streamed chat completion, or of one of plain text, read with suspicion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwen35_local import json_file
from qwen35_local.chat.unfinished_call import json_text
from qwen35_local.engine.reply import Logprobs, TokenLogprob
from qwen35_local.errors import FormatError, RemoteError
from qwen35_local.fields import OBJECT, OBJECTS, TEXT, Fields, integer, list_of, number
from qwen35_local.remote.refusal import words

_COUNT = integer(0, 2**53)
_BYTES = list_of(integer(0, 255))
_ID = integer(-1, 2**31 - 1)
_LOGPROB = number()


@dataclass(frozen=True, slots=True)
class CallPiece:
    """More of a call: its first piece brings the name."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens, as the server counts them; None where it does not say."""

    prompt: int | None = None
    cached: int | None = None
    generated: int | None = None
    reasoning: int | None = None
    accepted: int | None = None
    rejected: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What an event brings of the one choice that was asked for."""

    reasoning: str = ""
    text: str = ""
    calls: tuple[CallPiece, ...] = ()
    logprobs: tuple[Logprobs, ...] = ()
    finish: str | None = None
    spent: Spent | None = None


def read_chunk(data: str, server: str) -> Chunk:
    """Raises RemoteError for what is no event of a chat completion, and for an error that the server tells."""
    try:
        value = json_file.parse(data.encode("utf-8", "surrogatepass"), "an event", lone_surrogates=True)
        if not isinstance(value, dict):
            raise FormatError(f"an event is {type(value).__name__}; expected an object.")
        if value.get("error"):
            brief = f"{server} ended the reply with an error"
            raise RemoteError(f"{brief}: {words(value)}", f"{brief}.")
        return _chunk(Fields(value))
    except FormatError as error:
        brief = f"{server} sent what is no chat completion"
        raise RemoteError(f"{brief}: {error}"[:600], f"{brief}.") from None


def _chunk(event: Fields) -> Chunk:
    choices = event.find("choices", OBJECTS, [])
    spent = _spent(event)
    if not choices:
        return Chunk(spent=spent)
    choice = Fields(choices[0], "choices[0].")
    delta = Fields(choice.find("delta", OBJECT, {}), "choices[0].delta.")
    # Both names stand for the same text where a server sends both (vLLM renamed the first to the second).
    reasoning = delta.find("reasoning_content", TEXT) or delta.find("reasoning", TEXT, "")
    return Chunk(
        reasoning=reasoning,
        text=delta.find("content", TEXT, "") + delta.find("refusal", TEXT, "") + choice.find("text", TEXT, ""),
        calls=tuple(map(_call, delta.find("tool_calls", OBJECTS, []))),
        logprobs=_logprobs(choice),
        finish=choice.find("finish_reason", TEXT),
        spent=spent,
    )


def _call(call: Mapping[str, object]) -> CallPiece:
    fields = Fields(call, "tool_calls.")
    function = Fields(fields.find("function", OBJECT, {}), "tool_calls.function.")
    arguments = function.values.get("arguments")
    # Some servers send the object itself, whole.
    text = json_text(arguments) if isinstance(arguments, dict) else function.find("arguments", TEXT, "")
    return CallPiece(
        fields.find("index", _COUNT, 0), fields.find("id", TEXT, ""), function.find("name", TEXT, ""), text
    )


def _logprobs(choice: Fields) -> tuple[Logprobs, ...]:
    told = choice.find("logprobs", OBJECT)
    entries: Sequence[Mapping[str, object]] = [] if told is None else Fields(told).find("content", OBJECTS, [])
    return tuple(Logprobs(_token(entry), _top(entry)) for entry in entries)


def _top(entry: Mapping[str, object]) -> tuple[TokenLogprob, ...]:
    return tuple(map(_token, Fields(entry).find("top_logprobs", OBJECTS, [])))


def _token(entry: Mapping[str, object]) -> TokenLogprob:
    """The id is -1 where the server does not tell it."""
    fields = Fields(entry, "logprobs.")
    text = fields.find("token", TEXT, "").encode("utf-8", "replace")
    data = fields.find("bytes", _BYTES)
    spelled = text if data is None else bytes(data)
    return TokenLogprob(fields.find("id", _ID, -1), spelled, fields.need("logprob", _LOGPROB))


def _spent(event: Fields) -> Spent | None:
    usage = event.find("usage", OBJECT)
    if usage is None:
        return None
    fields = Fields(usage, "usage.")
    prompt = Fields(fields.find("prompt_tokens_details", OBJECT, {}), "usage.prompt_tokens_details.")
    completion = Fields(fields.find("completion_tokens_details", OBJECT, {}), "usage.completion_tokens_details.")
    return Spent(
        fields.find("prompt_tokens", _COUNT),
        prompt.find("cached_tokens", _COUNT),
        fields.find("completion_tokens", _COUNT),
        completion.find("reasoning_tokens", _COUNT),
        completion.find("accepted_prediction_tokens", _COUNT),
        completion.find("rejected_prediction_tokens", _COUNT),
    )
