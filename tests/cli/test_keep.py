"""A conversation whose folder is missing, takes nothing, or fills up."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qwen35_local import hub
from qwen35_local.cli.keep import home_to_keep_in, scratch_folder
from qwen35_local.cli.repl import Repl
from qwen35_local.cli.session import Session
from qwen35_local.cli.session_store import SessionStore
from qwen35_local.errors import InputError
from qwen35_local.partial_file import PartialFile, remove_stale


def test_a_folder_that_takes_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN35_HOME", str(tmp_path / "new/home"))
    assert home_to_keep_in() == tmp_path / "new/home"
    assert list((tmp_path / "new/home").iterdir()) == []


def test_a_home_that_is_a_file_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for home, problem in ((tmp_path / "file", "is not a folder"), (tmp_path / "file/home", "Not a directory")):
        monkeypatch.setenv("QWEN35_HOME", str(home))
        assert home_to_keep_in() is None
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{home}: {problem}" in said
        assert "--no-save" in said


def test_a_full_disk_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from qwen35_local.cli import keep

    monkeypatch.setenv("QWEN35_HOME", str(tmp_path))
    monkeypatch.setattr(keep.tempfile, "TemporaryFile", lambda dir: io.FileIO("/dev/full", "w"))
    assert home_to_keep_in() is None
    assert f"{tmp_path}: No space left on device" in capsys.readouterr().err


def test_no_home_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN35_HOME", "~nobody-of-this-name/cache")
    with pytest.raises(InputError, match="no home folder for ~nobody-of-this-name/cache"):
        hub.home()


@pytest.mark.skipif(sys.platform != "linux", reason="finds home folders in another way")
def test_a_user_without_a_home_gets_no_folder_called_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def unknown(number: int) -> object:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("QWEN35_HOME", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="no home folder for the cache; set QWEN35_HOME"):
        hub.home()


def test_a_disk_that_fills_up_is_said_once_and_the_conversation_goes_on(
    scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    repl = Repl(Session(scripted("one", "two", "three", "four"), name="talk"), SessionStore(tmp_path))
    kept = tmp_path / "talk/conversation.json"
    repl.take("a")
    before = kept.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        repl.take("b")
        repl.take("c")
    out = capsys.readouterr().out
    assert out.count("is not kept") == 1
    assert f"{kept}: No space left on device" in out
    assert "--no-save" in out
    assert kept.read_text() == before
    assert [path.name for path in kept.parent.iterdir()] == ["conversation.json"]
    assert "three" in out
    repl.take("d")
    assert "four" in kept.read_text()


def a_dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_killed_programs_began_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """A file that is being written is locked; one that was left is not."""
    talk = tmp_path / "talk"
    talk.mkdir()
    stale = [f".{name}.qwen35-0123abcd.partial" for name in ("conversation.json", "ab.part")]
    others = [
        ".conversation.json.qwen35-0123.partial",
        "notes.qwen35-0123abcd.partial",
        ".x.qwen35-0123abcd.partial-mine",
        "conversation.json",
    ]
    for name in stale + others:
        (talk / name).write_text("")
    with PartialFile(talk / "running.json") as running:
        remove_stale(talk, "other.json")
        assert len(list(talk.iterdir())) == 7
        SessionStore(tmp_path).tidy()
        assert sorted(path.name for path in talk.iterdir()) == sorted([*others, running.path.name])


def test_a_scratch_folder_outlives_only_its_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    for name in (f"{a_dead_process()}-abc", f"{os.getpid()}-abc", "mine"):
        (cache / name).mkdir(parents=True)
        (cache / name / "x.part").write_text("")
    made = scratch_folder(tmp_path)
    assert made is not None
    assert {path.name for path in cache.iterdir()} == {f"{os.getpid()}-abc", "mine", made.name}
    assert made.name.startswith(f"{os.getpid()}-")
    assert made.stat().st_mode & 0o777 == 0o700
    made.rmdir()
    assert capsys.readouterr().err == ""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/cache").write_text("")
    assert scratch_folder(tmp_path / "home") is None
    assert f"{tmp_path}/home/cache" in capsys.readouterr().err
