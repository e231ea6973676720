"""Files that appear whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from qwen35_local import partial_file
from qwen35_local.partial_file import PartialFile, write_whole


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name")
def test_what_is_no_file_keeps_its_name(tmp_path: Path) -> None:
    """Whoever may write to /dev could otherwise replace /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, number in (("pipe", errno.EEXIST), ("folder", errno.EISDIR)):
        with pytest.raises(OSError, match=name) as failed:
            write_whole(tmp_path / name, [b"x"])
        assert failed.value.errno == number and failed.value.filename == str(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_what_fails_names_the_file_that_was_to_be(tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a").write_text("before")
    with pytest.raises(OSError, match="No space left") as failed, PartialFile(tmp_path / "a") as file:
        if fails == "write":
            monkeypatch.setattr(file, "_file", type("Full", (), {"write": full, "close": lambda self: None})())
        elif fails == "fsync":
            monkeypatch.setattr(partial_file.os, "fsync", full)
        else:
            monkeypatch.setattr(Path, "replace", full)
        file.write(memoryview(b"after"))
        file.commit()
    assert failed.value.filename == str(tmp_path / "a")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
