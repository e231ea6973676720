"""Random conversations on random models: no reuse changes a bit, and nothing is read twice."""

from pathlib import Path

import numpy as np
import pytest

from qwen35_local import _core
from qwen35_local.engine import selftest
from qwen35_local.engine.cache import Found, PrefixCache, Tokens
from qwen35_local.engine.timeline import Start, Timeline

SCENARIOS = 100


@pytest.mark.parametrize("kv", ["f16", "q4"])
def test_no_reuse_changes_an_answer(talker: Path, kv: str) -> None:
    tallies = list(selftest.run([_core.Model(talker, threads=1)], SCENARIOS, seed=0, kv=kv))
    assert sum(tally.replies for tally in tallies) > 3 * SCENARIOS
    assert sum(tally.reused_tokens for tally in tallies) > sum(tally.evaluated_tokens for tally in tallies)


def test_nor_does_the_number_of_threads(talker: Path) -> None:
    models = [_core.Model(talker, threads=threads) for threads in (1, 2, 3)]
    assert sum(tally.replies for tally in selftest.run(models, 8, seed=1)) > 20


def test_a_wrong_bit_is_found(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that are kept with a snapshot and come back changed in their last bit."""
    original = Timeline.seek

    def seek(self: Timeline, tokens: Tokens, *, wants_logits: bool = True) -> Start:
        start = original(self, tokens, wants_logits=wants_logits)
        if self.logits is not None:
            self.logits = self.logits.copy()
            self.logits.view(np.int32)[0] ^= 1
        return start

    monkeypatch.setattr(Timeline, "seek", seek)
    with pytest.raises(selftest.Mismatch, match=r"seed \d+, step \d+ \(.*logits"):
        list(selftest.run([_core.Model(talker, threads=1)], SCENARIOS, seed=0))


def test_a_token_read_twice_is_found(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that gives the second longest prefix."""
    original = PrefixCache.find

    def find(self: PrefixCache, tokens: Tokens, *, wants_logits: bool = True) -> Found:
        found = original(self, tokens, wants_logits=wants_logits)
        shorter = self.path(tokens)[:-1]
        return found._replace(entry=shorter[-1] if shorter else None)

    monkeypatch.setattr(PrefixCache, "find", find)
    with pytest.raises(selftest.Mismatch, match="reused of"):
        list(selftest.run([_core.Model(talker, threads=1)], SCENARIOS, seed=0))
