"""Continuous batching: every pass of the model takes the next token of each reply that is being written, and as much
of the prompts that wait as keeps those replies fluent.

None of it changes an answer: a row's bits do not depend on what shares its pass, where a prompt is cut, or which
snapshot it went on from.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from qwen35_local import _core
from qwen35_local.engine import prompt_rows
from qwen35_local.engine.cache import PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence, Evaluate, Start
from qwen35_local.engine.drafting import Propose
from qwen35_local.engine.job import Failed
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.live import Live
from qwen35_local.engine.pace import Pace
from qwen35_local.engine.reply import Reuse
from qwen35_local.engine.stack import check_room
from qwen35_local.engine.task import Task
from qwen35_local.engine.turns import T, Turns
from qwen35_local.errors import Busy, Cancelled, DeviceError, OutOfMemory

IDLE_CHUNK_TOKENS = 64  # how soon idle work gives way
_STEP_CALLS = 100  # inside one another, and more than a step is seen to make
SPARE_ROWS = 256  # of context that a prompt has to find beside itself


class Scheduler:
    """Tasks in, what they tell out. Whoever waits for something drives all of them, one thread at a time (`drive`)."""

    def __init__(
        self,
        live: Live,
        cache: PrefixCache,
        limits: Limits,
        evaluate: Evaluate,
        reuse: Callable[[Start, int], Reuse],
        drafting: Propose | None = None,
    ) -> None:
        """`reuse` makes the report of where a reading started and how many rows it took."""
        self.limits = limits
        self.idle: Task | None = None
        """What is read while nobody waits; `idle_tokens` of it since that was last set to 0."""
        self.idle_tokens = 0
        self.idle_failure: Exception | None = None
        self.n_asked = 0
        """Tasks that were added so far."""
        self._live = live
        self._cache = cache
        self._evaluate = evaluate
        self._reuse = reuse
        self._drafting = drafting
        self._pace = Pace(limits.prefill_share)
        self._waiting: list[Task] = []
        self._running: list[Task] = []
        self._places = limits.parallel  # fewer after one of several found no memory
        self._adding = threading.Lock()
        self._turns = Turns()

    # From any thread.

    def add(self, task: Task) -> None:
        """Raises Busy when as many as may are waiting."""
        with self._adding:
            here, places = len(self._waiting) + len(self._running), self.limits.parallel
            if here >= places + self.limits.queue:
                message = f"the queue is full: {here} replies are written or wait; try again later"
                raise Busy(message, self._pace.retry_after(here / places))
            task.is_settled = False
            self.n_asked += 1
            self._waiting.append(task)

    def drive(self, is_done: Callable[[], bool]) -> None:
        """One step, by this thread or another one, unless `is_done`; nothing within a step of this very thread, which
        the end of an object can come to."""
        if not self._turns.is_mine:
            self._turns.take(self._step, is_done)

    def at_rest(self, do: Callable[[], T]) -> T:
        """Does it while no thread steps. Comes before any further step."""
        return self._turns.take_next(do)

    def settle(self, task: Task) -> None:
        """Cancels a task, and returns when it has ended; at once where a step of this very thread was interrupted, by
        a signal or by the end of an object that is no longer held, and where the stack has no room for a step: the next
        one, whoever takes it, ends it then."""
        task.job.cancel()
        with suppress(RecursionError):
            while not (task.is_settled or self._turns.is_mine):
                self.drive(lambda: task.is_settled)

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting or self.idle)

    @property
    def running(self) -> list[Task]:
        return list(self._running)

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    def cancel_all(self) -> None:
        """From a signal handler too."""
        for task in [*self._running, *self._waiting]:
            task.job.cancel()

    def fail_waiting(self, error: Exception) -> None:
        """Ends what waits, for this reason."""

        def fail() -> None:
            for task in self._waiting[:]:
                self._fail(task, error)

        self.at_rest(fail)

    def begin_idle(self, task: Task, n_asked: int) -> None:
        """Reads a prompt while nobody waits, in the place of any other; unless more than `n_asked` tasks were added, of
        which the last holds what is likelier to go on."""

        def begin() -> None:
            if self.n_asked == n_asked:
                self._end_idle()
                self.idle, self.idle_failure = task, None

        self.at_rest(begin)

    def drop_idle(self) -> None:
        """Ends idle work; nothing is in progress when it returns."""
        self.at_rest(self._end_idle)

    # A step, by one thread at a time.

    def _step(self) -> None:
        check_room(_STEP_CALLS)  # to end half done would fail all replies, also those of others than who is so deep
        try:
            self._end_cancelled()
            if self._admit():
                return  # whoever hears of it may cancel it before anything is read
            for task in self.running:
                if not task.is_reading:
                    with self._failing(task):
                        task.begin_replies(self._live.model)
                        self._release_if_over(task)
            if self._running:
                self._make_room()
                self._pass()
            elif self.idle is not None and not self._waiting:
                self._idle_pass(self.idle)
        except BaseException as error:
            self._live.has_failed |= isinstance(error, DeviceError)
            self._fail_all(error)
            if not isinstance(error, Exception):
                raise

    def _end_cancelled(self) -> None:
        for task in [task for task in self._running if task.job.is_cancelled]:
            assert task.slot is not None
            if task.is_reading:
                self._note_reuse(task)
                task.slot.interrupt()
            task.cancel()
            self._release(task)
        for task in [task for task in self._waiting[:] if task.job.is_cancelled]:
            task.cancel()
            task.is_settled = True
            self._leave(task)

    def _admit(self) -> bool:
        """Gives waiting tasks a sequence while there is one: those first whose user has the fewest at work, else in
        the order in which they came. Returns whether there were any."""
        admitted = False
        while len(self._running) < self._places:
            at_work = Counter(task.job.user for task in self._running)
            ready = [
                one for one in self._waiting[:] if not prompt_rows.waits_for_another(one, self._running, self._cache)
            ]
            task = min(ready, key=lambda task: at_work[task.job.user], default=None)
            if task is None or not self._has_room(task):
                break
            self._running.append(task)
            self._waiting.remove(task)
            with self._failing(task):
                self._open(task)
            admitted = True
        return admitted

    def _open(self, task: Task) -> None:
        self._end_idle()
        task.open(self._free_slot(task))
        task.tell_reading()
        if not task.is_reading:
            self._end_reading(task)

    @property
    def _free_slots(self) -> list[CachedSequence]:
        taken = {id(task.slot) for task in self._running}
        return [slot for slot in self._live.slots(self.limits.parallel) if id(slot) not in taken]

    def _free_slot(self, task: Task) -> CachedSequence:
        """The one that holds most of the prompt, else the one that was left first. What it held goes to the cache."""
        slot = max(self._free_slots, key=lambda slot: (slot.usable(task.goal, task.wants_logits), -slot.left_at))
        if self.limits.parallel > 1 and not slot.usable(task.goal, task.wants_logits):
            slot.park()
        return slot

    def _end_reading(self, task: Task) -> None:
        self._note_reuse(task)
        task.begin_writing(self._cache.budget_bytes)
        self._cache.lend(task.lent_bytes)

    def _note_reuse(self, task: Task) -> None:
        if task.reuse is None and task.start is not None and task.slot is not None:
            task.reuse = self._reuse(task.start, len(task.slot) - task.start.reused)

    def _pass(self) -> None:
        prompts = prompt_rows.being_read(self._running)
        writers = [task for task in self._running if not task.is_reading]
        holds_up = bool(writers) and prompt_rows.may_hold_up(prompts, self._pace, self._live.model.pass_rows)
        if holds_up:
            writers = []
        lines = [line for task in writers for line in task.lines]
        if self._drafting is not None and lines:
            self._drafting.propose(self._live.model, lines, self._spare_rows())
        writing = [(task, task.parts()) for task in writers]
        n_writing = sum(len(part.rows) for _, parts in writing for part in parts)
        most = max(self._live.model.pass_rows - n_writing, 1)
        reading = prompt_rows.take_parts(
            prompts, self._pace.prompt_rows(most, beside_replies=holds_up or bool(writers))
        )
        n_reading = sum(len(part.rows) for _, part in reading)
        for task, _ in writing:
            assert task.slot is not None
            task.slot.begin_pass()
        together = [*(part for _, parts in writing for part in parts), *(part for _, part in reading)]
        with self._pace.timing(n_writing, n_reading, holds_up=holds_up) as timed:
            found = self._evaluate(self._live.model, together)
        results, ended = iter(found), time.monotonic()
        for task, parts in writing:
            mine = [next(results) for _ in parts]
            with self._failing(task):
                task.took(mine)
                self._release_if_over(task)
        if self._drafting is not None and lines and not reading:
            n_drawn = sum(len(result.sampled) for result in found)
            self._drafting.took(lines, n_writing, timed.seconds + (time.monotonic() - ended) / max(n_drawn, 1))
        for task, _ in reading:
            with self._failing(task):
                self._took_prompt(task, next(results))

    def _took_prompt(self, task: Task, result: _core.StepResult) -> None:
        """Some rows of its prompt. First tokens do not wait for the snapshot that the end of the prompt leaves."""
        slot = task.slot
        assert slot is not None
        slot.took(result)
        task.tell_reading()
        if slot.is_there:
            self._end_reading(task)
            task.begin_replies(self._live.model)
        slot.leave_snapshot()
        self._release_if_over(task)

    def _idle_pass(self, task: Task) -> None:
        try:
            if task.slot is None:
                task.slot = self._free_slot(task)
                if not task.slot.usable(task.goal, wants_logits=False):
                    task.slot.park()  # a client may show the reply with its thinking after all
                task.slot.seek(task.goal, wants_logits=False)
                task.slot.aim(task.goal, task.encoded.checkpoints, wants_logits=False)
            if not task.slot.is_there:
                part = task.slot.next_part(IDLE_CHUNK_TOKENS)
                task.slot.took(self._evaluate(self._live.model, [part])[0])
                task.slot.leave_snapshot()
                self.idle_tokens += len(part.rows)
            if task.slot.is_there:
                self.idle = None
        except Exception as error:
            self.idle, self.idle_failure = None, error
            self._live.has_failed |= isinstance(error, DeviceError)

    def _end_idle(self) -> None:
        idle, self.idle = self.idle, None
        if idle is not None and idle.slot is not None:
            idle.slot.interrupt()

    # Room for keys and values.

    def _rows_held(self) -> int:
        return sum(map(len, self._free_slots)) + sum(max(task.n_rows, len(task.goal)) for task in self._running)

    def _has_room(self, task: Task) -> bool:
        most = self.limits.kv_tokens
        if most is None or not self._running:
            return True
        if self._rows_held() + len(task.goal) + SPARE_ROWS > most:
            self._empty_free_slots()
        return self._rows_held() + len(task.goal) + SPARE_ROWS <= most

    def _make_room(self) -> None:
        """Where keys and values do not fit: of those at work, the last that came waits until there is room again."""
        most = self.limits.kv_tokens
        if most is None or self._rows_held() + len(self._running) <= most:
            return
        self._empty_free_slots()
        for task in self.running[:0:-1]:
            if self._rows_held() + len(self._running) <= most:
                break
            if task.can_be_interrupted:
                self._interrupt(task)

    def _spare_rows(self) -> int:
        """What is left for drafts beside a token for each reply."""
        most = self.limits.kv_tokens
        n_lines = sum(len(task.lines) for task in self._running)
        return self._live.model.pass_rows if most is None else max(0, most - self._rows_held() - n_lines)

    def _empty_free_slots(self) -> None:
        for slot in self._free_slots:
            slot.empty()

    def _interrupt(self, task: Task) -> None:
        slot = task.slot
        task.interrupt()
        self._waiting.insert(0, task)
        self._running.remove(task)
        if slot is not None:
            slot.empty()

    # Ends.

    @contextmanager
    def _failing(self, task: Task) -> Iterator[None]:
        """An error ends this task alone, unless it is the device's. One that finds no memory waits while others give
        theirs back."""
        try:
            yield
        except DeviceError:
            raise
        except OutOfMemory as error:
            if len(self._running) > 1 and task in self._running and task.can_be_interrupted:
                self._interrupt(task)
                self._places = len(self._running)
            else:
                self._fail(task, error)
        except Exception as error:
            self._fail(task, error)

    def _release_if_over(self, task: Task) -> None:
        if task.is_over:
            self._release(task)

    def _release(self, task: Task) -> None:
        task.is_settled = True
        self._pace.note_reply(time.monotonic() - task.began)
        self._leave(task)
        self._places = min(self._places + 1, self.limits.parallel)

    def _leave(self, task: Task) -> None:
        for tasks in (self._running, self._waiting):
            if task in tasks:
                tasks.remove(task)
        self._cache.lend(-task.lent_bytes)
        task.lent_bytes = 0
        if task.slot is not None:
            task.slot.leave()
            task.slot = None

    def _fail(self, task: Task, error: Exception) -> None:
        if not task.is_settled:
            task.job.sink(Failed(error))
            task.is_settled = True
        self._leave(task)

    def _fail_all(self, error: BaseException) -> None:
        told = error if isinstance(error, Exception) else Cancelled("the pass was interrupted")
        for task in self.running:
            self._fail(task, told)
        self._end_idle()
