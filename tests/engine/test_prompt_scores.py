"""How likely the tokens of a prompt are: with the bits that they have in a reply, whatever was read before."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from qwen35_local import _core
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine import quality
from qwen35_local.engine.cached_sequence import SCORED_ROWS, Part, evaluate
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Failed, Told
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.reply import Completion, Done, PromptScores
from qwen35_local.errors import InputError

GREEDY = Sampling(temperature=0)
TEXT = "The capital of France is Paris, and naïve 字 are characters. " * 4


def completed(engine: Engine, asked: Completion) -> Done:
    *_, done = engine.complete(asked)
    assert isinstance(done, Done)
    return done


def scored(engine: Engine, tokens: Sequence[int], *, top: int = 2, writes: bool = False) -> Done:
    return completed(engine, Completion(tokens, GREEDY, max_tokens=1, logprobs=top, scores_prompt=True, writes=writes))


def test_a_prompt_s_tokens_are_as_likely_as_those_of_a_reply(demo: _core.Model) -> None:
    engine = Engine(demo)
    prompt = engine.tokenizer.encode("What is 12 + 30?")
    written = completed(engine, Completion(prompt, Sampling(temperature=1, seed=5), max_tokens=40, logprobs=3))
    tokens = [*prompt, *(one.token.id for one in written.logprobs)]
    done = scored(engine, tokens, top=3)
    assert done.prompt_scores is not None
    assert done.prompt_scores.first == engine.tokenizer.token_bytes(tokens[0])
    assert [one.token.id for one in done.prompt_scores.others] == tokens[1:]
    assert done.prompt_scores.others[len(prompt) - 1 :] == written.logprobs  # to the bit
    assert (done.reason, done.message.text, done.usage.generated_tokens) == ("length", "", 0)
    assert done.usage.evaluated_tokens == done.usage.prompt_tokens == len(tokens)


def test_they_are_those_that_perplexity_is_made_of(demo: _core.Model) -> None:
    engine = Engine(demo)
    tokens = engine.tokenizer.encode(TEXT)
    assert len(tokens) > 2 * SCORED_ROWS
    logits = _core.Sequence(demo).append(tokens, logits="all")[:, : engine.tokenizer.n_used]  # tokens that exist
    expected = quality.log_softmax(logits)
    done = scored(engine, tokens)
    assert done.prompt_scores is not None
    found = [one.token.logprob for one in done.prompt_scores.others]
    np.testing.assert_allclose(found, expected[np.arange(len(tokens) - 1), tokens[1:]], rtol=1e-5, atol=1e-5)
    best = [one.top[0].id for one in done.prompt_scores.others]
    assert best == expected[:-1].argmax(axis=1).tolist()


@pytest.mark.parametrize("n_tokens", [1, 2, SCORED_ROWS, SCORED_ROWS + 1])
def test_what_was_read_before_changes_nothing(demo: _core.Model, n_tokens: int) -> None:
    engine = Engine(demo)
    tokens = engine.tokenizer.encode(TEXT)[:n_tokens]
    before = scored(engine, tokens, writes=True)
    plain = completed(engine, Completion(tokens, GREEDY, max_tokens=1, logprobs=2))
    again = scored(engine, tokens, writes=True)
    assert again.prompt_scores == before.prompt_scores
    assert again.prompt_scores is not None and len(again.prompt_scores.others) == n_tokens - 1
    assert again.usage.reused_tokens == 0
    assert again.logprobs == plain.logprobs
    assert completed(engine, Completion([*tokens, 5], GREEDY, max_tokens=1)).usage.reused_tokens >= 0


def test_the_token_that_ends_a_reply_is_told_too(demo: _core.Model) -> None:
    """Harnesses leave out the last token, taking it for one that was written."""
    engine = Engine(demo)
    ends = Sampling(temperature=0, logit_bias={engine.tokenizer.token_id("<|im_end|>"): 1000.0})
    tokens = engine.tokenizer.encode("Hello")
    asked = Completion(tokens, ends, max_tokens=1, logprobs=1, scores_prompt=True)
    done = completed(engine, asked)
    assert done.reason == "stop" and done.message.text == ""
    assert [one.token.id for one in done.logprobs] == [engine.tokenizer.token_id("<|im_end|>")]


def test_several_replies_are_told_of_one_prompt_that_is_read_once(demo: _core.Model) -> None:
    engine = Engine(demo)
    tokens = engine.tokenizer.encode("Tell me a story.")
    asked = Completion(tokens, Sampling(temperature=1, seed=1), 6, logprobs=0, n=3, scores_prompt=True)
    told = list(engine.complete(asked))
    scores = [event for event in told if isinstance(event, PromptScores)]
    assert [one.choice for one in scores] == [0, 1, 2]
    assert told[: len(scores)] == scores  # before anything that is written
    dones = [event for event in told if isinstance(event, Done)]
    for done in dones:
        alone = completed(engine, Completion(tokens, Sampling(temperature=1, seed=1 + done.choice), 6, logprobs=0))
        assert done.message == alone.message
        assert done.prompt_scores is not None and done.prompt_scores.others == scores[0].others


def test_beside_others_and_interrupted_it_is_as_alone(demo: _core.Model) -> None:
    """Room for keys and values that two of three have: the last one waits, and is read again."""
    tokens = [Engine(demo).tokenizer.encode(f"{n}. {TEXT}" * (2 + n)) for n in range(3)]
    expected = [scored(Engine(demo), each, writes=True) for each in tokens]
    most = len(tokens[1]) + len(tokens[2]) + 300
    rows: list[int] = []

    def noted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        rows.append(sum(len(part.rows) for part in parts if part.logits == "all"))
        return evaluate(model, parts)

    with Engine(demo, limits=Limits(parallel=3, queue=8, kv_tokens=most), evaluate=noted) as engine:
        clients = [Waiting() for _ in tokens]
        for client, each in zip(clients, tokens, strict=True):
            engine.submit(Completion(each, GREEDY, 1, logprobs=2, scores_prompt=True), client)
        for client, alone in zip(clients, expected, strict=True):
            done = client.done
            assert done.prompt_scores == alone.prompt_scores
            assert done.logprobs == alone.logprobs
    assert max(rows) > SCORED_ROWS  # side by side
    assert max(rows) <= 3 * SCORED_ROWS


class Waiting:
    def __init__(self) -> None:
        self._told: list[Told] = []
        self._is_over = threading.Event()

    def __call__(self, told: Told) -> None:
        self._told.append(told)
        if isinstance(told, Done | Failed):
            self._is_over.set()

    @property
    def done(self) -> Done:
        assert self._is_over.wait(120)
        last = self._told[-1]
        assert isinstance(last, Done), last
        return last


def test_what_cannot_be_asked(demo: _core.Model) -> None:
    with pytest.raises(InputError, match="scores_prompt without logprobs"):
        Completion([1], GREEDY, scores_prompt=True)
    with pytest.raises(InputError, match="neither writes nor"):
        Completion([1], GREEDY, logprobs=1, writes=False)
