"""The parser on whole outputs."""

from collections.abc import Iterable, Mapping
from typing import Any

from qwen35_local.chat.events import Event, merged
from qwen35_local.chat.parser import OutputParser


def parse_output(text: str, tools: Iterable[Mapping[str, Any]] = (), *, in_reasoning: bool = False) -> list[Event]:
    """The events, neighbouring deltas joined."""
    parser = OutputParser(tools, in_reasoning=in_reasoning)
    return merged(parser.feed(text) + parser.finish())
