"""What a remote engine is asked, and what becomes of what it says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from upstream import DONE, MODEL, Upstream, event, said, until, upstream, usage

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDone, merged
from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.wishes import OutputFormat, ToolChoice
from qwen35_local.engine.job import Failed, Told
from qwen35_local.engine.reply import Completion, Done, Logprobs, Request
from qwen35_local.errors import InputError, Unavailable
from qwen35_local.remote.address import Address
from qwen35_local.remote.engine import RemoteEngine, version_of

TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
QUESTION = [Message("user", "Hello")]


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream() as fake:
        yield fake


@pytest.fixture
def engine(server: Upstream) -> RemoteEngine:
    return RemoteEngine(Address(f"{server.url}/v1"))


def ask(engine: RemoteEngine, **wishes: Any) -> tuple[list[Any], Done]:
    """The events of a reply, joined, and its end."""
    wishes.setdefault("sampling", engine.preset(thinking=True))
    wishes.setdefault("messages", QUESTION)
    *told, done = list(engine.reply(Request(**wishes)))
    assert isinstance(done, Done)
    return merged(told), done


def test_a_request_says_model_messages_and_the_preset(server: Upstream, engine: RemoteEngine) -> None:
    call = Message("assistant", "", "Which clock?", (ToolCall("clock", {"zone": "UTC"}, "call_9"),))
    result = Message("tool", "12:00", name="clock", tool_call_id="call_9")
    ask(engine, messages=[Message("system", "Be brief."), *QUESTION, call, result], tools=[TOOL], max_tokens=50)
    body = server.bodies[0]
    assert body["model"] == "Qwen3.5-397B-A17B" and body["stream"] is True and body["max_tokens"] == 50
    assert body["stream_options"] == {"include_usage": True}
    names = ("temperature", "top_p", "top_k", "min_p", "presence_penalty")
    assert [body[name] for name in names] == [1.0, 0.95, 20, 0.0, 1.5]  # the card's, for thinking
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert body["messages"][2]["reasoning_content"] == body["messages"][2]["reasoning"] == "Which clock?"
    function = body["messages"][2]["tool_calls"][0]["function"]
    assert json.loads(function["arguments"]) == {"zone": "UTC"} and function["name"] == "clock"
    assert body["messages"][3]["tool_call_id"] == "call_9"
    assert body["tools"] == [TOOL] and "tool_choice" not in body
    assert "chat_template_kwargs" not in body and "thinking_token_budget" not in body


def test_wishes_are_passed_on(server: Upstream, engine: RemoteEngine) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    settings = Sampling(seed=5, repetition_penalty=1.1, logit_bias={3: float("-inf")})
    form = OutputFormat("json_schema", '{"type": "object"}')
    choice = ToolChoice("required", ("clock",), is_parallel=False)
    ask(
        engine,
        sampling=settings,
        thinking=False,
        keep_thinking=True,
        output_format=form,
        tools=[TOOL, other],
        tool_choice=choice,
        logprobs=2,
    )
    body = server.bodies[0]
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "preserve_thinking": True}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert body["tools"] == [TOOL] and body["parallel_tool_calls"] is False
    assert body["tool_choice"] == {"type": "function", "function": {"name": "clock"}}
    assert body["logprobs"] is True and body["top_logprobs"] == 2
    assert body["seed"] == 5 and body["repetition_penalty"] == body["repeat_penalty"] == 1.1
    assert body["logit_bias"] == {"3": -100.0}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_answer_and_usage(server: Upstream, engine: RemoteEngine, name: str) -> None:
    thought = [event({name: "Hm"}), event({name: ", well"})]
    server.script = [[event({"role": "assistant", "content": ""}), *thought, *said("Hel", "lo!")]]
    told, done = ask(engine)
    assert told == [ReasoningDelta("Hm, well"), TextDelta("Hello!")]
    assert done.reason == "stop" and done.message == Message("assistant", "Hello!", "Hm, well")
    assert (done.usage.prompt_tokens, done.usage.reused_tokens, done.usage.evaluated_tokens) == (7, 3, 4)
    assert done.usage.generated_tokens == 2 and done.usage.reasoning_tokens == 2
    assert done.reuse.reader == f"{server.url}/v1" and "cache" in done.reuse.source
    details = {"accepted_prediction_tokens": 4, "rejected_prediction_tokens": 1}
    told_usage = event(usage={"completion_tokens": 9, "completion_tokens_details": details})
    server.script = [[event({"content": "Hello!"}), event({}, "stop"), told_usage, DONE]]
    _, done = ask(engine)
    assert (done.usage.drafted_tokens, done.usage.accepted_tokens) == (5, 4)


def test_thinking_that_is_left_in_the_text_is_found_and_then_expected(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [said("Hm", "m</th", "ink>\n\nHello!"), said("Well", "</think>", "\n\nYes."), said("Plain.")]
    assert ask(engine)[0] == [ReasoningDelta("Hmm"), TextDelta("Hello!")]
    stream = engine.reply(Request(QUESTION, engine.preset(thinking=True)))
    assert next(stream) == ReasoningDelta("Well")  # at once, now that it is known
    assert merged([one for one in stream if not isinstance(one, Done)]) == [TextDelta("Yes.")]
    assert ask(engine, thinking=False)[0] == [TextDelta("Plain.")]


def test_an_answer_without_thinking_is_an_answer(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [said("Hel", "lo!"), said("<think>\nHm</think>\n\n", "Yes.")]
    assert ask(engine)[0] == [TextDelta("Hello!")]
    assert ask(engine)[0] == [ReasoningDelta("Hm"), TextDelta("Yes.")]


def call_piece(index: int, text: str, **more: Any) -> bytes:
    function = {"arguments": text} | ({"name": more.pop("name")} if "name" in more else {})
    return event({"tool_calls": [{"index": index, "function": function, **more}]})


def test_calls_in_pieces(server: Upstream, engine: RemoteEngine) -> None:
    pieces = [
        call_piece(0, "", name="clock", id="a"),
        call_piece(0, '{"zone":'),
        call_piece(0, '"UTC"}'),
        call_piece(1, "{}", name="clock", id="b"),
    ]
    server.script = [[event({"reasoning": "Hm"}), *pieces, event({}, "tool_calls"), usage(), DONE]]
    told, done = ask(engine, tools=[TOOL])
    calls = (ToolCall("clock", {"zone": "UTC"}, "a"), ToolCall("clock", {}, "b"))
    assert [one.call for one in told if isinstance(one, ToolCallDone)] == list(calls)
    assert done.reason == "tool_calls" and done.message.tool_calls == calls


def test_a_call_that_is_cut_is_text(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [[call_piece(0, '{"zone": "U', name="clock", id="a"), event({}, "length"), DONE]]
    _, done = ask(engine, tools=[TOOL], thinking=False)
    assert done.reason == "length" and not done.message.tool_calls and '{"zone": "U' in done.message.text


def test_calls_in_the_text_are_found(server: Upstream, engine: RemoteEngine) -> None:
    written = "<tool_call>\n<function=clock>\n<parameter=zone>\nUTC\n</parameter>\n</function>\n</tool_call>"
    server.script = [said(written[:20], written[20:]), said(written)]
    assert ask(engine, tools=[TOOL], thinking=False)[1].message.tool_calls == (ToolCall("clock", {"zone": "UTC"}),)
    done = ask(engine, tools=[TOOL], thinking=False, tool_choice=ToolChoice("none"))[1]
    assert done.message.text == written


def test_logprobs(server: Upstream, engine: RemoteEngine) -> None:
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.5}]}
    chunk = json.dumps({"choices": [{"delta": {"content": "Hi"}, "logprobs": {"content": [entry]}}]})
    server.script = [[f"data: {chunk}\n\n".encode(), event({}, "stop"), DONE]]
    told, done = ask(engine, thinking=False, logprobs=1)
    assert isinstance(told[0], Logprobs) and told[0].token.data == b"Hi" and told[0].top[0].logprob == -0.5
    assert done.logprobs == (told[0],)


def test_a_stop_string_ends_the_answer_not_the_thinking(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [
        [event({"reasoning": "END is near"}), event({"content": "one E"}), event({"content": "ND two"}), 30.0]
    ]
    told, done = ask(engine, stop=["END"])
    assert told == [ReasoningDelta("END is near"), TextDelta("one ")]
    assert done.reason == "stop" and done.stop_string == "END" and "stop" not in server.bodies[0]
    assert until(lambda: server.left == 1)  # nobody reads on


def test_a_budget_is_the_servers_or_else_kept_here(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [[*[event({"reasoning": f"{n} "}) for n in range(90)], 30.0], said("\n\nFour.")]
    _, done = ask(engine, thinking_tokens=10, max_tokens=1000)
    first, second = server.bodies
    assert first["thinking_token_budget"] == 10
    assert done.usage.reasoning_tokens == 74 and done.message.text == "Four."
    assert done.notes == ("the thinking reached its budget of 10 tokens",)
    assert "thinking_token_budget" not in second and second["max_tokens"] == 1000 - 74
    assert second["continue_final_message"] is True and second["add_generation_prompt"] is False
    last = second["messages"][-1]
    assert last["role"] == "assistant" and last["content"].startswith("<think>\n0 1 ")
    assert last["content"].endswith("directly now.\n</think>\n\n")


def test_a_continuation_that_is_refused_is_asked_without_the_thoughts(server: Upstream, engine: RemoteEngine) -> None:
    from starlette.responses import JSONResponse

    refused = JSONResponse({"error": {"message": "no continue_final_message here"}}, 400)
    server.script = [[event({"reasoning": "Hm "}) for _ in range(90)], refused, said("Four.")]
    assert ask(engine, thinking_tokens=10)[1].message.text == "Four."
    assert server.bodies[2]["messages"] == server.bodies[0]["messages"]
    assert server.bodies[2]["chat_template_kwargs"] == {"enable_thinking": False}


def test_answer_now(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [[event({"reasoning": "Hm"}), 30.0], said("Four.")]
    told: list[Told] = []
    job = engine.submit(Request(QUESTION, engine.preset(thinking=True)), told.append)
    assert until(lambda: bool(told))
    job.answer_now()
    assert until(lambda: isinstance(told[-1], Done))
    done = told[-1]
    assert isinstance(done, Done) and done.message == Message("assistant", "Four.", "Hm")
    assert done.notes == ("the thinking was ended to answer now",)


def test_loops_end_the_thinking_and_the_answer(server: Upstream, engine: RemoteEngine) -> None:
    round = [event({"reasoning": "so it is "})] * 400
    server.script = [[*round, 30.0], [*([event({"content": "and so on "})] * 1000), 30.0]]
    _, done = ask(engine)
    assert done.reason == "loop" and done.notes == ("the thinking repeated itself",)
    assert done.message.text.startswith("and so on")
    server.script = [[*round, *said("Four.")]]
    assert ask(engine, breaks_loops=False)[1].message.text == "Four."


def test_cancelling_closes_the_connection(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [[event({"reasoning": "Hm"}), 30.0], [30.0]]
    for n_events in (1, 0):
        told: list[Told] = []
        job = engine.submit(Request(QUESTION, engine.preset(thinking=True)), told.append)
        assert until(lambda n=n_events, t=told: len(t) >= n and len(server.bodies) == 2 - n)  # type: ignore[misc]
        job.cancel()
        assert until(lambda t=told: bool(t) and isinstance(t[-1], Done))  # type: ignore[misc]
        assert told[-1].reason == "cancelled"  # type: ignore[union-attr]
    assert until(lambda: server.left == 2) and engine.running == []


def test_several_replies_are_several_requests(server: Upstream, engine: RemoteEngine) -> None:
    settings = Sampling(seed=8)
    ends = [one for one in engine.reply(Request(QUESTION, settings, n=3)) if isinstance(one, Done)]
    assert sorted(done.choice for done in ends) == [0, 1, 2]
    assert sorted(body["seed"] for body in server.bodies) == [8, 9, 10]


def test_leaving_the_events_ends_the_reply(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [[event({"reasoning": "Hm"}), 30.0]]
    stream = engine.reply(Request(QUESTION, engine.preset(thinking=True)))
    next(stream)
    stream.close()
    assert until(lambda: server.left == 1)


def test_what_needs_tokens_is_refused_in_a_line(server: Upstream) -> None:
    server.models = {"data": [{"id": "m", "owned_by": "somebody"}]}
    engine = RemoteEngine(Address(f"{server.url}/v1"))
    with pytest.raises(Unavailable, match="known to http://127"):
        engine.encode(Request(QUESTION, Sampling()))
    with pytest.raises(Unavailable, match="asked for chats alone"):
        engine.submit(Completion([1], Sampling()), lambda told: None)
    with pytest.raises(Unavailable):
        engine.tokenizer.one_token("Hello")
    assert engine.tokenizer.one_token("17") == 17


@pytest.mark.parametrize(
    "name, version",
    [
        ("Qwen/Qwen3.5-397B-A17B-FP8", "qwen3.5"),
        ("qwen3.6-27b", "qwen3.6"),
        ("Qwen3.8-27B", "qwen3.8"),
        ("Qwen3.5-0.8B", "qwen3.5-small"),
        ("Qwen3.5-122B-A10B", "qwen3.5"),
        ("served", "qwen3.5"),
    ],
)
def test_a_name_tells_the_version(name: str, version: str) -> None:
    assert version_of(name) == version


def test_the_model_is_the_only_one_or_the_one_named(server: Upstream) -> None:
    assert RemoteEngine(Address(f"{server.url}/v1"), "secret-key").context_tokens == 262144
    assert server.keys == ["Bearer secret-key"]
    server.models = {"data": [MODEL, {"id": "other", "owned_by": "llamacpp", "meta": {"n_ctx": 4096}}]}
    with pytest.raises(InputError, match=r"has the models Qwen3.5-397B-A17B, other; choose one with --model"):
        RemoteEngine(Address(f"{server.url}/v1"))
    assert RemoteEngine(Address(f"{server.url}/v1"), name="other").context_tokens == 4096
    with pytest.raises(InputError, match="third"):
        RemoteEngine(Address(f"{server.url}/v1"), name="third")


def test_failures_come_to_the_sink(server: Upstream, engine: RemoteEngine) -> None:
    server.script = [[b"data: nonsense\n\n"]]
    told: list[Told] = []
    engine.submit(Request(QUESTION, engine.preset(thinking=True)), told.append)
    assert until(lambda: bool(told)) and isinstance(told[-1], Failed)
