"""The commands of the conversation. Each is a function of the REPL and the words after the command's name."""

import json
import re
import time
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from qwen35_local.chat.messages import Message
from qwen35_local.cli.session import SETTINGS, last_said, read_tool_file
from qwen35_local.cli.session_store import age
from qwen35_local.cli.terminal import printable_line
from qwen35_local.engine.reply import Done
from qwen35_local.errors import InputError
from qwen35_local.units import counted

if TYPE_CHECKING:
    from qwen35_local.cli.repl import Repl

Command = Callable[["Repl", str], None]

_SPACE = "A message that begins like this: put a space before it."


def is_command(text: str) -> bool:
    """Whether a text begins with a command, or with a slash and letters that may be a mistyped one. `/usr/x`, `/* */`,
    `/re/`, a path that exists and everything behind a space are something to say."""
    word = text.split(maxsplit=1)[0] if text.startswith("/") else ""
    return word in COMMANDS or (re.fullmatch("/[A-Za-z]+", word) is not None and not Path(word).exists())


def run(repl: "Repl", text: str) -> None:
    """Raises InputError when there is no such command, or it takes no words and there are some: then the text may have
    been meant to be said, and `/clear` must not act on that."""
    name, *rest = text.split(maxsplit=1)
    command = COMMANDS.get(name)
    if command is None:
        near = get_close_matches(name.lower(), COMMANDS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ";"
        raise InputError(f"{name} is not a command{meant} /help lists them. {_SPACE}")
    if rest and " " not in (command.__doc__ or "").partition(":")[0]:
        raise InputError(f"{name} takes nothing after it. {_SPACE}")
    command(repl, "".join(rest).strip())


def show_help(repl: "Repl", rest: str) -> None:
    """/help: this list"""
    for command in dict.fromkeys(COMMANDS.values()):
        repl.pen.line((command.__doc__ or "").strip())
    repl.pen.line("A message that begins with a command's name: put a space before it.")
    repl.pen.line("Alt-Enter (or Esc, Enter) starts a new line; Ctrl-C stops the reply; Ctrl-D leaves.")


def clear(repl: "Repl", rest: str) -> None:
    """/clear: forget this branch of the conversation; the system prompt and settings stay"""
    repl.session.messages.clear()
    repl.pen.line("(the conversation is empty)", dim=True)


def system(repl: "Repl", rest: str) -> None:
    """/system [TEXT]: show the system prompt, or set it (`/system -` removes it)"""
    if rest:
        repl.session.system = None if rest == "-" else rest
    repl.pen.line(f"system: {repl.session.system or '(none)'}", dim=True)


def think(repl: "Repl", rest: str) -> None:
    """/think [on|off]: think before answering, or not"""
    if rest not in ("", "on", "off"):
        raise InputError(f"/think takes on or off, not {rest!r}")
    if rest:
        repl.session.thinking = rest == "on"
    repl.pen.line(f"thinking is {'on' if repl.session.thinks else 'off'}", dim=True)


def set_value(repl: "Repl", rest: str) -> None:
    """/set [NAME VALUE]: show the sampling settings, or change one (`/set NAME -` returns to the preset)"""
    words = rest.split()
    if len(words) == 2 and words[1] == "-" and words[0] in SETTINGS:
        repl.session.chosen.pop(words[0], None)
    elif len(words) == 2:
        repl.session.choose(*words)
    elif words:
        raise InputError("expected /set NAME VALUE")
    sampling = repl.session.sampling
    for name in SETTINGS:
        value = repl.session.chosen.get(name, getattr(sampling, name, None))
        origin = "chosen" if name in repl.session.chosen else "preset"
        repl.pen.line(f"{name:<20}{'-' if value is None else value!s:<8} {origin}", dim=True)


def retry(repl: "Repl", rest: str) -> None:
    """/retry: answer the last message again"""
    if not repl.session.drop_reply():
        raise InputError("nothing was said yet")
    repl.reply()


def undo(repl: "Repl", rest: str) -> None:
    """/undo: take back the last message and its answer"""
    said = repl.session.undo()
    if said is None:
        raise InputError("nothing was said yet")
    repl.pen.line(f"(taken back: {said.text})", dim=True)


def edit(repl: "Repl", rest: str) -> None:
    """/edit [N]: change your last message, or your Nth, and have it answered again"""
    number = whole_number("/edit", rest) if rest else len(repl.session.questions)
    kept = list(repl.session.messages)
    old = repl.session.cut(number)
    repl.session.messages, kept = kept, repl.session.messages
    text = repl.ask(old.text)
    if not text.strip() or text == old.text:
        repl.pen.line("(nothing is changed)", dim=True)
        return
    repl.session.messages = [*kept, Message("user", text)]
    repl.reply()


def branch(repl: "Repl", rest: str) -> None:
    """/branch [NAME]: list the branches, or go on in one; a new one begins here"""
    session = repl.session
    if rest:
        is_known = session.branch_to(rest)
        repl.pen.line(f"({'back in' if is_known else 'a new branch,'} {rest})", dim=True)
        return
    for name, messages in sorted(session.branches.items()):
        sign = "*" if name == session.branch else " "
        repl.pen.line(f"{sign} {name:<16}{counted(len(messages), 'message'):>13}  {last_said(messages)}", dim=True)


def sessions(repl: "Repl", rest: str) -> None:
    """/sessions [NAME]: list the saved conversations, or go on with one"""
    store, session = repl.store, repl.session
    if store is None:
        raise InputError("conversations are not saved; start without --no-save")
    if not rest:
        for saved in store.all():
            sign = "*" if saved.name == session.name else " "
            title = printable_line(saved.title, 50)
            repl.pen.line(
                f"{sign} {saved.name:<20}{age(saved, time.time()):>10}{saved.n_messages:>5}  {title}", dim=True
            )
        return
    repl.keep()
    repl.keep_state()
    reason = store.take(session, rest)
    repl.last = None
    repl.pen.line(f"({counted(len(session.messages), 'message')}; the last: “{last_said(session.messages)}”)", dim=True)
    if reason is not None:
        repl.pen.line(f"(the model reads it again: {reason})", dim=True)
    repl.prefill_ahead()


def why(repl: "Repl", rest: str) -> None:
    """/why: what the last prompt reused, what was read, and where it first differed from what was known"""
    if repl.last is None:
        raise InputError("nothing was answered yet")
    for line in reasons(repl.last):
        repl.pen.line(line, dim=True)


def reasons(done: Done) -> list[str]:
    """The cost of a prompt, explained."""
    reuse = done.reuse
    source = f", from {reuse.source}" if reuse.source else ""
    lines = [
        f"prompt      {counted(done.usage.prompt_tokens, 'token')}",
        f"reused      {reuse.reused_tokens:,}{source}",
        f"read        {reuse.evaluated_tokens:,} now, {reuse.idle_tokens:,} since the reply before",
    ]
    gap = reuse.difference
    if gap is None:
        lines.append("difference  none: the prompt goes on from what was known")
    else:
        known, prompt = (printable_line(json.dumps(text, ensure_ascii=False)) for text in (gap.known, gap.prompt))
        lines.append(f"difference  at token {gap.position:,}: {known} was known, {prompt} came")
    return lines


def stats(repl: "Repl", rest: str) -> None:
    """/stats: the context, and what the last reply took"""
    engine = repl.session.engine
    repl.pen.line(f"context     {engine.tokens_held} of {engine.context_tokens} tokens", dim=True)
    repl.pen.line(f"model       {engine.summary}", dim=True)
    if repl.last is not None:
        for name, value in repl.last.usage.as_dict().items():
            repl.pen.line(f"{name:<22}{value:.3f}" if isinstance(value, float) else f"{name:<22}{value}", dim=True)


def save(repl: "Repl", rest: str) -> None:
    """/save FILE: keep the conversation as JSON"""
    path = file_argument("/save", rest)
    try:
        repl.session.save(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    repl.pen.line(f"(saved to {path})", dim=True)


def load(repl: "Repl", rest: str) -> None:
    """/load FILE: go on with a saved conversation"""
    path = file_argument("/load", rest)
    repl.session.load(path)
    repl.pen.line(f"({counted(len(repl.session.messages), 'message')} from {path})", dim=True)


def tools(repl: "Repl", rest: str) -> None:
    """/tools [FILE]: show the tools on offer, or offer those of a JSON file (`/tools -` offers none)"""
    if rest:
        repl.session.tools = () if rest == "-" else read_tool_file(file_argument("/tools", rest))
    names = [str(tool.get("function", tool).get("name")) for tool in repl.session.tools]
    repl.pen.line(f"tools: {', '.join(names) or '(none)'}", dim=True)


def leave(repl: "Repl", rest: str) -> None:
    """/exit: leave"""
    repl.is_over = True


def whole_number(command: str, rest: str) -> int:
    if not rest.isdecimal():
        raise InputError(f"{command} takes a whole number, not {rest!r}")
    return int(rest)


def file_argument(command: str, rest: str) -> Path:
    if not rest:
        raise InputError(f"{command} needs a file name")
    return Path(rest).expanduser()


COMMANDS: dict[str, Command] = {
    "/help": show_help,
    "/clear": clear,
    "/system": system,
    "/think": think,
    "/set": set_value,
    "/retry": retry,
    "/undo": undo,
    "/edit": edit,
    "/branch": branch,
    "/sessions": sessions,
    "/why": why,
    "/stats": stats,
    "/save": save,
    "/load": load,
    "/tools": tools,
    "/exit": leave,
    "/quit": leave,
    "/bye": leave,
    "/?": show_help,
}
