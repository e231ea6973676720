"""Bytes of a file on a hub into a file here, over as many connections as it takes."""

import re
from collections.abc import Callable
from pathlib import Path
from time import sleep

from qwen35_local.errors import InputError
from qwen35_local.hub import wire
from qwen35_local.hub.listing import RemoteFile

_WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before the next connection, while none brings anything


def extend(
    target: Path,
    repository: str,
    revision: str,
    file: RemoteFile,
    end: int,
    arrived: Callable[[bytes], None] = lambda piece: None,
) -> None:
    """Appends to `target` what it lacks of the first `end` bytes of `file`; `arrived` gets each new piece when it is
    written. What has come stays when this raises, so that the next call goes on there.

    Raises wire.Absent, wire.Unreachable (after several connections without a byte), InputError (the file is not the one
    that was listed), OSError."""
    url = wire.file_url(repository, revision, file.path)
    subject = f"file {file.path} in {repository}"
    waits = list(_WAITS)
    with target.open("ab") as out:
        while (have := out.tell()) < end:
            problem: wire.Unreachable | None = None
            try:
                with wire.body(url, subject, have, end - 1) as answer:
                    _check(answer, subject, file)
                    _append(out.write, answer, have, end, arrived)
            except wire.Unreachable as error:
                problem = error
            finally:
                out.flush()
            if out.tell() > have:
                waits = list(_WAITS)
            elif waits:
                sleep(waits.pop(0))
            else:
                raise problem or wire.Unreachable(f"{wire.host()} sends nothing beyond byte {have:,} of {subject}")


def _append(
    write: Callable[[bytes], int], answer: wire.Body, have: int, end: int, arrived: Callable[[bytes], None]
) -> None:
    """A server without ranges begins again at 0: what is there already is passed over."""
    skip, room = have - answer.start, end - have
    for piece in answer.pieces:
        new = piece[skip : skip + room]
        skip = max(skip - len(piece), 0)
        if new:
            write(new)
            arrived(new)
            room -= len(new)
        if room == 0:
            return


def _check(answer: wire.Body, subject: str, file: RemoteFile) -> None:
    """That the file is the listed one, as far as the headers tell. Raises InputError."""
    if answer.total is not None and answer.total != file.n_bytes:
        raise InputError(
            f"{wire.host()} lists {file.n_bytes:,} bytes for {subject} and has {answer.total:,}; nothing of it is used"
        )
    etag = answer.etag or ""
    if len(etag) == len(file.digest) and re.fullmatch("[0-9a-f]+", etag) and etag != file.digest:
        raise InputError(f"{wire.host()} lists {subject} with checksum {file.digest[:12]}… and sends {etag[:12]}…")
