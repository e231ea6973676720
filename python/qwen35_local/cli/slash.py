"""The commands of the conversation. Each is a function of the conversation and the words after the command's name."""

import json
import re
import time
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import THINKING_TOKENS
from qwen35_local.cli.session import SETTINGS, Session, last_said, read_schema, read_tool_file
from qwen35_local.cli.session_store import SessionStore, age
from qwen35_local.cli.terminal import StyledWriter, printable_line
from qwen35_local.engine.reply import Done, Usage
from qwen35_local.errors import InputError
from qwen35_local.fields import from_word
from qwen35_local.units import counted


class Conversation(Protocol):
    """What the commands act on: the REPL, as far as they know it."""

    session: Session
    store: SessionStore | None
    pen: StyledWriter
    last: Done | None
    is_over: bool

    def ask(self, default: str = "") -> str: ...
    def reply(self) -> None: ...
    def keep(self) -> None: ...
    def keep_state(self) -> None: ...
    def prefill_ahead(self) -> None: ...


Command = Callable[[Conversation, str], None]

_SPACE = "A message that begins like this: put a space before it."


def is_command(text: str) -> bool:
    """Whether a text begins with a command, or with a slash and letters that may be a mistyped one. `/usr/x`, `/* */`,
    `/re/`, a path that exists and everything behind a space are something to say."""
    word = text.split(maxsplit=1)[0] if text.startswith("/") else ""
    return word in COMMANDS or (re.fullmatch("/[A-Za-z]+", word) is not None and not Path(word).exists())


def run(chat: Conversation, text: str) -> None:
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
    command(chat, "".join(rest).strip())


def show_help(chat: Conversation, rest: str) -> None:
    """/help: this list"""
    for command in dict.fromkeys(COMMANDS.values()):
        chat.pen.line((command.__doc__ or "").strip())
    chat.pen.line("A message that begins with a command's name: put a space before it.")
    chat.pen.line(
        "Alt-Enter (or Esc, Enter) starts a new line; Esc ends the thinking; Ctrl-C stops the reply; Ctrl-D leaves."
    )


def clear(chat: Conversation, rest: str) -> None:
    """/clear: forget this branch of the conversation; the system prompt and settings stay"""
    chat.session.messages.clear()
    chat.pen.line("(the conversation is empty)", dim=True)


def system(chat: Conversation, rest: str) -> None:
    """/system [TEXT]: show the system prompt, or set it (`/system -` removes it)"""
    if rest:
        chat.session.system = None if rest == "-" else rest
    chat.pen.line(f"system: {chat.session.system or '(none)'}", dim=True)


def think(chat: Conversation, rest: str) -> None:
    """/think [on|off|TOKENS]: think before answering, or not, or for so many tokens at most"""
    session = chat.session
    if rest in ("on", "off"):
        session.thinking, session.thinking_tokens = rest == "on", None
    elif rest:
        try:
            session.thinking_tokens = int(from_word(rest, THINKING_TOKENS))
        except InputError:
            raise InputError(f"/think takes on, off or a number of tokens, not {rest!r}") from None
        session.thinking = True
    budget = f", for at most {counted(session.thinking_tokens, 'token')}" if session.thinking_tokens else ""
    chat.pen.line(f"thinking is {f'on{budget}' if session.thinks else 'off'}", dim=True)


def set_value(chat: Conversation, rest: str) -> None:
    """/set [NAME VALUE]: show the sampling settings, or change one (`/set NAME -` returns to the preset)"""
    words = rest.split()
    if len(words) == 2 and words[1] == "-" and words[0] in SETTINGS:
        chat.session.chosen.pop(words[0], None)
    elif len(words) == 2:
        chat.session.choose(*words)
    elif words:
        raise InputError("expected /set NAME VALUE")
    sampling = chat.session.sampling
    for name in SETTINGS:
        value = chat.session.chosen.get(name, getattr(sampling, name, None))
        origin = "chosen" if name in chat.session.chosen else "preset"
        shown = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        chat.pen.line(f"{name:<20}{shown:<8} {origin}", dim=True)


def retry(chat: Conversation, rest: str) -> None:
    """/retry: answer the last message again"""
    if not chat.session.drop_reply():
        raise InputError("nothing was said yet")
    chat.reply()


def undo(chat: Conversation, rest: str) -> None:
    """/undo: take back the last message and its answer"""
    said = chat.session.undo()
    if said is None:
        raise InputError("nothing was said yet")
    chat.pen.line(f"(taken back: {said.text})", dim=True)


def edit(chat: Conversation, rest: str) -> None:
    """/edit [N]: change your last message, or your Nth, and have it answered again"""
    number = whole_number("/edit", rest) if rest else len(chat.session.questions)
    kept = list(chat.session.messages)
    old = chat.session.cut(number)
    chat.session.messages, kept = kept, chat.session.messages
    text = chat.ask(old.text)
    if not text.strip() or text == old.text:
        chat.pen.line("(nothing is changed)", dim=True)
        return
    chat.session.messages = [*kept, Message("user", text)]
    chat.reply()


def branch(chat: Conversation, rest: str) -> None:
    """/branch [NAME]: list the branches, or go on in one; a new one begins here"""
    session = chat.session
    if rest:
        is_known = session.branch_to(rest)
        chat.pen.line(f"({'back in' if is_known else 'a new branch,'} {rest})", dim=True)
        return
    for name, messages in sorted(session.branches.items()):
        sign = "*" if name == session.branch else " "
        chat.pen.line(f"{sign} {name:<16}{counted(len(messages), 'message'):>13}  {last_said(messages)}", dim=True)


