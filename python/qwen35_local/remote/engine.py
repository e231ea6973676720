"""The face of an engine (`engine.face.Face`) whose model is behind a server of OpenAI's chat completions."""

import asyncio
import queue
import re
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from hashlib import sha256
from typing import Any, NoReturn, TypeVar

from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling, preset
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.engine.compaction import compacted
from qwen35_local.engine.job import Failed, Job, Reading, Sink, Told
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.reply import Completion, Done, Event, Reply, Request
from qwen35_local.engine.reply_log import ReplyLog
from qwen35_local.errors import Busy, InputError, Qwen35Error, RemoteError, Unavailable
from qwen35_local.progress import Progress
from qwen35_local.remote.address import Address
from qwen35_local.remote.asking import Asking
from qwen35_local.remote.background import Background
from qwen35_local.remote.body import body, completion_body, format_body
from qwen35_local.remote.content import Habit
from qwen35_local.remote.counting import count
from qwen35_local.remote.http import Connection
from qwen35_local.remote.server import Kind, choose
from qwen35_local.remote.tokens import RemoteTokens
from qwen35_local.remote.unknown import Elsewhere, UnknownTemplate, UnknownTokens, UnknownWeights
from qwen35_local.remote.writing import Writing

LIMITS = Limits(parallel=256, queue=0)
"""Requests at a time; the server has a queue of its own."""

_ANSWER_SECONDS = 30
"""Of a question that needs no model."""

_VERSION = re.compile(r"qwen[-_]?(3\.[568])", re.IGNORECASE)
_SMALL = re.compile(r"[-_](0\.8|2)b\b", re.IGNORECASE)


def version_of(name: str) -> str:
    """The version of the family that a model's name tells, as presets have it; 3.5 where it tells none."""
    found = _VERSION.search(name)
    version = f"qwen{found[1]}" if found else "qwen3.5"
    return "qwen3.5-small" if version == "qwen3.5" and _SMALL.search(name) else version


T = TypeVar("T")


def job_sink(job: Job) -> Callable[[Event], None]:
    """To wherever the job tells at that time."""
    return lambda told: job.sink(told)


