"""Random conversations on random models and the embedded one: no reuse changes a bit, and nothing is read twice.

QWEN35_SCENARIOS is how many each random model has: at least 20, without which the counts below say nothing.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qwen35_local import _core, hub
from qwen35_local.engine import cache, cached_sequence, model_input, selftest
from qwen35_local.engine.cache import Found, PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence, Prompt, Start
from qwen35_local.engine.line import Line
from qwen35_local.engine.model_input import Keys
from qwen35_local.models.drafts import MOST_DRAFTS
from qwen35_local.models.memory import KV_FORMATS

SCENARIOS = max(20, int(os.environ.get("QWEN35_SCENARIOS", "100")))
FEW = max(5, SCENARIOS // 20)
UNTIL_FOUND = 300


def test_no_reuse_changes_an_answer(talker: Path) -> None:
    tallies = list(selftest.run([_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], SCENARIOS, seed=0))
    assert sum(tally.replies for tally in tallies) > 3 * SCENARIOS
    assert sum(tally.reused_tokens for tally in tallies) > sum(tally.evaluated_tokens for tally in tallies)


def test_nor_does_the_number_of_threads(talker: Path) -> None:
    models = [_core.Model(talker, threads=threads, drafts=MOST_DRAFTS) for threads in (1, 2, 3)]
    assert sum(tally.replies for tally in selftest.run(models, FEW, seed=1)) > 3 * FEW


def test_nor_on_the_embedded_model() -> None:
    demo = _core.Model(hub.embedded_model(), drafts=MOST_DRAFTS)
    assert sum(tally.replies for tally in selftest.run([demo], FEW, seed=2)) > 3 * FEW


def test_a_draft_too_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk that keeps a draft that was not drawn."""
    original = Line.took

    def took(self: Line, result: _core.StepResult) -> object:
        if not self.drafts or len(result.sampled) > len(self.drafts):
            return original(self, result)
        wrong = SimpleNamespace(token=self.drafts[len(result.sampled) - 1], is_stop=False, logprob=None)
        return original(self, SimpleNamespace(sampled=[*result.sampled[:-1], wrong]))  # type: ignore[arg-type]

    monkeypatch.setattr(Line, "took", took)
    demo = _core.Model(hub.embedded_model(), threads=1, drafts=MOST_DRAFTS)
    with pytest.raises(selftest.Mismatch, match=r"seed \d+, step \d+ \(.*without drafts"):
        list(selftest.run([demo], UNTIL_FOUND, seed=0))


def test_scenarios_reach_packed_pages_in_every_format(talker: Path) -> None:
    """The first three pages of 256 tokens stay f16."""
    models, longest = [_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], dict.fromkeys(KV_FORMATS, 0)
    for seed in range(60):
        scenario = selftest.Scenario(models, seed)
        scenario.run(3)
        longest[scenario.kv] = max(longest[scenario.kv], len(scenario.engine._cached))
    assert min(longest.values()) > 1024


def test_a_wrong_bit_is_found(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that are kept with a snapshot and come back changed in their last bit."""
    original = CachedSequence.seek

    def seek(self: CachedSequence, prompt: Prompt, *, wants_logits: bool = True) -> Start:
        start = original(self, prompt, wants_logits=wants_logits)
        if self.logits is not None:
            self.logits = self.logits.copy()
            self.logits.view(np.int32)[0] ^= 1
        return start

    monkeypatch.setattr(CachedSequence, "seek", seek)
    with pytest.raises(selftest.Mismatch, match=r"seed \d+, step \d+ \(.*logits"):
        list(selftest.run([_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], UNTIL_FOUND, seed=0))


def test_a_token_read_twice_is_found(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that gives the second longest prefix."""
    original = PrefixCache.find

    def find(self: PrefixCache, sought: Keys, *, wants_logits: bool = True) -> Found:
        found = original(self, sought, wants_logits=wants_logits)
        shorter = self.path(sought)[:-1]
        return found._replace(entry=shorter[-1] if shorter else None)

    monkeypatch.setattr(PrefixCache, "find", find)
    with pytest.raises(selftest.Mismatch, match="reused of"):
        list(selftest.run([_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], UNTIL_FOUND, seed=0))


def test_images_known_by_their_ids_are_found(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix tree, a sequence and snapshots that take two images for one."""
    for module in (cache, cached_sequence, model_input):
        monkeypatch.setattr(module, "keys", lambda tokens, runs: tokens)
    with pytest.raises(selftest.Mismatch, match=r"seed \d+, step \d+"):
        list(selftest.run([_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], UNTIL_FOUND, seed=0))
