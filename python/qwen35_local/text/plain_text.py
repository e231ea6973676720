"""A text file as the characters it holds: no line break translated, no byte order mark kept."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from qwen35_local import bounded_file
from qwen35_local.errors import FormatError

LIMIT_BYTES = 1 << 30
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16's, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class PlainText:
    """`remark`: what is unusual about the file, "" as a rule."""

    text: str
    remark: str = ""


def read(path: Path) -> PlainText:
    """The text of a file in UTF-8, or in what its byte order mark says, of at most 1 GiB.

    Raises FormatError, OSError."""
    data = bounded_file.read(path, LIMIT_BYTES, accepts_pipe=True)
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        at = len(mark) + error.start
        raise FormatError(
            f"{path}: not {name} at byte {at} (0x{data[at]:02x}); expected text in UTF-8. Save it as that, for "
            "instance with `iconv -f LATIN1 -t UTF-8`."
        ) from None
    if encoding != "utf-8":
        return PlainText(text, f"is {name}; its characters are read as if they stood there in UTF-8")
    n_zeros = data.count(0)
    if n_zeros > len(data) // 4:
        remark = f"{n_zeros} of {len(data)} bytes are zero, as in UTF-16 without a byte order mark; read as they are"
        return PlainText(text, remark)
    return PlainText(text)