class RemoteForms:
    """Which forms of an answer a server can be asked for."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def check(self, wanted: OutputFormat) -> None:
        """Raises InputError."""
        format_body(wanted, self._kind)


class RemoteEngine:
    """Asks for replies, and knows nothing of tokens. `name`: of the model; None: the only one that the server has.
    Raises InputError when it has several, or not this one, and RemoteError."""

    has_failed = False
    limits = LIMITS
    kv = "as the server keeps them"
    tokens_held = 0

    def __init__(self, address: Address, key: str = "", name: str | None = None) -> None:
        self.where = str(address)
        self._connection = Connection(address, key)
        self._background = Background()
        listed = self._background.start(self._connection.read("/models")).result()
        self._model = choose(listed, name, self.where)
        self.name = self._model.name
        self.identity = sha256(f"{self.where}\0{self.name}".encode()).hexdigest()
        self.reply_log = ReplyLog()
        self.tokenizer = self._tokens()
        self.template = UnknownTemplate(self.where)
        self.model = UnknownWeights(self.where)
        self.forms = RemoteForms(self._model.kind)
        self._version = version_of(self.name)
        self._habit = Habit()
        self._running: set[Job] = set()
        self._lock = threading.Lock()

    @property
    def context_tokens(self) -> int:
        """0: the server does not say."""
        return self._model.context_tokens

    @property
    def thinks_by_default(self) -> bool:
        return self._version != "qwen3.5-small"

    @property
    def summary(self) -> str:
        context = f"context {self.context_tokens:,}" if self.context_tokens else "context not told"
        return f"at {self.where} · {context} · presets of {self._version}"

    @property
    def running(self) -> list[Elsewhere]:
        return [Elsewhere()] * len(self._running)

    @property
    def n_waiting(self) -> int:
        """Those that wait do so at the server."""
        return 0

    def preset(self, *, thinking: bool) -> Sampling:
        return preset(self._version, "thinking" if thinking else "instruct")

    def submit(self, asked: Request | Completion, sink: Sink, *, user: str = "") -> Job:
        """As `Engine.submit`. Raises InputError and Unavailable for what a remote engine cannot be asked, Busy."""
        job = Job(sink, user)
        self._begin(asked, job)
        return job

    def reply(
        self, request: Request, *, progress: Progress = lambda done, total: None, job: Job | None = None
    ) -> Generator[Event, None, None]:
        """As `Engine.reply`; `progress` is not told. Raises RemoteError too."""
        job = job or Job()
        told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        job.sink = told.put
        self._begin(request, job)
        n_left = request.n
        try:
            while n_left:
                try:
                    one = told.get(timeout=1)  # a signal is heard meanwhile, on every system
                except queue.Empty:
                    continue
                if isinstance(one, Failed):
                    raise one.error
                if not isinstance(one, Reading):
                    n_left -= isinstance(one, Done)
                    yield one
        finally:
            job.cancel()

    def cancel(self) -> None:
        """Ends the replies in progress, from any thread or signal handler."""
        for job in list(self._running):
            job.cancel()

    def answer_now(self) -> None:
        for job in list(self._running):
            job.answer_now()

    def encode(self, request: Request) -> NoReturn:
        raise Unavailable(f"the tokens of a conversation are known to {self.where} alone; a reply tells their number.")

    def count(self, request: Request) -> int:
        """As `Engine.count`, where the server tells. Raises Unavailable, RemoteError, InputError, Busy."""
        return self._waited(count(self._connection, self._model, request, self.where))

    def _tokens(self) -> UnknownTokens:
        if self._model.kind == "other":
            return UnknownTokens(self.where)
        return RemoteTokens(self.where, self._model, lambda path, body: self._waited(self._connection.ask(path, body)))

    def _waited(self, asking: Coroutine[Any, Any, T]) -> T:
        """Of a small question. Raises RemoteError."""
        asked = self._background.start(asking)
        try:
            return asked.result(_ANSWER_SECONDS)
        except TimeoutError:
            asked.cancel()
            raise RemoteError(f"{self.where} did not answer within {_ANSWER_SECONDS} seconds.") from None

    def close(self) -> None:
        """There is no idle work."""

    def recover(self) -> None:
        """There is no device."""

    def prefill_ahead(self, request: Request, reply: Message) -> None:
        """The server keeps what it has read, if it does."""

    def _begin(self, asked: Request | Completion, job: Job) -> None:
        if isinstance(asked, Request):
            asked = self._fitting(asked, job)
        askings = [self._asking(asked, Reply(choice), job) for choice in range(asked.n)]
        with self._lock:
            if len(self._running) >= LIMITS.parallel:
                raise Busy(f"{LIMITS.parallel} replies are being written; try again later.", 5)
            self._running.add(job)
        self._background.start(self._run(job, askings))

    def _fitting(self, asked: Request, job: Job) -> Request:
        """Without the oldest messages where they do not fit, and that is wished."""
        if asked.when_full != "compact":
            return asked
        if not self.context_tokens:
            raise InputError(f"{self.where} does not say how much fits its context; leave --when-full compact out.")
        shorter, dropped = compacted(asked, self.count, self.context_tokens)
        if dropped is not None:
            job.sink(dropped)
        return shorter

    def _asking(self, request: Request | Completion, reply: Reply, job: Job) -> Asking:
        if isinstance(request, Completion):
            asked = completion_body(request, self._model, reply.choice, self.where)
            writing = Writing.of_text(request, reply, self._habit, self.where)
            return Asking(self._connection, self.where, self._model.kind, asked, writing, job, job_sink(job))
        thinks = self.thinks_by_default if request.thinking is None else request.thinking
        thinks = thinks and not request.goes_on
        writing = Writing(request, reply, self._habit, self.where, thinks=thinks)
        asked = body(request, self._model, reply.choice)
        return Asking(self._connection, self.where, self._model.kind, asked, writing, job, job_sink(job))

    async def _run(self, job: Job, askings: Sequence[Asking]) -> None:
        """The replies side by side; the first that fails ends the others."""
        tasks = [asyncio.ensure_future(asking.run()) for asking in askings]
        try:
            await asyncio.gather(*tasks)
        except Qwen35Error as error:
            job.sink(Failed(error))
        except Exception as error:
            job.sink(Failed(RemoteError(f"{self.where}: the reply cannot be read ({type(error).__name__}).")))
        finally:
            for task in tasks:
                task.cancel()
            with self._lock:
                self._running.discard(job)
