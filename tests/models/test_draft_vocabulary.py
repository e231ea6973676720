"""How many tokens are drafted from: of the published shapes, and of files that have no such tensors."""

from typing import NamedTuple

import pytest

from qwen35_local.models.draft_vocabulary import SHARE, STEP_TOKENS, draft_tokens
from qwen35_local.models.registry import SIZES
from qwen35_local.quantize.synthetic import of_config


class Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    n_bytes: int


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("Qwen3.5-0.8B", 65_536),
        ("Qwen3.5-2B", 65_536),
        ("Qwen3.5-4B", 131_072),
        ("Qwen3.5-27B", None),
        ("Qwen3.5-35B-A3B", 163_840),
    ],
)
def test_published_sizes(size: str, expected: int | None) -> None:
    config = SIZES[size].config
    made = of_config("model", config, "Q4_K_M")
    found = draft_tokens(made.tensors, config.experts_per_token)
    if expected is None:
        assert found >= config.vocabulary
    else:
        assert found == expected


def test_the_block_that_drafts_does_not_count() -> None:
    table = Tensor("token_embd.weight", (1 << 20, 8), 1 << 20)
    layer = Tensor("blk.0.ffn_up.weight", (8, 8), 7 << 20)
    block = [Tensor("blk.1.nextn.eh_proj.weight", (8, 16), 1 << 20), Tensor("blk.1.ffn_up.weight", (8, 8), 64 << 20)]
    assert draft_tokens([table, layer]) == draft_tokens([table, layer, *block]) == int(SHARE * 8 * (1 << 20))


def test_an_expert_counts_as_often_as_it_is_chosen() -> None:
    table = Tensor("token_embd.weight", (1 << 20, 8), 1 << 20)
    experts = Tensor("blk.0.ffn_up_exps.weight", (64, 8, 8), 64 << 20)
    assert draft_tokens([table, experts], 7) == int(SHARE * 8 * (1 << 20))


def test_the_least_there_is() -> None:
    assert draft_tokens([]) == STEP_TOKENS
    assert draft_tokens([Tensor("token_embd.weight", (1 << 20, 8), 1 << 20)]) == 131_072
    assert draft_tokens([Tensor("token_embd.weight", (1 << 20, 8), 0)]) >= STEP_TOKENS
