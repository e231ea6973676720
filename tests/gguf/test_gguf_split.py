"""Models split into files: the first part opens all; anything else names the file that is wanted or wrong."""

from pathlib import Path

import numpy as np
import pytest
from gguf_bytes import BOOL, STRING, U16, U32, U64, File, Tensor, value
from split_bytes import names, parts, write

from qwen35_local import _core
from qwen35_local.errors import FormatError

COUNT = 3
N_TENSORS = 7


def model() -> File:
    rng = np.random.default_rng(5)
    tensors = [
        Tensor(f"t{i}", [8 * (i + 1)], 0, rng.standard_normal(8 * (i + 1)).astype("<f4").tobytes()) for i in range(7)
    ]
    return File(values=[("general.architecture", value(STRING, "qwen35")), ("a.key", value(U32, 7))], tensors=tensors)


@pytest.fixture
def split(tmp_path: Path) -> list[Path]:
    return write(tmp_path, "model", parts(model(), COUNT))


def refused(path: Path, match: str) -> None:
    for header in (False, True):
        with pytest.raises(FormatError, match=match):
            _core.GgufFile(path, header=header)


@pytest.mark.parametrize("count", [2, 3, N_TENSORS])
def test_the_first_part_opens_all(tmp_path: Path, count: int) -> None:
    whole_path = tmp_path / "whole.gguf"
    whole_path.write_bytes(model().build())
    paths = write(tmp_path, "model", parts(model(), count))
    whole, read = _core.GgufFile(whole_path), _core.GgufFile(paths[0])
    assert read.paths == [str(path) for path in paths]
    assert read.n_bytes == sum(path.stat().st_size for path in paths)
    assert {k: v for k, v in read.metadata.items() if not k.startswith("split.")} == whole.metadata
    assert [(t.name, t.shape, t.n_bytes) for t in read.tensors] == [(t.name, t.shape, t.n_bytes) for t in whole.tensors]
    for info in read.tensors:
        expected = whole.tensor(info.name)
        assert read.tensor(info.name).tolist() == expected.tolist()
        data = Path(info.path).read_bytes()[info.offset : info.offset + info.n_bytes]
        assert data == expected.tobytes()
    assert [t.path for t in read.tensors] == sorted(t.path for t in read.tensors)


def test_headers_alone_list_the_tensors_of_all(tmp_path: Path, split: list[Path]) -> None:
    for path, part in zip(split, parts(model(), COUNT), strict=True):
        path.write_bytes(part.header())
    read = _core.GgufFile(split[0], header=True)
    assert [t.name for t in read.tensors] == [t.name for t in model().tensors]
    split[1].unlink()
    with pytest.raises(FormatError, match=r"part 2 of 3 is missing: model-00002-of-00003\.gguf has to lie beside"):
        _core.GgufFile(split[0], header=True)


def test_a_first_part_may_have_no_tensors(tmp_path: Path) -> None:
    files = parts(model(), 2)
    files[1].tensors = files[0].tensors + files[1].tensors
    files[0].tensors = []
    read = _core.GgufFile(write(tmp_path, "m", files)[0])
    assert len(read.tensors) == N_TENSORS


@pytest.mark.parametrize("number", [1, 2])
def test_another_part_names_the_first(split: list[Path], number: int) -> None:
    refused(
        split[number], rf"this is part {number + 1} of 3 .*open its first part instead, .*model-00001-of-00003\.gguf$"
    )
    split[0].unlink()
    refused(split[number], r"model-00001-of-00003\.gguf, which has to lie beside this file")
    moved = split[number].rename(split[0].with_name("other.gguf"))
    refused(moved, rf"other\.gguf: this is part {number + 1} of 3 .* ends in -00001-of-00003\.gguf")


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_part_is_named(split: list[Path], number: int) -> None:
    split[number].unlink()
    refused(split[0], rf"part {number + 1} of 3 is missing: {split[number].name} has to lie beside this file")


RENAMED = [
    "model.gguf",
    "model",
    "-.gguf",
    "model-00002-of-00003.gguf",
    "model-00001-of-00004.gguf",
    "model-1-of-3.gguf",
    "model-0000x-of-00003.gguf",
    "model-00001-of-00003.GGUF",
]


@pytest.mark.parametrize("name", RENAMED)
def test_a_renamed_first_part_says_what_to_call_it(split: list[Path], name: str) -> None:
    split[1].unlink()
    refused(split[0].rename(split[0].with_name(name)), r"part 1 of 3 .* under another name.*-00001-of-00003\.gguf")


