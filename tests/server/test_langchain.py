"""LangChain's three chat classes over the dialects that they speak: texts, tools, and answers of a given form."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from conversations import CAPITAL, WEATHER_QUESTION
from serving import Served

_REASON = "needs the [clients] extra: LangChain is missing"
messages = pytest.importorskip("langchain_core.messages", reason=_REASON)
tools = pytest.importorskip("langchain_core.tools", reason=_REASON)

pytestmark = pytest.mark.clients

KINDS = ["openai", "anthropic", "ollama"]


@tools.tool  # type: ignore[untyped-decorator]
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return json.dumps({"sky": "sunny", "temperature": 21, "city": city})


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str, server: Served) -> Any:
    """As its documentation says to point it at another server."""
    library = pytest.importorskip(f"langchain_{kind}", reason=_REASON)
    made: dict[str, Callable[[], Any]] = {
        "openai": lambda: library.ChatOpenAI(
            model="demo", base_url=f"{server.url}/v1", api_key="any", temperature=0, max_retries=0
        ),
        "anthropic": lambda: library.ChatAnthropic(
            model="demo", base_url=server.url, api_key="any", temperature=0, max_tokens=400, max_retries=0
        ),
        "ollama": lambda: library.ChatOllama(model="demo", base_url=server.url, temperature=0),
    }
    return made[kind]()


def test_answers(model: Any) -> None:
    answer = model.invoke(CAPITAL)
    assert "Rome" in answer.text
    usage = answer.usage_metadata
    assert usage["input_tokens"] > 10
    assert usage["output_tokens"] > 5


def test_streams(model: Any) -> None:
    parts = list(model.stream(CAPITAL))
    assert len(parts) > 3
    assert "Rome" in "".join(part.text for part in parts)


def test_calls_a_tool_and_reads_its_result(model: Any) -> None:
    said: list[Any] = [messages.HumanMessage(WEATHER_QUESTION)]
    able = model.bind_tools([get_weather])
    reply = able.invoke(said)
    (call,) = reply.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Rome"})
    answer = able.invoke([*said, reply, get_weather.invoke(call)])
    assert "sunny" in answer.text


def test_streams_a_call(model: Any) -> None:
    parts = list(model.bind_tools([get_weather]).stream(WEATHER_QUESTION))
    whole = parts[0]
    for part in parts[1:]:
        whole += part
    (call,) = whole.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Rome"})


def test_is_made_to_call_a_tool(kind: str, model: Any) -> None:
    if kind == "ollama":
        pytest.skip("Ollama's API cannot ask for a call")
    reply = model.bind_tools([get_weather], tool_choice="get_weather").invoke("Hello! My name is Ann.")
    assert [call["name"] for call in reply.tool_calls] == ["get_weather"]


def test_answers_in_a_given_form(model: Any) -> None:
    schema = {
        "title": "Person",
        "description": "A person.",
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    found = model.with_structured_output(schema, method="json_schema").invoke("Ann is 31 years old. Who is it?")
    assert isinstance(found["name"], str)
    assert type(found["age"]) is int


def thoughts(kind: str, answer: Any) -> bool:
    """Whether it thought, as each class tells."""
    if kind == "openai":
        return bool(answer.usage_metadata["output_token_details"]["reasoning"])
    if kind == "anthropic":
        return "thinking" in [block["type"] for block in answer.content if isinstance(block, dict)]
    return bool(answer.additional_kwargs.get("reasoning_content"))


def test_thinking_is_switched(kind: str, model: Any) -> None:
    switches: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "openai": ({"reasoning_effort": "high"}, {"reasoning_effort": "none"}),
        "anthropic": ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "disabled"}}),
        "ollama": ({"reasoning": True}, {"reasoning": False}),
    }
    on, off = (model.invoke(CAPITAL, **switch) for switch in switches[kind])
    assert (thoughts(kind, on), thoughts(kind, off)) == (True, False)
    assert "Rome" in on.text
    assert "Rome" in off.text


def test_errors_are_those_of_the_client_below(kind: str, model: Any) -> None:
    client = pytest.importorskip(kind, reason=_REASON)
    expected = client.ResponseError if kind == "ollama" else client.BadRequestError
    wrong = {"options": {"temperature": -1}} if kind == "ollama" else {"temperature": -1}
    for ask in (model.invoke, lambda said, **more: list(model.stream(said, **more))):
        with pytest.raises(expected, match="temperature"):
            ask(CAPITAL, **wrong)


def test_several_at_once_are_told_what_each_is_told_alone(model: Any) -> None:
    questions = [CAPITAL, WEATHER_QUESTION, "Hello! My name is Ann.", "What is 48 + 37?"]
    alone = [model.invoke(question).content for question in questions]
    assert [answer.content for answer in model.batch(questions * 2)] == alone * 2
