"""The library over the embedded model: what a program that imports it relies on."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from wrong_values import DEEP

import qwen35_local
from qwen35_local import Message, Model, ReasoningDelta, Sampling, TextDelta, ToolCall, ToolCallDone, _core, hub
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Done, Request
from qwen35_local.errors import FormatError, InputError, Qwen35Error
from qwen35_local.models.drafts import MOST_DRAFTS

GREEDY = Sampling(temperature=0.0)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTIONS = ["What is the capital of Italy?", "What is 12 + 30?", "Tell me a short story.", "Hello! My name is Ann."]


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model.from_file(context_tokens=4096, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def alone(model: Model) -> dict[str, str]:
    """What the engine itself answers to each question, with nothing read before."""
    answers = {}
    for question in QUESTIONS:
        engine = Engine(model._engine.model)
        *_, done = engine.reply(Request([Message("user", question)], GREEDY))
        assert isinstance(done, Done)
        answers[question] = done.message.text
    return answers


def test_chat_answers(model: Model, alone: dict[str, str]) -> None:
    reply = model.chat([{"role": "user", "content": QUESTIONS[0]}], sampling=GREEDY)
    assert "Rome" in reply.text
    assert reply.text == str(reply) == alone[QUESTIONS[0]]
    assert reply.finish_reason == "stop"
    assert reply.reasoning
    assert reply.message == Message("assistant", reply.text, reply.reasoning)
    assert model.chat(QUESTIONS[0], sampling=GREEDY).message == reply.message
    with pytest.raises(FrozenInstanceError):
        reply.finish_reason = "length"  # type: ignore[misc]


def test_thinking_can_be_left_out(model: Model) -> None:
    reply = model.chat(QUESTIONS[0], thinking=False, sampling=GREEDY)
    assert reply.reasoning == ""
    assert "Rome" in reply.text


def test_a_stream_adds_up_to_the_reply(model: Model) -> None:
    stream = model.chat_stream(QUESTIONS[1], sampling=GREEDY)
    pieces = list(stream)
    reply = stream.result()
    assert "".join(p.text for p in pieces if isinstance(p, TextDelta)) == reply.text
    assert "".join(p.text for p in pieces if isinstance(p, ReasoningDelta)) == reply.reasoning
    assert "42" in reply.text


def test_a_conversation_that_goes_on_is_not_read_again(model: Model) -> None:
    messages = [Message("user", "Hello! My name is Ann.")]
    first = model.chat(messages, thinking=True, sampling=GREEDY)
    messages += [first.message, Message("user", "What is my name?")]
    second = model.chat(messages, thinking=True, sampling=GREEDY)
    usage = second.usage
    assert "Ann" in second.text
    assert usage.reused_tokens >= first.usage.prompt_tokens - 4
    assert usage.evaluated_tokens == usage.prompt_tokens - usage.reused_tokens
    assert usage.evaluated_tokens <= len(model.tokenize(first.text + "What is my name?")) + 16
    assert model.chat(messages, thinking=True, sampling=GREEDY).usage.evaluated_tokens == 0


def test_a_tool_is_called_and_its_result_is_read(model: Model) -> None:
    messages = [Message("user", "What is the weather in Rome?")]
    stream = model.chat_stream(messages, tools=[WEATHER], sampling=GREEDY)
    calls = [piece.call for piece in stream if isinstance(piece, ToolCallDone)]
    reply = stream.result()
    assert reply.finish_reason == "tool_calls"
    assert list(reply.tool_calls) == calls == [ToolCall("get_weather", {"city": "Rome"}, calls[0].id)]
    result = Message("tool", json.dumps({"sky": "sunny", "temperature": 21}), name="get_weather")
    answer = model.chat([*messages, reply.message, result], tools=[WEATHER], sampling=GREEDY)
    assert "sunny" in answer.text
    assert "21" in answer.text
    assert answer.usage.reused_tokens >= reply.usage.prompt_tokens


def test_a_seed_gives_the_same_reply(model: Model) -> None:
    warm = Sampling(temperature=2.0, top_k=50)
    first, again, other = (model.chat(QUESTIONS[2], sampling=warm, seed=seed, max_tokens=40) for seed in (7, 7, 8))
    assert first.message == again.message != other.message
    assert model.chat(QUESTIONS[2], sampling=replace(warm, seed=7), max_tokens=40).message == first.message


def test_max_tokens_ends_a_reply(model: Model) -> None:
    reply = model.chat(QUESTIONS[2], sampling=GREEDY, max_tokens=5)
    assert (reply.finish_reason, reply.usage.generated_tokens) == ("length", 5)


def test_generate_goes_on_from_a_prompt_with_no_template(model: Model, alone: dict[str, str]) -> None:
    opening = f"<|im_start|>user\n{QUESTIONS[0]}<|im_end|>\n<|im_start|>assistant\n<think>\n"
    prompt = model.tokenize(opening, special=True)
    chat = model.chat(QUESTIONS[0], sampling=GREEDY)
    reply = model.generate(prompt, sampling=GREEDY)
    assert reply.text == f"{chat.reasoning}\n</think>\n\n{chat.text}"
    assert (reply.finish_reason, reply.reasoning, reply.usage.prompt_tokens) == ("stop", "", len(prompt))
    assert model.generate(opening, sampling=GREEDY, max_tokens=3).usage.prompt_tokens > len(prompt)  # text is only text
    stream = model.stream(prompt, sampling=GREEDY)
    assert "".join(piece.text for piece in stream if isinstance(piece, TextDelta)) == reply.text
    assert stream.result().usage.evaluated_tokens == 0


def test_a_stop_string_ends_the_answer_before_it(model: Model, alone: dict[str, str]) -> None:
    before, _, _ = alone[QUESTIONS[0]].partition("Rome")
    for stop in ("Rome", ["nothing", "Rome"]):
        reply = model.chat(QUESTIONS[0], sampling=GREEDY, stop=stop)
        assert (reply.text, reply.finish_reason, reply.stop_string) == (before, "stop", "Rome")
    assert model.chat(QUESTIONS[0], sampling=GREEDY).stop_string is None


def test_logprobs_are_those_of_the_model(model: Model) -> None:
    prompt = model.tokenize("The capital of Italy is")
    reply = model.generate(prompt, sampling=GREEDY, max_tokens=2, logprobs=4)
    tokens = list(prompt)
    assert len(reply.logprobs) == 2
    for told in reply.logprobs:
        logits = _core.Sequence(model._engine.model).append(tokens)[-1].astype(np.float64)
        logits = logits[: model._engine.tokenizer.n_used]
        expected = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        best = np.argsort(-expected, kind="stable")[:4]
        assert [token.id for token in told.top] == best.tolist()
        np.testing.assert_allclose([token.logprob for token in told.top], expected[best], atol=1e-5)
        assert told.token == told.top[0]
        tokens.append(told.token.id)
    assert "".join(told.token.text for told in reply.logprobs) == reply.text
    assert model.generate(prompt, sampling=GREEDY, max_tokens=3).logprobs == ()


def test_several_replies_are_each_what_its_seed_gives(model: Model) -> None:
    warm = Sampling(temperature=2.0, top_k=50)
    options = {"sampling": warm, "max_tokens": 12, "stop": [" the"], "logprobs": 1}
    prompt = model.tokenize("The capital of Italy is")
    for ask, asked in ((model.chat, QUESTIONS[2]), (model.generate, prompt)):
        reply = ask(asked, seed=7, n=3, **options)  # type: ignore[operator]
        assert len(reply.choices) == 3
        assert (reply.choices[0], reply.choices[1:]) == (reply, reply.others)
        for choice, one in enumerate(reply.choices):
            alone = ask(asked, seed=7 + choice, **options)  # type: ignore[operator]
            assert (one.message, one.finish_reason, one.stop_string) == (
                alone.message,
                alone.finish_reason,
                alone.stop_string,
            )
            assert [told.token for told in one.logprobs] == [told.token for told in alone.logprobs]
            assert one.usage.generated_tokens == alone.usage.generated_tokens
            assert alone.choices == (alone,)
        for one in reply.others:
            assert (one.usage.reused_tokens, one.usage.evaluated_tokens) == (reply.usage.prompt_tokens, 0)


def test_a_stream_says_which_reply_a_piece_is_of(model: Model) -> None:
    with model.chat_stream(QUESTIONS[2], sampling=Sampling(temperature=2.0), seed=7, max_tokens=12, n=3) as stream:
        said = ["", "", ""]
        for piece in stream:
            if isinstance(piece, TextDelta | ReasoningDelta):
                said[piece.choice] += piece.text
    assert said == [reply.reasoning + reply.text for reply in stream.result().choices]
    cut = model.stream("Once", sampling=Sampling(seed=1), n=3)
    next(cut)
    cut.cancel()
    assert [reply.finish_reason for reply in cut.result().choices] == ["cancelled"] * 3
    never = model.stream("Once", n=3)
    never.cancel()
    assert [reply.finish_reason for reply in never.result().choices] == ["cancelled"] * 3


def test_a_biased_token_is_not_chosen(model: Model) -> None:
    prompt = model.tokenize("The capital of Italy is")
    plain = model.generate(prompt, sampling=GREEDY, max_tokens=1, logprobs=2)
    first, second = (token.id for token in plain.logprobs[0].top)
    without = Sampling(temperature=0.0, logit_bias={first: -1e5})
    assert model.generate(prompt, sampling=without, max_tokens=1, logprobs=0).logprobs[0].token.id == second


def test_the_preset_is_the_models_own(model: Model) -> None:
    preset = model.preset()
    assert (round(preset.temperature, 3), preset.top_k, round(preset.top_p, 3)) == (0.3, 20, 0.9)
    asked = model.chat(QUESTIONS[2], seed=3, max_tokens=20).message
    assert asked == model.chat(QUESTIONS[2], sampling=replace(preset, seed=3), max_tokens=20).message


def test_text_to_tokens_and_back(model: Model) -> None:
    text = "Grüße, <|im_end|> 🎈"
    tokens = model.tokenize(text)
    assert model.detokenize(tokens) == text
    (end,) = model.tokenize("<|im_end|>", special=True)
    assert end not in tokens
    assert model.detokenize([*tokens, end]) == text
    assert model.detokenize([end], special=True) == "<|im_end|>"
    assert model.tokenize("") == []
    with pytest.raises(InputError, match="outside the vocabulary"):
        model.detokenize([10**6])


def test_threads_get_the_answers_they_would_get_alone(model: Model, alone: dict[str, str]) -> None:
    found: dict[tuple[int, str], str] = {}

    def ask(n: int) -> None:
        for question in QUESTIONS[n % 2 :] + QUESTIONS[: n % 2]:
            found[n, question] = model.chat(question, sampling=GREEDY).text

    threads = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {(n, question): alone[question] for n in range(4) for question in QUESTIONS}


def test_a_stream_is_cancelled_from_another_thread(model: Model, alone: dict[str, str]) -> None:
    stream = model.chat_stream(QUESTIONS[2], sampling=GREEDY)
    next(stream)
    other = threading.Thread(target=stream.cancel)
    other.start()
    other.join(60)
    reply = stream.result()
    assert reply.finish_reason == "cancelled"
    assert 1 <= reply.usage.generated_tokens <= 2 * (1 + MOST_DRAFTS)  # two passes
    assert model.chat(QUESTIONS[2], sampling=GREEDY).text == alone[QUESTIONS[2]]


def test_a_closed_model_says_so() -> None:
    with Model.from_file(context_tokens=256, threads=1) as model:
        stream = model.chat_stream(QUESTIONS[2])
        next(stream)
    assert stream.result().finish_reason == "cancelled"
    assert repr(model) == "<Model: closed>"
    for use in (lambda: model.chat("Hello"), lambda: model.tokenize("Hello"), lambda: model.name):
        with pytest.raises(InputError, match=r"closed; load it again with Model\.from_file"):
            use()
    model.close()


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with Model.from_file(hub.embedded_model(), context_tokens=256, threads=1, kv="q8") as model:
        model.chat("Hello", max_tokens=3)
        assert (model.kv, model.context_tokens, model.path) == ("q8", 256, hub.embedded_model())
    assert capfd.readouterr() == ("", "")


def test_what_was_chosen_is_told() -> None:
    with Model.from_file(memory_bytes=440 << 20, threads=1) as model:
        assert model.kv == "k8v4"
        assert "keys and values are kept in k8v4: the widest format that fits; kv says otherwise" in model.notices


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"path_or_name": "9b"}, r"9b: not on this disk; `qwen35 pull 9b` downloads it"),
        ({"path_or_name": "/nowhere/model.gguf"}, "no such file or folder"),
        ({"memory_bytes": 20 << 20, "context_tokens": 4096}, r"20.0 MiB \(memory_bytes\).*memory_bytes overrides"),
        ({"memory_bytes": 320 << 20, "context_tokens": 262144, "kv": "f16"}, r"What would fit: kv=\w+"),
        ({"context_tokens": 10**9, "memory_bytes": 1 << 30}, r"context_tokens is 1,000,000,000; expected at most"),
        ({"threads": -1}, "threads is -1"),
        ({"draft": "on"}, "draft is 'on'; expected auto, off, or 0 to 8"),
        ({"draft": 9}, "draft is 9; expected auto, off, or 0 to 8"),
        ({"kv": "q5"}, "kv is 'q5'; expected auto or one of f16, q8, k8v4, q4"),
        ({"context_tokens": -1}, "context_tokens is -1"),
    ],
)
def test_what_cannot_be_loaded(
    options: dict[str, object], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "QWEN35_HOME", "HF_HOME", "OLLAMA_MODELS"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(InputError, match=complaint) as caught:
        Model.from_file(**options)  # type: ignore[arg-type]
    assert "--" not in str(caught.value)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("Hello")
    with pytest.raises(FormatError, match="not a GGUF file"):
        Model.from_file(path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"messages": []}, "messages: expected at least one message"),
        ({"messages": [{"role": "robot", "content": ""}]}, r"messages\[0\].role: expected one of"),
        ({"messages": 3}, "messages: expected a list"),
        ({"max_tokens": 0}, "max_tokens: expected a whole number from 1"),
        ({"max_tokens": 1.5}, "max_tokens: expected a whole number from 1"),
        ({"seed": -1}, "seed: expected"),
        ({"sampling": {"temperature": 0}}, "sampling: expected a Sampling"),
        ({"sampling": DEEP}, r"sampling: expected a Sampling, got \[\["),
        ({"max_tokens": DEEP}, r"max_tokens: expected a whole number .* got \[\["),
        (
            {"output_format": {"type": "array", "items": {"enum": DEEP}}},
            "expected a JSON schema of plain values: nested too",
        ),
        ({"tools": [{"name": 3}]}, r"tools\[0\]: expected a function with a name"),
        ({"stop": ""}, "stop: expected up to 16 texts"),
        ({"logprobs": -1}, "logprobs: expected an integer from 0"),
        ({"n": 0}, "n: expected an integer from 1 to 128, got 0"),
        ({"n": 129}, "n: expected an integer from 1 to 128, got 129"),
    ],
)
def test_arguments_are_checked_at_the_call(model: Model, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        model.chat_stream(**{"messages": "Hello", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["", [], [1.5], [-1], [10**7], 5])
def test_a_prompt_is_text_or_ids(model: Model, prompt: object) -> None:
    with pytest.raises(InputError, match=r"^(the prompt is empty|prompt: )"):
        model.stream(prompt)  # type: ignore[arg-type]


def test_a_prompt_that_does_not_fit_is_refused(model: Model) -> None:
    too_long = (
        r"the prompt is \d+ tokens and the context 4096; shorten it, or load the model with larger context_tokens"
    )
    for use in (model.chat, model.generate):
        with pytest.raises(InputError, match=too_long):
            use("word " * 5000)
    assert model.chat("Hello", max_tokens=1).usage.generated_tokens == 1


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys, qwen35_local; print([m for m in sys.modules if m.startswith(('qwen35_local.', 'numpy'))]); "
        "print(all(hasattr(qwen35_local, name) for name in qwen35_local.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_public_names_are_documented() -> None:
    for name in qwen35_local.__all__:
        value = getattr(qwen35_local, name)
        assert value.__doc__ or name == "KvFormat", name
        assert name in dir(qwen35_local)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, Qwen35Error)
    with pytest.raises(AttributeError, match="module 'qwen35_local' has no attribute 'Llama'"):
        qwen35_local.Llama  # type: ignore[attr-defined]  # noqa: B018