def test_parts_under_each_others_names(split: list[Path]) -> None:
    second = split[1].read_bytes()
    split[1].write_bytes(split[2].read_bytes())
    split[2].write_bytes(second)
    refused(split[0], r"00002-of-00003\.gguf: this is part 3 of 3, and part 2 of 3 of model-00001")
    split[1].replace(split[0])
    refused(split[0], "this is part 3 of 3 of a split model under the name of the first; get the parts")


def test_a_part_that_is_none(split: list[Path]) -> None:
    split[2].write_bytes(model().build())
    refused(split[0], r"00003-of-00003\.gguf: this is no part of a split model, and part 3 of 3")
    split[2].write_text("<!doctype html>")
    refused(split[0], r"00003-of-00003\.gguf: not a GGUF file: a web page")


CHANGES = {
    "general.architecture": (value(STRING, "qwen35moe"), "another architecture"),
    "general.alignment": (value(U32, 64), "general.alignment is 64, not as in the first part"),
    "split.count": (value(U16, 4), r"part 2 of 4"),
    "split.no": (value(U16, 7), r"part 8 of 3"),
    "split.tensors.count": (value(U64, 8), "split.tensors.count is 8, not as in the first part"),
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_part_of_another_split(tmp_path: Path, key: str) -> None:
    files = parts(model(), COUNT)
    encoded, match = CHANGES[key]
    files[1].values = [*(item for item in files[1].values if item[0] != key), (key, encoded)]
    files[1].alignment = 64 if key == "general.alignment" else 32
    refused(write(tmp_path, "model", files)[0], match)


def test_the_parts_own_alignment_counts(tmp_path: Path) -> None:
    """llama-gguf-split writes it into the first part alone, and aligns the others by the default."""
    file = model()
    file.values.append(("general.alignment", value(U32, 256)))
    files = parts(file, COUNT)
    files[0].alignment = 256
    read = _core.GgufFile(write(tmp_path, "model", files)[0])
    for tensor in model().tensors:
        assert read.tensor(str(tensor.name)).tobytes() == tensor.data


def test_a_tensor_in_two_parts(tmp_path: Path) -> None:
    files = parts(model(), COUNT)
    files[2].tensors = [*files[2].tensors[:-1], files[0].tensors[0]]
    refused(write(tmp_path, "model", files)[0], r"00003-of-00003\.gguf: tensor 't0' occurs twice, .* another part")
    files[2].tensors.append(model().tensors[-1])  # announced or not
    refused(write(tmp_path, "model", files)[0], r"00003-of-00003\.gguf: tensor 't0' occurs twice, .* another part")


@pytest.mark.parametrize("change", [-1, 1])
def test_tensors_too_few_or_too_many(tmp_path: Path, change: int) -> None:
    files = parts(model(), COUNT)
    extra = Tensor("extra", [1], 0, bytes(4))
    files[1].tensors = [*files[1].tensors, extra] if change > 0 else files[1].tensors[:-1]
    refused(write(tmp_path, "model", files)[0], rf"7 tensors are announced .* 3 parts have {7 + change}")


@pytest.mark.parametrize("count", [1001, 65535, 2**32, 2**64 - 1])
def test_numbers_of_parts_that_cannot_be(tmp_path: Path, count: int) -> None:
    path = tmp_path / "model-00001-of-00003.gguf"
    path.write_bytes(File(values=[("split.no", value(U16, 0)), ("split.count", value(U64, count))]).build())
    refused(path, "up to 1000 parts are read")


def test_values_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00003.gguf"
    for key in ("split.count", "split.no"):
        values = {"split.no": value(U16, 0), "split.count": value(U16, 3)}
        for wrong in (value(STRING, "3"), value(BOOL, 1)):
            path.write_bytes(File(values=list((values | {key: wrong}).items())).build())
            refused(path, rf"model-00001-of-00003\.gguf: metadata key '{key}' is")


def test_a_part_that_is_a_folder(split: list[Path]) -> None:
    split[1].unlink()
    split[1].mkdir()
    refused(split[0], "not a regular file")


def test_names_of_any_bytes(tmp_path: Path) -> None:
    paths = write(tmp_path, "größe 模型 $(x)", parts(model(), 2))
    assert _core.GgufFile(paths[0]).paths == [str(path) for path in paths]
    assert names("a", 2) == ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
