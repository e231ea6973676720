"""From a request to the last event of its reply: one exchange with the server, or two when the thinking is ended."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

from qwen35_local.engine.job import Job
from qwen35_local.engine.reply import Event
from qwen35_local.errors import InputError
from qwen35_local.remote.body import answer_body
from qwen35_local.remote.chunk import read_chunk
from qwen35_local.remote.http import Connection
from qwen35_local.remote.server import Kind
from qwen35_local.remote.sse import events
from qwen35_local.remote.writing import Writing

_POLL_SECONDS = 0.05  # how soon a wish to end it is seen


class Asking:
    """One reply. `asked`: the body of its request; `tell` takes its events."""

    def __init__(
        self,
        connection: Connection,
        server: str,
        kind: Kind,
        asked: dict[str, Any],
        writing: Writing,
        job: Job,
        tell: Callable[[Event], None],
    ) -> None:
        self._connection = connection
        self._server = server
        self._kind = kind
        self._asked = asked
        self._writing = writing
        self._job = job
        self._tell = tell

    async def run(self) -> None:
        """Raises RemoteError, InputError, Busy."""
        why = await self._watched(self._asked)
        if why is not None:
            await self._answer(why)
        self._tell_all(self._writing.end())
        self._tell(self._writing.done())

    async def _answer(self, why: str) -> None:
        """The thinking ends here, and the answer is asked for behind it, or without it where that is refused."""
        writing = self._writing
        self._tell_all(writing.begin_answer())
        writing.reply.notes.append(why)
        body = answer_body(self._asked, writing.thoughts, self._kind, writing.tokens_left)
        n_before = writing.reply.n_tokens
        try:
            await self._watched(body)
        except InputError:
            if self._kind == "other" or writing.reply.n_tokens > n_before:
                raise
            await self._watched(answer_body(self._asked, writing.thoughts, "other", writing.tokens_left))

    async def _watched(self, body: dict[str, Any]) -> str | None:
        """Follows a request until it ends, or is ended from outside; returns why the thinking is to end, if it is."""
        task = asyncio.ensure_future(self._follow(body))
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL_SECONDS)
            wants_answer = self._job.wants_answer and self._writing.in_reasoning
            if not task.done() and (self._job.is_cancelled or wants_answer):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    return await task
                if not self._job.is_cancelled:
                    return "the thinking was ended to answer now"
                self._writing.reason = "cancelled"
                return None
        return task.result()

    async def _follow(self, body: dict[str, Any]) -> str | None:
        path = "/completions" if "prompt" in body else "/chat/completions"
        async with self._connection.stream(path, body) as pieces, aclosing(events(pieces, self._server)) as stream:
            async for data in stream:
                self._tell_all(self._writing.take(read_chunk(data, self._server)))
                why = self._writing.why_to_answer()
                if self._writing.reason is not None or why is not None:
                    return why if self._writing.reason is None else None
        return None

    def _tell_all(self, told: list[Event]) -> None:
        for event in told:
            self._tell(event)
