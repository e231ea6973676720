"""One request for a reply: its body is read, the engine is asked, and what it tells goes to the client."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate

from starlette.types import Receive, Scope, Send

from qwen35_local.engine.job import Failed, Job, Reading, Told
from qwen35_local.engine.reply import Compacted, Done, Request
from qwen35_local.server.body import Body
from qwen35_local.server.dialect import Asked, Dialect
from qwen35_local.server.errors import Refused, refusal
from qwen35_local.server.json_text import parsed
from qwen35_local.server.log import Record
from qwen35_local.server.mailbox import Mailbox
from qwen35_local.server.service import Service
from qwen35_local.server.wire import Gone, Writer, read_body


class Answering:
    """The endpoint of a dialect that asks the engine: an ASGI application."""

    def __init__(self, service: Service, dialect: Dialect) -> None:
        self._service = service
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refused as long as nothing was written, and Gone."""
        body = await read_body(scope, receive, self._service)
        writer = Writer(scope, send, self._service.limits)
        # Off the loop: a large body takes its time to parse and to check.
        asked = await asyncio.to_thread(self._read, body, scope["path"])
        if isinstance(asked, bytes):
            await writer.whole(200, asked)
            return
        await Exchange(self._service, asked, scope["state"]["record"], writer).run(receive)

    def _read(self, data: bytes, path: str) -> Asked | bytes:
        self._service.recover()
        try:
            body = Body(parsed(data))
            asked = self._dialect(body, self._service)
        except Exception as error:
            raise refusal(error) from error
        self._service.note_unknown(path, body.unknown())
        return asked


