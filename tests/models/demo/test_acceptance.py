"""What counts as a right draft, against drafting behind a text that ends where the draft begins."""

# ruff: noqa: E402

from __future__ import annotations

import numpy as np
import pytest
from golden_models import random_weights

pytest.importorskip("jinja2", reason="the demo model's text needs jinja2")
tokenizers = pytest.importorskip("tokenizers", reason="the demo model's text needs tokenizers")

from models.demo.training.acceptance import DRAFTS, NONE, RIGHT, WRONG, Count, draft, of_skill, page, passes
from models.demo.training.evaluate import TOKENIZER
from models.demo.training.generate import Runtime
from qwen35_local.hub.places import embedded_model
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.reference import Reference

SHAPE = ModelConfig(
    vocabulary=96,
    hidden=32,
    layers=4,
    heads=2,
    kv_heads=1,
    head_width=16,
    rope_width=8,
    rope_sections=(2, 1, 1),
    delta_key_heads=1,
    delta_value_heads=2,
    delta_key_width=8,
    delta_value_width=8,
    feed_forward=48,
    embeddings_are_tied=True,
    mtp_layers=1,
)
START = 6  # of the reply
USED = 90


@pytest.fixture(scope="module")
def tiny() -> Reference:
    return Reference(random_weights(SHAPE, 11), SHAPE)


def behind(model: Reference, ids: list[int], count: int = DRAFTS) -> list[int]:
    """The drafts behind `ids`, each from a state that has seen nothing else."""
    state = model.new_state()
    hidden = model.hidden(ids[:-1], state)
    logits, u = model.draft(ids[1:], hidden, state)
    drafts = [int(logits[-1, :USED].argmax())]
    while len(drafts) < count:
        logits, u = model.draft(drafts[-1:], u[-1:], state)
        drafts.append(int(logits[-1, :USED].argmax()))
    return drafts


@pytest.mark.parametrize("known", [START + 1, START + 2, START + 5])
def test_a_reply_that_is_its_drafts(tiny: Reference, known: int) -> None:
    text = [int(t) for t in np.random.RandomState(known).randint(0, USED, known)]
    drafts = behind(tiny, text)
    whole = [*text, *drafts, 1, 2]
    n = known - 1 - START  # behind the last known token
    assert draft(tiny, whole, START, USED)[n].tolist() == [RIGHT] * DRAFTS
    whole[known + 2] = (whole[known + 2] + 1) % USED
    assert draft(tiny, whole, START, USED)[n].tolist() == [RIGHT, RIGHT, WRONG, NONE]
    assert draft(tiny, whole[: known + 2], START, USED)[n].tolist() == [RIGHT, RIGHT, NONE, NONE]


def test_every_place_of_a_reply(tiny: Reference) -> None:
    ids = [int(t) for t in np.random.RandomState(3).randint(0, USED, START)]
    while len(ids) < START + 12:  # right and wrong ones by turns
        ids += behind(tiny, ids, 2)
        ids.append(len(ids))
    found = draft(tiny, ids, START, USED)
    assert len(found) == len(ids) - START - 1
    assert {RIGHT, WRONG} < {*found.flatten().tolist()}
    for n, row in enumerate(found):
        text, following = ids[: START + n + 1], ids[START + n + 1 :][:DRAFTS]
        right = [a == b for a, b in zip(behind(tiny, text), following, strict=False)]
        kept = right.index(False) if False in right else len(right)
        assert row.tolist() == ([RIGHT] * kept + [WRONG] * (kept < len(right)) + [NONE] * DRAFTS)[:DRAFTS]


def test_a_pass_keeps_the_right_drafts_and_adds_a_token() -> None:
    rows = np.array(
        [[RIGHT, RIGHT, WRONG, NONE], [RIGHT] * 4, [RIGHT] * 4, [WRONG, NONE, NONE, NONE], [RIGHT, NONE, NONE, NONE]]
    )
    assert passes(rows) == 3  # tokens 0 to 2, then 3, then 4
    count = Count()
    count.add(rows)
    count.add(rows[:0])
    assert count.row("some") == "| some | 5 | 80 % | 100 % | 67 % | 100 % | 1.67 |"


def test_the_embedded_model_drafts_well() -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(TOKENIZER))
    runtime = Runtime(embedded_model(), tokenizer)
    found = of_skill(runtime, page(embedded_model(), runtime.model.n_vocab), tokenizer, "tool call", 2)
    first = np.concatenate(found.drafted)[:, 0]
    assert (first == RIGHT).sum() > 0.8 * len(first)
