"""`/v1/completions` with echo and logprobs: how likely a text is, as evaluation harnesses ask for it."""

import json
from typing import Any

import httpx
import pytest
from serving import Served

PROMPT = "The capital of France is"
NAIVE = "naïve 字 — and more"


def asked(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    body = {"model": "demo", "echo": True, "logprobs": 1, "max_tokens": 0, "temperature": 0} | fields
    answer = http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def lists(choice: dict[str, Any]) -> list[list[Any]]:
    told = choice["logprobs"]
    return [told["tokens"], told["token_logprobs"], told["top_logprobs"], told["text_offset"]]


def test_the_prompt_alone(http: httpx.Client) -> None:
    answer = asked(http, prompt=PROMPT)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (PROMPT, "length")
    tokens, logprobs, best, offsets = lists(choice)
    assert "".join(tokens) == PROMPT
    assert logprobs[0] is None and best[0] is None and offsets[0] == 0
    for n in range(1, len(tokens)):
        assert logprobs[n] <= 0
        assert best[n][tokens[n]] == logprobs[n]  # also where it is not among the most likely ones
        assert max(best[n].values()) >= logprobs[n]
        assert PROMPT[offsets[n] :].startswith(tokens[n])
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(tokens), 0)


def test_what_was_written_is_as_likely_as_it_was_said_to_be(http: httpx.Client) -> None:
    (written,) = asked(http, prompt=PROMPT, echo=False, max_tokens=12, logprobs=2)["choices"]
    (choice,) = asked(http, prompt=PROMPT + written["text"], logprobs=2)["choices"]
    for whole, rest in zip(lists(choice), lists(written), strict=True):
        assert whole[-len(rest) :] == [one + len(PROMPT) if type(one) is int else one for one in rest]


def test_as_a_harness_adds_it_up(http: httpx.Client, server: Served) -> None:
    """`max_tokens` 1, token ids, and sums over `token_logprobs[context:-1]`: of two continuations the model's own is
    greedy and the more likely one. Several prompts, of which the answer has as many choices."""
    encode = server.service.engine.tokenizer.encode_prompt
    own = asked(http, prompt=PROMPT, echo=False, max_tokens=8)["choices"][0]["text"]
    context = encode([(PROMPT, True)])
    prompts = [encode([(PROMPT + rest, True)]) for rest in (own, own[::-1])]
    choices = asked(http, prompt=prompts, max_tokens=1, seed=1234)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    found = []
    for choice, prompt in zip(choices, prompts, strict=True):
        _, logprobs, best, _ = lists(choice)
        assert len(logprobs) == len(prompt) + 1
        mine = logprobs[len(context) : -1]
        is_greedy = all(one == max(top.values()) for one, top in zip(mine, best[len(context) : -1], strict=True))
        found.append((sum(mine), is_greedy))
    assert found[0][1] and not found[1][1]
    assert found[0][0] > found[1][0]
    again = asked(http, prompt=prompts, max_tokens=1, seed=1234)["choices"]
    assert again == choices


@pytest.mark.parametrize("text", [PROMPT, NAIVE])
def test_streamed(http: httpx.Client, text: str) -> None:
    ask = {"prompt": text, "max_tokens": 6, "n": 2}
    whole = asked(http, **ask)["choices"]
    body = {"model": "demo", "echo": True, "logprobs": 1, "temperature": 0, "stream": True} | ask
    lines = http.post("/v1/completions", json=body).text.split("\n\n")
    pieces = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines if line.startswith("data: {")]
    for choice in whole:
        mine = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert mine[0]["text"] == text
        assert "".join(piece["text"] for piece in mine) == choice["text"]
        told = [lists(piece) for piece in mine if piece["logprobs"]]
        assert [[each for one in told for each in one[n]] for n in range(4)] == lists(choice)


def test_places_are_those_of_characters(http: httpx.Client) -> None:
    """A token that is a part of a character has the place of that character."""
    (choice,) = asked(http, prompt=NAIVE, max_tokens=3)["choices"]
    tokens, _, _, offsets = lists(choice)
    for token, offset in zip(tokens, offsets, strict=True):
        assert "\ufffd" in token or choice["text"][offset:].startswith(token)
    assert "\ufffd" in "".join(tokens)
    assert offsets[-1] < len(choice["text"]) <= offsets[-1] + len(tokens[-1])


def test_a_token_that_ends_the_reply_is_told(http: httpx.Client, server: Served) -> None:
    end = server.service.engine.tokenizer.token_id("<|im_end|>")
    (choice,) = asked(http, prompt=PROMPT, max_tokens=1, logit_bias={str(end): 1000})["choices"]
    assert (choice["text"], choice["finish_reason"]) == (PROMPT, "stop")
    assert len(lists(choice)[0]) == len(server.service.engine.tokenizer.encode(PROMPT)) + 1


def test_what_is_refused(http: httpx.Client, server: Served) -> None:
    body: dict[str, Any] = {"prompt": PROMPT, "echo": True, "max_tokens": 0}
    assert http.post("/v1/completions", json=body).json()["error"]["param"] == "max_tokens"
    many = body | {"prompt": [[1] * 3000] * 50, "logprobs": 5}
    answer = http.post("/v1/completions", json=many)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt" and "900,000" in answer.json()["error"]["message"]
    long = http.post("/v1/completions", json=body | {"prompt": [1] * 5000, "logprobs": 1})
    assert long.json()["error"]["code"] == "context_length_exceeded"
