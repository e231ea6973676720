"""Conversations in, events out: the one stream that every face of the program is a view of."""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Self

from qwen35_local import _core
from qwen35_local.chat.messages import Message
from qwen35_local.chat.parser import OutputParser
from qwen35_local.chat.presets import SETTINGS, Sampling, preset
from qwen35_local.chat.template import Template
from qwen35_local.chat.verbatim import VerbatimParser
from qwen35_local.engine.cache import Disk, Entry, PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence, Evaluate, Start, evaluate
from qwen35_local.engine.drafting import Propose
from qwen35_local.engine.encoding import Encoded, Vision
from qwen35_local.engine.forms import Forms, constraint_of
from qwen35_local.engine.generation import Generation
from qwen35_local.engine.job import Failed, Job, Reading, Sink, Told
from qwen35_local.engine.limits import ONE_AT_A_TIME, Limits
from qwen35_local.engine.live import Live, Loaded
from qwen35_local.engine.prompt_scoring import PromptScoring
from qwen35_local.engine.prompts import Prefilled, Prompts, check_room
from qwen35_local.engine.reply import Compacted, Completion, Difference, Done, Event, Reply, Request, Reuse
from qwen35_local.engine.reply_log import ReplyLog, Written
from qwen35_local.engine.scheduler import Scheduler
from qwen35_local.engine.task import Task
from qwen35_local.errors import DeviceError, TemplateError
from qwen35_local.fields import TEXT, Fields
from qwen35_local.models.kv import KvFormat
from qwen35_local.progress import Progress
from qwen35_local.text.tokenizer import Tokenizer

# Settings that a file may bring, and their keys under `general.sampling`.
_OWN_SAMPLING = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}


