"""The table of docs/gpu.md: what `qwen35 bench --predict` says today, and the least that was asked for."""

from functools import cache
from pathlib import Path

import pytest

from qwen35_local.models.registry import SIZES
from qwen35_local.models.tensors import tensor_table
from qwen35_local.plan.footprint import DeviceFootprint, Stored
from qwen35_local.plan.predict import CARDS, predict
from qwen35_local.quantize.recipe import Mixture, Model

DOCUMENT = Path(__file__).parents[2] / "docs/gpu.md"
CASES = {
    "0.8B": ("Qwen3.5-0.8B", "qwen35", 0),
    "0.8B, 32,768 tokens of q4": ("Qwen3.5-0.8B", "qwen35", 32768),
    "9B": ("Qwen3.5-9B", "qwen35", 0),
    "27B": ("Qwen3.5-27B", "qwen35", 0),
    "27B, 32,768 tokens of q4": ("Qwen3.5-27B", "qwen35", 32768),
    "35B-A3B": ("Qwen3.5-35B-A3B", "qwen35", 0),
    "35B-A3B, 32,768 tokens of q4": ("Qwen3.5-35B-A3B", "qwen35", 32768),
    "35B-A3B, `--recipe llama`": ("Qwen3.5-35B-A3B", "llama", 0),
    "35B-A3B, `--recipe llama`, 32,768 tokens of q4": ("Qwen3.5-35B-A3B", "llama", 32768),
}


@cache
def model(size: str, recipe: str) -> DeviceFootprint:
    config = SIZES[size].config
    listed = [(spec.name, spec.shape) for spec in tensor_table(config)]
    types = Mixture(recipe=recipe).assign(listed, Model.of(config))  # type: ignore[arg-type]
    tensors = tuple(Stored(name, shape, types[name]) for name, shape in listed)
    return DeviceFootprint(config, tensors, config.vocabulary, device="cuda")


def speed(case: str, card: str) -> float:
    size, recipe, depth = CASES[case]
    return predict(model(size, recipe), CARDS[card], depth, "q4").tokens_per_s


def published() -> dict[str, list[str]]:
    table = DOCUMENT.read_text().split("**Predicted, not measured**")[1].split("\n\n")[1].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    return {first: rest for first, *rest in cells}


def test_every_row_is_what_would_be_said_today() -> None:
    found = published()
    assert found.keys() == CASES.keys()
    for case, cells in found.items():
        assert cells == [f"{speed(case, card):,.0f}" for card in CARDS], case


@pytest.mark.parametrize(
    ("case", "card", "least"),
    [("35B-A3B", "5090", 500), ("35B-A3B", "3090", 280), ("0.8B", "5090", 1400)],
)
def test_speeds_that_were_asked_for(case: str, card: str, least: float) -> None:
    assert speed(case, card) >= least


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("case", ["27B", "35B-A3B", "35B-A3B, `--recipe llama`"])
def test_a_long_context_keeps_nine_tenths(case: str, card: str) -> None:
    assert speed(f"{case}, 32,768 tokens of q4", card) >= 0.9 * speed(case, card)


@pytest.mark.parametrize("card", ["3090", "4090", "5090"])
def test_27b_is_bound_by_bandwidth(card: str) -> None:
    assert predict(model("Qwen3.5-27B", "qwen35"), CARDS[card], 0, "q4").share(CARDS[card]) >= 0.8
