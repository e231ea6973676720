"""The REPL, with replies that are written down beforehand."""

from typing import Any

from qwen35_local.chat.messages import ToolCall
from qwen35_local.cli.repl import Repl
from qwen35_local.cli.session import Session


def conversation(scripted: Any, *script: str | ToolCall) -> Repl:
    return Repl(Session(scripted(*script)))


def said(repl: Repl) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in repl.session.messages]
