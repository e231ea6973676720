"""`chat --json` with stop strings, logprobs and a bias, as a script uses them."""

import json
import math
from typing import Any

import pytest
from test_command_line import qwen35, refused

ASK = ("chat", "-p", "What is the capital of France?", "--json", "--no-think", "--temperature", "0")


def events_of(*options: str) -> list[dict[str, Any]]:
    run = qwen35(*ASK, *options)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "text")


def test_stop_and_logprobs() -> None:
    plain = events_of("--logprobs", "2")
    answer = text_of(plain)
    told = [event for event in plain if event["type"] == "logprobs"]
    assert b"".join(bytes(event["bytes"]) for event in told).decode() == answer
    for event in told:
        assert [len(event["top"]), event["top"][0]["id"]] == [2, event["id"]]  # greedy
        assert event["logprob"] == event["top"][0]["logprob"] <= 0
        assert sum(math.exp(token["logprob"]) for token in event["top"]) <= 1 + 1e-9
    assert "stop_string" not in plain[-1]

    cut = events_of("--stop", "nowhere", "--stop", "Paris")
    assert text_of(cut) == answer.partition("Paris")[0] != answer
    assert (cut[-1]["reason"], cut[-1]["stop_string"]) == ("stop", "Paris")
    assert cut[-1]["usage"]["generated_tokens"] < plain[-1]["usage"]["generated_tokens"]


def test_a_bias_by_id_and_by_text() -> None:
    first = next(event for event in events_of("--logprobs", "0") if event["type"] == "logprobs")
    for token in (str(first["id"]), first["text"]):
        assert not text_of(events_of("--logit-bias", f"{token}=-inf")).startswith(first["text"])
    assert text_of(events_of("--logit-bias", f"{first['id']}=1000", "--max-tokens", "4")) == first["text"] * 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--logit-bias", "4095999=1"), "token id 4095999"),
        (("--logit-bias", "the capital=1"), "tokens of this model"),
        (("--stop", "x", *(["--stop", "y"] * 16)), "up to 16 texts"),
    ],
    ids=["id", "text", "stops"],
)
def test_what_cannot_be_is_one_line(options: tuple[str, ...], said: str) -> None:
    run = qwen35(*ASK, *options)
    assert refused(run)
    assert said in run.stderr


@pytest.mark.parametrize("options", [("--logprobs", "1"), ("--n", "2")], ids=["logprobs", "n"])
def test_what_only_events_tell_is_for_json(options: tuple[str, ...]) -> None:
    run = qwen35("chat", "-p", "Hello!", *options)
    assert refused(run)
    assert "add --json" in run.stderr


def test_several_replies() -> None:
    options = ("--temperature", "2", "--seed", "7", "--max-tokens", "12", "--logprobs", "1")
    mixed = events_of(*options, "--n", "3")
    for choice in range(3):
        events = [event for event in mixed if event["choice"] == choice]
        for event in events:
            del event["choice"]
        alone = events_of(*options, "--seed", str(7 + choice))
        assert events[:-1] == alone[:-1]
        assert events[-1]["reason"] == alone[-1]["reason"]
        assert (events[-1]["usage"]["evaluated_tokens"] == 0) == (choice > 0)
        mixed = [event for event in mixed if "choice" in event]
    assert mixed == []


@pytest.mark.parametrize("n", ["0", "-1", "129", "two"])
def test_a_number_of_replies_that_cannot_be(n: str) -> None:
    run = qwen35(*ASK, "--n", n)
    assert refused(run)
    assert "--n" in run.stderr and "an integer from 1 to 128" in run.stderr
