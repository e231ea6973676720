"""Arrays in .npy files from outside, mapped: a file never takes more memory than it has bytes."""

import stat
from pathlib import Path
from typing import Any

from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from qwen35_local.errors import InputError


def mapped(path: Path, what: str, n_axes: int, kinds: str) -> NDArray[Any]:
    """The array of a file, of `n_axes` axes, its dtype's kind among `kinds`; `what` says in errors what it should hold.
    Raises InputError, OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: is no regular file; expected an .npy file of {what}")
    try:
        values: NDArray[Any] = open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a header is read as Python, whose parser raises many things
        raise InputError(f"{path}: not a readable .npy file of {what} ({error})") from None
    if values.ndim != n_axes or values.dtype.kind not in kinds:
        axes = "one axis" if n_axes == 1 else f"{n_axes} axes"
        raise InputError(f"{path}: shape {values.shape} of {values.dtype}; expected {what}, with {axes}")
    return values
