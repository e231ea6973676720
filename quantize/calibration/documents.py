"""The documents: the files of `texts`, and what `generated` makes.

A file is a subject, named by its path: `texts/prose/de.txt` holds the documents prose/de/0, prose/de/1 and so on,
between lines of `%%%`; a `.json` file holds a list of conversations. The last document of every subject is held out:
its tokens judge a quantised tensor and are not calibrated on.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, TypeAlias

from qwen35_local.quantize.calibration.generated import generated

Part: TypeAlias = Literal["calibration", "held_out"]

_BETWEEN = "\n%%%\n"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and tools as a chat template takes them."""

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    preserve_thinking: bool = False
    """The reasoning of all turns is rendered, by a template that knows the option; not only that of the last."""

    @property
    def text(self) -> str:
        """The conversation without a template: what every message says, and the tools as JSON."""
        lines = [json.dumps(tool, ensure_ascii=False) for tool in self.tools]
        for message in self.messages:
            said = [message.get("reasoning_content"), message.get("content")]
            said += [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls", ())]
            lines.append(f"{message['role']}: " + "\n\n".join(text for text in said if text))
        return "\n\n".join(lines)


@dataclass(frozen=True, slots=True)
class Document:
    """One text or conversation; `name` is its subject and its number in it, as in "prose/de/3"."""

    name: str
    content: str | Conversation
    part: Part

    @property
    def subject(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else self.content.text


@cache
def documents() -> tuple[Document, ...]:
    """All documents, subject by subject; the same at every call, on every machine."""
    folder = resources.files("qwen35_local.quantize.calibration").joinpath("texts")
    subjects: dict[str, Sequence[str | Conversation]] = {**dict(_files(folder, "")), **generated()}
    return tuple(
        Document(f"{subject}/{n}", content, "held_out" if n == len(contents) - 1 else "calibration")
        for subject, contents in sorted(subjects.items())
        for n, content in enumerate(contents)
    )


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, Sequence[str | Conversation]]]:
    """Subject and documents of every file in a folder and the folders in it."""
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _files(entry, f"{name}/")
        elif name.endswith(".txt"):
            yield name.removesuffix(".txt"), entry.read_text("utf-8").rstrip("\n").split(_BETWEEN)
        elif name.endswith(".json"):
            yield name.removesuffix(".json"), [_conversation(item) for item in json.loads(entry.read_text("utf-8"))]


def _conversation(item: Mapping[str, Any]) -> Conversation:
    return Conversation(
        tuple(item["messages"]), tuple(item.get("tools", ())), item.get("preserve_thinking", False) is True
    )
