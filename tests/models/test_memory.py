"""What a model takes in memory: against the table of docs/architecture.md 9, and against what the core reports."""

from dataclasses import replace
from pathlib import Path

import pytest
from random_model import super_block_config, tiny_config

from qwen35_local import _core
from qwen35_local.errors import FormatError
from qwen35_local.models import memory
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.memory import KV_FORMATS, Footprint, Memory, Stored, solve
from qwen35_local.models.registry import SIZES, parameters
from qwen35_local.quantize import recipe
from qwen35_local.quantize.synthetic import of_config

GIB = 1 << 30

# docs/architecture.md 9: bytes of keys and values per token as f16, q8_0 and q4_0; of S and of the
# convolution's window per DeltaNet layer; MiB of both per sequence; GB of weights at 4.8 bits.
NOTES = {
    "Qwen3.5-0.8B": (12288, 6528, 3456, 1_048_576, 73_728, 19.3, 0.45),
    "Qwen3.5-2B": (12288, 6528, 3456, 1_048_576, 73_728, 19.3, 1.13),
    "Qwen3.5-4B": (32768, 17408, 9216, 2_097_152, 98_304, 50.2, 2.52),
    "Qwen3.5-9B": (32768, 17408, 9216, 2_097_152, 98_304, 50.2, 5.37),
    "Qwen3.5-27B": (65536, 34816, 18432, 3_145_728, 122_880, 149.6, 16.14),
    "Qwen3.5-35B-A3B": (20480, 10880, 5760, 2_097_152, 98_304, 62.8, 20.80),
    "Qwen3.5-122B-A10B": (24576, 13056, 6912, 4_194_304, 147_456, 149.1, 73.27),
    "Qwen3.5-397B-A17B": (30720, 16320, 8640, 4_194_304, 147_456, 186.3, 237.81),
}
KV_OF_MTP = {"Qwen3.5-0.8B": 2048, "Qwen3.5-27B": 4096, "Qwen3.5-35B-A3B": 2048, "Qwen3.5-397B-A17B": 2048}


def footprint(config: ModelConfig, preset: str = "Q4_K_M", **changes: object) -> Footprint:
    made = of_config("model", config, preset)
    tensors = tuple(Stored(t.name, t.shape, t.dtype) for t in made.tensors)
    return Footprint(config, tensors, vocabulary=config.vocabulary, **changes)  # type: ignore[arg-type]


def of_size(name: str, preset: str = "Q4_K_M") -> Footprint:
    return footprint(replace(SIZES[name].config, mtp_layers=0), preset)


