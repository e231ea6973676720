"""What a model loses by each kind of tensor, measured on it, and types chosen by that for a size of one's own."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
from tiny_checkpoints import Tiny

from qwen35_local import _core
from qwen35_local.models.config import ModelConfig
from qwen35_local.models.reference import Reference
from qwen35_local.quantize import convert, sensitivity
from qwen35_local.quantize.allocate import ERRORS
from qwen35_local.quantize.calibrate import Texts
from qwen35_local.quantize.encode import Encoder
from qwen35_local.quantize.plan import Plan
from qwen35_local.quantize.recipe import Mixture
from qwen35_local.quantize.rows import RowReader
from qwen35_local.quantize.source import plan_of

ATTENTION = {"attn_q", "attn_k", "attn_v", "attn_output"}
DELTA = {"attn_qkv", "attn_gate", "ssm_out"}
DENSE = {"ffn_gate", "ffn_up", "ffn_down"}
EXPERTS = {f"{part}_{kind}" for part in DENSE for kind in ("exps", "shexp")}
BITS_PER_WEIGHT = 5.5


def texts(_: Plan) -> Texts:
    random = np.random.default_rng(4)
    calibration, held_out = (random.integers(0, 320, (n, 32)).astype(np.int32) for n in (3, 1))
    return Texts(calibration, held_out)


def measured(folder: Path, tmp_path: Path) -> dict[str, float]:
    _, plan = plan_of(folder, Mixture("BF16"), allow_requantize=False)
    plan.metadata["general.name"] = "tiny"
    encoder = Encoder(RowReader(), 1)
    return sensitivity.Measurement(plan, encoder, texts(plan).calibration, tmp_path, threads=1).by_kind()


def test_every_kind_of_matrix_is_measured_once(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "dense", Tiny())
    tiny_checkpoints.write(tmp_path / "moe", Tiny(is_moe=True, is_tied=False))
    dense, moe = measured(tmp_path / "dense", tmp_path), measured(tmp_path / "moe", tmp_path)
    assert dense.keys() == {*ATTENTION, *DELTA, *DENSE, "token_embd"}
    assert moe.keys() == {*ATTENTION, *DELTA, *EXPERTS, "token_embd", "output"}
    assert all(value > 0 for value in (*dense.values(), *moe.values()))


@pytest.mark.parametrize("kind", ["ssm_out", "ffn_down", "token_embd"])
def test_loss_of_a_kind_is_that_of_the_numpy_page(kind: str, tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    convert(tmp_path / "m", tmp_path / "m.gguf", "BF16")
    file = _core.GgufFile(tmp_path / "m.gguf")
    config = ModelConfig.from_gguf(file.metadata, vocabulary=320, embeddings_are_tied=True)
    exact = {info.name: file.decode(info.name) for info in file.tensors}
    names = [n for n in exact if n.removesuffix(".weight").endswith(kind) and not n.startswith("blk.4.")]
    rounded = {
        name: _core.decode(_core.encode(exact[name], "Q4_K").reshape(-1), "Q4_K", exact[name].size).reshape(
            exact[name].shape
        )
        for name in names
    }
    losses = []
    for text in texts(None).calibration:  # type: ignore[arg-type]
        base, after = (log_probabilities(Reference(w, config), text)[16:] for w in (exact, exact | rounded))
        losses.append((np.exp(base) * (base - after)).sum(1).mean())
    values = sum(exact[name].size for name in names)
    wanted = np.mean(losses) / (ERRORS["Q4_K"] * values) * (2 if kind == "token_embd" else 1)
    # The core rounds to BF16 what is left after rounding, and its sums.
    assert measured(tmp_path / "m", tmp_path)[kind] == pytest.approx(wanted, rel=0.1)


def log_probabilities(page: Reference, text: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    logits = page.forward(text.tolist())
    logits -= logits.max(1, keepdims=True)
    result: np.ndarray = logits - np.log(np.exp(logits).sum(1, keepdims=True))  # type: ignore[type-arg]
    return result


@pytest.mark.parametrize("dear", ["ffn_up", "token_embd"])
@pytest.mark.parametrize("is_better", [True, False])
def test_a_size_of_ones_own_is_spent_by_what_the_model_itself_loses(
    dear: str, is_better: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    kinds = {*ATTENTION, *DELTA, *DENSE, "token_embd"}
    names = {"ffn_up": "blk.0.ffn_up.weight", "token_embd": "token_embd.weight"}

    def loss(_: object, types: Mapping[str, str]) -> float:
        return 1.0 if (types[names[dear]] == "Q8_0") == is_better else 2.0

    monkeypatch.setattr(sensitivity.Measurement, "by_kind", lambda *_: dict.fromkeys(kinds, 1.0) | {dear: 900.0})
    monkeypatch.setattr(sensitivity.Measurement, "loss", loss)
    report = convert(tmp_path / "m", tmp_path / "out", target_bpw=BITS_PER_WEIGHT, texts=texts)
    assert not report.warnings
    assert 0.9 * BITS_PER_WEIGHT < report.bits_per_weight <= BITS_PER_WEIGHT
    assert [t.dtype == "Q8_0" for t in report.tensors if t.name == names[dear]] == [is_better]


def test_where_a_model_is_not_measured_it_is_said(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    out = tmp_path / "out.gguf"
    short = convert(tmp_path / "m", out, target_bpw=BITS_PER_WEIGHT, texts=texts, room=1000)
    assert "to measure this one 0.0 GB of memory are needed, and there are 0.0" in short.warnings[-1]
    plain = convert(tmp_path / "m", out, target_bpw=BITS_PER_WEIGHT, overwrite=True)
    assert "this one is measured where it is calibrated" in plain.warnings[-1]
    assert [t.dtype for t in short.tensors] == [t.dtype for t in plain.tensors]
    assert not convert(tmp_path / "m", out, "Q4_0", overwrite=True).warnings
