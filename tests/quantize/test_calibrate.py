"""Layers run some at a time give what the whole model gives, and the moments of what went through them."""

import errno
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
from tiny_checkpoints import Tiny

from qwen35_local import _core
from qwen35_local.errors import InputError
from qwen35_local.models import reference
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.registry import SIZES
from qwen35_local.models.tensors import tensor_table
from qwen35_local.partial_file import PartialFile
from qwen35_local.quantize import convert
from qwen35_local.quantize.calibrate import HELD_OUT, Calibrator, Texts, default_tokens, estimated_seconds
from qwen35_local.quantize.encode import Encoder
from qwen35_local.quantize.plan import Plan, PlannedTensor
from qwen35_local.quantize.recipe import Mixture, Model
from qwen35_local.quantize.rows import Entry, RowReader, Run
from qwen35_local.quantize.source import plan_of

LENGTH = 12
KINDS = {"dense": Tiny(layers=4), "moe": Tiny(layers=4, is_moe=True, is_tied=False)}


@pytest.fixture(params=KINDS)
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tiny_checkpoints.write(tmp_path / "m", KINDS[request.param])
    return tmp_path / "m"


def texts(plan: Plan) -> Texts:
    random = np.random.default_rng(1)
    vocabulary = next(tensor.shape[0] for tensor in plan.tensors if tensor.name == "token_embd.weight")
    calibration, held_out = (random.integers(0, vocabulary, (n, LENGTH)).astype(np.int32) for n in (5, 2))
    return Texts(calibration, held_out)


def planned(folder: Path) -> Plan:
    _, plan = plan_of(folder, Mixture("Q8_0"), False)
    plan.metadata["general.name"] = "tiny"
    return plan


def calibrator(plan: Plan, folder: Path, memory: int, threads: int = 1) -> Calibrator:
    folder.mkdir()
    return Calibrator(plan, Encoder(RowReader(), 1), texts(plan), folder, memory=memory, threads=threads)


def test_rows_that_leave_the_last_layer_are_those_of_the_whole_model(tiny: Path, tmp_path: Path) -> None:
    plan = planned(tiny)
    found = calibrator(plan, tmp_path / "w", memory=0)
    assert [(group.first, group.count) for group in found.groups] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    for group in found.groups:
        found.measure(group)
    rows = np.load(tmp_path / "w" / "rows-4.npy")
    convert(tiny, tmp_path / "m.gguf", "Q8_0")
    model = _core.Model(tmp_path / "m.gguf", device="cpu")
    norm = _core.GgufFile(tmp_path / "m.gguf").decode("output_norm.weight")
    all_texts = np.concatenate([texts(plan).calibration, texts(plan).held_out])
    for ids, left in zip(all_texts, rows, strict=True):
        hidden = _core.Sequence(model).step(ids, hidden="all").hidden
        scaled = left / np.sqrt((left * left).mean(-1, keepdims=True) + model.config["rms_eps"]) * norm
        np.testing.assert_allclose(scaled, hidden, rtol=0, atol=2e-6 * np.abs(hidden).max())


