"""Random conversations on random models: no reuse changes a bit, and nothing is read twice."""

from pathlib import Path

import pytest

from qwen35_local import _core
from qwen35_local.engine import selftest

SCENARIOS = 100


@pytest.mark.parametrize("block", range(4))
def test_no_reuse_changes_an_answer(talker: Path, block: int) -> None:
    models = [_core.Model(talker, threads=threads) for threads in (1, 2)]
    tallies = list(selftest.run(models, SCENARIOS, seed=1000 * block))
    assert sum(tally.replies for tally in tallies) > 2 * SCENARIOS
    assert sum(tally.reused_tokens for tally in tallies) > sum(tally.evaluated_tokens for tally in tallies)