class Exchange:
    """A request that was read. Its replies end with the client's leaving, with `end`, or by themselves."""

    def __init__(self, service: Service, asked: Asked, record: Record, writer: Writer) -> None:
        self._service = service
        self._asked = asked
        self._record = record
        self._writer = writer
        self._jobs: list[Job] = []
        self._is_gone = False
        self._refused: Refused | None = None
        self._mailbox = Mailbox[Told](service.limits.queue_events, self._overflowed)
        self._expected = sum(request.n for request in asked.requests)
        self._first_choices = set(accumulate((request.n for request in asked.requests), initial=0))
        self._replies: dict[int, Done] = {}

    @property
    def id(self) -> str:
        return self._asked.id

    def answer_now(self) -> None:
        """Ends the thinking of its replies; their answers follow."""
        for job in list(self._jobs):
            job.answer_now()

    async def run(self, receive: Receive) -> None:
        """Raises Refused as long as nothing was written, and Gone."""
        seconds = self._service.limits.reply_seconds
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(seconds, self.end, _too_long(seconds)) if seconds else None
        watch = asyncio.create_task(self._watch(receive))
        self._service.running.add(self)
        try:
            await asyncio.to_thread(self._submit)
            await (self._stream() if self._asked.streams else self._whole())
        finally:
            self._service.running.discard(self)
            self._cancel()
            watch.cancel()
            if deadline is not None:
                deadline.cancel()
        if not self._is_gone:
            loop.run_in_executor(None, self._read_ahead)  # nobody waits for it

    def end(self, refused: Refused) -> None:
        """Ends it from outside, for this reason."""
        self._refused = refused
        self._cancel()
        self._mailbox.wake()

    def _submit(self) -> None:
        """Raises Refused."""
        first = 0
        for request in self._asked.requests:
            if not self._service.limits.breaks_loops:
                request = replace(request, breaks_loops=False)
            self._service.recover()
            try:
                job = self._service.engine.submit(request, self._sink(first), user=self._user)
            except Exception as error:
                raise refusal(error, self._asked.param) from error
            self._jobs.append(job)
            first += request.n
        if self._is_gone or self._refused is not None:
            self._cancel()

    def _read_ahead(self) -> None:
        """The beginning of the conversation's next prompt, if nobody else wants something."""
        request = self._asked.requests[0]
        if isinstance(request, Request) and self._expected == 1 and not self._service.is_closing:
            with suppress(Exception):  # the reply is complete; what goes wrong here is met when it is asked for
                self._service.engine.prefill_ahead(request, self._replies[0].message)

    @property
    def _user(self) -> str:
        """Programs of one machine are told apart by what they call themselves."""
        return f"{self._record.client} {self._record.agent} {self._asked.user}"

    def _sink(self, first: int) -> Callable[[Told], None]:
        """Where a prompt's replies tell; `first`: the number of its first one."""
        if first == 0:
            return self._mailbox.put

        def put(told: Told) -> None:
            if not isinstance(told, Reading | Failed | Compacted):
                told = replace(told, choice=told.choice + first)
            self._mailbox.put(told)

        return put

    async def _stream(self) -> None:
        """Nothing is written before the engine has begun, so that what it refuses has its own status."""
        limits, encoder = self._service.limits, self._asked.encoder
        told = await self._take(limits.ping_seconds)
        await self._writer.start(200, encoder.media_type, [(b"x-accel-buffering", b"no")])
        data = encoder.start()
        reading: Reading | None = None
        clock = asyncio.get_running_loop().time
        written_at = clock()
        try:
            while True:
                for one in told:
                    if isinstance(one, Reading):
                        reading = one
                        data += encoder.ping(one) if self._asked.reports_reading else b""
                    elif not isinstance(one, Failed):
                        reading = None
                        data += encoder.event(one)
                if len(self._replies) == self._expected:
                    break
                if not data and clock() - written_at >= limits.ping_seconds:
                    data = encoder.ping(reading)
                if data:
                    await self._writer.write(data)
                    written_at = clock()
                told = await self._take(written_at + limits.ping_seconds - clock())
                data = b""
            data += encoder.end()
        except Gone:
            raise
        except Exception as error:
            refused = refusal(error)
            if refused.status == 500:
                self._service.note_fault(error)
            self._record.note = ": ".join(filter(None, (str(refused.status), refused.noted)))
            data += encoder.failure(refused)
        await self._writer.write(data, is_last=True)

    async def _whole(self) -> None:
        while len(self._replies) < self._expected:
            await self._take(self._service.limits.ping_seconds)
        replies = [self._replies[choice] for choice in sorted(self._replies)]
        await self._writer.whole(200, await asyncio.to_thread(self._asked.encoder.whole, replies))

    async def _take(self, seconds: float) -> list[Told]:
        """What was told since the last time. Raises Gone when the client is, Refused when there is no more to come."""
        told = await self._mailbox.take(seconds)
        if self._is_gone:
            raise Gone
        if self._mailbox.has_overflowed:
            self._service.counters.slow_readers += 1
            raise Refused(408, "the client reads too slowly.", code="slow_reader")
        for one in told:
            if isinstance(one, Failed):
                raise (self._refused or refusal(one.error, self._asked.param)) from one.error
            if isinstance(one, Done):
                self._replies[one.choice] = one
                self._account(one)
                if one.reason == "cancelled" and self._refused is not None:
                    raise self._refused
        return told

    async def _watch(self, receive: Receive) -> None:
        """Cancels at once when the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if len(self._replies) < self._expected:
            self._is_gone = True
            self._cancel()
            self._mailbox.wake()

    def _overflowed(self) -> None:
        self._cancel()

    def _cancel(self) -> None:
        with suppress(Exception):
            for job in list(self._jobs):
                job.cancel()

    def _account(self, reply: Done) -> None:
        """Into the log and the counters, before the client knows that it ended; the prompt of several replies once."""
        usage, record = reply.usage, self._record
        if reply.choice not in self._first_choices:
            usage = replace(usage, prompt_tokens=0, reused_tokens=0, evaluated_tokens=0)
        self._service.counters.count_reply(reply.reason, usage)
        if reply.reason in ("length", "context") and reply.message.reasoning and not reply.message.text:
            record.note = "no answer: the thinking took all of the reply's tokens"
        record.prompt_tokens += usage.prompt_tokens
        record.reused_tokens += usage.reused_tokens
        record.generated_tokens += usage.generated_tokens


def _too_long(seconds: float) -> Refused:
    return Refused(504, f"the reply took longer than {seconds:g} seconds (--timeout).", code="timeout")