def test_every_size_is_in_the_notes() -> None:
    assert list(NOTES) == list(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_state_is_that_of_the_notes(name: str) -> None:
    config = SIZES[name].config
    f16, q8, q4, s_bytes, window_bytes, mib, _ = NOTES[name]
    assert [memory.kv_token_bytes(config, kv) for kv in ("f16", "q8", "q4")] == [f16, q8, q4]
    assert memory.kv_token_bytes(config, "k8v4") == (q8 + q4) // 2
    assert memory.kv_bytes(config, 262_144, "f16") == 262_144 * f16
    layers = config.layers - len(config.full_attention_layers)
    # The notes count the memory and the window; up to three tokens wait beside them for their chunk to be full.
    waiting = 4 * 4 * (config.delta_key_heads * config.delta_key_width + config.delta_value_heads * 128)
    waiting += -(-4 * 4 * config.delta_value_heads // 64) * 64
    assert memory.delta_bytes(config) == layers * (s_bytes + window_bytes + waiting)
    assert round((memory.delta_bytes(config) - layers * waiting) / 2**20, 1) == mib


@pytest.mark.parametrize("name", SIZES)
def test_weights_are_those_of_the_size(name: str) -> None:
    found = of_size(name)
    assert found.n_values == parameters(replace(SIZES[name].config, mtp_layers=0)).text
    notes_gb = NOTES[name][-1]
    # Q4_K_M is 4.85 to 5.6 bits; small models are half embedding table, which is Q6_K.
    assert notes_gb < found.file_bytes / 1e9 < 1.16 * notes_gb
    assert found.file_bytes < found.memory(256, "f16").weights < 1.04 * found.file_bytes
    assert sum(share.file_bytes for share in found.by_type) == found.file_bytes
    assert sum(share.tensors for share in found.by_type) == len(found.tensors)


@pytest.mark.parametrize("name", KV_OF_MTP)
def test_what_drafting_takes(name: str) -> None:
    config = SIZES[name].config
    plain, drafting = footprint(config, "BF16"), footprint(config, "BF16", predicts=True)
    block = plain.memory(1024, "f16").mtp
    assert block == pytest.approx(2 * parameters(config).mtp, rel=0.03)  # panels of 32 rows, norms as fp32
    assert drafting.memory(1024, "f16").mtp - block == 1024 * KV_OF_MTP[name]
    assert plain.memory(1024, "f16").weights == of_size(name, "BF16").memory(1024, "f16").weights


def test_types_are_the_cores() -> None:
    for name, (values, n_bytes) in _core.block_types().items():
        assert Stored("blk.0.ffn_up.weight", (64, 512), name).file_bytes == 64 * 512 // values * n_bytes
    with pytest.raises(FormatError, match=r"ffn_up.*IQ1_S.*expected one of"):
        Stored("blk.0.ffn_up.weight", (64, 512), "IQ1_S")


@pytest.mark.parametrize("dtype", _core.block_types())
def test_every_type_is_held_as_the_device_holds_it(tmp_path: Path, dtype: str) -> None:
    """The presets write ten types; the reader takes fifteen."""
    config = super_block_config()
    made = of_config("tiny", config, "F32")
    tensors = [replace(t, dtype=dtype) if "ffn_" in t.name else t for t in made.tensors]
    changed = replace(made, tensors=tuple(tensors), _by_name={t.name: t for t in tensors})
    changed.write_header(tmp_path / "header.gguf")
    blocks = made.pattern("token_embd.weight")  # any bytes do: nothing is computed
    model = _core.Model(tmp_path / "header.gguf", tensors=lambda name: blocks if "ffn_" in name else made.pattern(name))
    assert held(tensors) == {weight.name: weight.n_bytes for weight in model.weights}


@pytest.mark.parametrize("preset", recipe.FILE_TYPES)
@pytest.mark.parametrize(
    "config",
    [
        super_block_config(tied=True),
        super_block_config(moe=True, mtp=True),
        tiny_config(ratio=3),
        tiny_config(moe=True),
    ],
    ids=["tied", "moe", "odd widths", "odd experts"],
)
def test_weights_are_what_the_core_holds(tmp_path: Path, preset: str, config: ModelConfig) -> None:
    made = of_config("tiny", config, preset)
    made.write_header(tmp_path / "header.gguf")
    model = _core.Model(tmp_path / "header.gguf", tensors=made.pattern)
    assert held(made.tensors) == {weight.name: weight.n_bytes for weight in model.weights}
    found = footprint(config, preset).memory(256, "f16")
    assert found.weights + found.mtp == model.weight_bytes
    sequence = _core.Sequence(model)
    assert sequence.state_bytes == found.delta
    sequence.append(range(256))
    assert sequence.state_bytes == found.delta + found.kv


def test_fused_experts_are_padded_apart(tiny: object) -> None:
    written = tiny(moe=True, fused=True, expert_feed_forward=48)  # type: ignore[operator]
    model = _core.Model(written.path)
    file = _core.GgufFile(written.path)
    assert held(file.tensors) == {weight.name: weight.n_bytes for weight in model.weights}


def held(tensors: object) -> dict[str, int]:
    return {t.name: Stored(t.name, t.shape, t.dtype).cpu_bytes for t in tensors}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kv", KV_FORMATS)
def test_narrow_caches_keep_a_window_in_f16(kv: str) -> None:
    config = SIZES["Qwen3.5-0.8B"].config
    narrow, wide = memory.kv_token_bytes(config, kv), memory.kv_token_bytes(config, "f16")
    assert memory.kv_bytes(config, 1, kv) == 256 * (narrow + (wide if kv != "f16" else 0))
    more = memory.kv_bytes(config, 100_000, kv) - memory.kv_bytes(config, 50_000, kv)
    assert more == 195 * 256 * narrow
    assert memory.kv_bytes(config, 51_200, kv) - 51_200 * narrow == (0 if kv == "f16" else 5 * 256 * wide)


def test_parts_are_together_the_whole() -> None:
    found = of_size("Qwen3.5-35B-A3B").memory(262_144, "q8", snapshots=1)
    assert found.total == found.weights + found.kv + found.delta + 1 + found.scratch + found.program
    assert Memory(1, 2, 4, 8, 16, 32, 64, 128).total == 255


def test_snapshots_take_what_is_left() -> None:
    model = of_size("Qwen3.5-27B")
    least = 2 * memory.snapshot_bytes(model.config, 4096, "f16")
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
        assert longest % memory.PAGE_TOKENS == 0
        assert not model.fits(longest + 1, kv, budget * GIB)


def test_the_cards_say_how_far_yarn_goes() -> None:
    assert of_size("Qwen3.5-0.8B").most_context == 1_010_000
    assert footprint(tiny_config()).most_context == 4 * 4096
    assert footprint(tiny_config().with_yarn(2.0)).most_context == 4 * 4096
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
    assert memory.LEAST_CONTEXT_TOKENS < far_less.context_tokens < 262_144
    nothing = solve(model, 4 * GIB)
    assert (nothing.context_tokens, nothing.fits) == (memory.LEAST_CONTEXT_TOKENS, False)
