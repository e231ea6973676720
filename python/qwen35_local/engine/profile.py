"""Where the time of a prompt and of a generated token goes, operation by operation."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qwen35_local import _core
from qwen35_local.models.kv import KvFormat

GROUPS = {
    "matmul": ("matmul", "matmul_add", "swiglu"),
    "delta": ("gated_delta_net",),
    "attention": ("norm_rope_append", "attend"),
    "norm": ("rms_norm",),
    "moe": ("route", "moe_gather", "moe_combine"),
    "head": ("head",),
    "sampling": ("top_k",),
    "waiting": ("waiting",),
}


@dataclass(frozen=True)
class Part:
    name: str
    seconds: float
    calls: int


@dataclass(frozen=True)
class Phase:
    """Parts of `seconds`, the largest first; "waiting" is time in which the calling thread waited for others that were
    not yet done, "other" what remains: the embedding, copies, and what lies between operations."""

    name: str
    tokens: int
    seconds: float
    parts: tuple[Part, ...]


def profile(model: _core.Model, n_prompt: int, n_gen: int, depth: int = 0, kv: KvFormat = "f16") -> list[Phase]:
    """A prompt of `n_prompt` tokens, then `n_gen` tokens, sampled one by one behind a context of `depth`. The model is
    loaded with profile=True. A count of 0 leaves its phase out."""
    random = np.random.default_rng(0)

    def tokens(n: int) -> list[int]:
        return [int(t) for t in random.integers(0, model.n_tokens_used, n)]

    phases = []
    if n_prompt:
        sequence, prompt = _core.Sequence(model, kv=kv), tokens(n_prompt)
        phases.append(_phase("prefill", model, n_prompt, lambda: sequence.append(prompt)))
    if n_gen:
        behind = _core.Sequence(model, kv=kv)
        logits = behind.append(tokens(max(depth, 1)))
        phases.append(_phase("decode", model, n_gen, lambda: _generate(behind, logits[0], n_gen, model)))
    return phases


def _generate(sequence: _core.Sequence, logits: "np.ndarray", n: int, model: _core.Model) -> None:
    sampler = _core.Sampler(temperature=1.0, top_k=20, top_p=0.95, seed=0, n_tokens_used=model.n_tokens_used)
    token = sampler.next(logits).token
    for _ in range(n):
        [sampled] = sequence.step([token], sampler=sampler).sampled
        token = sampled.token


def _phase(name: str, model: _core.Model, tokens: int, work: Callable[[], object]) -> Phase:
    model.reset_profile()
    begin = time.perf_counter()
    work()
    seconds = time.perf_counter() - begin
    times = model.profile()
    parts = [
        Part(group, sum(times[op][1] for op in operations), sum(times[op][0] for op in operations))
        for group, operations in GROUPS.items()
    ]
    parts.append(Part("other", seconds - sum(part.seconds for part in parts), 0))
    shown = [part for part in parts if part.seconds > 0 or part.name == "other"]
    return Phase(name, tokens, seconds, tuple(sorted(shown, key=lambda part: -part.seconds)))
