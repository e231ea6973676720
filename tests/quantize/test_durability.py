"""Whatever stops a conversion, the final name holds the old file or none; and memory stays bounded."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
from tiny_checkpoints import Tiny

from qwen35_local import partial_file
from qwen35_local.errors import InputError
from qwen35_local.partial_file import PartialFile
from qwen35_local.quantize import TensorProgress, convert

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_checkpoints.write(tmp_path / "m", Tiny())
    return tmp_path


KILLED = """
    import os, signal, sys
    from qwen35_local.quantize import convert
    def stop(progress):
        if progress.index == int(sys.argv[3]):
            os.kill(os.getpid(), getattr(signal, sys.argv[4]))
    convert(sys.argv[1], sys.argv[2], "Q8_0", progress=stop, overwrite=True)
"""


@POSIX
@pytest.mark.parametrize("index", [0, 40, 69])
def test_kill_leaves_the_old_file(folder: Path, index: int) -> None:
    (folder / "out.gguf").write_text("old")
    done = python(KILLED, folder / "m", folder / "out.gguf", index, "SIGKILL")
    assert done.returncode == -signal.SIGKILL
    assert (folder / "out.gguf").read_text() == "old"
    left = [name for name in names(folder) if name.endswith(".partial")]
    assert len(left) == 1
    convert(folder / "m", folder / "other.gguf", "Q8_0")
    assert names(folder) == ["m", "other.gguf", "out.gguf"], "the dead process's partial file is removed"


@POSIX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_termination_leaves_nothing(folder: Path, name: str) -> None:
    (folder / "out.gguf").write_text("old")
    done = python(KILLED, folder / "m", folder / "out.gguf", 40, name)
    assert done.returncode == 128 + getattr(signal, name), done.stderr
    assert done.stderr == ""
    assert names(folder) == ["m", "out.gguf"]
    assert (folder / "out.gguf").read_text() == "old"


@POSIX
def test_signals_that_others_handle_stay_theirs(folder: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with PartialFile(folder / "out.gguf") as file:
            os.kill(os.getpid(), signal.SIGTERM)
            file.write(memoryview(b"x"))
            file.commit()
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@POSIX
def test_signals_are_given_back(folder: Path) -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    try:
        with PartialFile(folder / "out.gguf"):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_DFL, signal.SIG_DFL]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_outside_of_the_main_thread(folder: Path) -> None:
    """Where Python lets nobody handle signals."""
    thread = threading.Thread(target=convert, args=(folder / "m", folder / "out.gguf", "Q8_0"))
    thread.start()
    thread.join()
    assert names(folder) == ["m", "out.gguf"]


def test_interrupted_again_while_cleaning_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink, calls = Path.unlink, 0

    def impatient(self: Path, missing_ok: bool = False) -> None:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise KeyboardInterrupt
        unlink(self, missing_ok)

    with pytest.raises(RuntimeError, match="enough"), PartialFile(folder / "out.gguf"):
        monkeypatch.setattr(Path, "unlink", impatient)
        raise RuntimeError("enough")
    assert names(folder) == ["m"]


@pytest.mark.parametrize("step", ["_lock", "_catch_signals"])
def test_interrupted_while_beginning(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*((partial_file, step, stop) if step == "_lock" else (PartialFile, step, stop)))
    with pytest.raises(KeyboardInterrupt):
        convert(folder / "m", folder / "out.gguf", "Q8_0")
    assert names(folder) == ["m"]


@POSIX
def test_interrupt_leaves_nothing(folder: Path) -> None:
    code = """
        import os, signal, sys
        import qwen35_local.quantize
        from qwen35_local.cli.main import main
        module = sys.modules["qwen35_local.quantize.convert"]
        write = module._write
        def stop(progress):
            os.kill(os.getpid(), signal.SIGINT)
        module._write = lambda plan, target, progress, *rest: write(plan, target, stop, *rest)
        sys.argv = ["qwen35", "quantize", *sys.argv[1:]]
        main()
    """
    done = python(code, folder / "m", folder / "out.gguf", "--calibrate", "none")
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert names(folder) == ["m"]


def test_what_a_calibrated_conversion_has_done_outlives_an_interruption(folder: Path) -> None:
    code = """
        import os, signal, sys
        from qwen35_local import _core
        from qwen35_local.cli.main import main
        solve, done = _core.solve, []
        def stop(*args, **options):
            done.append(1)
            if len(done) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return solve(*args, **options)
        _core.solve = stop
        sys.argv = ["qwen35", "quantize", *sys.argv[1:]]
        main()
    """
    arguments = (folder / "m", folder / "out.gguf", "--calibration-tokens", 8192)
    stopped = python(code, *arguments)
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "the same command goes on with it" in stopped.stderr
    assert names(folder) == [".out.gguf.qwen35-conversion", "m"]
    done = python(code.replace("== 5", "== -1"), *arguments)
    assert done.returncode == 0, done.stderr
    assert names(folder) == ["m", "out.gguf"]


@POSIX
def test_a_limit_on_file_size_is_reported(folder: Path) -> None:
    code = """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        from qwen35_local.cli.main import main
        sys.argv = ["qwen35", "quantize", *sys.argv[1:]]
        main()
    """
    done = python(code, folder / "m", folder / "out.gguf", "--calibrate", "none")
    assert done.returncode == 2, done.stderr
    assert "the disk is full; nothing was left behind" in done.stderr
    assert done.stderr.count("\n") == 1
    assert names(folder) == ["m"]


@pytest.mark.parametrize("fails_at", [1, 2, 30, 141])
def test_a_full_disk_at_any_write(folder: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = PartialFile.write, 0

    def full(self: PartialFile, data: memoryview) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    monkeypatch.setattr(PartialFile, "write", full)
    with pytest.raises(InputError, match=r"out.gguf: not written, the disk is full; nothing was left behind"):
        convert(folder / "m", folder / "out.gguf", "F32")
    assert names(folder) == ["m"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_of_the_last_steps(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(*((os, "fsync", fail) if step == "fsync" else (Path, "replace", fail)))
    with pytest.raises(InputError, match="not written"):
        convert(folder / "m", folder / "out.gguf", "Q8_0")
    assert names(folder) == ["m"]


def test_a_disk_without_room_is_refused_before_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage())
    with pytest.raises(InputError, match=r"MB are needed and 1\.0 MB are free"):
        convert(folder / "m", folder / "out.gguf")
    assert names(folder) == ["m"]


def test_an_error_of_the_caller_leaves_nothing(folder: Path) -> None:
    def stop(progress: TensorProgress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        convert(folder / "m", folder / "out.gguf", progress=stop)
    assert names(folder) == ["m"]


@POSIX
def test_only_stale_files_of_ours_are_removed(folder: Path) -> None:
    stale = folder / ".other.gguf.qwen35-0123abcd.partial"
    kept = [folder / name for name in (".a.partial", "a.qwen35-0123abcd.partial", ".a.qwen35-0123abc.partial")]
    for path in (stale, *kept):
        path.touch()
    link = folder / ".link.gguf.qwen35-0123abcd.partial"
    link.symlink_to(kept[0])
    os.mkfifo(folder / ".pipe.gguf.qwen35-0123abcd.partial")
    with PartialFile(folder / "running.gguf") as running:
        convert(folder / "m", folder / "out.gguf", "Q8_0")
        assert running.path.exists(), "another conversion into the same folder"
    assert not stale.exists()
    assert all(path.exists() for path in kept)
    assert link.is_symlink()


@POSIX
def test_two_at_once_to_one_name(folder: Path) -> None:
    with PartialFile(folder / "out") as one, PartialFile(folder / "out") as other:
        one.write(memoryview(b"one"))
        other.write(memoryview(b"other"))
        one.commit()
        other.commit()
    assert (folder / "out").read_bytes() == b"other"
    assert names(folder) == ["m", "out"]


@POSIX
def test_a_link_in_place_of_the_partial_file_is_not_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = folder / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0123abcd")
    (folder / ".out.gguf.qwen35-0123abcd.partial").symlink_to(victim)
    with pytest.raises(InputError, match="not written, File exists"):
        convert(folder / "m", folder / "out.gguf", "Q8_0")
    assert victim.read_text() == "mine"


def sparse_checkpoint(folder: Path, vocab: int) -> int:
    """A folder whose embedding table is a hole in the file; returns the bytes of the weights."""
    tiny = Tiny(vocab=vocab, hidden=768)
    found = tiny_checkpoints.shapes(tiny)
    folder.mkdir()
    header: dict[str, Any] = {}
    at = 0
    for name, shape in found.items():
        size = 2
        for n in shape:
            size *= n
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    (folder / "config.json").write_text(json.dumps(tiny.config()))
    (folder / "tokenizer.json").write_text(json.dumps(tiny_checkpoints.tokenizer()))
    return at


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    """A table of 364 MiB, twice that as fp32, with a vocabulary of the real size."""
    n_bytes = sparse_checkpoint(tmp_path / "m", 248_320)
    code = """
        import sys
        from qwen35_local.quantize import convert
        from qwen35_local.quantize.report import peak_memory
        import gguf, numpy
        before = peak_memory()
        print(convert(sys.argv[1], sys.argv[2], "Q8_0", threads=2).peak_bytes - before)
    """
    done = python(code, tmp_path / "m", tmp_path / "out.gguf")
    assert done.returncode == 0, done.stderr
    assert n_bytes > 364 << 20
    assert int(done.stdout) < 200 << 20
