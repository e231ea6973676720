"""Prompts for what the embedded model can do, by which drafts are measured on replies that mean something."""

from collections.abc import Iterator
from typing import Any

from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.reply import Request

SKILLS = {
    "arithmetic": [
        "What is 47 + 36?",
        "What is 58 plus 25?",
        "Add 312 and 489.",
        "How much is 76 + 87?",
        "Calculate 64 + 19.",
        "What is the sum of 93 and 28?",
        "731 + 254",
        "There are 38 apples in a box. Anna puts in 27 more. How many apples are in the box?",
    ],
    "tool call": [
        "What is the weather in Paris?",
        "How is the weather in Oslo?",
        "Convert 250 USD to EUR.",
        "How much is 75 GBP in JPY?",
        "Set a timer for 25 minutes.",
        "Wake me in 40 minutes.",
        "Send the message 'I am late' to Maria.",
        "Tell Peter: 'dinner is ready'.",
    ],
    "json": [
        "Return JSON with the keys name (string), age (integer) for: Anna is 34 years old.",
        "Extract name, city, job as JSON: Peter lives in Rome and works as a baker.",
        "Turn this into JSON with the keys item (string), price (integer), colour (string): The lamp costs 45 dollars "
        "and is green.",
        "Make a JSON object with name, hobby from this: Maria enjoys swimming.",
        "Return JSON with keys name (string), children (integer), city (string) for: Tom has 3 children and is from "
        "Oslo.",
        "Write this as JSON. Keys: item, weight. Text: The table weighs 18 kg.",
    ],
    "story": [
        "Tell me a short story about a fox.",
        "Write a story about an owl.",
        "Tell me a story about a cat called Mia.",
        "Make up a story about a bear.",
        "A story about a horse, please.",
        "Can you tell me a story about a rabbit?",
    ],
}
_MOST_TOKENS = 220


def _tool(name: str, about: str, **parameters: str) -> dict[str, Any]:
    properties = {parameter: {"type": kind} for parameter, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}


_TOOLS = (
    _tool("get_weather", "Get the weather in a city.", city="string"),
    _tool("convert_currency", "Convert an amount of money.", amount="integer", source="string", target="string"),
    _tool("set_timer", "Set a timer.", minutes="integer"),
    _tool("send_message", "Send a message to a person.", to="string", text="string"),
)


def requests(skill: str, temperature: float) -> Iterator[Request]:
    """The prompts of a skill; sums are thought about."""
    for n, prompt in enumerate(SKILLS[skill]):
        yield Request(
            [Message("user", prompt)],
            Sampling(temperature=temperature, seed=n),
            tools=_TOOLS if skill == "tool call" else (),
            thinking=skill == "arithmetic",
            max_tokens=_MOST_TOKENS,
        )
