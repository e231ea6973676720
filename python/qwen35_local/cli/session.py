"""A conversation in progress: its messages, its branches, its settings, and the file it can be kept in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qwen35_local import json_file
from qwen35_local.chat import presets
from qwen35_local.chat.messages import Message, read_messages
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.tools import read_tools
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.cli.terminal import printable_line
from qwen35_local.engine.face import Face
from qwen35_local.engine.reply import Request, WhenFull
from qwen35_local.engine.store import encode_json
from qwen35_local.errors import InputError
from qwen35_local.fields import ANY_LIST, FLAG, OBJECT, TEXT, Fields, Kind, describe, from_word, integer, object_of
from qwen35_local.partial_file import remove_stale, write_whole

FORMAT = "qwen35-conversation"
VERSION = 1
MAIN = "main"

# What /set and the command line may change, and how a word becomes a value.
SETTINGS: dict[str, Kind[float]] = {**presets.SETTINGS, "max_tokens": presets.MAX_TOKENS}


@dataclass
class Session:
    """The messages said so far, without the system prompt, and what the person chose."""

    engine: Face
    name: str = ""
    is_demonstration: bool = False
    system: str | None = None
    thinking: bool | None = None
    thinking_tokens: int | None = None
    """After so many, thinking is brought to an end; None: when the model ends it."""
    breaks_loops: bool = True
    output_format: OutputFormat | None = None
    keep_thinking: bool | None = None
    when_full: WhenFull = "stop"
    tools: tuple[Mapping[str, Any], ...] = ()
    chosen: dict[str, float] = field(default_factory=dict)
    logit_bias: dict[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    n: int = 1
    messages: list[Message] = field(default_factory=list)
    branch: str = MAIN
    others: dict[str, list[Message]] = field(default_factory=dict)
    """The branches that are not being talked in, by name."""

    @property
    def thinks(self) -> bool:
        return self.engine.thinks_by_default if self.thinking is None else self.thinking

    @property
    def sampling(self) -> Sampling:
        """The official preset of the mode, with what the person chose laid over it."""
        overrides: dict[str, Any] = {name: value for name, value in self.chosen.items() if name != "max_tokens"}
        return replace(self.engine.preset(thinking=self.thinks), **overrides, logit_bias=self.logit_bias)

    @property
    def branches(self) -> dict[str, list[Message]]:
        """All of them, by name."""
        return {self.branch: self.messages, **self.others}

    def request(self, messages: Sequence[Message] | None = None) -> Request:
        """What to ask the engine for; `messages` in the place of the current ones."""
        system = [Message("system", self.system)] if self.system else []
        return Request(
            messages=(*system, *(self.messages if messages is None else messages)),
            tools=self.tools,
            thinking=self.thinking,
            thinking_tokens=self.thinking_tokens,
            breaks_loops=self.breaks_loops,
            output_format=self.output_format,
            keep_thinking=self.keep_thinking,
            when_full=self.when_full,
            sampling=self.sampling,
            max_tokens=int(self.chosen.get("max_tokens", 0)),
            stop=self.stop,
            logprobs=self.logprobs,
            n=self.n,
        )

    def choose(self, name: str, word: str) -> None:
        """Changes one setting. Raises InputError naming the setting and what it takes."""
        kind = SETTINGS.get(name)
        if kind is None:
            raise InputError(f"no setting is called {name!r}; there are {', '.join(SETTINGS)}")
        try:
            self.chosen[name] = from_word(word, kind)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    def bias(self, token: str, bias: float) -> None:
        """Adds to the logit of a token: its id, or text that is one token. Raises InputError."""
        try:
            self.logit_bias[self.engine.tokenizer.one_token(token)] = bias
        except InputError as error:
            raise InputError(f"--logit-bias: {error}") from None

    def hold_to(self, wanted: OutputFormat) -> None:
        """Answers have this form from now on. Raises InputError."""
        try:
            self.engine.forms.check(wanted)
        except InputError as error:
            raise InputError(str(error).removeprefix("output_format: ")) from None
        self.output_format = wanted

    @property
    def questions(self) -> list[int]:
        """Where in the messages the person speaks."""
        return [n for n, message in enumerate(self.messages) if message.role == "user"]

    def cut(self, question: int) -> Message:
        """Takes back what the person said as their `question`th message, counted from 1, and all that followed; returns
        it. Raises InputError."""
        places = self.questions
        if not 1 <= question <= len(places):
            said = f"there are {len(places)}" if places else "nothing was said yet"
            raise InputError(f"no message {question} of yours; {said}")
        message = self.messages[places[question - 1]]
        del self.messages[places[question - 1] :]
        return message

    def undo(self) -> Message | None:
        """Takes back the last thing the person said and all that followed; returns it."""
        return self.cut(len(self.questions)) if self.questions else None

    def drop_reply(self) -> bool:
        """Takes back everything after the last thing the person said; False when nothing was said."""
        said = self.undo()
        if said is not None:
            self.messages.append(said)
        return said is not None

    def branch_to(self, name: str) -> bool:
        """Goes on in the branch of this name; where there is none, it begins here, with what was said so far. Returns
        whether there was one."""
        is_known = name in self.branches
        if name == self.branch:
            return True
        self.others[self.branch] = self.messages
        self.messages = self.others.pop(name) if is_known else list(self.messages)
        self.branch = name
        return is_known

    def save(self, path: Path) -> None:
        """Writes the conversation as JSON; the file appears whole or not at all."""
        remove_stale(path.parent, path.name)
        write_whole(path, [encode_json(self.to_dict())])

    def load(self, path: Path) -> None:
        """Takes over a saved conversation; nothing changes unless all of it is good. Raises InputError."""
        self.take(json_file.read(path, lone_surrogates=True), str(path))

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.engine.name,
            "system": self.system,
            "thinking": self.thinking,
            "thinking_tokens": self.thinking_tokens,
            "breaks_loops": self.breaks_loops,
            "keep_thinking": self.keep_thinking,
            "settings": self.chosen,
            "tools": list(self.tools),
            "branch": self.branch,
            "messages": [message.to_dict() for message in self.messages],
            "branches": {name: [m.to_dict() for m in messages] for name, messages in self.others.items()},
        }

    def take(self, content: object, where: str) -> None:
        """Becomes the conversation that `to_dict` wrote. Raises InputError or FormatError naming `where`; nothing
        changes then."""
        values = content if isinstance(content, dict) else {}
        fields = Fields(values, f"{where}: ")
        if values.get("format") != FORMAT:
            raise InputError(f"{where}: not a saved conversation")
        fields.need("version", integer(VERSION, VERSION))
        settings = Fields(fields.find("settings", OBJECT) or {}, f"{where}: settings.")
        unknown = next((name for name in settings.values if name not in SETTINGS), None)
        if unknown is not None:
            raise InputError(f"{where}: no setting is called {unknown[:40]!r}; there are {', '.join(SETTINGS)}")
        chosen = {name: settings.need(name, SETTINGS[name]) for name in settings.values}
        branch = fields.find("branch", TEXT) or MAIN
        said = fields.find("branches", object_of(ANY_LIST)) or {}
        if branch in said:
            raise InputError(f"{where}: the branch {branch[:40]!r} is there twice")
        system, thinking = fields.find("system", TEXT), fields.find("thinking", FLAG)
        keep_thinking = fields.find("keep_thinking", FLAG)
        thinking_tokens = fields.find("thinking_tokens", presets.THINKING_TOKENS)
        breaks_loops = fields.find("breaks_loops", FLAG)
        try:
            messages = read_messages(fields.need("messages", ANY_LIST))
            others = {name: read_messages(listed) for name, listed in said.items()}
            tools = tuple(read_tools(fields.find("tools", ANY_LIST)))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        self.system, self.thinking, self.keep_thinking, self.chosen = system, thinking, keep_thinking, chosen
        self.thinking_tokens, self.breaks_loops = thinking_tokens, breaks_loops is not False
        self.messages, self.tools, self.branch, self.others = messages, tools, branch, others


def last_said(messages: Sequence[Message]) -> str:
    """The last thing the person said, cut to fit a line."""
    said = next((message.text for message in reversed(messages) if message.role == "user"), "")
    return printable_line(said, 50)


def read_schema(schema: str) -> OutputFormat:
    """JSON by a schema: its text, or a file that holds it. Raises InputError."""
    if not schema.strip():
        raise InputError("the JSON schema is empty; give a file, or the schema itself")
    if schema.lstrip().startswith("{"):
        return OutputFormat("json_schema", schema)
    return OutputFormat.of_schema(json_file.read_object(Path(schema).expanduser()))


def read_tool_file(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Tools as JSON, in one of the forms that `read_tools` knows. Raises InputError naming the file."""
    content = json_file.read(path)
    if not isinstance(content, list | dict):
        raise InputError(f"{path}: expected a JSON list of tools, found {describe(content)}")
    try:
        return tuple(read_tools(content))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
