"""A conversation in progress: its messages, its settings, and the file it can be kept in."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qwen35_local.chat.messages import Message, read_messages, read_tools
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Request
from qwen35_local.errors import InputError

FORMAT = "qwen35-conversation"
VERSION = 1

# What /set and the command line may change, and how a word becomes a value.
SETTINGS: dict[str, type[int] | type[float]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "seed": int,
    "max_tokens": int,
}


@dataclass
class Session:
    """The messages said so far, without the system prompt, and what the person chose."""

    engine: Engine
    is_demonstration: bool = False
    system: str | None = None
    thinking: bool | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    chosen: dict[str, float] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    @property
    def thinks(self) -> bool:
        return self.engine.thinks_by_default if self.thinking is None else self.thinking

    @property
    def sampling(self) -> Sampling:
        """The official preset of the mode, with what the person chose laid over it."""
        return self._checked({name: value for name, value in self.chosen.items() if name != "max_tokens"})

    def _checked(self, overrides: dict[str, Any]) -> Sampling:
        return replace(self.engine.preset(thinking=self.thinks), **overrides)

    def request(self) -> Request:
        system = [Message("system", self.system)] if self.system else []
        return Request(
            messages=(*system, *self.messages),
            tools=self.tools,
            thinking=self.thinking,
            sampling=self.sampling,
            max_tokens=int(self.chosen.get("max_tokens", 0)),
        )

    def choose(self, name: str, word: str) -> None:
        """Changes one setting. Raises InputError naming the setting and what it takes."""
        kind = SETTINGS.get(name)
        if kind is None:
            raise InputError(f"no setting is called {name!r}; there are {', '.join(SETTINGS)}")
        try:
            value = kind(word)
        except ValueError:
            raise InputError(f"{name}: {word!r} is not {'a whole number' if kind is int else 'a number'}") from None
        if name != "max_tokens":
            self._checked({name: value})
        elif value < 0:
            raise InputError(f"max_tokens: {value} is below 0")
        self.chosen[name] = value

    def undo(self) -> Message | None:
        """Takes back the last thing the person said and all that followed; returns it."""
        for index in reversed(range(len(self.messages))):
            if self.messages[index].role == "user":
                said = self.messages[index]
                del self.messages[index:]
                return said
        return None

    def drop_reply(self) -> bool:
        """Takes back everything after the last thing the person said; False when nothing was said."""
        said = self.undo()
        if said is not None:
            self.messages.append(said)
        return said is not None

    def save(self, path: Path) -> None:
        """Writes the conversation as JSON; the file appears whole or not at all."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.engine.name,
            "system": self.system,
            "thinking": self.thinking,
            "settings": self.chosen,
            "tools": list(self.tools),
            "messages": [message.to_dict() for message in self.messages],
        }
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            with partial.open("w", encoding="utf-8") as file:
                json.dump(content, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def load(self, path: Path) -> None:
        """Takes over a saved conversation; nothing changes unless all of it is good. Raises InputError."""
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{path}: not a saved conversation")
        if content.get("version") != VERSION:
            raise InputError(f"{path}: version {content.get('version')!r}; this program reads version {VERSION}")
        if not isinstance(content.get("messages"), list):
            raise InputError(f"{path}: has no list of messages")
        messages = read_messages(content["messages"])
        tools = tuple(read_tools(content.get("tools")))
        fresh = Session(self.engine)
        for name, value in dict(content.get("settings") or {}).items():
            fresh.choose(name, str(value))
        system, thinking = content.get("system"), content.get("thinking")
        if not (isinstance(system, str | None) and isinstance(thinking, bool | None)):
            raise InputError(f"{path}: system must be a text and thinking true or false")
        self.system, self.thinking, self.chosen = system, thinking, fresh.chosen
        self.messages, self.tools = messages, tools


def read_json(path: Path) -> Any:
    """Raises InputError when the file cannot be read as JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None


def read_tool_file(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Tools as OpenAI-style JSON: a list of {"type": "function", "function": {"name", "parameters"}}."""
    return tuple(read_tools(read_json(path)))
