"""A quantized local runtime for the Qwen3.5 family.

from qwen35_local import Model

with Model.from_file("9b") as model:
    print(model.chat("Why is the sky blue?"))

Names are imported when they are first used, so that `import qwen35_local` costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen35_local.api.model import Model
    from qwen35_local.api.reply import Reply
    from qwen35_local.api.stream import Stream
    from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStart
    from qwen35_local.chat.messages import Message, ToolCall
    from qwen35_local.chat.presets import Sampling
    from qwen35_local.chat.wishes import OutputFormat, ToolChoice
    from qwen35_local.engine.reply import Logprobs, TokenLogprob, Usage
    from qwen35_local.errors import (
        Cancelled,
        DeviceError,
        FormatError,
        InputError,
        OutOfMemory,
        Qwen35Error,
        TemplateError,
        Unavailable,
    )
    from qwen35_local.models.kv import KvFormat
else:
    _MODULES = {
        "Model": "api.model",
        "Reply": "api.reply",
        "Stream": "api.stream",
        **dict.fromkeys(("ReasoningDelta", "TextDelta"), "chat.events"),
        **dict.fromkeys(("ToolCallStart", "ToolCallDelta", "ToolCallDone"), "chat.events"),
        **dict.fromkeys(("Message", "ToolCall"), "chat.messages"),
        "Sampling": "chat.presets",
        **dict.fromkeys(("OutputFormat", "ToolChoice"), "chat.wishes"),
        **dict.fromkeys(("Logprobs", "TokenLogprob", "Usage"), "engine.reply"),
        **dict.fromkeys(("Cancelled", "DeviceError", "FormatError", "InputError", "OutOfMemory"), "errors"),
        **dict.fromkeys(("Qwen35Error", "TemplateError", "Unavailable"), "errors"),
        "KvFormat": "models.kv",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value

    def __dir__():
        return [*globals(), *_MODULES]


__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "DeviceError",
    "FormatError",
    "InputError",
    "KvFormat",
    "Logprobs",
    "Message",
    "Model",
    "OutOfMemory",
    "OutputFormat",
    "Qwen35Error",
    "ReasoningDelta",
    "Reply",
    "Sampling",
    "Stream",
    "TemplateError",
    "TextDelta",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallDone",
    "ToolCallStart",
    "ToolChoice",
    "Unavailable",
    "Usage",
]
