"""Importance matrices: both of llama.cpp's formats, written here by the `gguf` package and by hand."""

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from qwen35_local.cli.app import app
from qwen35_local.errors import FormatError, InputError
from qwen35_local.quantize import importance
from qwen35_local.quantize.importance import Importance, Inputs

Floats = NDArray[np.float32]
DENSE, EXPERTS = "blk.0.attn_q.weight", "blk.0.ffn_down_exps.weight"
SUMS = {DENSE: [[2.0, 8, 0, 5]], EXPERTS: [[3.0, 6], [0, 0], [1, 10]]}
TOKENS = {DENSE: [4.0], EXPERTS: [3.0, 0, 2]}
MEANS = {DENSE: [[0.5, 2, 0, 1.25]], EXPERTS: [[1.0, 2], [1, 1], [0.5, 5]]}
GOLDEN = Path(__file__).parents[1] / "golden/importance"
METADATA = {"imatrix.datasets": ["a.txt", "b.txt"], "imatrix.chunk_count": 7, "imatrix.chunk_size": 512}


def float_arrays() -> dict[str, Floats]:
    """What llama-imatrix writes, by the names of its tensors."""
    arrays = {}
    for name, sums in SUMS.items():
        arrays[f"{name}.in_sum2"] = np.array(sums, np.float32)
        arrays[f"{name}.counts"] = np.array(TOKENS[name], np.float32)[:, None]
    return {name: array[0] if len(array) == 1 else array for name, array in arrays.items()}


class ImatrixWriter(gguf.GGUFWriter):
    def add_architecture(self) -> None:
        pass


def gguf_file(path: Path, arrays: dict[str, Any], kind: str = "imatrix", metadata: dict[str, Any] = METADATA) -> Path:
    writer = ImatrixWriter(path, "")
    writer.add_type(kind)
    for key, value in metadata.items():
        (writer.add_array if isinstance(value, list) else writer.add_uint32)(key, value)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(words: bytes) -> bytes:
    return struct.pack("<i", len(words)) + words


def entry(name: bytes, chunks: int, values: list[float]) -> bytes:
    return text(name) + struct.pack(f"<ii{len(values)}f", chunks, len(values), *values)


ENTRIES = entry(DENSE.encode(), 2, [1, 4, 0, 2.5]) + entry(EXPERTS.encode(), 4, [4, 8, 4, 4, 2, 20])
OLDER = struct.pack("<i", 2) + ENTRIES + struct.pack("<i", 7) + text(b"a.txt")


def assert_is(found: Importance, means: dict[str, Any], counts: dict[str, Any]) -> None:
    assert found.inputs.keys() == means.keys()
    for name, inputs in found.inputs.items():
        np.testing.assert_array_equal(inputs.means, np.array(means[name], np.float32))
        assert inputs.counts.tolist() == counts[name]


def test_a_gguf(tmp_path: Path) -> None:
    found = importance.read(gguf_file(tmp_path / "a.gguf", float_arrays()))
    assert_is(found, MEANS, TOKENS)
    assert (found.datasets, found.chunks, found.chunk_tokens) == (["a.txt", "b.txt"], 7, 512)
    assert not found.is_legacy


@pytest.mark.parametrize(
    ("data", "chunks", "datasets"),
    [(OLDER, 7, ["a.txt"]), (OLDER[:-9], 7, []), (OLDER[:-13], 0, []), (OLDER[:-9] + text(b""), 7, [])],
    ids=["whole", "no text", "no end", "empty text"],
)
def test_the_older_format(tmp_path: Path, data: bytes, chunks: int, datasets: list[str]) -> None:
    (tmp_path / "a.dat").write_bytes(data)
    found = importance.read(tmp_path / "a.dat")
    flat = {name: [np.concatenate(rows)] for name, rows in MEANS.items()}
    assert_is(found, flat, {DENSE: [2 * 512], EXPERTS: [4 * 512]})
    assert (found.datasets, found.chunks, found.is_legacy) == (datasets, chunks, True)


