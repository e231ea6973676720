"""What the tests of Ollama's API ask."""

from typing import Any

from conversations import CAPITAL

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
GREEDY = {"temperature": 0}
ASKED: dict[str, Any] = {"model": "any", "messages": [{"role": "user", "content": CAPITAL}], "options": GREEDY}
