"""Conversions with texts: matrices solved, accepted by texts held out, and gone on with after an interruption."""

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
from tiny_checkpoints import Tiny

from qwen35_local import _core
from qwen35_local.errors import InputError
from qwen35_local.quantize import TensorProgress, convert
from qwen35_local.quantize.calibrate import Texts
from qwen35_local.quantize.plan import Plan

solve = importlib.import_module("qwen35_local.quantize.solve")
KINDS = {"dense": Tiny(), "moe": Tiny(is_moe=True, is_tied=False)}


def texts(_: Plan) -> Texts:
    random = np.random.default_rng(3)
    calibration, held_out = (random.integers(0, 320, (n, 64)).astype(np.int32) for n in (12, 4))
    return Texts(calibration, held_out)


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tiny_checkpoints.write(tmp_path / "m", KINDS[request.param])
    return tmp_path / "m"


def test_solved_matrices_lose_less_on_texts_held_out(folder: Path, tmp_path: Path) -> None:
    report = convert(folder, tmp_path / "solved.gguf", "Q4_0", texts=texts)
    plain = convert(folder, tmp_path / "plain.gguf", "Q4_0")
    assert report.file_bytes == plain.file_bytes
    outcomes = {t.name: t.calibration for t in report.tensors if t.calibration is not None}
    assert {name.split(".")[0] for name in outcomes} == {"blk"}
    assert not any(name.startswith("blk.4.") for name in outcomes), "no text goes through the block that drafts"
    assert all(0 <= o.kept <= o.matrices and o.error_ratio <= 1 for o in outcomes.values())
    assert sum(o.kept for o in outcomes.values()) > 0.2 * sum(o.matrices for o in outcomes.values())
    changed = {
        t.name
        for t in _core.GgufFile(tmp_path / "solved.gguf").tensors
        if (
            _core.GgufFile(tmp_path / "solved.gguf").tensor(t.name)
            != _core.GgufFile(tmp_path / "plain.gguf").tensor(t.name)
        ).any()
    }
    assert changed <= outcomes.keys()
    assert {name for name, outcome in outcomes.items() if outcome.kept} <= changed
    assert not list(tmp_path.glob(".*")), "what an interruption would need is gone"


def test_threads_and_memory_do_not_change_a_byte(folder: Path, tmp_path: Path) -> None:
    for name, options in {"one": {"threads": 1, "memory": 0}, "three": {"threads": 3}}.items():
        convert(folder, tmp_path / name, "Q4_K_S", texts=texts, **options)  # type: ignore[arg-type]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "three").read_bytes()


def test_no_part_of_it_takes_more_threads_than_it_was_given(folder: Path, tmp_path: Path) -> None:
    teams: set[tuple[str, object]] = set()

    def noting(name: str) -> Callable[..., object]:
        real = getattr(_core, name)

        def call(*given: object, threads: int = 0, **options: object) -> object:
            teams.add((name, threads))
            return real(*given, threads=threads, **options)

        return call

    parts = ("Calibration", "Factor", "encode", "solve", "weighted_error")
    with pytest.MonkeyPatch.context() as patch:
        for name in parts:
            patch.setattr(_core, name, noting(name))
        convert(folder, tmp_path / "out.gguf", "Q4_0", texts=texts, threads=1)
    assert teams == {(name, 1) for name in parts}


@pytest.mark.parametrize("at", [0.1, 0.4, 0.7, 0.95])
def test_interrupted_conversion_goes_on_where_it_was(
    folder: Path, tmp_path: Path, at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(folder, tmp_path / "whole.gguf", "Q4_K_S", texts=texts, memory=0)
    solved: list[int] = []
    real = _core.solve

    def counting(*args: object, **options: object) -> object:
        solved.append(1)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(_core, "solve", counting)
    convert(folder, tmp_path / "counted.gguf", "Q4_K_S", texts=texts, memory=0)
    once = len(solved)

    def interrupt(done: TensorProgress) -> None:
        if done.done_bytes > at * done.total_bytes:
            raise KeyboardInterrupt

    solved.clear()
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "out.gguf", "Q4_K_S", texts=texts, memory=0, progress=interrupt)
    assert not (tmp_path / "out.gguf").exists()
    convert(folder, tmp_path / "out.gguf", "Q4_K_S", texts=texts, memory=0)
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    experts = KINDS["moe"].experts
    assert once <= len(solved) <= once + experts, "at most the tensor in work is solved twice"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("memory", [(0, 1 << 30), (1 << 30, 0)])
@pytest.mark.parametrize("at", [0.3, 0.5, 0.8])
def test_it_goes_on_with_more_or_less_memory(
    tmp_path: Path, memory: tuple[int, int], at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_checkpoints.write(tmp_path / "m", KINDS["dense"])
    convert(tmp_path / "m", tmp_path / "whole.gguf", "Q4_K_S", texts=texts)
    solved: list[int] = []
    real = _core.solve
    monkeypatch.setattr(_core, "solve", lambda *args, **options: solved.append(1) or real(*args, **options))

    def interrupt(done: TensorProgress) -> None:
        if done.done_bytes > at * done.total_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "m", tmp_path / "out.gguf", "Q4_K_S", texts=texts, memory=memory[0], progress=interrupt)
    before, kept = len(solved), len([*tmp_path.glob(".out.gguf.*/*.blocks")])
    convert(tmp_path / "m", tmp_path / "out.gguf", "Q4_K_S", texts=texts, memory=memory[1])
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert kept <= before <= kept + 1 and len(solved) > before


def test_another_conversion_does_not_go_on_with_it(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", KINDS["dense"])

    def interrupt(done: TensorProgress) -> None:
        if done.done_bytes > 0.8 * done.total_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "m", tmp_path / "out.gguf", "Q4_K_S", texts=texts, progress=interrupt)
    convert(tmp_path / "m", tmp_path / "out.gguf", "IQ4_XS", texts=texts)
    convert(tmp_path / "m", tmp_path / "fresh.gguf", "IQ4_XS", texts=texts)
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "fresh.gguf").read_bytes()


def test_a_solution_that_is_worse_on_texts_held_out_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_checkpoints.write(tmp_path / "m", KINDS["dense"])

    def worse(values: np.ndarray, dtype: str, factor: object, *, threads: int) -> object:  # type: ignore[type-arg]
        return _core.encode(values * np.float32(0.5), dtype)

    monkeypatch.setattr(_core, "solve", worse)
    report = convert(tmp_path / "m", tmp_path / "out.gguf", "Q4_0", texts=texts)
    outcomes = [t.calibration for t in report.tensors if t.calibration is not None]
    assert outcomes and all(outcome.kept == 0 and outcome.error_ratio == 1.0 for outcome in outcomes)


def test_texts_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path / "m", KINDS["dense"])
    wrong = Texts(np.full((2, 8), 9999, np.int32), np.zeros((1, 8), np.int32))
    with pytest.raises(InputError, match="vocabulary"):
        convert(tmp_path / "m", tmp_path / "out.gguf", "Q4_0", texts=lambda _: wrong)
