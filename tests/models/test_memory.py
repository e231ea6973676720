"""What the solver chooses."""

from dataclasses import replace

import pytest
from extended import with_yarn
from random_model import tiny_config

from qwen35_local.models.config import ModelConfig
from qwen35_local.models.memory import KV_FORMATS, LEAST_CONTEXT_TOKENS, Memory, solve
from qwen35_local.models.registry import SIZES
from qwen35_local.plan.footprint import DeviceFootprint, Stored
from qwen35_local.quantize.synthetic import of_config

GIB = 1 << 30


def footprint(config: ModelConfig, device: str = "cpu") -> DeviceFootprint:
    made = of_config("model", config, "Q4_K_M")
    tensors = tuple(Stored(t.name, t.shape, t.dtype) for t in made.tensors)
    return DeviceFootprint(config, tensors, vocabulary=config.vocabulary, device=device)


def of_size(name: str, device: str = "cpu") -> DeviceFootprint:
    return footprint(replace(SIZES[name].config, mtp_layers=0), device)


def test_parts_are_together_the_whole() -> None:
    found = of_size("Qwen3.5-35B-A3B").memory(262_144, "q8", snapshots=1)
    assert found.total == found.weights + found.kv + found.state + 1 + found.scratch + found.program
    assert Memory(1, 2, 4, 8, 16, 32, 64, 128, 256).total == 511


def test_snapshots_take_what_is_left() -> None:
    model = of_size("Qwen3.5-27B")
    least = 2 * model.parts(4096, "f16").snapshots
    bare = model.memory(4096, "f16", snapshots=0).total
    assert model.memory(4096, "f16").snapshots == GIB
    assert model.memory(4096, "f16", budget=64 * GIB).snapshots == GIB
    assert model.memory(4096, "f16", budget=bare + 600_000_000).snapshots == 600_000_000
    assert model.memory(4096, "f16", budget=bare + 1).snapshots == least
    assert not model.fits(4096, "f16", bare + least - 1)
    assert model.fits(4096, "f16", bare + least)
    assert of_size("Qwen3.5-0.8B").memory(4096, "f16", budget=4 * GIB).snapshots == GIB // 2


@pytest.mark.parametrize("name", ["Qwen3.5-0.8B", "Qwen3.5-27B", "Qwen3.5-35B-A3B"])
@pytest.mark.parametrize("kv", KV_FORMATS)
@pytest.mark.parametrize("budget", [2, 18, 24, 80])
def test_the_longest_context_is_the_longest(name: str, kv: str, budget: int) -> None:
    model = of_size(name)
    longest = model.longest(kv, budget * GIB)
    if longest:
        assert model.fits(longest, kv, budget * GIB)
    if longest < model.most_context:
        assert longest % model.page_tokens == 0
        assert not model.fits(longest + 1, kv, budget * GIB)


def test_the_cards_say_how_far_yarn_goes() -> None:
    assert of_size("Qwen3.5-0.8B").most_context == 1_010_000
    assert footprint(tiny_config()).most_context == 4 * 4096
    assert footprint(with_yarn(tiny_config(), 2.0)).most_context == 4 * 4096
    assert footprint(tiny_config(context_tokens=2_000_000)).most_context == 2_000_000
    model = of_size("Qwen3.5-0.8B")
    assert [solve(model, GIB, context_tokens=n).needs_yarn for n in (262_144, 262_145)] == [False, True]


def test_auto_takes_the_widest_format_that_fits() -> None:
    model, context = of_size("Qwen3.5-9B"), 262_144
    needs = {kv: model.memory(context, kv, budget=0).total for kv in KV_FORMATS}
    assert sorted(needs.values(), reverse=True) == list(needs.values())
    for kv, needed in needs.items():
        exact = solve(model, needed, context_tokens=context)
        assert (exact.kv, exact.fits) == (kv, True)
    short = solve(model, needs["q4"] - 1, context_tokens=context)
    assert (short.kv, short.fits) == ("q4", False)
    assert solve(model, needs["q8"], context_tokens=context, formats=("f16", "k8v4")).kv == "k8v4"
    assert not solve(model, needs["q8"], context_tokens=context, kv="f16").fits


