"""Random replies at once, each held against its lone run: whatever shares its passes, its tokens have the same
logprobs, bit by bit.

A scenario is made of a seed alone: one thread drives the scheduler, and what depends on the time elsewhere, how many
rows of prompts a pass has, is drawn. Prompts come while others are read and written, begin alike or not, and go on from
replies; some ask for several replies or for an answer of a given form; there are more of them than places, at times
more than keys and values have room for; and some are put off, cancelled, or no longer read, at any moment.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from random import Random

from qwen35_local import _core
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.wishes import OutputFormat
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Job
from qwen35_local.engine.limits import Limits
from qwen35_local.engine.pace import Pace
from qwen35_local.engine.recorder import RandomDrafts
from qwen35_local.engine.reply import Done, Event, Logprobs, Request
from qwen35_local.engine.reply_log import Written
from qwen35_local.engine.selftest import TOOL, WORDS, Mismatch, Tally
from qwen35_local.errors import InputError
from qwen35_local.models.kv import KvFormat
from qwen35_local.models.memory import KV_FORMATS

STEPS = 40
PROMPT_ROWS = (1, 5, 32, 100, 400)


class RandomPace(Pace):
    """Where replies are written too, prompts get any number of rows, and may hold them up at any time."""

    def __init__(self, random: Random) -> None:
        super().__init__(0.9)
        self._random = random

    def prompt_rows(self, most: int, *, beside_replies: bool) -> int:
        return min(most, self._random.choice(PROMPT_ROWS)) if beside_replies else most

    def may_hold_up(self, n_rows: int) -> bool:
        return self._random.random() < 0.5


@dataclass
class _Live:
    """A request, the replies that the engine knew when it came, what it tells, and its ends."""

    request: Request
    known: Sequence[Written]
    job: Job
    events: Generator[Event, None, None]
    ended: list[Done] = field(default_factory=list)


class Crowd:
    """The replies that have not ended, the conversations to go on with, and the next random choice."""

    def __init__(self, models: Sequence[_core.Model], seed: int, given_kv: KvFormat | None = None) -> None:
        """`given_kv`: a format of keys and values; None: any."""
        self.tally = Tally()
        self.seed = seed
        self.random = random = Random(seed)
        self.models = models
        self.kv = random.choice(KV_FORMATS) if given_kv is None else given_kv
        limits = Limits(random.choice([2, 3, 5]), kv_tokens=random.choice([None, 700]))
        self.engine = Engine(random.choice(models), kv=self.kv, limits=limits, drafting=RandomDrafts(random))
        self.engine._scheduler._pace = RandomPace(random)
        start = self._text(random.choice([3, 300]))
        self.systems = ["", start, f"{start} {self._text(5)}", self._text(30)]
        self.conversations: list[list[Message]] = []
        self.asked: list[Sequence[Message]] = []
        self.live: list[_Live] = []
        self.step = 0

    def run(self, steps: int = STEPS) -> Tally:
        """Raises Mismatch naming the seed and the step."""
        try:
            for self.step in range(steps):
                self._act()
            while self.live:
                self._go_on(self.random.choice(self.live), 8)
        finally:
            for live in self.live:
                live.events.close()
            self.engine.close()
        return self.tally

    def _act(self) -> None:
        chance = self.random.random()
        if not self.live or (chance < 0.4 and len(self.live) < 2 * self.engine.limits.parallel):
            self._ask()
        elif chance < 0.85:
            self._go_on(self.random.choice(self.live), self.random.randint(1, 12))
        elif chance < 0.9:
            self.random.choice(self.live).job.cancel()
        elif chance < 0.93:
            self._put_off()
        elif chance < 0.96:
            self.live.pop(self.random.randrange(len(self.live))).events.close()
        else:
            self.engine.cache.budget_bytes = self.random.choice([0, 1, 4]) * (self.engine.cache.n_bytes // 4)

    def _ask(self) -> None:
        """A new conversation, the next turn of one, or what was asked before; the reply is not waited for."""
        messages = self._again() or self._next_turn()
        self.asked.append(messages)
        request, job = self._request(messages), Job()
        known = self.engine.reply_log.of(messages)
        self.live.append(_Live(request, known, job, self.engine.reply(request, job=job)))
        self._go_on(self.live[-1], 1)

    def _again(self) -> Sequence[Message]:
        return self.random.choice(self.asked) if self.asked and self.random.random() < 0.25 else ()

    def _next_turn(self) -> Sequence[Message]:
        goes_on = self.conversations and self.random.random() < 0.5
        before = self.random.choice(self.conversations) if goes_on else self._opening()
        return [*before, Message("user", self._text(self.random.choice([3, 40])))]

    def _put_off(self) -> None:
        """One of those at work has to wait, as where keys and values find no room."""
        able = [task for task in self.engine.running if task.can_be_interrupted]
        if able:
            self.engine._scheduler._interrupt(self.random.choice(able))

    def _opening(self) -> list[Message]:
        system = self.random.choice(self.systems)
        return [Message("system", system)] if system else []

    def _request(self, messages: Sequence[Message]) -> Request:
        random = self.random
        return Request(
            messages,
            Sampling(temperature=random.choice([0.0, 1.0]), seed=random.randrange(1 << 30)),
            tools=(TOOL,) if random.random() < 0.1 else (),
            thinking=random.choice([None, True, False]),
            max_tokens=random.randint(1, 24),
            logprobs=random.choice([0, 2]),
            n=random.choice([1, 1, 1, 3]),
            output_format=OutputFormat("json_object") if random.random() < 0.15 else None,
        )

    def _go_on(self, live: _Live, n_events: int) -> None:
        """Reads so many events of it, which drives the others too."""
        try:
            told = list(islice(live.events, n_events))
        except InputError:  # the conversation is longer than the context
            if live.ended or len(self.engine.encode(live.request).tokens) < self.engine.context_tokens:
                raise
            self.live.remove(live)
            return
        live.ended += [event for event in told if isinstance(event, Done)]
        if len(live.ended) == live.request.n:
            self.live.remove(live)
            for done in live.ended:
                self._compare(live, done)

    def _compare(self, live: _Live, done: Done) -> None:
        """With the reply of an engine that has nothing else to do, of any of the models."""
        engine = Engine(self.random.choice(self.models), tokenizer=self.engine.tokenizer, kv=self.kv)
        engine.forms = self.engine.forms
        engine.remember(live.known)
        *_, alone = engine.reply(replace(live.request, n=1, sampling=live.request.sampling.of_choice(done.choice)))
        assert isinstance(alone, Done)
        is_cut = done.reason == "cancelled"
        own, lone = _told(done), _told(alone)
        for n, (found, expected) in enumerate(zip_longest(own, lone[: len(own)] if is_cut else lone)):
            if found != expected:
                self._fail(f"token {n} of a reply is {_said(found)}, and {_said(expected)} in a lone run")
        if not is_cut and (done.reason, done.message) != (alone.reason, alone.message):
            self._fail("a reply ends otherwise than in a lone run")
        self.tally += Tally(1, done.reuse.reused_tokens, done.reuse.evaluated_tokens)
        if not done.choice:
            self.conversations.append([*live.request.messages, done.message])

    def _fail(self, what: str) -> None:
        failure = Mismatch(f"seed {self.seed}, several replies at once, step {self.step}: {what}")
        failure.seed = self.seed
        raise failure

    def _text(self, most: int) -> str:
        return " ".join(self.random.choices(WORDS, k=self.random.randint(max(1, most // 2), most)))


def _told(done: Done) -> list[Logprobs]:
    return [replace(logprobs, choice=0) for logprobs in done.logprobs]


def _said(logprobs: Logprobs | None) -> str:
    return "not there" if logprobs is None else f"{logprobs.token.id} ({logprobs.token.logprob!r})"


def run(models: Sequence[_core.Model], scenarios: int, seed: int, *, kv: KvFormat | None = None) -> Iterator[Tally]:
    """Runs scenarios `seed`, `seed` + 1, ...; yields what each checked. `kv` None: each in a format of its own. Raises
    Mismatch at the first that fails."""
    for n in range(scenarios):
        yield Crowd(models, seed + n, kv).run()
