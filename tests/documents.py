"""The commands that README and the documents print, taken out of their text."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS.append(ROOT / "models/demo/MODEL_CARD.md")

_FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.M | re.S)
_SPAN = re.compile(r"`([^`]+)`")
_COMMAND = re.compile(r"(qwen35|python3?|pip|make|cmake|PYTHONPATH=\S+ python) \S|\.ci/run")


class Shown(NamedTuple):
    """A command of a transcript, and the lines that are printed under it."""

    command: str
    output: list[str]


def commands(text: str) -> list[str]:
    """Every command of a document: lines of code blocks, of a transcript those behind a `$`, and code in sentences."""
    found = []
    for block in _FENCE.findall(text):
        lines = re.findall(r"^\$ (.*)", block, re.M) or block.splitlines()
        found += [words for line in lines if _COMMAND.match(words := line.split("  #")[0].strip())]
    for span in _SPAN.findall(_FENCE.sub("", text)):
        words = " ".join(span.split())
        if _COMMAND.match(words):
            found.append(words)
    return list(dict.fromkeys(found))


def transcripts(text: str) -> list[Shown]:
    """What follows `$ COMMAND` in a code block, up to the next one."""
    shown = []
    for block in _FENCE.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *output = part.splitlines()
            shown.append(Shown(command.strip(), [line.rstrip() for line in output]))
    return shown
