"""Random conversations, each reply held against a cold run: no way of reusing what was read may change an answer.

A scenario is made of a seed alone; a third of them have a system prompt of several pages, so that keys and values are
packed, and some messages hold one of a few images. After every reply the prompt and the tokens written are evaluated
again in one pass on a fresh sequence (of another model object, with another number of threads, where there are
several), and all logits must have the same bits; and what was reused must be the longest prefix there was to reuse.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np

from qwen35_local import _core
from qwen35_local.chat.events import ReasoningDelta, TextDelta
from qwen35_local.chat.messages import Content, Media, Message, ToolCall
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine import store
from qwen35_local.engine.cache import Logits, PrefixCache, is_prefix
from qwen35_local.engine.cached_sequence import CachedSequence
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.model_input import Keys, ModelInput
from qwen35_local.engine.recorder import Passes, RandomDrafts, Recorder
from qwen35_local.engine.reply import Done, Request
from qwen35_local.engine.reply_log import Written
from qwen35_local.engine.selftest_images import image_rows, random_image
from qwen35_local.engine.spill import Spill
from qwen35_local.errors import InputError, Qwen35Error
from qwen35_local.models.kv import KvFormat
from qwen35_local.models.memory import KV_FORMATS
from qwen35_local.progress import Progress

# fmt: off
WORDS = ("What", "is", "12", "+", "30", "?", "Paris", "é", "日本", "🙂", "\n", " ", "a",
         "<think>", "</think>", "<|im_end|>", "<|image_pad|>")
# fmt: on
TOOL: dict[str, object] = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class Mismatch(Qwen35Error):
    """A cache changed an answer, or something was read twice. `seed`: of the scenario."""

    seed = 0


@dataclass
class Tally:
    """What was checked: replies held against cold runs, and the tokens that were reused and evaluated for them."""

    replies: int = 0
    reused_tokens: int = 0
    evaluated_tokens: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.replies + other.replies,
            self.reused_tokens + other.reused_tokens,
            self.evaluated_tokens + other.evaluated_tokens,
        )


@dataclass
class Scenario:
    """The conversation, the branches to come back to, and the next random choice."""

    models: Sequence[_core.Model]
    seed: int
    given_kv: KvFormat | None = None
    """A format of keys and values; None: any."""
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.model = self.random.choice(self.models)
        self.kv = self.random.choice(KV_FORMATS) if self.given_kv is None else self.given_kv
        self.thinking: bool | None = None
        self.keep_thinking: bool | None = None
        self.tools: tuple[dict[str, object], ...] = (TOOL,) if self.random.random() < 0.1 else ()
        least, most = self.random.choice([(0, 0), (1, 12), (400, 600)])
        self.system = [Message("system", self.text(most, least))] if most else []
        self.messages: list[Message] = []
        self.branches: list[list[Message]] = []
        self.action = "start"
        self.folder: TemporaryDirectory[str] | None = TemporaryDirectory() if self.random.random() < 0.2 else None
        self.engine = self._engine()

    def run(self, steps: int) -> Tally:
        """Raises Mismatch naming the seed and the step."""
        try:
            for step in range(steps):
                act = self.random.choice(ACTIONS)
                self.action = f"step {step} ({act.__name__})"
                self._do(act)
        except Mismatch as failure:
            failure = Mismatch(f"seed {self.seed}, {self.action}: {failure}")
            failure.seed = self.seed
            raise failure from None
        finally:
            self.engine.close()
            if self.folder is not None:
                self.folder.cleanup()
        return self.tally

    def _do(self, act: "Callable[[Scenario], object]") -> None:
        """When the context is full, another conversation begins."""
        try:
            act(self)
        except InputError:
            if len(self.engine.encode(self._request()).tokens) < self.engine.context_tokens:
                raise
            self.messages = []

    def say(self) -> None:
        self.messages.append(Message("user", self.content(6)))
        self.answer()

    def say_much(self) -> None:
        self.messages.append(Message("user", self.text(70)))
        self.answer()

    def retry(self) -> None:
        if self.undo():
            self.answer(self.said)

    def undo(self) -> bool:
        """Takes the last question back and keeps it in `said`."""
        return self._cut(len([m for m in self.messages if m.role == "user"]) - 1)

    def show_another(self) -> None:
        """The last question about another image."""
        if self.undo() and not isinstance(self.said.content, str):
            parts = [random_image(self.random) if isinstance(part, Media) else part for part in self.said.content]
            self.answer(replace(self.said, content=tuple(parts)))

    def edit(self) -> None:
        questions = [m for m in self.messages if m.role == "user"]
        if questions and self._cut(self.random.randrange(len(questions))):
            self.say()

    def branch(self) -> None:
        self.branches.append(list(self.messages))
        self.say()

    def come_back(self) -> None:
        if self.branches:
            self.branches.append(self.messages)
            self.messages = self.branches.pop(self.random.randrange(len(self.branches) - 1))
            self.say()

    def start_another(self) -> None:
        """A second conversation behind the same system prompt."""
        self.branches.append(self.messages)
        self.messages = []
        self.say()

    def use_tool(self) -> None:
        """A call that was not written by the model, its result, and the reply to that."""
        if self.messages:
            self.messages.append(Message("user", self.text(10)))
            call = ToolCall("look", {"s": self.text(5), "n": self.random.randrange(9)})
            self.messages.append(Message("assistant", self.text(5), reasoning=self.text(9), tool_calls=(call,)))
            self.answer(Message("tool", self.text(20)))

    def echo(self) -> None:
        """The conversation comes back from a client that shows no thinking."""
        for n, message in enumerate(self.messages):
            if message.role == "assistant" and not message.tool_calls:
                self.messages[n] = Message("assistant", message.text)
        self.say()

    def interrupt_prompt(self) -> None:
        self.messages.append(Message("user", self.content(50)))
        calls, after = count(), self.random.randrange(1, 4)

        def progress(done: int, total: int) -> None:
            if next(calls) == after:
                self.engine.cancel()

        self._reply(progress)
        self.answer()

    def interrupt_reply(self) -> None:
        self.messages.append(Message("user", self.text(10)))
        done = self._reply(events=self.random.randrange(3))
        if done.message.text or done.message.reasoning:
            self.messages.append(done.message)
        else:
            self.messages.pop()

    def switch_thinking(self) -> None:
        self.thinking = self.random.choice([None, True, False])
        self.keep_thinking = self.random.choice([None, None, True, False])
        self.say()

    def starve(self) -> None:
        """The budget shrinks to a few snapshots, or to the newest alone."""
        self.engine.cache.budget_bytes = self.random.choice([1, 2, 4, 8]) * (self.engine.cache.n_bytes // 6)
        self.say()

    def forget(self) -> None:
        self.engine.close()
        self.engine.cache.clear()
        self.say()

    def restart(self) -> None:
        """Leaves, and comes back in a new engine, as a rule one with another number of threads."""
        engine = self.engine
        engine.close()
        said = [messages for messages in (self.messages, *self.branches) if messages]
        requests = [self._request(messages) for messages in said]
        self.model = self.random.choice(self.models)
        self.engine = self._engine()
        for written in engine.reply_log.of([message for messages in said for message in messages]):
            self.engine.reply_log.keep(Written.from_dict(json.loads(json.dumps(written.to_dict()))))
        with TemporaryDirectory() as folder:
            store.save(Path(folder), engine.checkpoints(requests), "selftest", engine.kv)
            store.load(Path(folder), self.engine.cache, self.model, "selftest", engine.kv)
        self.say()

    def prefill_ahead(self) -> None:
        """Reads the reply as the template shows it, to its end or until the next message comes."""
        if self.messages and self.messages[-1].role == "assistant":
            *before, last = self.messages
            self.engine.prefill_ahead(self._request(before), last)
            if self.random.random() < 0.7:
                self.engine.finish_idle()

    def answer(self, *more: Message) -> None:
        """Lets the model answer, and holds the answer against a cold run."""
        self.messages += more
        self.engine.close()
        prompt = self.engine.encode(self._request()).model_input
        expected = self._longest_known(prompt.keys)
        asked = self._request()
        done = self._reply(asked=asked)
        cached_sequence = self.engine._cached
        assert isinstance(cached_sequence, Recorder)
        written = cached_sequence.keys[len(prompt) :]
        self._check(is_prefix(prompt.keys, cached_sequence.keys), "the sequence does not hold the prompt")
        self._check(done.reuse.reused_tokens == expected, f"{done.reuse.reused_tokens} reused of {expected} known")
        self._check(done.usage.prompt_tokens == expected + done.reuse.evaluated_tokens, "tokens were read twice")
        warm_rows = [cached_sequence.passes.rows[len(prompt) + n] for n in range(1 + len(written))]
        rows = self._cold(ModelInput(np.concatenate([prompt.tokens, written]), prompt.inputs), 1 + len(written))
        for n, (warm, cold) in enumerate(zip(warm_rows, rows, strict=True)):
            same = np.array_equal(warm.view(np.int32), cold.view(np.int32))
            self._check(same, f"logits at token {len(prompt) + n} are not those of a cold run")
        drawn = [len(prompt) + n in cached_sequence.passes.drawn for n in range(len(written))]
        if not self.tools:  # calls are drawn under the masks of a grammar
            self._check_draws(asked, rows, written.tolist(), drawn)
        self.tally.replies += 1
        self.tally.reused_tokens += done.reuse.reused_tokens
        self.tally.evaluated_tokens += done.reuse.evaluated_tokens
        self.messages.append(done.message)

    def _check_draws(self, asked: Request, rows: Logits, written: Sequence[int], drawn: Sequence[bool]) -> None:
        """What is drawn from the rows of a cold run, one after the other, where tokens were drawn."""
        tokenizer = self.engine.tokenizer
        sampler = _core.Sampler(
            **asdict(asked.sampling.of_choice(0)), n_tokens_used=tokenizer.n_used, stop_ids=tokenizer.end_ids
        )
        for n, (row, token, is_drawn) in enumerate(zip(rows, written, drawn, strict=False)):
            if is_drawn:
                again = sampler.next(row).token
                self._check(again == token, f"token {n} of the reply is {token}, and {again} without drafts")
            else:
                sampler.accept(token)

    def text(self, most: int, least: int = 1) -> str:
        """So many words."""
        joint = self.random.choice(["", " "])
        return joint.join(self.random.choices(WORDS, k=self.random.randint(least, most)))

    def content(self, most: int) -> Content:
        """So many words, at times with an image among them where the model's template has a place for it."""
        engine, text = self.engine, self.text(most)
        can_see = engine.template.variant is not None and "<|image_pad|>" in engine.tokenizer.special_tokens
        shows = can_see and self.random.random() < 0.4
        return (text, random_image(self.random), self.text(3)) if shows else text

    def _request(self, messages: Sequence[Message] | None = None) -> Request:
        temperature = self.random.choice([0.0, 1.0])
        sampling = Sampling(temperature=temperature, seed=self.random.randrange(1 << 30))
        messages = [*self.system, *(self.messages if messages is None else messages)]
        return Request(messages, sampling, self.tools, self.thinking, self.keep_thinking, self.random.randint(1, 12))

    def _reply(
        self,
        progress: Progress = lambda done, total: None,
        events: int | None = None,
        asked: Request | None = None,
    ) -> Done:
        """`events`: how many deltas are let through before the reply is cancelled."""
        done = None
        for event in self.engine.reply(asked or self._request(), progress=progress):
            if isinstance(event, ReasoningDelta | TextDelta) and events is not None:
                events -= 1
                if events < 0:
                    self.engine.cancel()
            done = event
        assert isinstance(done, Done)
        return done

    def _cut(self, question: int) -> bool:
        """Back to before the question of this number."""
        starts = [n for n, message in enumerate(self.messages) if message.role == "user"]
        if not 0 <= question < len(starts):
            return False
        self.said = self.messages[starts[question]]
        del self.messages[starts[question] :]
        return True

    def _longest_known(self, sought: Keys) -> int:
        """By looking at everything there is; the sequence itself counts like a snapshot."""
        live = self.engine._cached
        known = [(entry.keys, entry.logits) for entry in self.engine.cache] + [(live.keys, live.logits)]
        return max(
            (
                len(held)
                for held, logits in known
                if is_prefix(held, sought) and (len(held) < len(sought) or logits is not None)
            ),
            default=0,
        )

    def _cold(self, rows: ModelInput, n_rows: int) -> Logits:
        """The last rows of logits of one pass on a fresh sequence."""
        cold = _core.Sequence(self.random.choice(self.models), kv=self.kv)
        before, last = rows.part(0, len(rows) - n_rows), rows.part(len(rows) - n_rows, len(rows))
        if len(before):
            cold.append(before.tokens, inputs=before.inputs, logits="none")
        return cold.append(last.tokens, inputs=last.inputs, logits="all")

    def _engine(self) -> Engine:
        disk = None if self.folder is None else Spill(Path(self.folder.name), self.model, self.kv, 1 << 22)
        see = image_rows(int(self.model.config["hidden"]))
        passes = Passes(self.model, self.random)

        def sequence(alone: _core.Sequence, cache: PrefixCache) -> CachedSequence:
            return Recorder(alone, cache, passes)

        engine = Engine(
            self.model,
            kv=self.kv,
            disk=disk,
            cached_sequence=sequence,
            evaluate=passes,
            vision=see,
            drafting=RandomDrafts(self.random),
        )
        engine.cache.disk_tokens = 20
        return engine

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Mismatch(what)


ACTIONS: tuple[Callable[[Scenario], object], ...] = (
    Scenario.say,
    Scenario.say,
    Scenario.say_much,
    Scenario.retry,
    Scenario.undo,
    Scenario.show_another,
    Scenario.edit,
    Scenario.branch,
    Scenario.come_back,
    Scenario.start_another,
    Scenario.use_tool,
    Scenario.echo,
    Scenario.interrupt_prompt,
    Scenario.interrupt_reply,
    Scenario.switch_thinking,
    Scenario.starve,
    Scenario.forget,
    Scenario.restart,
    Scenario.prefill_ahead,
    Scenario.prefill_ahead,
    Scenario.prefill_ahead,
)


def run(
    models: Sequence[_core.Model], scenarios: int, seed: int, *, steps: int = 8, kv: KvFormat | None = None
) -> Iterator[Tally]:
    """Runs scenarios `seed`, `seed` + 1, ...; yields what each checked. `kv` None: each in a format of its own. Raises
    Mismatch at the first that fails."""
    for n in range(scenarios):
        yield Scenario(models, seed + n, kv).run(steps)
