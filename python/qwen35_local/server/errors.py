"""Why a request is not answered, before a dialect puts it into its own words."""

from qwen35_local.engine.reply import ContextFull
from qwen35_local.errors import Busy, DeviceError, OutOfMemory, Qwen35Error, RemoteError

RETRY_SECONDS = 5
TWO_LENGTHS = "two_lengths"
"""The code of a request that says in two ways where it ends; what follows it is not read."""


class Refused(Exception):
    """An HTTP status, one sentence, the field that is meant, a code for programs, and when to try again in seconds.
    `noted`: what the log may say of it, where the sentence may repeat what was said."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        noted: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self._noted = message if noted is None else noted

    @property
    def noted(self) -> str:
        """What the log says: why, unless that may repeat what was said, here or by a server elsewhere; then the
        field."""
        return (self.param if self.status in (400, 404, 429) else self._noted[:200]) or ""


def bad(param: str | None, message: str, code: str | None = None) -> Refused:
    """A request that is wrong in one of its fields."""
    return Refused(400, message, param=param, code=code)


def refusal(error: Exception, param: str | None = None) -> Refused:
    """What an error of the engine is to a client. `param`: the field that it is about, where it names none."""
    match error:
        case Refused():
            return error
        case ContextFull():
            return bad(param, f"{error.lengths}; shorten the prompt.", "context_length_exceeded")
        case Busy():
            return Refused(429, str(error), code="rate_limit_exceeded", retry_after=error.retry_after)
        case OutOfMemory():
            return Refused(503, f"out of memory: {error}", code="out_of_memory", retry_after=RETRY_SECONDS)
        case DeviceError():
            return Refused(503, f"the device failed: {error}", code="device_error", retry_after=RETRY_SECONDS)
        case RemoteError():
            return Refused(502, str(error), code="upstream_error", retry_after=RETRY_SECONDS, noted=error.brief)
        case Qwen35Error():
            return bad(_named(str(error)) or param, str(error))
        case _:
            return Refused(500, f"an error of this program, {type(error).__name__}.", code="internal_error")


def _named(message: str) -> str | None:
    """The field that a message begins with, as in "messages[3].content: expected ..."."""
    head = message.partition(":")[0].partition(" ")[0]
    return head if head.startswith(("messages[", "input[", "tools[")) else None
