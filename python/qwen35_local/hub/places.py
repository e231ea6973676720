"""Where things of ours lie: the cache of converted models, history and conversations, and the embedded model."""

import os
from importlib import resources
from pathlib import Path

from qwen35_local.errors import InputError

EMBEDDED_NAME = "qwen35-demo-Q4_K_M.gguf"


def embedded_model() -> Path:
    """The demonstration model that ships with the package. Raises InputError when the package lacks it."""
    path = Path(str(resources.files("qwen35_local.models").joinpath("demo", EMBEDDED_NAME)))
    if not path.is_file():
        raise InputError(f"the embedded model is missing ({path}); reinstall the package or name a GGUF file")
    return path


def home() -> Path:
    """Folder for converted models, history and saved conversations: QWEN35_HOME, or the platform's cache folder.
    Raises InputError where there is none."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("QWEN35_HOME")
    try:
        path: Path | None = Path(chosen).expanduser() if chosen else user_cache_path("qwen35")
    except RuntimeError:
        path = None
    if path is None or not (chosen or path.is_absolute()):
        raise InputError(f"no home folder for {chosen or 'the cache'}; set QWEN35_HOME to a folder, or HOME")
    return path


def user_folder() -> Path | None:
    """The person's own folder, under which other programs keep their models; None where there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return None