class Engine:
    """One model, and everything that was read on it. Nothing is read twice while a snapshot of it is kept, and none of
    that changes an answer: a reply depends on the tokens of its prompt alone."""

    where = ""  # on this machine (`Face`)

    def __init__(
        self,
        model: _core.Model,
        *,
        metadata: Mapping[str, Any] | None = None,
        tokenizer: Tokenizer | None = None,
        kv: KvFormat = "f16",
        cache_bytes: int = 1 << 30,
        host_cache_bytes: int | None = None,
        disk: Disk | None = None,
        limits: Limits = ONE_AT_A_TIME,
        cached_sequence: Callable[[_core.Sequence, PrefixCache], CachedSequence] = CachedSequence,
        evaluate: Evaluate = evaluate,
        identity: str | None = None,
        device_note: str = "",
        vision: Vision | None = None,
        reload: Callable[[], Loaded] | None = None,
        drafting: Propose | None = None,
    ) -> None:
        """`metadata` and `tokenizer`: the model's, where the caller has them already. `kv`: format of keys and values.
        `cache_bytes`: memory for snapshots beyond the newest; where the device has its own, `host_cache_bytes` of the
        host's, and the former is lent to replies side by side (`PrefixCache`); `disk`: where they go then. `limits`:
        how many replies are written at a time. `evaluate` stands for a pass of the model. `identity`: of the model
        (`store.identity`); without one it is like no other. `device_note`: why it is on no better device. `vision`:
        what an image in a message stands for; without it there may be none. `reload` loads the model again when its
        device has failed. `drafting`: where drafts come from; without it there are none.
        Raises FormatError or TemplateError when the file's tokenizer or template cannot be used."""
        if metadata is None:
            metadata = model.metadata
        self.identity = identity or secrets.token_hex(32)
        self.kv = kv
        self._device_note = device_note
        self.tokenizer = tokenizer or Tokenizer(metadata)
        self.template = Template.for_file(metadata)
        fields = Fields(metadata)
        self.name = fields.find("general.name", TEXT) or fields.find("general.basename", TEXT) or "Qwen3.5"
        found = {name: fields.find(f"general.sampling.{key}", SETTINGS[name]) for name, key in _OWN_SAMPLING.items()}
        self._own_sampling: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
        self.cache = PrefixCache(
            cache_bytes, disk, host_bytes=host_cache_bytes, saved_page_bytes=lambda: self.model.saved_page_bytes
        )
        self.reply_log = ReplyLog()
        self._prompts = Prompts(self.template, self.tokenizer, self.reply_log, vision)
        self.forms = Forms(self.tokenizer)
        self._reload = reload
        self._live = Live(model, lambda loaded: cached_sequence(_core.Sequence(loaded, kv=kv), self.cache))
        self._scheduler = Scheduler(self._live, self.cache, limits, evaluate, self._reuse, drafting)
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends idle work, and returns between two passes. The engine stays usable."""
        self._scheduler.drop_idle()

    @property
    def model(self) -> _core.Model:
        return self._live.model

    @property
    def limits(self) -> Limits:
        return self._scheduler.limits

    @property
    def _cached(self) -> CachedSequence:
        return self._live.slots(1)[0]

    @property
    def has_failed(self) -> bool:
        """Whether the device failed: what it held is lost, and nothing goes on before `recover()`."""
        return self._live.has_failed

    def recover(self) -> None:
        """Loads the model again, on a device as it was asked for, when it has failed; what was read is read again.
        Whatever asks for a reply does this first. Raises what loading raises; it can be tried again then."""
        if not self.has_failed or self._reload is None:
            return
        reload = self._reload

        def load_again() -> None:
            if not self.has_failed:
                return  # another thread was first
            self.cache.clear()
            self.cache.disk = None
            loaded = self._live.replace(reload)
            self.cache.disk, self.identity, self._device_note = loaded.disk, loaded.identity, loaded.device_note

        self.close()
        self._scheduler.at_rest(load_again)

    @property
    def context_tokens(self) -> int:
        return self.model.context_tokens

    @property
    def tokens_held(self) -> int:
        """Tokens of conversation the sequence holds now."""
        return len(self._cached)

    @property
    def thinks_by_default(self) -> bool:
        variant = self.template.variant
        return variant is None or variant.thinks_by_default

    @property
    def summary(self) -> str:
        weights = self.model.weight_bytes / 2**20
        size = f"{weights:.0f} MiB" if weights < 1024 else f"{weights / 1024:.1f} GiB"
        threads = self.model.threads
        device = f"{self.model.device}, {threads} thread" + ("s" if threads != 1 else "")
        if self._device_note:
            device += f" ({self._device_note})"
        return f"{size} of weights · context {self.context_tokens:,} in {self.kv} · {device}"

    def preset(self, *, thinking: bool) -> Sampling:
        """The model card's sampling settings for a mode; a model that is none of the family's own releases may bring
        its own in `general.sampling.*`."""
        if self.template.origin != "official" and self._own_sampling:
            return Sampling(**self._own_sampling)
        return preset(self.template.name, "thinking" if thinking else "instruct")

    @property
    def running(self) -> list[Task]:
        """What is at work now."""
        return self._scheduler.running

    @property
    def n_waiting(self) -> int:
        """How many replies wait for a place."""
        return self._scheduler.n_waiting

    def cancel(self) -> None:
        """Ends the replies in progress with reason "cancelled"; from a signal handler or another thread too."""
        self._scheduler.cancel_all()

    def answer_now(self) -> None:
        """Ends the thinking of the replies in progress; their answers follow. As `cancel` otherwise."""
        for task in self._scheduler.running:
            task.job.answer_now()

    def submit(self, asked: Request | Completion, sink: Sink, *, user: str = "") -> Job:
        """Asks for a reply and returns at once; what it tells goes to `sink`, on another thread. Raises ContextFull,
        InputError and DeviceError as `reply` does, and Busy when as many as may are waiting."""
        self.recover()
        self.forms.of(asked, waits=True)
        task, dropped = self._task(asked, Job(sink, user))
        self._scheduler.add(task)
        if dropped is not None:
            sink(dropped)
        self._work()
        return task.job

    def reply(
        self, request: Request, *, progress: Progress = lambda done, total: None, job: Job | None = None
    ) -> Generator[Event, None, None]:
        """The model's next message, as it is written; the last event is Done. Of several (`request.n`) the events come
        mixed, each ends with a Done of its own, the prompt is read once, and the sequence goes on with the first. When
        `request.when_full` is "compact" and the conversation does not fit, the first event is Compacted.

        `progress(done, total)` counts prompt tokens; `job`: to end it from outside. Raises ContextFull when the
        conversation does not fit, InputError when a message is not valid, DeviceError."""
        return self._follow(request, progress, job or Job())

    def complete(
        self, completion: Completion, *, progress: Progress = lambda done, total: None, job: Job | None = None
    ) -> Generator[Event, None, None]:
        """What follows the tokens of a prompt, all of it as text; else as `reply`. Raises ContextFull,
        InputError and DeviceError."""
        return self._follow(completion, progress, job or Job())

    def _follow(self, asked: Request | Completion, progress: Progress, job: Job) -> Generator[Event, None, None]:
        """Drives the scheduler as far as the caller asks for events."""
        self.close()
        self.recover()
        told: deque[Told] = deque()
        job.sink = told.append
        task, dropped = self._task(asked, job)
        if dropped is not None:
            yield dropped
        try:
            self._scheduler.add(task)
            while told or not task.is_settled:
                if not told:
                    self._scheduler.drive(lambda: bool(told) or task.is_settled)
                    continue
                match told.popleft():
                    case Failed(error):
                        raise error
                    case Reading(done, total):
                        progress(done, total)
                    case event:
                        yield event
        finally:
            self._scheduler.settle(task)

    def _task(self, asked: Request | Completion, job: Job) -> tuple[Task, Compacted | None]:
        replies = [Reply(choice) for choice in range(asked.n)]
        form = self.forms.of(asked)
        if isinstance(asked, Request):
            encoded, dropped = self._prompts.fitting(asked, self.context_tokens)
            keep = self._keeping(encoded, replies)
        else:
            encoded = Encoded.of_tokens(asked.tokens)
            check_room(encoded, self.context_tokens)
            dropped, keep = None, None  # no message stands for its tokens
        room = self.context_tokens - len(encoded.tokens)

        def generation(reply: Reply) -> Generation:
            parser, constraint = self._parser(asked, encoded), constraint_of(form, asked, encoded.prompt)
            return Generation(asked, parser, self.tokenizer, reply, room, lambda: job.wants_answer, constraint)

        generations = [generation(reply) for reply in replies]
        scoring = PromptScoring.of(asked, self.tokenizer)
        return Task(job, encoded, generations, asked.logprobs, keep, scoring), dropped

    def _parser(self, asked: Request | Completion, encoded: Encoded) -> OutputParser | VerbatimParser:
        if isinstance(asked, Completion):
            return VerbatimParser()
        return OutputParser(
            asked.tools,
            in_reasoning=encoded.prompt.starts_in_reasoning,
            in_answer=encoded.prompt.starts_in_answer,
            tokens=self.tokenizer.special_tokens,
            choice=asked.tool_choice,
            goes_on=asked.goes_on,
        )

    def _keeping(self, encoded: Encoded, replies: Sequence[Reply]) -> Callable[[Done], None]:
        over: list[int] = []

        def keep(done: Done) -> None:
            self._prompts.keep(encoded, replies[done.choice])
            if 0 in over:  # of replies that say the same, the one that the sequence holds is meant
                self._prompts.keep(encoded, replies[0])
            over.append(done.choice)

        return keep

    def _work(self) -> None:
        """Lets a thread of the engine's own do what nobody else drives."""
        with self._thread_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._drive_all, name="qwen35-step")
                self._thread.start()

    def _drive_all(self) -> None:
        while True:
            with self._thread_lock:
                if not (self._scheduler.has_work and threading.main_thread().is_alive()):
                    self._thread = None  # nothing to do, or the program ends, which waits for this thread
                    return
            if self.has_failed:
                try:
                    self.recover()
                except Exception as error:  # not of what they asked, and so a failure of the device to them
                    self._scheduler.fail_waiting(DeviceError(f"the model could not be loaded again: {error}"))
            self._scheduler.drive(lambda: not self._scheduler.has_work)

    def remember(self, replies: Iterable[Written]) -> None:
        """Replies of an earlier run, so that their messages stand for the same tokens again. Those whose tokens are not
        their text to this model's tokenizer, or that no reply can hold, are left out."""
        for reply in replies:
            ids = reply.tokens
            has_own_tokens = all(n < self.tokenizer.vocab_size and not self.tokenizer.is_control(n) for n in ids)
            if has_own_tokens and self.tokenizer.decode(ids) == reply.text:
                self.reply_log.keep(reply)

    def prefill(self, request: Request) -> Prefilled:
        """Reads the prompt of a request and no further. Raises what `reply` does."""
        self.close()
        self.recover()
        encoded, _ = self._prompts.fitting(request, self.context_tokens)
        prompt = encoded.model_input

        def read() -> Prefilled:
            start = self._cached.seek(prompt)
            return Prefilled(encoded, start, self._cached.read(prompt, encoded.checkpoints))

        with self._live.noting_failure():
            return self._scheduler.at_rest(read)

    def prefill_ahead(self, request: Request, reply: Message) -> None:
        """Reads, in the background, what the next prompt will begin with when the conversation goes on from `reply` to
        `request`: as a rule the reply without its thinking, from the state before it. The next call of the engine ends
        this, finished or not; while replies are being written nothing is read ahead."""
        n_asked = self._scheduler.n_asked
        if self.has_failed or self._scheduler.at_rest(lambda: self.running):  # at rest, what was told has left, too
            return
        encoded = self._prompts.ahead(request.after(reply), request)
        if encoded is not None and encoded.last_turn_at < self.context_tokens:
            self._scheduler.begin_idle(Task.of_reading(encoded.part(encoded.last_turn_at)), n_asked)
            self._work()

    def checkpoints(self, requests: Iterable[Request]) -> Iterator[tuple[Entry, _core.Snapshot]]:
        """The snapshots worth keeping for conversations that may go on or have their last reply retried: of each, the
        shortest (as a rule the system prompt's), the two furthest in the prompt, and the furthest behind the reply."""
        kept: dict[Entry, None] = {}
        for request in requests:
            prompt = list(request.messages)
            if prompt[-1].role == "assistant":
                prefilled = self._prompts.ahead(prompt, request)
                if prefilled is not None:
                    path = self.cache.path(prefilled.model_input.keys[: prefilled.last_turn_at])
                    kept |= dict.fromkeys(path[-1:])
                prompt.pop()
            if any(message.role == "user" for message in prompt):
                with suppress(TemplateError):  # what a template refuses was never read
                    path = self.cache.path(self.encode(replace(request, messages=prompt)).model_input.keys)
                    kept |= dict.fromkeys([*path[:1], *path[-2:]])
        for entry in kept:
            snapshot = self._scheduler.at_rest(partial(self.cache.fetch, entry))
            if snapshot is not None:
                yield entry, snapshot

    def parked(self) -> list[tuple[Entry, _core.Snapshot]]:
        """All snapshots in memory, those of what the sequences hold now among them; between two passes."""

        def park() -> list[tuple[Entry, _core.Snapshot]]:
            for slot in self._live.slots(self.limits.parallel):
                slot.park()
            return [(entry, entry.snapshot) for entry in self.cache if entry.snapshot is not None]

        return self._scheduler.at_rest(park)

    def finish_idle(self) -> None:
        """Waits for the end of idle work. Raises what made it fail."""
        while self._scheduler.idle is not None:
            self._scheduler.drive(lambda: self._scheduler.idle is None)
        if self._scheduler.idle_failure is not None:
            raise self._scheduler.idle_failure

    def encode(self, request: Request) -> Encoded:
        """The tokens that a conversation stands for. Raises InputError when a message is not valid."""
        return self._prompts.of(request)

    def count(self, request: Request) -> int:
        """Tokens of a prompt, the opening of the reply among them. Raises what `encode` does."""
        return len(self.encode(request).tokens)

    def _reuse(self, start: Start, evaluated: int) -> Reuse:
        difference = None
        if start.differs_at is not None:  # rows that are not tokens have no text
            known, wanted = (self.tokenizer.decode(keys[keys >= 0].tolist()) for keys in (start.held, start.wanted))
            difference = Difference(start.differs_at, known, wanted)
        idle, self._scheduler.idle_tokens = self._scheduler.idle_tokens, 0
        return Reuse(start.reused, start.source, evaluated, idle, difference)