def test_without_a_context_the_models_own_is_reached_first() -> None:
    model = of_size("Qwen3.5-9B")
    needs = {kv: model.memory(262_144, kv, budget=0).total for kv in KV_FORMATS}
    for kv, needed in needs.items():
        plan = solve(model, needed)
        assert (plan.kv, plan.context_tokens, plan.fits) == (kv, 262_144, True)
    far_less = solve(model, needs["q4"] - GIB)
    assert far_less.kv == "q4"
    assert far_less.fits
    assert LEAST_CONTEXT_TOKENS < far_less.context_tokens < 262_144
    nothing = solve(model, 4 * GIB)
    assert (nothing.context_tokens, nothing.fits) == (LEAST_CONTEXT_TOKENS, False)


def test_passes_are_shorter_where_memory_is_short() -> None:
    """And only there: the context that was asked for comes first, then the widest format, then long passes."""
    model = of_size("Qwen3.5-35B-A3B", "cuda")
    assert model.pass_rows == (2048, 1024, 512, 256)
    needs = {rows: model.memory(262_144, "q8", rows, budget=0).total for rows in model.pass_rows}
    assert sorted(needs.values(), reverse=True) == list(needs.values())
    for rows, needed in needs.items():
        plan = solve(model, needed, context_tokens=262_144)
        assert (plan.rows, plan.kv, plan.fits, plan.memory.total) == (rows, "q8", True, needed)
    least = needs[256] - 1
    assert not solve(model, least, context_tokens=262_144, kv="q8").fits
    assert solve(model, least, context_tokens=262_144).kv == "k8v4"
    assert solve(model, least, kv="q8").rows == 2048  # the longest context with these
    shortest = solve(model, model.memory(4096, "q4", 256, budget=0).total)
    assert (shortest.rows, shortest.context_tokens, shortest.fits) == (256, 4096, True)
    assert of_size("Qwen3.5-0.8B").pass_rows == (512,)
    assert solve(of_size("Qwen3.5-0.8B"), GIB, context_tokens=100).rows == 100


def test_snapshots_are_in_the_hosts_memory() -> None:
    """Their states, and the pages that only they have, which a card holds until they leave. A table of embeddings that
    is no head stays in the file."""
    config = replace(SIZES["Qwen3.5-35B-A3B"].config, mtp_layers=0)
    card, cpu = footprint(config, "cuda"), footprint(config, "cpu")
    host = card.host_parts(262_144, "q8")
    assert host is not None
    assert cpu.host_memory(262_144, "q8") is None
    state, ids, page = card.parts(262_144, "q8").state, 4 * 262_144, 256 * card.kv_token_bytes("f16")
    assert host.snapshots == state + ids + 3 * page
    assert [card.parts(262_144, kv).snapshots for kv in ("f16", "q8")] == [page, 3 * page]
    table = next(tensor for tensor in card.tensors if tensor.name == "token_embd.weight")
    assert table.file_bytes > 256 << 20 > host.total - host.snapshots
    assert dict(card.held)[table] == 0 < dict(cpu.held)[table]
    assert host.program == cpu.parts(262_144, "q8").program
    plan = solve(card, 24 * GIB, context_tokens=262_144, kv="q8")
    assert plan.host is not None
    assert plan.host.snapshots == GIB
    assert plan.host.total == GIB + plan.host.scratch + plan.host.program


@pytest.mark.parametrize("name", ["Qwen3.5-0.8B", "Qwen3.5-35B-A3B"])
@pytest.mark.parametrize("budget", [3, 26, 80])
@pytest.mark.parametrize("parallel", [2, 16])
def test_conversations_side_by_side_share_what_is_left(name: str, budget: int, parallel: int) -> None:
    """One can have all of the context; of the others each has as much as fits, and a page at least."""
    model = of_size(name)
    one, many = (solve(model, budget * GIB, parallel=n) for n in (1, parallel))
    assert many.memory.state == parallel * one.memory.state
    assert one.kv_tokens == one.context_tokens
    if not many.fits:
        return
    assert many.context_tokens <= model.config.context_tokens
    others = (many.kv_tokens - many.context_tokens) // (parallel - 1)
    assert model.page_tokens <= others <= many.context_tokens
    if others < many.context_tokens:
        more = model.memory(
            many.context_tokens,
            many.kv,
            many.rows,
            budget=budget * GIB,
            parallel=parallel,
            others_tokens=others + model.page_tokens,
        )
        assert more.total > budget * GIB
