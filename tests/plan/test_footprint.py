"""What a model takes on a device: against the table of section 9, and against what a loaded model holds."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from random_model import super_block_config, tiny_config

from qwen35_local import _core, hub
from qwen35_local.errors import FormatError, InputError
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.draft_vocabulary import draft_tokens
from qwen35_local.models.memory import KV_FORMATS
from qwen35_local.models.registry import SIZES, parameters
from qwen35_local.plan.footprint import DeviceFootprint, Stored
from qwen35_local.quantize import recipe
from qwen35_local.quantize.synthetic import of_config

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
DEVICE = "cpu"  # whose layouts these are; tests/devices has those of a card
KV_OF_MTP = {"Qwen3.5-0.8B": 2048, "Qwen3.5-27B": 4096, "Qwen3.5-35B-A3B": 2048, "Qwen3.5-397B-A17B": 2048}


def footprint(config: ModelConfig, preset: str = "Q4_K_M", **changes: object) -> DeviceFootprint:
    made = of_config("model", config, preset)
    tensors = tuple(Stored(t.name, t.shape, t.dtype) for t in made.tensors)
    return DeviceFootprint(config, tensors, vocabulary=config.vocabulary, device=DEVICE, **changes)  # type: ignore[arg-type]


def of_size(name: str, preset: str = "Q4_K_M") -> DeviceFootprint:
    return footprint(replace(SIZES[name].config, mtp_layers=0), preset)


def test_every_size_is_in_the_notes() -> None:
    assert list(NOTES) == list(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_state_is_that_of_the_notes(name: str) -> None:
    config = SIZES[name].config
    f16, q8, q4, s_bytes, window_bytes, mib, _ = NOTES[name]
    model = of_size(name)
    assert [model.kv_token_bytes(kv) for kv in ("f16", "q8", "q4")] == [f16, q8, q4]
    assert model.kv_token_bytes("k8v4") == (q8 + q4) // 2
    found = model.parts(262_144, "f16")
    assert found.kv == 262_144 * f16
    layers = config.layers - len(config.full_attention_layers)
    # The notes count the memory and the window; up to three tokens wait beside them for their chunk to be full.
    waiting = 4 * 4 * (config.delta_key_heads * config.delta_key_width + config.delta_value_heads * 128)
    waiting += -(-4 * 4 * config.delta_value_heads // 64) * 64
    assert found.state == layers * (s_bytes + window_bytes + waiting)
    assert round((found.state - layers * waiting) / 2**20, 1) == mib


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
    plain, drafting = footprint(config, "BF16"), footprint(config, "BF16", drafts=8)
    found, idle = drafting.memory(1024, "f16"), plain.memory(1024, "f16")
    assert found.mtp == pytest.approx(2 * parameters(config).mtp, rel=0.03)  # panels of 32 rows, norms as fp32
    assert replace(found, mtp=0, drafts=0, scratch=0) == replace(idle, scratch=0)
    assert idle.drafts == idle.mtp == 0
    kv = 1024 * KV_OF_MTP[name]
    assert drafting.conversation_drafts(2048, "f16") - drafting.conversation_drafts(1024, "f16") == kv
    hidden, window = 25 * 4 * config.hidden, 8 * 4 * config.conv_channels  # of one layer: rows before the convolution
    more = drafting.conversation_drafts(1024, "f16") - kv - hidden
    assert more > window * (config.layers - len(config.full_attention_layers))
    last = 4 * 512 * config.hidden  # hidden rows of a pass; beside embeddings they are two more, where nothing else is
    assert kv + hidden + more + last <= found.drafts <= kv + hidden + more + 3 * last
    assert idle.weights == of_size(name, "BF16").memory(1024, "f16").weights


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
    model = _core.Model(
        tmp_path / "header.gguf",
        device=DEVICE,
        tensors=lambda name: blocks if "ffn_" in name else made.pattern(name),
    )
    assert held(config, tensors) == {weight.name: weight.n_bytes for weight in model.weights}


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
    drafting = _core.Model(tmp_path / "header.gguf", device=DEVICE, tensors=made.pattern, drafts=1)
    assert held(config, made.tensors) == {weight.name: weight.n_bytes for weight in drafting.weights}
    model = _core.Model(tmp_path / "header.gguf", device=DEVICE, tensors=made.pattern)
    found = footprint(config, preset).memory(256, "f16")
    assert found.weights + found.mtp == model.weight_bytes
    sequence = _core.Sequence(model)
    assert sequence.state_bytes == found.state
    sequence.append(range(256))
    assert sequence.state_bytes == found.state + found.kv


@pytest.mark.parametrize("kv", ["f16", "q4"])
@pytest.mark.parametrize("moe", [False, True])
def test_what_drafting_takes_is_what_a_sequence_holds(tmp_path: Path, moe: bool, kv: Literal["f16", "q4"]) -> None:
    config = super_block_config(moe=moe, mtp=True)
    made = of_config("tiny", config, "Q4_0")
    made.write_header(tmp_path / "header.gguf")
    sequence = _core.Sequence(
        _core.Model(tmp_path / "header.gguf", device=DEVICE, tensors=made.pattern, drafts=8), kv=kv
    )
    drafting = footprint(config, "Q4_0", drafts=8)
    found = drafting.memory(2048, kv)
    states = found.state + drafting.conversation_drafts(2048, kv) - found.kv  # one layer attends, and one drafts
    assert sequence.state_bytes == states
    sequence.append([i % 290 for i in range(2048)], logits="none")
    held = sequence.state_bytes - states
    assert held == 2 * found.kv if kv == "f16" else found.kv < held < 2 * found.kv  # plain pages of the last pass


@pytest.mark.parametrize("preset", ["Q4_0", "Q4_K_M", "Q8_0", "BF16"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_block_that_drafts_is_what_the_core_holds(tmp_path: Path, tied: bool, preset: str) -> None:
    config = replace(super_block_config(tied=tied, mtp=True), vocabulary=80_000)
    made = of_config("tiny", config, preset)
    made.write_header(tmp_path / "header.gguf")
    drafted = draft_tokens(_core.GgufFile(tmp_path / "header.gguf", header=True).tensors)
    for drafts in (8, 0):
        model = _core.Model(
            tmp_path / "header.gguf", device=DEVICE, tensors=made.pattern, drafts=drafts, draft_tokens=drafted
        )
        planned = footprint(config, preset, drafts=drafts)
        memory = planned.memory(256, "f16")
        assert memory.weights + memory.mtp == model.weight_bytes
        assert bool(memory.mtp) == any(".nextn." in weight.name for weight in model.weights) == bool(drafts)


def test_fused_experts_are_padded_apart(tiny: object) -> None:
    written = tiny(moe=True, fused=True, expert_feed_forward=48)  # type: ignore[operator]
    model = _core.Model(written.path, device=DEVICE)
    file = _core.GgufFile(written.path)
    assert held(tiny_config(moe=True), file.tensors) == {weight.name: weight.n_bytes for weight in model.weights}


def held(config: ModelConfig, tensors: Iterable[Any]) -> dict[str, int]:
    model = DeviceFootprint(config, tuple(Stored(t.name, t.shape, t.dtype) for t in tensors), 0, device=DEVICE)
    return {tensor.name: n_bytes for tensor, n_bytes in model.held}


@pytest.mark.parametrize("kv", KV_FORMATS)
def test_narrow_caches_keep_a_window_in_f16(kv: str) -> None:
    config = SIZES["Qwen3.5-0.8B"].config
    model = footprint(replace(config, mtp_layers=0))
    narrow, wide = model.kv_token_bytes(kv), model.kv_token_bytes("f16")

    def kv_bytes(context_tokens: int) -> int:
        return model.parts(context_tokens, kv).kv

    assert kv_bytes(1) == 256 * (narrow + (wide if kv != "f16" else 0))
    assert kv_bytes(100_000) - kv_bytes(50_000) == 195 * 256 * narrow
    assert kv_bytes(51_200) - 51_200 * narrow == (0 if kv == "f16" else 5 * 256 * wide)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kv", ["f16", "q4"])
@pytest.mark.parametrize("moe", [False, True], ids=["dense", "moe"])
def test_work_is_what_operations_keep(tmp_path: Path, moe: bool, kv: str, threads: int) -> None:
    """After chunks of 512 and of any size, and tokens one by one, to the end of the context."""
    config, context = super_block_config(moe=moe), 3000
    made = of_config("tiny", config, "Q4_K_M")
    made.write_header(tmp_path / "header.gguf")
    model = _core.Model(tmp_path / "header.gguf", device=DEVICE, threads=threads, tensors=made.pattern)
    sequence = _core.Sequence(model, kv=kv)
    for rows in (512, 512, 100, 512, 7, 512, 512, 330, 1, 1, 1):
        sequence.append([7] * rows)
    assert len(sequence) == context
    tensors = tuple(Stored(t.name, t.shape, t.dtype) for t in made.tensors)
    found = DeviceFootprint(config, tensors, 0, device=DEVICE, threads=threads).of_device.parts(context, kv, rows=512)
    assert 0.7 * found["work"] < model.work_bytes <= found["work"]


def shape(**changes: object) -> dict[str, object]:
    return _core.Model(hub.embedded_model()).config | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 0}, "heads is 0, expected at least 1"),
        ({"kv_heads": 3}, "heads over 3 key/value heads"),
        ({"kv_heads": -1}, "kv_heads is -1"),
        ({"head_width": 24}, "multiple of 16"),
        ({"layers": 1 << 40}, "layers is .*, expected at most"),
        ({"experts": 4, "experts_per_token": 0}, "experts_per_token is 0"),
    ],
)
def test_shapes_that_no_device_runs(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        _core.Footprint(shape(**changes), []).parts(4096, "f16", rows=512)  # type: ignore[arg-type]


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(InputError, match=r'needs "layers"'):
        _core.Footprint({}, [])
    with pytest.raises(InputError, match="no tensor type 'Q9'"):
        _core.Footprint(shape(), [("Q9", 64, 64, 1)])  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="multiple of the type's block"):
        _core.Footprint(shape(), [("Q4_0", 64, 40, 1)])  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="divide into 3 groups"):
        _core.Footprint(shape(), [("Q4_0", 64, 64, 3)])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="kv is"):
        _core.Footprint(shape(), []).parts(4096, "q3", rows=512)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected one of auto, cuda, metal, cpu"):
        _core.Footprint(shape(), [], device="gpu")  # type: ignore[arg-type]


def test_more_of_everything_takes_more() -> None:
    model = _core.Footprint(shape(), [("Q4_0", 64, 64, 1)], device=DEVICE, threads=2)  # type: ignore[arg-type]
    assert model.device == "cpu"
    assert model.uses_host_memory
    less, more = model.parts(4096, "f16", rows=1), model.parts(262_144, "f16", rows=512)
    assert all(less[part] <= more[part] for part in less)
    assert less["state"] == more["state"]
    assert less["activations"] < more["activations"]
    threads = _core.Footprint(shape(), [], device=DEVICE, threads=16).parts(262_144, "f16", rows=512)  # type: ignore[arg-type]
    assert threads["work"] > more["work"]