def test_a_full_disk_is_an_error_and_leaves_no_part_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are mapped would end the program with SIGBUS."""
    tiny_checkpoints.write(tmp_path / "m", KINDS["dense"])
    found = calibrator(planned(tmp_path / "m"), tmp_path / "w", memory=0)

    def full(file: PartialFile, data: memoryview) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PartialFile, "write", full)
    with pytest.raises(OSError, match="No space left"):
        found.measure(found.groups[0])
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["calibration.gguf"]


def test_any_grouping_and_threads_give_the_same_moments(tiny: Path, tmp_path: Path) -> None:
    plan = planned(tiny)
    whole = calibrator(plan, tmp_path / "whole", memory=1 << 30, threads=3)
    assert len(whole.groups) == 1
    all_moments = whole.measure(whole.groups[0])
    parts = calibrator(plan, tmp_path / "parts", memory=0)
    for group in parts.groups:
        moments = parts.measure(group)
        for tensor in plan.tensors:
            if tensor.name.startswith(f"blk.{group.first}.") and tensor.name in moments:
                for expert in range(tensor.experts):
                    for of in (type(moments).held_out, type(moments).mean_squares):
                        np.testing.assert_array_equal(
                            of(moments, tensor.name, expert), of(all_moments, tensor.name, expert), tensor.name
                        )


def test_moments_of_the_first_layer_are_those_of_its_normed_embeddings(tiny: Path, tmp_path: Path) -> None:
    plan = planned(tiny)
    found = calibrator(plan, tmp_path / "w", memory=0)
    run = found.measure(found.groups[0])._measured
    convert(tiny, tmp_path / "m.gguf", "Q8_0")
    file = _core.GgufFile(tmp_path / "m.gguf")
    x = file.decode("token_embd.weight")[texts(plan).calibration.reshape(-1)]
    h = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6) * file.decode("blk.0.attn_norm.weight")
    wanted = h.T @ h / len(h)
    got, rows = run.moments("blk.0.attn_qkv.weight")
    assert rows == texts(plan).calibration.size
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    names, _, experts = run.inputs[0]
    assert set(names) == {f"blk.0.{part}.weight" for part in ("attn_qkv", "attn_gate", "ssm_alpha", "ssm_beta")}
    assert experts == 1


def test_every_row_reaches_as_many_experts_as_the_router_chooses(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", KINDS["moe"])
    plan = planned(tmp_path / "m")
    found = calibrator(plan, tmp_path / "w", memory=0)
    run = found.measure(found.groups[0])._measured
    name, experts = next((t.name, t.experts) for t in plan.tensors if t.name == "blk.0.ffn_down_exps.weight")
    rows = [run.moments(name, expert=expert)[1] for expert in range(experts)]
    assert sum(rows) == texts(plan).calibration.size * experts * plan.model.share_of_experts


def test_rows_of_an_expert_count_by_the_square_of_the_weight_that_they_were_given(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", KINDS["moe"])
    plan = planned(tmp_path / "m")
    found = calibrator(plan, tmp_path / "w", memory=0)
    run = found.measure(found.groups[0])._measured
    convert(tmp_path / "m", tmp_path / "m.gguf", "Q8_0")
    wanted = sum(rows.T @ rows for rows in weighted_rows(tmp_path / "m.gguf", texts(plan).calibration))
    moments = [run.moments("blk.0.ffn_down_exps.weight", expert=expert) for expert in range(KINDS["moe"].experts)]
    got = sum(mean * count for mean, count in moments)
    # Inputs of products are rounded to 8 bits, 1 % of a row, and a row near a tie goes to another expert. A weight is
    # 0.5 in the mean: without it, or with it and not its square, moments are two to four times as large.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=0.1 * np.abs(wanted).max())
    assert np.trace(got) == pytest.approx(np.trace(wanted), rel=0.03)


def weighted_rows(path: Path, ids: np.ndarray) -> list[np.ndarray]:  # type: ignore[type-arg]
    """Of each expert of the first layer: the inputs of its down projection, each times the router's weight."""
    file = _core.GgufFile(path)
    config = ModelConfig.from_gguf(file.metadata, vocabulary=320, embeddings_are_tied=False)
    page = reference.Reference({info.name: file.decode(info.name) for info in file.tensors}, config)
    rows: list[list[np.ndarray]] = [[] for _ in range(config.experts)]  # type: ignore[type-arg]

    def experts(w: Mapping[str, np.ndarray], h: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        if w is page.blocks[0]:
            chosen, weights = reference.route(h @ w["ffn_gate_inp.weight"].T, config.experts_per_token)
            for token, place in np.ndindex(chosen.shape):
                gate, up = (w[f"ffn_{part}_exps.weight"][chosen[token, place]] for part in ("gate", "up"))
                inner = reference.swiglu(h[token : token + 1], gate, up)[0]
                rows[chosen[token, place]].append(weights[token, place] * inner)
        return np.zeros_like(h)

    page._experts = experts  # type: ignore[method-assign]
    for text in ids:
        page.hidden(text.tolist(), page.new_state())
    return [np.stack(of_expert) for of_expert in rows]


@pytest.mark.parametrize("size", SIZES)
def test_a_large_model_takes_fifteen_minutes_a_billion_weights_on_two_cores(size: str) -> None:
    config = SIZES[size].config
    tensors = [
        PlannedTensor(
            spec.name,
            spec.shape,
            "BF16",
            spec.shape[-1],
            (Run(Entry(Path(), "", "BF16", spec.shape, 0, 0), 0, math.prod(spec.shape[:-1])),),
        )
        for spec in tensor_table(config)
    ]
    plan = Plan({}, tensors, Model.of(config))
    tokens, billions = default_tokens(plan), sum(tensor.n_values for tensor in tensors) / 1e9
    minutes = estimated_seconds(plan, tokens + tokens // HELD_OUT, cores=2) / 60
    assert minutes <= 15.1 * billions
    assert tokens == 65536 or minutes > 14.9 * billions
    assert (tokens < 65536) == (size in ("Qwen3.5-4B", "Qwen3.5-27B"))


def test_bad_calls(tiny: Path, tmp_path: Path) -> None:
    plan = planned(tiny)
    found = calibrator(plan, tmp_path / "w", memory=0)
    with pytest.raises(InputError, match="expected some of the 4"):
        _core.Calibration(found._header, tensors=found._encoded, first=3, count=2, texts=1, length=8)
    with pytest.raises(InputError, match=r"is not a contiguous array of uint8"):
        _core.Calibration(found._header, tensors=lambda _: np.zeros(3, np.uint8), first=0, count=1, texts=1, length=8)
    run = _core.Calibration(found._header, tensors=found._encoded, first=0, count=1, texts=1, length=8)
    width = found._width
    with pytest.raises(InputError, match="expected 1 to 1 texts of 8"):
        run.run(np.zeros(9, np.int32), np.zeros((9, width), np.float32))
    with pytest.raises(InputError, match="expected 8 rows"):
        run.run(np.zeros(8, np.int32), np.zeros((7, width), np.float32))
    with pytest.raises(InputError, match="not in the vocabulary"):
        run.run(np.full(8, -1, np.int32), np.zeros((8, width), np.float32))
    with pytest.raises(InputError, match="nothing has gone through"):
        run.moments("blk.0.attn_qkv.weight")
    with pytest.raises(InputError, match="no tensor"):
        run.moments("blk.1.attn_qkv.weight")
