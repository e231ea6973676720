"""Clients of an engine, for tests of many at once."""

import threading

from qwen35_local import _core
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.job import Failed, Job, Told
from qwen35_local.engine.reply import Done, Request

WAIT_S = 120.0
SYSTEM = Message("system", "You are careful. " * 40)


class Client:
    """A job, and what it told."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.is_over = threading.Event()
        self.n_left = 1

    def __call__(self, told: Told) -> None:
        self.told.append(told)
        self.n_left -= isinstance(told, Done)
        if self.n_left == 0 or isinstance(told, Failed):
            self.is_over.set()

    def ask(self, engine: Engine, request: Request, user: str = "") -> Job:
        self.n_left = request.n
        return engine.submit(request, self, user=user)

    @property
    def done(self) -> Done:
        assert self.is_over.wait(WAIT_S), "no end"
        last = self.told[-1]
        assert isinstance(last, Done), last
        return last

    @property
    def error(self) -> Exception:
        assert self.is_over.wait(WAIT_S), "no end"
        last = self.told[-1]
        assert isinstance(last, Failed)
        return last.error


def request(text: str, seed: int = 0, *, max_tokens: int = 24, system: Message | None = SYSTEM) -> Request:
    messages = [*([system] if system else []), Message("user", text)]
    return Request(messages, Sampling(temperature=0.8, seed=seed), thinking=bool(seed % 2), max_tokens=max_tokens)


def alone(demo: _core.Model, asked: Request, kv: str = "f16") -> Done:
    *_, done = Engine(demo, kv=kv).reply(asked)  # type: ignore[arg-type]
    assert isinstance(done, Done)
    return done


def never_ends(engine: Engine) -> Sampling:
    ends = [token for token in engine.tokenizer.end_ids if token < engine.tokenizer.n_used]
    return Sampling(temperature=1.0, seed=1, logit_bias=dict.fromkeys(ends, -100.0))
