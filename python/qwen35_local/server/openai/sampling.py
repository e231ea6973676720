"""The fields of OpenAI's API, and of the servers that extend it, that say how a reply is drawn and how long it is."""

from dataclasses import replace
from typing import Any

from qwen35_local.chat.presets import BIAS, CHOICES, SETTINGS, STOP, Sampling
from qwen35_local.fields import OBJECT, TEXT, TEXTS, Kind, describe, integer, object_of
from qwen35_local.server.body import Body
from qwen35_local.server.errors import bad
from qwen35_local.server.service import Service

_MOST_TOKENS = integer(1, 2**31 - 1)
_SPELLINGS = {
    "temperature": ("temperature",),
    "top_k": ("top_k",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "penalty_last_n": ("penalty_last_n", "repeat_last_n"),
}

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "typical_p": (1, 1.0),
    "top_a": (0, 0.0),
    "top_n_sigma": (-1, -1.0, 0, 0.0),
    "mirostat": (0,),
    "dry_multiplier": (0, 0.0),
    "xtc_probability": (0, 0.0),
    "dynatemp_range": (0, 0.0),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "length_penalty": (1, 1.0),
    "use_beam_search": (False,),
    "best_of": (1,),
    "prompt_logprobs": (0,),
    "lora": ([],),
    "truncate_prompt_tokens": (),
    "allowed_token_ids": (),
    "return_token_ids": (False,),
    "return_tokens": (False,),
    "documents": ([],),
    "logits_processors": ([],),
    "skip_special_tokens": (True,),
    "min_keep": (0, 1),
    "n_cmpl": (1,),
    "n_discard": (0,),
    "stop_regex": ([], ""),
    "ebnf": ("",),
    "regex": ("",),
}
"""Fields of other servers that would change the answer, and the values of them that do not."""

WITHOUT_EFFECT = (
    "model",
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "cache_prompt",
    "id_slot",
    "timings_per_token",
    "priority",
    "request_id",
    "verbosity",
    "prediction",
    "spaces_between_special_tokens",
    "add_special_tokens",
    "mirostat_tau",
    "mirostat_eta",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "xtc_threshold",
    "dynatemp_exponent",
)

_IN_ORDER = ["top_k", "top_p", "min_p", "temperature"]
_LETTERS = dict(zip("kpmt", _IN_ORDER, strict=True))


def read_sampling(body: Body, service: Service, *, thinks: bool) -> Sampling:
    """The model's own settings for the mode, with what the request says. Raises Refused."""
    body.ignore(*WITHOUT_EFFECT)
    body.unsupported(NEUTRAL, "")
    _check_order(body)
    given: dict[str, Any] = {}
    for name, spellings in _SPELLINGS.items():
        for spelling in spellings:
            value = body.find(spelling, SETTINGS[name])
            if value is not None:
                given[name] = value
    seed = body.find("seed", integer(-(2**63), 2**64 - 1))
    if seed is not None and seed != -1:  # as llama.cpp has it, -1 draws one
        given["seed"] = seed % 2**64
    return replace(service.engine.preset(thinking=thinks), logit_bias=_bias(body, service), **given)


def _check_order(body: Body) -> None:
    """`samplers` of llama.cpp, names or letters: in this order, or not at all. Raises Refused."""
    value = body.any("samplers")
    named = [_LETTERS.get(letter, "") for letter in value] if isinstance(value, str) else value
    if value in (None, "", []):
        return
    if not TEXTS.fits(named) or [name for name in named if name in _IN_ORDER] != _IN_ORDER:
        raise body.refuse("samplers", f"none, or {', '.join(_IN_ORDER)} in this order")


def read_max_tokens(body: Body, *keys: str) -> int:
    """The first of the keys that is given; 0 when none is, or it is -1, llama.cpp's word for no limit."""
    found = 0
    for key in keys:
        if body.any(key) not in (None, -1):
            found = found or body.need(key, _MOST_TOKENS)
    return found


def read_stop(body: Body) -> tuple[str, ...]:
    """One text, or several. Raises Refused."""
    value = body.any("stop")
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if texts == [""]:
        return ()
    if not STOP.fits(texts):
        raise body.refuse("stop", f"a text, or {STOP.expected}")
    return tuple(texts)


def read_n(body: Body) -> int:
    return body.find("n", CHOICES, 1)


def read_user(body: Body) -> str:
    """Whose request it is, in the client's own words."""
    return (body.find("user", TEXT) or body.find("safety_identifier", TEXT) or "")[:200]


_BIASES: Kind[dict[str, float]] = object_of(BIAS)


def _bias(body: Body, service: Service) -> dict[int, float]:
    """By token, as the text of its id, or llama.cpp's list of pairs; false there: never."""
    value = body.any("logit_bias")
    if value is None:
        return {}
    if isinstance(value, list):
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
            raise body.refuse("logit_bias", "an object of numbers by token id, or a list of pairs of both")
        pairs = [(token, float("-inf") if bias is False else bias) for token, bias in value]
    elif OBJECT.fits(value):
        pairs = list(value.items())
    else:
        raise body.refuse("logit_bias", "an object of numbers by token id")
    most = service.engine.tokenizer.n_used
    result: dict[int, float] = {}
    for token, bias in pairs:
        if not (
            isinstance(token, int)
            or (isinstance(token, str) and len(token) < 12 and token.isascii() and token.isdigit())
        ):
            raise bad("logit_bias", f"logit_bias has the key {describe(token)}; expected the id of a token.")
        if isinstance(token, bool) or not integer(0, most - 1).fits(int(token)):
            raise bad("logit_bias", f"logit_bias has the token {describe(token)}; expected an id below {most}.")
        if not BIAS.fits(bias):
            raise bad("logit_bias", f"logit_bias of token {token} is {describe(bias)}; expected {BIAS.expected}.")
        result[int(token)] = bias
    return result
