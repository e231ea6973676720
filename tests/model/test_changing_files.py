"""A file that is replaced, changed or cut short while it is in use, and one that the system cannot map."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qwen35_local import _core, hub
from qwen35_local.errors import FormatError, InputError

TOKENS = [100 + n for n in range(40)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A copy of the demonstration model."""
    copy = tmp_path / "model.gguf"
    copy.write_bytes(hub.embedded_model().read_bytes())
    return copy


def logits(model: _core.Model) -> list[float]:
    answer: list[float] = _core.Sequence(model).append(TOKENS)[-1].tolist()
    return answer


def test_an_open_file_is_loaded_as_it_was_opened(path: Path) -> None:
    file = _core.GgufFile(path)
    tensor, values = file.tensors[0].name, file.tensor(file.tensors[0].name)
    path.with_name("new").write_bytes(b"something else")
    path.with_name("new").replace(path)
    assert logits(_core.Model(file, threads=1)) == logits(_core.Model(hub.embedded_model(), threads=1))
    assert file.tensor(tensor).tolist() == values.tolist()
    with pytest.raises(FormatError, match="it is text"):
        _core.Model(path)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("left", [0, 4096, 1_000_000, 6_000_000])
def test_cut_short_while_it_is_loaded(path: Path, left: int, threads: int) -> None:
    file = _core.GgufFile(path)
    names = [tensor.name for tensor in file.tensors]
    os.truncate(path, left)
    for _ in range(2):
        with pytest.raises(FormatError, match=r"model\.gguf: the file was changed while it was in use"):
            _core.Model(file, threads=threads)
    assert file.metadata["general.architecture"] == "qwen35"
    assert [tensor.name for tensor in file.tensors] == names
    for read in (file.tensor, file.decode):
        with pytest.raises(FormatError, match="was changed while it was in use"):
            read(names[-1])


def test_written_over_while_it_is_loaded(path: Path) -> None:
    file = _core.GgufFile(path)
    tensor = file.tensors[0]
    with path.open("r+b") as target:
        target.seek(tensor.offset)
        target.write(bytes(1000))
    os.utime(path, ns=(0, 10**18))
    for use in (lambda: _core.Model(file, threads=1), lambda: file.tensor(tensor.name)):
        with pytest.raises(FormatError, match="was changed while it was in use; wait until"):
            use()


def test_a_part_is_watched_like_the_whole(tmp_path: Path) -> None:
    paths = split(hub.embedded_model(), tmp_path)
    file = _core.GgufFile(paths[0])
    assert logits(_core.Model(file, threads=1)) == logits(_core.Model(hub.embedded_model(), threads=1))
    os.truncate(paths[1], 5000)
    with pytest.raises(FormatError, match=r"00002-of-00002\.gguf: the file was changed while"):
        _core.Model(file, threads=1)


def test_a_model_needs_nothing_of_its_file(path: Path) -> None:
    model = _core.Model(path, threads=1)
    os.truncate(path, 0)
    assert model.metadata["general.architecture"] == "qwen35"
    assert logits(model) == logits(_core.Model(hub.embedded_model(), threads=1))


def test_a_header_alone_has_no_weights(path: Path) -> None:
    with pytest.raises(InputError, match="opened as a header alone"):
        _core.Model(_core.GgufFile(path, header=True))


def split(path: Path, folder: Path) -> list[Path]:
    """The model in two parts, by the `gguf` package."""
    import gguf

    reader = gguf.GGUFReader(path)
    paths = [folder / f"model-{number:05}-of-00002.gguf" for number in (1, 2)]
    half = len(reader.tensors) // 2
    for number, (target, tensors) in enumerate(zip(paths, (reader.tensors[:half], reader.tensors[half:]), strict=True)):
        writer = gguf.GGUFWriter(target, "qwen35")
        for key, field in reader.fields.items():
            if number == 0 and not key.startswith("GGUF.") and key != "general.architecture":
                sub = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(key, field.contents(), field.types[0], sub_type=sub)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


AFTER_A_FAULT = """
import os, signal, sys
from qwen35_local import _core
from qwen35_local.errors import FormatError
file = _core.GgufFile(sys.argv[1])
handled = []
if sys.argv[2] == "handled":
    signal.signal(signal.SIGBUS, lambda number, frame: handled.append(number))
os.truncate(sys.argv[1], 5000)
try:
    _core.Model(file, threads=1)
except FormatError:
    os.kill(os.getpid(), signal.SIGBUS)
    print(handled == [signal.SIGBUS])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="has no such signal")
@pytest.mark.skipif("QWEN35_SANITIZED" in os.environ, reason="the sanitizer has a handler of its own")
def test_faults_from_elsewhere_go_where_they_went(path: Path) -> None:
    def run(mode: str) -> "subprocess.CompletedProcess[str]":
        path.write_bytes(hub.embedded_model().read_bytes())
        command = [sys.executable, "-c", AFTER_A_FAULT, str(path), mode]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert run("default").returncode == -signal.SIGBUS
    assert run("handled").stdout == "True\n"


UNMAPPED = """
import resource, sys
limit = 8 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from qwen35_local import _core
model = _core.Model(sys.argv[1], threads=2)
logits = _core.Sequence(model).append([int(word) for word in sys.argv[2].split()])[-1]
print(model.was_mapped, logits.tobytes().hex())
sys.argv = ["qwen35", "chat", sys.argv[1], "-p", "hi", "--temperature", "0", "--max-tokens", "3", "--threads", "1"]
from qwen35_local.cli.main import main
main()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited there alone")
@pytest.mark.skipif("QWEN35_SANITIZED" in os.environ, reason="the sanitizer needs the address space")
def test_a_file_that_cannot_be_mapped_is_read(path: Path) -> None:
    """A hole behind the tensors makes the file larger than the address space that the process may have."""
    try:
        os.truncate(path, 64 << 30)
    except OSError:
        pytest.skip("this file system has no files of that size")
    words = " ".join(map(str, TOKENS))
    command = [sys.executable, "-c", UNMAPPED, str(path), words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    mapped, bits = run.stdout.split()[:2]
    assert mapped == "False"
    model = _core.Model(hub.embedded_model(), threads=2)
    assert model.was_mapped
    assert bits == _core.Sequence(model).append(TOKENS)[-1].tobytes().hex()
    assert run.stderr.count("cannot map files into memory; the model was read instead") == 1


def test_a_file_is_closed_when_it_is_let_go(path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("nobody says which files are open")
    model = _core.Model(path, threads=1)
    file = _core.GgufFile(path)

    def is_open() -> bool:
        links = (link for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
        return any(link.exists() and link.resolve() == path for link in links)

    assert is_open()
    del file
    assert not is_open()
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert model.n_vocab > 0
