"""What the embedded model answers reliably, and how streams are read."""

import json
from typing import Any

CAPITAL = "What is the capital of Italy?"
SUM = "What is 12 + 30?"
WEATHER_QUESTION = "What is the weather in Rome?"


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Of an event stream: the name ("" for none) and the data of each event; comments are left out."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields.get("data", "[DONE]") != "[DONE]":
            events.append((fields.get("event", ""), json.loads(fields["data"])))
    return events
