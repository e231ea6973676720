"""An engine that answers from a script, so that the conversation can be tested without a model; and a disk without
the models of other programs, so that a name means the same on every machine."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDone
from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.chat.presets import preset
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.engine.job import Job
from qwen35_local.engine.reply import Done, Event, Request, Usage
from qwen35_local.engine.reply_log import ReplyLog


class ScriptedEngine:
    """Replies with the texts given, in order; a ToolCall in the script is a call."""

    name = identity = "scripted"
    summary = "no weights"
    context_tokens = 100
    tokens_held = 0
    thinks_by_default = True
    has_failed = False

    def __init__(self, *script: str | ToolCall) -> None:
        self.script = list(script)
        self.requests: list[Request] = []
        self.formats: list[OutputFormat] = []
        self.prefilled: list[Message] = []
        self.reply_log = ReplyLog()
        self.model = SimpleNamespace(device="none")
        self.forms = SimpleNamespace(check=self.formats.append)

    def preset(self, *, thinking: bool) -> object:
        return preset("qwen3.5", "thinking" if thinking else "instruct")

    def prefill_ahead(self, request: Request, reply: Message) -> None:
        self.prefilled.append(reply)

    def close(self) -> None:
        pass

    def reply(self, request: Request, *, progress: Callable[[int, int], None], job: Job) -> Iterator[Event]:
        self.requests.append(request)
        said = self.script.pop(0)
        if isinstance(said, ToolCall):
            yield ToolCallDone(0, said, "", True)
            yield Done("tool_calls", Message("assistant", tool_calls=(said,)), Usage())
            return
        yield ReasoningDelta("hm")
        yield TextDelta(said)
        yield Done("stop", Message("assistant", said, reasoning="hm"), Usage(generated_tokens=3))


@pytest.fixture
def scripted() -> type[ScriptedEngine]:
    return ScriptedEngine


@pytest.fixture(autouse=True)
def no_other_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = str(tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, home)
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(variable, raising=False)
