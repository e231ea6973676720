"""What a model answered."""

from dataclasses import dataclass, field

from qwen35_local.chat.messages import Message, ToolCall
from qwen35_local.engine.reply import Done, Logprobs, Reason, Reuse, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. `message` is what belongs into the conversation if it goes on; `str(reply)` is its text.

    `finish_reason`: "stop", "tool_calls" (as "stop", with calls in it), "length" (`max_tokens`), "context" (it is
    full), "loop" (it repeated itself without end) or "cancelled". `stop_string`: the one of `stop` that ended it.
    `logprobs`: of every token, if they were asked for. `reuse` says where `usage.reused_tokens` came from, and where
    the prompt parted from what was known. `others`: with `n`, the replies beside this one; `choices` is all of them.
    `notes`: what else is to be said of it, such as why its thinking ended: sentences for a person."""

    message: Message
    finish_reason: Reason
    usage: Usage
    stop_string: str | None = None
    logprobs: tuple[Logprobs, ...] = ()
    reuse: Reuse = field(default_factory=Reuse)
    others: tuple["Reply", ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The answer, without the thinking and the calls."""
        return self.message.text

    @property
    def reasoning(self) -> str:
        """The thinking; "" where there was none."""
        return self.message.reasoning or ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model wants called."""
        return self.message.tool_calls

    @property
    def choices(self) -> tuple["Reply", ...]:
        """All replies to the prompt, this one first."""
        return (self, *self.others)

    @classmethod
    def of(cls, done: Done) -> "Reply":
        return cls(done.message, done.reason, done.usage, done.stop_string, done.logprobs, done.reuse, notes=done.notes)

    @classmethod
    def cancelled(cls) -> "Reply":
        """One that never began."""
        return cls(Message("assistant", reasoning=""), "cancelled", Usage())
