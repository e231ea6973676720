"""What the tests of Anthropic's Messages API ask."""

from typing import Any

from conversations import CAPITAL, WEATHER_QUESTION

WEATHER = {
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASKED: dict[str, Any] = {
    "model": "any-name-at-all",
    "max_tokens": 400,
    "extra_body": {"temperature": 0},
    "messages": [{"role": "user", "content": CAPITAL}],
}
DIRECT = ASKED | {"thinking": {"type": "disabled"}}
CALL = ASKED | {"tools": [WEATHER], "messages": [{"role": "user", "content": WEATHER_QUESTION}]}


def raw(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The body that the client makes of its arguments."""
    return {key: value for key, value in asked.items() if key != "extra_body"} | asked["extra_body"] | more
