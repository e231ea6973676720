"""The conversation on a terminal: reads a line, shows a reply, keeps what was said."""

import sys
from collections.abc import Callable
from pathlib import Path

from qwen35_local.chat.events import ReasoningDelta, TextDelta, ToolCallDone
from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.cli import slash
from qwen35_local.cli.answer_key import answer_key, has_answer_key
from qwen35_local.cli.endings import advising, explanation
from qwen35_local.cli.interrupt import disturbed, interruptible, undisturbed
from qwen35_local.cli.lines import line_reader
from qwen35_local.cli.progress import bar
from qwen35_local.cli.session import Session, last_said
from qwen35_local.cli.session_store import SessionStore
from qwen35_local.cli.terminal import StyledWriter, printable_line
from qwen35_local.engine.job import Job
from qwen35_local.engine.reply import Compacted, Done, Event, Usage
from qwen35_local.errors import DeviceError, Qwen35Error
from qwen35_local.units import counted

PROMPT = "› "
CONTINUED = "… "


class Repl:
    """Enter sends, Alt-Enter (or Esc, Enter) starts a new line; Esc ends the thinking of a reply, Ctrl-C the reply;
    Ctrl-D leaves."""

    def __init__(self, session: Session, store: SessionStore | None = None, history: Path | None = None) -> None:
        """`store`, `history`: where the conversation and what was typed are kept; None: nowhere."""
        self.session = session
        self.store = store
        self.pen = StyledWriter(sys.stdout)
        self.last: Done | None = None
        self.is_over = False
        self._is_kept = True
        self._lines = line_reader(history)

    def run(self) -> None:
        self._greet()
        self.prefill_ahead()
        with undisturbed():
            try:
                disturbed(self._talk)
            finally:
                self.session.engine.close()
                self.keep_state()

    def _talk(self) -> None:
        while not self.is_over:
            try:
                text = self.ask()
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            self.take(text)

    def keep(self) -> None:
        """Writes what was said; a failure is shown once, and the conversation goes on."""
        self._try_to_keep(SessionStore.keep)

    def keep_state(self) -> None:
        """Writes the snapshots that `--continue` goes on from."""
        self._try_to_keep(SessionStore.keep_state)

    def _try_to_keep(self, write: Callable[[SessionStore, Session], None]) -> None:
        if self.store is None:
            return
        if not any(self.session.branches.values()) and not self.store.has(self.session.name):
            return
        try:
            with undisturbed():
                write(self.store, self.session)
            self._is_kept = True
        except OSError as error:
            if self._is_kept:
                self.pen.line(f"! the conversation is not kept: {error.filename}: {error.strerror} (--no-save: never)")
            self._is_kept = False
        except DeviceError:
            self.pen.line("(what the device knew of the conversation is lost; --continue evaluates it again)", dim=True)

    def prefill_ahead(self) -> None:
        """Lets the engine evaluate the beginning of the next prompt while nobody waits for it."""
        *before, last = self.session.messages or [Message("user", "")]
        if last.role == "assistant" and before:
            self.session.engine.prefill_ahead(self.session.request(before), last)

    def ask(self, default: str = "") -> str:
        """A line from the person. Raises KeyboardInterrupt, EOFError."""
        return self._lines.prompt(PROMPT, prompt_continuation=CONTINUED, default=default)

    def take(self, text: str) -> None:
        """One input: a slash command, or something to answer. Errors are shown, never raised; what was said before
        stands then as it stood."""
        branch, messages = self.session.branch, list(self.session.messages)
        try:
            if slash.is_command(text):
                slash.run(self, text)
            elif text.strip():
                self.session.messages.append(Message("user", text))
                self.reply()
        except Qwen35Error as error:
            if self.session.branch == branch:
                self.session.messages = messages
            self.pen.line(f"! {self._explained(error)}")
        except (KeyboardInterrupt, EOFError):  # at a question of a command: it is given up
            self.pen.end_line()
        self.keep()

    @staticmethod
    def _explained(error: Qwen35Error) -> str:
        if isinstance(error, DeviceError):
            return f"the device failed: {error} (↑ brings the line again; the next message loads the model again)"
        return str(error)

    def reply(self) -> None:
        """Lets the model answer what stands, and tools after it, as often as it asks for them."""
        while True:
            said = self._one_reply()
            if said is None or not said.tool_calls:
                return
            results = self._tool_results(said.tool_calls)
            if results is None:
                return
            self.session.messages.extend(results)

    def _one_reply(self) -> Message | None:
        view = ReplyView(self.pen, has_key=has_answer_key())
        done: Done | None = None
        engine, session, job = self.session.engine, self.session, Job()
        try:
            self._recover()
            with (
                bar("prefill", "tok") as progress,
                interruptible(job.cancel),
                answer_key(job.answer_now),
                advising(session.when_full),
            ):
                for event in engine.reply(session.request(), progress=progress, job=job):
                    view.show(event)
                    if isinstance(event, Compacted):
                        del session.messages[: len(event.messages)]
                    done = event if isinstance(event, Done) else done
        finally:
            self.pen.end_line()
        assert done is not None
        self.last = done
        for note in done.notes:
            self.pen.line(f"({note})", dim=True)
        if done.reason != "stop" and done.reason != "tool_calls":
            self.pen.line(f"({explanation(done, session.when_full)})", dim=True)
        self.pen.line(statistics(done), dim=True)
        if not done.message.text and not done.message.tool_calls and done.reason == "cancelled":
            session.undo()
            resumes = "" if done.reuse.reader else ", and evaluation resumes where it stopped"
            self.pen.line(f"(the question is taken back; ↑ brings it again{resumes})", dim=True)
            return None
        session.messages.append(done.message)
        self.prefill_ahead()
        return done.message

    def _recover(self) -> None:
        """Goes on after the device has failed. Raises what loading the model raises."""
        engine = self.session.engine
        if engine.has_failed:
            self.pen.line("(the device failed: the model is loaded again)", dim=True)
            engine.recover()
            self.pen.line(f"({engine.summary})", dim=True)

    def _tool_results(self, calls: tuple[ToolCall, ...]) -> list[Message] | None:
        """Asks the person for each result; None when they would rather not."""
        results = []
        for call in calls:
            try:
                text = self._lines.prompt(f"result of {printable_line(call.name)} › ")
            except (KeyboardInterrupt, EOFError):
                self.session.drop_reply()
                self.session.undo()
                self.pen.line("(the call and its question are taken back)", dim=True)
                return None
            results.append(Message("tool", text, name=call.name, tool_call_id=call.id))
        return results

    def _greet(self) -> None:
        engine = self.session.engine
        self.pen.line(f"{printable_line(engine.name)} · {engine.summary}", dim=True)
        if self.session.is_demonstration:
            self.pen.line("A tiny model that ships with the program: a demonstration, not an assistant.", dim=True)
        if self.session.messages:
            said = last_said(self.session.messages)
            self.pen.line(
                f"“{said}” · {counted(len(self.session.messages), 'message')} · {self.session.name}", dim=True
            )
        self.pen.line(
            "/help lists commands · Alt-Enter: new line · Esc: answer now · Ctrl-C: stop the reply · Ctrl-D: leave",
            dim=True,
        )