def sessions(chat: Conversation, rest: str) -> None:
    """/sessions [NAME]: list the saved conversations, or go on with one"""
    store, session = chat.store, chat.session
    if store is None:
        raise InputError("conversations are not saved; start without --no-save")
    if not rest:
        for saved in store.all():
            sign = "*" if saved.name == session.name else " "
            title = printable_line(saved.title, 50)
            chat.pen.line(
                f"{sign} {saved.name:<20}{age(saved, time.time()):>10}{saved.n_messages:>5}  {title}", dim=True
            )
        return
    chat.keep()
    chat.keep_state()
    reason = store.take(session, rest)
    chat.last = None
    chat.pen.line(f"({counted(len(session.messages), 'message')}; the last: “{last_said(session.messages)}”)", dim=True)
    if reason is not None:
        chat.pen.line(f"(the conversation is evaluated again: {reason})", dim=True)
    chat.prefill_ahead()


def why(chat: Conversation, rest: str) -> None:
    """/why: what the last prompt reused and evaluated, where it was not what was known, and what drafts brought"""
    if chat.last is None:
        raise InputError("nothing was answered yet")
    for line in reasons(chat.last):
        chat.pen.line(line, dim=True)


def reasons(done: Done) -> list[str]:
    """The cost of a prompt, explained."""
    reuse = done.reuse
    source = f", from {reuse.source}" if reuse.source else ""
    lines = [
        f"prompt      {counted(done.usage.prompt_tokens, 'token')}",
        f"reused      {reuse.reused_tokens:,}{source}",
        f"evaluated   {reuse.evaluated_tokens:,} now, {reuse.idle_tokens:,} since the reply before",
    ]
    gap = reuse.difference
    if reuse.reader:
        lines[-1] = f"evaluated   {reuse.evaluated_tokens:,}, as the server counts them"
        lines.append(f"difference  not known here: {printable_line(reuse.reader)} has read the prompt")
    elif gap is None:
        lines.append("difference  none: the prompt continues what was known")
    else:
        known, prompt = (printable_line(json.dumps(text, ensure_ascii=False)) for text in (gap.known, gap.prompt))
        lines.append(f"difference  at token {gap.position:,}: {known} was known, {prompt} came")
    return lines + drafting(done.usage, is_here=not reuse.reader)


def drafting(usage: Usage, *, is_here: bool) -> list[str]:
    """What drafts were, and brought; `is_here`: where it is known whose they were."""
    if not usage.drafted_tokens:
        return []
    by_block = usage.drafted_tokens - usage.drafted_copies, usage.accepted_tokens - usage.accepted_copies
    sources = (by_block, "by the MTP block"), ((usage.drafted_copies, usage.accepted_copies), "copied")
    told = [f"{accepted:,} of {n:,} {source}" for (n, accepted), source in sources if n]
    lines = [
        f"drafted     {counted(usage.drafted_tokens, 'token')}, {usage.accepted_tokens:,} accepted"
        + (f": {', '.join(told)}" if is_here else "")
    ]
    if usage.passes:
        lines.append(f"written     {usage.tokens_per_pass:.1f} tokens a pass of the model")
    if usage.gain is not None:
        label = "saved" if usage.saved_seconds > 0 else "lost"
        seconds = f"{abs(usage.saved_seconds):.2f} s"
        lines.append(f"{label:<12}{seconds}: {usage.gain:.1f} times as fast as without drafts")
    return lines


def stats(chat: Conversation, rest: str) -> None:
    """/stats: the context, and what the last reply took"""
    engine = chat.session.engine
    if not engine.where:
        chat.pen.line(f"context     {engine.tokens_held} of {engine.context_tokens} tokens", dim=True)
    chat.pen.line(f"model       {engine.summary}", dim=True)
    if chat.last is not None:
        for name, value in chat.last.usage.as_dict().items():
            chat.pen.line(f"{name:<22}{value:.3f}" if isinstance(value, float) else f"{name:<22}{value}", dim=True)


def save(chat: Conversation, rest: str) -> None:
    """/save FILE: keep the conversation as JSON"""
    path = file_argument("/save", rest)
    try:
        chat.session.save(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    chat.pen.line(f"(saved to {path})", dim=True)


def load(chat: Conversation, rest: str) -> None:
    """/load FILE: go on with a saved conversation"""
    path = file_argument("/load", rest)
    chat.session.load(path)
    chat.pen.line(f"({counted(len(chat.session.messages), 'message')} from {path})", dim=True)


def tools(chat: Conversation, rest: str) -> None:
    """/tools [FILE]: show the tools on offer, or offer those of a JSON file (`/tools -` offers none)"""
    if rest:
        chat.session.tools = () if rest == "-" else read_tool_file(file_argument("/tools", rest))
    names = [str(tool.get("function", tool).get("name")) for tool in chat.session.tools]
    chat.pen.line(f"tools: {', '.join(names) or '(none)'}", dim=True)


def schema(chat: Conversation, rest: str) -> None:
    """/schema [FILE|JSON|off]: show the JSON schema that answers follow, or set it"""
    session = chat.session
    if rest == "off":
        session.output_format = None
    elif rest:
        session.hold_to(read_schema(rest))
    shown = "(none)" if session.output_format is None else session.output_format.definition
    chat.pen.line(f"schema: {printable_line(shown, 400)}", dim=True)


def leave(chat: Conversation, rest: str) -> None:
    """/exit: leave"""
    chat.is_over = True


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
    "/schema": schema,
    "/exit": leave,
    "/quit": leave,
    "/bye": leave,
    "/?": show_help,
}
