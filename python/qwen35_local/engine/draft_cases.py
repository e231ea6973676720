"""What `qwen35 bench --draft` measures (`draft_bench`), and what comes of it."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qwen35_local.engine.draft_skills import SKILLS
from qwen35_local.errors import InputError
from qwen35_local.models.kv import KvFormat

QUOTED_TOKENS = 2000
_LEAST_PROMPT = 2  # a token that is read, so that the block has what to draft behind, and one that is not yet
_LEAST_BEHIND = 128  # positions, for 7 rounds of 4 passes of 4 sizes, which keep a row each (`draft_bench`)


@dataclass(frozen=True)
class DraftCase:
    """`kind` is "given" (`n_gen` random tokens of each of `batch` replies that are written side by side; a draft is the
    right one with probability `acceptance`), "quote" (the last `n_gen` tokens of the prompt once more; a mask at every
    token allows that one alone) or "skill" (the model's replies to the prompts of `skill`, by its own drafts)."""

    kind: Literal["given", "quote", "skill"]
    n_gen: int = 0
    depth: int = 0
    kv: KvFormat = "f16"
    acceptance: float | None = None
    skill: str | None = None
    temperature: float = 1.0
    batch: int = 1

    @property
    def name(self) -> str:
        """ "drafts 0.7 128 x4 @ d4096", "quote 2000", "tool call, greedy" """
        sampled = "sampled" if self.temperature else "greedy"
        label = {
            "given": f"drafts {self.acceptance} {self.n_gen}" + (f" x{self.batch}" if self.batch > 1 else ""),
            "quote": f"quote {self.n_gen}",
            "skill": f"{self.skill}, {sampled}",
        }[self.kind]
        return label + (f" @ d{self.depth}" if self.depth else "") + (f" {self.kv}" if self.kv != "f16" else "")

    @property
    def prompt_tokens(self) -> int:
        return max(self.depth, _LEAST_PROMPT) + (self.n_gen if self.kind == "quote" else 0)

    @property
    def last_position(self) -> int:
        """Positions of context that it needs."""
        return self.prompt_tokens + max(self.n_gen, _LEAST_BEHIND)


def plan(
    words: Seq[str], n_gen: int, depths: Seq[int], formats: Seq[KvFormat], batches: Seq[int] = (1,)
) -> list[DraftCase]:
    """`words`: an acceptance from 0 to 1, "quote" or "skills". Raises InputError for any other one."""
    cases: list[DraftCase] = []
    if not n_gen and any(word not in _NAMED for word in words):
        raise InputError("--draft P drafts a reply, and --gen is 0; give a length of it, as in --gen 128")
    given = [(_acceptance(word), batch) for batch in batches for word in words if word not in _NAMED]
    for kv in formats:
        for depth in sorted(set(depths)):
            cases += [DraftCase("given", n_gen, depth, kv, share, batch=batch) for share, batch in given]
            cases += [DraftCase("quote", QUOTED_TOKENS, depth, kv) for word in words if word == "quote"]
        if "skills" in words:
            cases += [DraftCase("skill", kv=kv, skill=skill, temperature=t) for skill in SKILLS for t in (0.0, 1.0)]
    return cases


_NAMED = ("quote", "skills")


def _acceptance(word: str) -> float:
    try:
        acceptance = float(word)
    except ValueError:
        acceptance = -1.0
    if not 0 <= acceptance <= 1:
        raise InputError(f"--draft has {word!r}; expected acceptances from 0 to 1, quote or skills, as in 0,0.7,quote")
    return acceptance


@dataclass(frozen=True)
class DraftRun:
    """One reply, several side by side, or those to all prompts of a skill: seconds of all passes, and the tokens they
    brought."""

    seconds: float
    tokens: int
    drafted: int = 0
    accepted: int = 0

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def tokens_per_pass(self) -> float:
        """Of one reply."""
        return self.tokens / (self.tokens - self.accepted)


@dataclass(frozen=True)
class Turn:
    """Runs one after the other."""

    off: DraftRun
    on: DraftRun
    off_again: DraftRun

    @property
    def ratio(self) -> float:
        return (self.off.seconds + self.off_again.seconds) / 2 / self.on.seconds

    @property
    def off_ratio(self) -> float:
        """1 but for noise."""
        return self.off.seconds / self.off_again.seconds


@dataclass(frozen=True)
class Gain:
    """Medians over turns. `spread` and `off_spread`: the 90th less the 10th percentile of the ratio, and of the ratio
    of two runs without drafts, which is noise. `first_ratio`: of the first reply of an engine, which knows nothing of
    its device and of its replies."""

    tokens_per_s: float
    off_tokens_per_s: float
    ratio: float
    spread: float
    off_ratio: float
    off_spread: float
    first_ratio: float
    tokens_per_pass: float
    drafted: int
    accepted: int
    accepted_share: float | None


def gain(first: Turn, turns: Seq[Turn]) -> Gain:
    """`first`: the one before `turns`."""
    ratios, off_ratios = [turn.ratio for turn in turns], [turn.off_ratio for turn in turns]
    offs = [run.tokens_per_s for turn in turns for run in (turn.off, turn.off_again)]
    drafted, accepted = sum(turn.on.drafted for turn in turns), sum(turn.on.accepted for turn in turns)
    return Gain(
        tokens_per_s=float(np.median([turn.on.tokens_per_s for turn in turns])),
        off_tokens_per_s=float(np.median(offs)),
        ratio=float(np.median(ratios)),
        spread=_spread(ratios),
        off_ratio=float(np.median(off_ratios)),
        off_spread=_spread(off_ratios),
        first_ratio=first.ratio,
        tokens_per_pass=float(np.median([turn.on.tokens_per_pass for turn in turns])),
        drafted=drafted,
        accepted=accepted,
        accepted_share=accepted / drafted if drafted else None,
    )


def _spread(values: Seq[float]) -> float:
    low, high = np.percentile(values, [10, 90])
    return float(high - low)
