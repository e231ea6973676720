"""Where a conversation is kept, and what happens when it cannot be."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from qwen35_local import hub
from qwen35_local.cli.terminal import notice
from qwen35_local.errors import InputError
from qwen35_local.process import runs

_ROOM_BYTES = 1 << 16  # with less, a disk is full


def home_to_keep_in() -> Path | None:
    """The folder for what is kept, made and tried; None, with one notice, when it takes nothing."""
    try:
        home = hub.home()
        problem = _problem(home)
    except InputError as error:
        problem = str(error)
    if problem is None:
        return home
    notice(
        f"(nothing of this conversation is kept: {problem}; QWEN35_HOME=FOLDER names another place, --no-save leaves "
        "this line out)"
    )
    return None


def _problem(home: Path) -> str | None:
    if home.exists() and not home.is_dir():
        return f"{home}: is not a folder"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(bytes(_ROOM_BYTES))
    except OSError as error:
        return f"{home}: {error.strerror}"
    return None


def scratch_folder(home: Path) -> Path | None:
    """A private folder for this run, removed when it ends; those that killed runs left are removed too. None, with a
    notice, when there can be none."""
    root = home / "cache"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(root)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
    except OSError as error:
        notice(f"(nothing is cached on disk: {root}: {error.strerror}; --cache-disk 0 leaves this line out)")
        return None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_stale(root: Path) -> None:
    for folder in root.iterdir():
        pid = folder.name.partition("-")[0]
        if pid.isdecimal() and not runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