class ReplyView:
    """Events to the terminal: thinking dim and set apart, the answer plain, tool calls on a line of their own."""

    def __init__(self, pen: StyledWriter, *, has_key: bool = False) -> None:
        """`has_key`: Esc ends the thinking."""
        self._pen = pen
        self._has_key = has_key
        self._is_thinking = False

    def show(self, event: Event) -> None:
        match event:
            case ReasoningDelta(text):
                if not self._is_thinking:
                    self._pen.line("thinking… (Esc: answer now)" if self._has_key else "thinking…", dim=True)
                    self._is_thinking = True
                self._pen.write(text, dim=True)
            case TextDelta(text):
                self._leave_thinking()
                self._pen.write(text)
            case ToolCallDone(call=call):
                self._leave_thinking()
                self._pen.end_line()
                arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
                self._pen.line(f"→ {call.name}({arguments})")
            case Compacted():
                self._pen.line(compaction(event), dim=True)
            case Done():
                self._leave_thinking()

    def _leave_thinking(self) -> None:
        if self._is_thinking:
            self._pen.end_line()
            self._pen.line("…done thinking", dim=True)
            self._is_thinking = False


def statistics(done: Done) -> str:
    """The line under a reply."""
    u = done.usage
    return (
        f"{counted(u.generated_tokens, 'token')} · {u.tokens_per_second:.1f} tok/s · "
        f"first token {u.first_token_seconds:.2f} s · "
        f"prompt {u.prompt_tokens} = {u.reused_tokens} reused + {u.evaluated_tokens} evaluated"
        + (f" · {drafted(u)}" if u.drafted_tokens else "")
    )


def drafted(usage: Usage) -> str:
    """As in "drafted 120, accepted 96 (80 %), 1.4x"."""
    share = 100 * usage.accepted_tokens / usage.drafted_tokens
    faster = "" if usage.gain is None else f", {usage.gain:.1f}x"
    return f"drafted {usage.drafted_tokens:,}, accepted {usage.accepted_tokens:,} ({share:.0f} %){faster}"


def compaction(event: Compacted) -> str:
    """What was dropped, aloud."""
    first = next(message for message in event.messages if message.role == "user")
    return (
        f"(the context was full: the {len(event.messages)} oldest messages are dropped, from "
        f"“{printable_line(first.text, 40)}” on; the prompt has {event.tokens_after:,} tokens "
        f"instead of {event.tokens_before:,})"
    )
