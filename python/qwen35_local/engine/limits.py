"""How much an engine does at a time."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Limits:
    """`parallel`: how many conversations are at work at a time; `queue`: how many more may wait. `prefill_share`: of
    the time, what prompts may take from replies that are being written. `kv_tokens`: rows of context of all
    conversations together; None: as many as there is memory for."""

    parallel: int = 1
    queue: float = inf
    prefill_share: float = 0.9
    kv_tokens: int | None = None


ONE_AT_A_TIME = Limits()
