"""Prefill and decode speed: the tests of `qwen35 bench`, one run at a time.

A run feeds random tokens and samples nothing, so that only the model is measured. A context is evaluated once, and
every run continues a fork of it.
"""

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.engine.cost import Cost
from qwen35_local.errors import InputError
from qwen35_local.models.kv import KvFormat
from qwen35_local.progress import Progress

TURN_TOKENS = 32
VERIFY_TOKENS = 4
_VERIFY_PASSES = 8
_WARM_TOKENS = 64
_PIECE_TOKENS = 1024

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Case:
    """`kind` is "prefill" (a prompt in an empty context), "decode" (token after token with logits, `sequences` of them
    side by side), "verify" (`n_prompt` tokens of one sequence in one pass, logits for all) or "turn" (a short message
    after a context, until its first token)."""

    kind: str
    n_prompt: int
    n_gen: int
    depth: int
    sequences: int = 1
    kv: KvFormat = "f16"

    @property
    def name(self) -> str:
        """ "prefill 512" (llama-bench: pp512), "decode 128 @ d4096" (tg128 @ d4096)."""
        label = f"{self.kind} {self.n_gen if self.kind == 'decode' else self.n_prompt}"
        batch = f" x{self.sequences}" if self.sequences > 1 else ""
        depth = f" @ d{self.depth}" if self.depth else ""
        return f"{label}{batch}{depth}" + (f" {self.kv}" if self.kv != "f16" else "")

    @property
    def last_position(self) -> int:
        """Positions of context that a run needs."""
        return self.depth + (_VERIFY_PASSES * self.n_prompt if self.kind == "verify" else self.n_prompt + self.n_gen)


@dataclass(frozen=True)
class Run:
    """Seconds of one run and the tokens it evaluated; `one_token` is a pass of one token next to it, for "verify"."""

    seconds: float
    tokens: int
    one_token: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds


def plan(
    prompts: Seq[int], n_gen: int, depths: Seq[int], batches: Seq[int], formats: Seq[KvFormat] = ("f16",)
) -> list[Case]:
    """For each KV format prompts first, then depth by depth, shallow ones first. A prompt, `n_gen` or batch of 0 leaves
    its tests out."""
    tests = []
    for kv in formats:
        tests += [Case("prefill", n, 0, 0, kv=kv) for n in prompts if n]
        for depth in sorted(set(depths)):
            if n_gen:
                tests += [Case("decode", 0, n_gen, depth, n, kv) for n in batches if n]
                tests.append(Case("verify", VERIFY_TOKENS, VERIFY_TOKENS, depth, kv=kv))
            if depth:
                tests.append(Case("turn", TURN_TOKENS, 1, depth, kv=kv))
    return tests


class Bench:
    """Runs tests on one model. Tests of growing depth extend one context, so that it is read once."""

    def __init__(self, model: _core.Model) -> None:
        self.model = model
        self._random = np.random.default_rng(0)
        self._kv: KvFormat = "f16"
        self._context = _core.Sequence(model, kv=self._kv)

    def check(self, tests: Seq[Case]) -> None:
        """Raises InputError for a test that the model's context does not hold."""
        for test in tests:
            if test.last_position > self.model.context_tokens:
                raise InputError(
                    f"{test.name} takes {test.last_position} positions, and this model has "
                    f"{self.model.context_tokens}; give a shorter --prompt, --gen or --depth"
                )

    def prepare(self, test: Case, progress: Progress = lambda done, total: None) -> None:
        """Reads what has to be in the context, telling how many of its tokens are read, and warms up."""
        if len(self._context) > test.depth or self._kv != test.kv:
            self._context, self._kv = self._empty(test), test.kv
        context = self._context
        while len(context) < test.depth:
            progress(len(context), test.depth)
            n = min(_PIECE_TOKENS, test.depth - len(context))
            context.append(self._tokens(n), logits="none")
        progress(test.depth, test.depth)
        n = min(test.n_prompt or 1, _WARM_TOKENS)
        self.model.forward([(fork, self._tokens(n), "last") for fork in self._forks(test.sequences)])

    def run(self, test: Case) -> Run:
        """One timed run after `prepare`."""
        match test.kind:
            case "prefill":
                return self._append(self._empty(test), test.n_prompt)
            case "turn":
                return self._append(self._forks(1)[0], test.n_prompt)
            case "verify":
                one = self._passes(self._forks(1)[0], 1)
                return Run(self._passes(self._forks(1)[0], test.n_prompt), test.n_prompt, one)
        forks = self._forks(test.sequences)
        tokens = [self._tokens(test.n_gen) for _ in forks]
        begin = time.perf_counter()
        for i in range(test.n_gen):
            self.model.forward([(s, t[i : i + 1], "last") for s, t in zip(forks, tokens, strict=True)])
        return Run(time.perf_counter() - begin, test.n_gen * test.sequences)

    def _empty(self, test: Case) -> _core.Sequence:
        return _core.Sequence(self.model, kv=test.kv)

    def _append(self, sequence: _core.Sequence, n: int) -> Run:
        tokens = self._tokens(n)
        begin = time.perf_counter()
        sequence.append(tokens, logits="last")
        return Run(time.perf_counter() - begin, n)

    def _passes(self, sequence: _core.Sequence, n: int) -> float:
        """Seconds of a pass of `n` tokens with logits for all."""
        tokens = [self._tokens(n) for _ in range(_VERIFY_PASSES)]
        begin = time.perf_counter()
        for piece in tokens:
            sequence.append(piece, logits="all")
        return (time.perf_counter() - begin) / _VERIFY_PASSES

    def _forks(self, n: int) -> list[_core.Sequence]:
        return [self._context.fork() for _ in range(n)]

    def _tokens(self, n: int) -> Tokens:
        return self._random.integers(0, self.model.n_tokens_used, n, dtype=np.int32)


@dataclass(frozen=True)
class Rates:
    """Medians over runs. `spread` is the 90th less the 10th percentile of tokens/s over the median. `gb_per_s` counts
    the bytes of weights and state that a pass streams, `gops` multiplications and additions with weights; a test has
    the one that bounds it. `one_token_ratio` is how much longer a pass to verify takes than a pass of one token."""

    seconds: float
    tokens_per_s: float
    spread: float
    gb_per_s: float | None = None
    gops: float | None = None
    one_token_ratio: float | None = None


def rates(test: Case, runs: Seq[Run], cost: Cost) -> Rates:
    speeds = np.array([run.tokens_per_s for run in runs])
    speed = float(np.median(speeds))
    low, high = np.percentile(speeds, [10, 90])
    seconds = float(np.median([run.seconds for run in runs]))
    common = {"seconds": seconds, "tokens_per_s": speed, "spread": float((high - low) / speed)}
    if test.kind == "decode":
        a_pass = cost.decode_bytes(test.depth + (test.n_gen - 1) / 2, test.sequences, kv=test.kv)
        return Rates(**common, gb_per_s=a_pass * speed / test.sequences / 1e9)
    if test.kind == "verify":
        depth = test.depth + (_VERIFY_PASSES - 1) * test.n_prompt / 2
        ratio = float(np.median([run.seconds / run.one_token for run in runs]))
        streamed = cost.decode_bytes(depth, tokens=test.n_prompt, kv=test.kv)
        return Rates(**common, gb_per_s=streamed / seconds / 1e9, one_token_ratio=ratio)
    return Rates(**common, gops=cost.prefill_operations(test.n_prompt) / seconds / 1e9)