def test_files_of_llama_imatrix() -> None:
    """Both say the same; experts share their tokens and what they read; the one without a token counts as 1."""
    newer, older = (importance.read(GOLDEN / name) for name in ("imatrix.gguf", "imatrix.dat"))
    assert newer.inputs.keys() == older.inputs.keys() and len(newer.inputs) == 51
    assert (newer.chunks, newer.chunk_tokens, newer.datasets) == (1, 16, ["small.txt"])
    assert (older.chunks, older.datasets) == (1, ["small.txt"])
    for name, inputs in newer.inputs.items():
        same = older.of(name, *inputs.means.shape)
        assert same is not None
        np.testing.assert_allclose(same.means, inputs.means, rtol=1e-6)
        assert inputs.counts.sum() == (2 * 16 if "_exps" in name else 16)
    gate, up, down = (newer.inputs[f"blk.0.ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
    np.testing.assert_array_equal(gate.means, up.means)
    assert (gate.means.shape, down.means.shape) == ((8, 64), (8, 32))
    assert gate.counts.tolist() == down.counts.tolist() == [3, 8, 5, 3, 4, 0, 6, 3]
    assert (gate.means[5] == 1).all() and (gate.means[4] != 1).all()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    inputs = {
        f"blk.{i}.weight": Inputs(random.random((rows, 24)).astype(np.float32), random.integers(1, 5000, rows))
        for i, rows in enumerate((1, 5, 1, 16))
    }
    given = Importance(inputs, ["a text"], 9, 1024)
    importance.write(tmp_path / "a.gguf", given)
    found = importance.read(tmp_path / "a.gguf")
    assert (found.datasets, found.chunks, found.chunk_tokens) == (["a text"], 9, 1024)
    assert found.inputs.keys() == inputs.keys()
    for name, own in inputs.items():
        np.testing.assert_allclose(found.inputs[name].means, own.means, rtol=3e-7)
        np.testing.assert_array_equal(found.inputs[name].counts, own.counts)


def test_what_is_written_is_what_llama_imatrix_writes(tmp_path: Path) -> None:
    """The same keys of the same types, tensors of the same names, shapes and bytes in the same order."""
    theirs = gguf_file(tmp_path / "theirs.gguf", float_arrays())
    importance.write(tmp_path / "ours.gguf", importance.read(theirs))
    readers = [gguf.GGUFReader(tmp_path / name) for name in ("theirs.gguf", "ours.gguf")]
    fields = [{k: (f.types, f.contents()) for k, f in reader.fields.items() if k[:4] != "GGUF"} for reader in readers]
    assert fields[0] == fields[1]
    assert fields[1].keys() == {"general.type", *METADATA}
    tensors = [[(t.name, t.shape.tolist(), t.data.tobytes()) for t in reader.tensors] for reader in readers]
    assert tensors[0] == tensors[1]


def test_a_text_without_a_name(tmp_path: Path) -> None:
    importance.write(
        tmp_path / "a.gguf", Importance({"a": Inputs(np.ones((1, 2), np.float32), np.ones(1, int))}, [], 0, 0)
    )
    assert "imatrix.datasets" in gguf.GGUFReader(tmp_path / "a.gguf").fields
    assert importance.read(tmp_path / "a.gguf").datasets == []


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of no tensors"):
        importance.write(tmp_path / "a.gguf", Importance({}, ["a"], 1, 512))
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_of_the_model_finds_its_own(tmp_path: Path) -> None:
    newer = importance.read(gguf_file(tmp_path / "a.gguf", float_arrays()))
    (tmp_path / "a.dat").write_bytes(OLDER)
    for found in (newer, importance.read(tmp_path / "a.dat")):
        own = found.of(EXPERTS, 3, 2)
        assert own is not None and own.means.tolist() == MEANS[EXPERTS] and own.counts.shape == (3,)
        dense = found.of(DENSE, 1, 4)
        assert dense is not None and dense.means.tolist() == MEANS[DENSE]
        shared = found.of(DENSE, 2, 4)
        assert shared is not None and shared.means.tolist() == 2 * MEANS[DENSE] and len(set(shared.counts)) == 1
        assert found.of("blk.9.attn_q.weight", 1, 4) is None
        for shape in ((1, 5), (3, 5), (1, 0)):
            with pytest.raises(FormatError, match=f"importance of {DENSE} is 1 x 4, .*{shape[0]} x {shape[1]}"):
                found.of(DENSE, *shape)


def changed(**arrays: Any) -> dict[str, Any]:
    return {name: array for name, array in (float_arrays() | arrays).items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "options", "fault"),
    [
        (changed(**{f"{DENSE}.counts": None}), {}, rf"{DENSE}\.counts is missing; expected F32"),
        (changed(**{f"{EXPERTS}.in_sum2": None}), {}, rf"{EXPERTS}\.in_sum2 is missing"),
        (changed(**{f"{DENSE}.in_sum2": np.ones(4, np.float16)}), {}, rf"{DENSE}\.in_sum2 is F16; expected F32"),
        (changed(**{f"{DENSE}.counts": np.ones(3, np.float32)}), {}, rf"{DENSE}\.in_sum2 is \(4,\) for 3 counts"),
        (changed(**{f"{EXPERTS}.counts": np.ones((2, 1), np.float32)}), {}, r"in_sum2 is \(3, 2\) for 2 counts"),
        (changed(**{f"{DENSE}.in_sum2": np.ones((1, 2, 2), np.float32)}), {}, r"in_sum2 is \(.*2, 2\) for 1 counts"),
        (changed(**{f"{DENSE}.counts": np.full(1, -1, np.float32)}), {}, "counts holds what is no number of tokens"),
        (changed(**{f"{DENSE}.counts": np.full(1, 0.5, np.float32)}), {}, "counts holds what is no number of tokens"),
        (changed(**{f"{DENSE}.counts": np.full(1, np.nan, np.float32)}), {}, "counts holds what is no number"),
        (
            changed(**{f"{DENSE}.in_sum2": np.full(4, np.inf, np.float32)}),
            {},
            f"importance of {DENSE} holds what is no",
        ),
        (changed(**{f"{DENSE}.in_sum2": np.full(4, -1, np.float32)}), {}, f"importance of {DENSE} holds what is no"),
        ({"a.weight": np.ones(4, np.float32)}, {}, r"no tensor whose name ends in \.in_sum2"),
        (float_arrays(), {"kind": "model", "metadata": {}}, "general.type is 'model'; expected imatrix"),
        (float_arrays(), {"metadata": METADATA | {"imatrix.datasets": [1, 2]}}, r"imatrix\.datasets is a list of 2"),
        (
            float_arrays(),
            {"metadata": METADATA | {"imatrix.chunk_count": 1 << 31}},
            r"imatrix\.chunk_count is 2147483648",
        ),
    ],
)
def test_what_is_wrong_with_a_gguf_is_said(tmp_path: Path, arrays: Any, options: Any, fault: str) -> None:
    path = gguf_file(tmp_path / "a.gguf", arrays, **options)
    with pytest.raises(FormatError, match=rf"^\S+a\.gguf: .*{fault}") as error:
        importance.read(path)
    assert str(error.value).count("a.gguf") == 1


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "ends in the middle"),
        (b"GG", "ends in the middle"),
        (b"<!doctype html>" * 9, "number of entries is"),
        (struct.pack("<i", 0), "number of entries is 0"),
        (struct.pack("<i", -5) + ENTRIES, "number of entries is -5"),
        (struct.pack("<i", 3) + ENTRIES, "ends in the middle"),
        (struct.pack("<i", 1) + entry(b"", 1, [1]), "length of a name is 0"),
        (struct.pack("<ii", 1, 1 << 30) + b"a" * 99, "length of a name is 1073741824"),
        (struct.pack("<i", 1) + entry(b"\xff\xfe", 1, [1]), "a name is not that of a tensor"),
        (struct.pack("<i", 1) + entry(b"a\nb", 1, [1]), "a name is not that of a tensor"),
        (struct.pack("<i", 2) + 2 * entry(b"a", 1, [1]), "importance of a occurs twice"),
        (struct.pack("<i", 1) + entry(b"a", 0, [1]), "number of chunks of a is 0"),
        (
            struct.pack("<i", 1) + text(b"a") + struct.pack("<ii", 1, (1 << 31) - 1),
            "number of values of a is 2147483647",
        ),
        (struct.pack("<i", 1) + entry(b"a", 1, [float("nan")]), "importance of a holds what is no sum"),
        (struct.pack("<i", 1) + entry(b"a", 1, [-1]), "importance of a holds what is no sum"),
        (OLDER + b"x", "has 1 bytes behind its end"),
    ],
)
def test_what_is_wrong_with_the_older_format_is_said(tmp_path: Path, data: bytes, fault: str) -> None:
    (tmp_path / "a.dat").write_bytes(data)
    with pytest.raises(FormatError, match=rf"^\S+a\.dat: .*{fault}"):
        importance.read(tmp_path / "a.dat")


