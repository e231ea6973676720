"""Random replies at once are those of lone runs, and one that is not is found."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from qwen35_local import _core, hub
from qwen35_local.engine import selftest_crowd
from qwen35_local.engine.cached_sequence import CachedSequence, Part, Prompt, Start, evaluate
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.model_input import ModelInput
from qwen35_local.engine.scheduler import Scheduler
from qwen35_local.engine.selftest import Mismatch
from qwen35_local.engine.task import Task
from qwen35_local.models.drafts import MOST_DRAFTS

FEW = 6
UNTIL_FOUND = 30


def test_company_changes_no_answer(talker: Path) -> None:
    models = [_core.Model(talker, threads=threads, drafts=MOST_DRAFTS) for threads in (1, 2)]
    tallies = list(selftest_crowd.run(models, FEW, seed=0))
    assert sum(tally.replies for tally in tallies) > 8 * FEW
    assert sum(tally.reused_tokens for tally in tallies) > 0


def test_nor_on_the_embedded_model() -> None:
    demo = _core.Model(hub.embedded_model(), threads=1, drafts=MOST_DRAFTS)
    assert sum(tally.replies for tally in selftest_crowd.run([demo], 3, seed=100)) > 8 * 3


def test_scenarios_share_passes_hold_writers_up_and_interrupt(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scenario is for comes about."""
    seen = {"writers": 0, "both": 0, "held up": 0, "interrupted": 0}
    at_pass, interrupt = Scheduler._pass, Scheduler._interrupt

    def noted_pass(self: Scheduler) -> None:
        writing = {task.job for task in self.running if not task.is_reading}

        def noted(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
            n_drawing = sum(part.sampler is not None for part in parts)
            seen["writers"] = max(seen["writers"], n_drawing)
            seen["both"] += 0 < n_drawing < len(parts)
            seen["held up"] += bool(writing) and not n_drawing
            return evaluate(model, parts)

        self._evaluate = noted
        at_pass(self)

    def noted_interrupt(self: Scheduler, task: Task) -> None:
        seen["interrupted"] += 1
        interrupt(self, task)

    monkeypatch.setattr(Scheduler, "_pass", noted_pass)
    monkeypatch.setattr(Scheduler, "_interrupt", noted_interrupt)
    list(selftest_crowd.run([_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], FEW, seed=0))
    assert seen["writers"] > 3 and all(seen.values()), seen


def test_a_wrong_token_of_another_reply_is_found(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pass in which several replies take part, two get each other's results."""

    def crossed(model: _core.Model, parts: Sequence[Part]) -> list[_core.StepResult]:
        results = evaluate(model, parts)
        plain = [n for n, part in enumerate(parts) if part.sampler is not None and not part.uncertain]
        if len(plain) > 2:
            results[plain[0]], results[plain[1]] = results[plain[1]], results[plain[0]]
        return results

    defaults = Engine.__init__.__kwdefaults__
    monkeypatch.setattr(Engine.__init__, "__kwdefaults__", defaults | {"evaluate": crossed})
    with pytest.raises(Mismatch, match=r"seed \d+, several replies at once, step \d+: .*lone run"):
        list(selftest_crowd.run([_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], UNTIL_FOUND, seed=0))


def test_a_row_that_an_interrupted_reply_loses_is_found(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Task.interrupt

    def interrupt(self: Task) -> None:
        original(self)
        if len(self.goal) > len(self.encoded.tokens):
            self.goal = ModelInput(self.goal.tokens[:-1], self.goal.inputs)

    monkeypatch.setattr(Task, "interrupt", interrupt)
    with pytest.raises(Mismatch, match="lone run"):
        list(selftest_crowd.run([_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], UNTIL_FOUND, seed=0))


def test_a_wrong_bit_of_what_is_shared_is_found(talker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits behind a prompt that was read before, changed in their last bits."""
    original = CachedSequence.seek

    def seek(self: CachedSequence, prompt: Prompt, *, wants_logits: bool = True) -> Start:
        start = original(self, prompt, wants_logits=wants_logits)
        if self.logits is not None:
            self.logits = self.logits.copy()
            self.logits.view(np.int32)[:] ^= 1
        return start

    monkeypatch.setattr(CachedSequence, "seek", seek)
    with pytest.raises(Mismatch, match="lone run"):
        list(selftest_crowd.run([_core.Model(talker, threads=1, drafts=MOST_DRAFTS)], UNTIL_FOUND, seed=0))
