"""Arrays in .npy files. Read, they are mapped: a file from outside never takes more memory than it has bytes. Written,
they appear under their name whole or not at all."""

import io
import stat
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy_format
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from qwen35_local.errors import InputError
from qwen35_local.partial_file import PartialFile


def mapped(path: Path, what: str, axes: tuple[int, ...], kinds: str) -> NDArray[Any]:
    """The array of a file, its number of axes among `axes` and its dtype's kind among `kinds`; errors say `what` it
    should hold. Raises InputError, OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: is no regular file; expected an .npy file of {what}")
    try:
        values: NDArray[Any] = open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a header is read as Python, whose parser raises many things
        raise InputError(f"{path}: not a readable .npy file of {what} ({error})") from None
    if values.ndim not in axes or values.dtype.kind not in kinds:
        counted = "one axis" if axes == (1,) else f"{' or '.join(map(str, axes))} axes"
        raise InputError(f"{path}: shape {values.shape} of {values.dtype}; expected {what}, with {counted}")
    return values


class Writer:
    """Context manager that writes one array; with `path` None, nothing. The file is opened on entering: a folder that
    cannot be written to is known before there is anything to write. Raises OSError, which names the path."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else PartialFile(path)
        self._left = 0

    def __enter__(self) -> Self:
        if self._file is not None:
            self._file.__enter__()
        return self

    def begin(self, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        kind = np.dtype(dtype)
        header = io.BytesIO()
        described = {"descr": npy_format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(header, described)
        self._left = kind.itemsize * int(np.prod(shape, dtype=np.int64))
        self._write(header.getvalue())

    def add(self, values: NDArray[Any]) -> None:
        """The next values of the array, of its dtype."""
        self._left -= values.nbytes
        self._write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._file is None:
            return
        try:
            if kind is None:
                assert self._left == 0, f"{self._left} bytes of the array are missing"
                self._file.commit()
        finally:
            self._file.__exit__(kind, error, trace)

    def _write(self, data: bytes | memoryview) -> None:
        if self._file is not None:
            self._file.write(memoryview(data))