def test_a_file_that_is_cut_anywhere(tmp_path: Path) -> None:
    """It is whole behind its entries and behind their number of chunks, and nowhere else."""
    whole = []
    for n in range(len(OLDER)):
        (tmp_path / "a.dat").write_bytes(OLDER[:n])
        try:
            importance.read(tmp_path / "a.dat")
            whole.append(n - len(OLDER))
        except FormatError:
            pass
    assert whole == [-13, -9]


def test_bytes_that_are_changed_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    for n in range(len(OLDER)):
        for value in (0, 0x7F, 0xFF):
            path.write_bytes(OLDER[:n] + bytes([value]) + OLDER[n + 1 :])
            try:
                found = importance.read(path)
            except FormatError:
                continue
            assert all(np.isfinite(own.means).all() for own in found.inputs.values())


def test_no_device_is_read() -> None:
    with pytest.raises(FormatError, match="no regular file"):
        importance.read(Path("/dev/zero"))


def info(path: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["info", str(path), *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_info_says_what_it_is(tmp_path: Path) -> None:
    newer = gguf_file(tmp_path / "a.gguf", float_arrays())
    (tmp_path / "a.dat").write_bytes(OLDER)
    assert json.loads(info(newer, "--json"))["importance"] == {
        "datasets": ["a.txt", "b.txt"],
        "chunks": 7,
        "chunk_tokens": 512,
        "tensors": 2,
        "tokens": 4,
        "experts": 3,
        "experts_without_tokens": 1,
    }
    shown = info(newer)
    for line in (
        "importance matrix, which guides",
        "2 tensors, 4 tokens",
        "7 of 512 tokens",
        "a.txt, b.txt",
        "1 of 3 ",
    ):
        assert line in shown
    assert "problem" not in shown
    older = json.loads(info(tmp_path / "a.dat", "--json"))
    assert (older["kind"], older["importance"]["chunk_tokens"]) == ("importance matrix", None)
    assert "7 of a length that is not said" in info(tmp_path / "a.dat")


def test_info_of_a_broken_one_says_so(tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "a.gguf", changed(**{f"{DENSE}.counts": None}))
    shown = info(path)
    assert "importance matrix" in shown
    assert "counts is missing" in shown
    (tmp_path / "a.dat").write_bytes(OLDER[:50])
    assert CliRunner().invoke(app, ["info", str(tmp_path / "a.dat")]).exit_code != 0
