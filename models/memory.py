"""What to choose where memory decides: a context, a KV format, and how much is kept to go back to.

What a model takes, part by part, a device says (`engine.footprint`); here it is only weighed against a budget.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.kv import KvChoice, KvFormat

KV_FORMATS: tuple[KvFormat, ...] = ("f16", "q8", "k8v4", "q4")  # the widest first

MOST_CONTEXT_TOKENS = 1_010_000  # the model cards' limit with YaRN
LEAST_CONTEXT_TOKENS = 4096  # below that a conversation is hardly one
_MOST_ROPE_FACTOR = 4  # times the trained context, by YaRN

_SNAPSHOT_BYTES = 1 << 30  # what is spent on snapshots where there is room
_LEAST_SNAPSHOTS = 2


@dataclass(frozen=True)
class Memory:
    """Bytes by part, together the most that a process or device holds when the context is full. `kv`: keys and values
    of all positions; `state`: the recurrent state of every sequence; `scratch`: activations, what operations keep, and
    the ends of allocated blocks; `program`: interpreter, libraries, tokenizer. `vision`, `mtp` (the block that drafts)
    and `drafts` (all that is kept in order to draft) are 0 unless they are there or asked for."""

    weights: int
    kv: int
    state: int
    snapshots: int
    vision: int
    mtp: int
    drafts: int
    scratch: int
    program: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class HostMemory:
    """Bytes of the host's memory that a model takes beside those of a device with memory of its own. `snapshots`: their
    recurrent states, and the pages that only they hold; `scratch`: rows of logits, and what is on its way to the
    device; `program`: interpreter, libraries, tokenizer. A table of embeddings whose rows are read from the file is not
    among it: the system can take its pages back."""

    snapshots: int
    scratch: int
    program: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


class Footprint(ABC):
    """What one model takes on one device. Nothing is loaded or allocated."""

    config: ModelConfig

    @property
    @abstractmethod
    def page_tokens(self) -> int:
        """Positions that keys and values are allocated for at a time."""

    @property
    @abstractmethod
    def pass_rows(self) -> tuple[int, ...]:
        """How many tokens of a prompt may share a pass, the most first: fewer are slower, and take less memory."""

    @abstractmethod
    def parts(self, context_tokens: int, kv: str, rows: int | None = None) -> Memory:
        """With passes of `rows` tokens, the most unless told. `snapshots` is the size of one. Raises InputError for a
        format that this model cannot be kept in."""

    def conversation_drafts(self, context_tokens: int, kv: str, rows: int | None = None) -> int:
        """Of what `parts` counts for drafts, that which each conversation has for itself."""
        return 0

    def host_parts(self, context_tokens: int, kv: str, rows: int | None = None) -> HostMemory | None:
        """`snapshots` is the size of one. None: all that `parts` counts is the host's."""
        return None

    def host_memory(self, context_tokens: int, kv: KvFormat, rows: int | None = None) -> HostMemory | None:
        """With 1 GiB of snapshots, or two."""
        parts = self.host_parts(context_tokens, kv, rows)
        if parts is None:
            return None
        return replace(parts, snapshots=max(_SNAPSHOT_BYTES, _LEAST_SNAPSHOTS * parts.snapshots))

    @property
    def most_context(self) -> int:
        """The longest context that can be asked for: with YaRN four times the trained one."""
        yarn = self.config.yarn
        trained = yarn.original_context_tokens if yarn else self.config.context_tokens
        return max(min(_MOST_ROPE_FACTOR * trained, MOST_CONTEXT_TOKENS), self.config.context_tokens)

    def memory(
        self,
        context_tokens: int,
        kv: KvFormat,
        rows: int | None = None,
        *,
        budget: int | None = None,
        snapshots: int | None = None,
        parallel: int = 1,
        others_tokens: int = 0,
    ) -> Memory:
        """`snapshots` is what is spent on them; None takes what is left of `budget`, an eighth of it and 1 GiB at most
        and two snapshots at least. Of `parallel` conversations one may have all of the context while the others have
        `others_tokens` each, a page at least."""
        parts = self.parts(context_tokens, kv, rows)
        if parallel > 1:
            tokens, others = min(max(others_tokens, self.page_tokens), context_tokens), parallel - 1
            parts = replace(
                parts,
                kv=parts.kv + others * self.parts(tokens, kv, rows).kv,
                state=parallel * parts.state,
                drafts=parts.drafts + others * self.conversation_drafts(tokens, kv, rows),
            )
        if snapshots is None:
            rest = parts.total - parts.snapshots
            wanted = _SNAPSHOT_BYTES if budget is None else min(_SNAPSHOT_BYTES, budget // 8, budget - rest)
            snapshots = max(wanted, _LEAST_SNAPSHOTS * parts.snapshots)
        return replace(parts, snapshots=snapshots)

    def fits(self, context_tokens: int, kv: KvFormat, budget: int, rows: int | None = None, parallel: int = 1) -> bool:
        return self.memory(context_tokens, kv, rows, budget=budget, parallel=parallel).total <= budget

    def longest(self, kv: KvFormat, budget: int, rows: int | None = None, parallel: int = 1) -> int:
        """Tokens of the longest context, in whole pages or `most_context`; 0 when not even one page fits."""
        pages = range(1, -(-self.most_context // self.page_tokens) + 1)
        too_much = bisect_right(pages, False, key=lambda n: not self.fits(self._tokens(n), kv, budget, rows, parallel))
        return self._tokens(too_much)

    def others(self, context_tokens: int, kv: KvFormat, budget: int, rows: int, parallel: int) -> int:
        """Tokens of context that every other of several conversations can have beside one that has all of it."""
        pages = range(1, -(-context_tokens // self.page_tokens) + 1)

        def is_too_much(n: int) -> bool:
            tokens = n * self.page_tokens
            memory = self.memory(context_tokens, kv, rows, budget=budget, parallel=parallel, others_tokens=tokens)
            return memory.total > budget

        most = max(1, bisect_right(pages, False, key=is_too_much))
        return min(most * self.page_tokens, context_tokens)

    def _tokens(self, pages: int) -> int:
        return min(pages * self.page_tokens, self.most_context)


@dataclass(frozen=True)
class Plan:
    """A context, a KV format and passes of `rows` tokens in a memory of `budget` bytes, and what they take.
    `kv_tokens`: of all of `parallel` conversations together."""

    footprint: Footprint
    context_tokens: int
    kv: KvFormat
    rows: int
    budget: int
    memory: Memory
    parallel: int = 1
    kv_tokens: int = 0

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.budget

    @property
    def host(self) -> HostMemory | None:
        """What the host holds beside the device; None where they are one."""
        return self.footprint.host_memory(self.context_tokens, self.kv, self.rows)

    @property
    def needs_yarn(self) -> bool:
        """Whether the context is beyond the one that the model has by itself."""
        return self.context_tokens > self.footprint.config.context_tokens


def solve(
    footprint: Footprint,
    budget: int,
    *,
    context_tokens: int | None = None,
    kv: KvChoice = "auto",
    formats: Sequence[KvFormat] = KV_FORMATS,
    parallel: int = 1,
) -> Plan:
    """What to choose where a choice is left: the widest of `formats` that fits the context (`kv` "auto"), and without a
    context the longest that fits: with "auto" in the widest format that reaches the model's own context, and of several
    conversations no longer than that, so that the others have some. Then the most tokens of a pass that still fit;
    without a context fewer than the most only where it would be very short.

    The plan does not fit when nothing does: it is then of the narrowest format and the shortest passes, and without a
    context of a short one.
    """
    allowed = formats if kv == "auto" else (kv,)
    *more, rows = footprint.pass_rows
    if context_tokens is None:
        wanted = min(footprint.config.context_tokens, footprint.most_context)
        least = min(LEAST_CONTEXT_TOKENS, wanted)
        for rows in footprint.pass_rows:
            longest = {each: footprint.longest(each, budget, rows, parallel) for each in allowed}
            chosen = next((each for each in allowed if longest[each] >= wanted), allowed[-1])
            if longest[chosen] >= least:
                break
        context_tokens = max(min(longest[chosen], wanted) if parallel > 1 else longest[chosen], least)
    else:
        tokens = context_tokens
        chosen = next((each for each in allowed if footprint.fits(tokens, each, budget, rows, parallel)), allowed[-1])
        rows = next((each for each in more if footprint.fits(tokens, chosen, budget, each, parallel)), rows)
    others = footprint.others(context_tokens, chosen, budget, rows, parallel) if parallel > 1 else 0
    memory = footprint.memory(context_tokens, chosen, rows, budget=budget, parallel=parallel, others_tokens=others)
    kv_tokens = context_tokens + (parallel - 1) * others
    return Plan(footprint, context_tokens, chosen, min(rows, context_tokens), budget, memory, parallel, kv_tokens)
