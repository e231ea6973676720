"""--endpoint and --upstream: from an address on the command line to an engine behind it."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwen35_local.errors import InputError

if TYPE_CHECKING:
    from qwen35_local.remote.engine import RemoteEngine

RemoteModel = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Of the models that the server has.", show_default=False),
]


def open_remote(url: str, option: str, key_file: Path | None, model: str | None) -> "RemoteEngine":
    """`option`: which one has the address. Raises InputError, RemoteError."""
    from qwen35_local.cli.terminal import notice
    from qwen35_local.remote.address import read_address
    from qwen35_local.remote.engine import RemoteEngine

    address = read_address(url, option)
    key_option = "--upstream-key-file" if option == "--upstream" else "--api-key-file"
    key = "" if key_file is None else read_keys(key_file, key_option)[0]
    if address.is_open_to_others:
        secret = "the key and the conversation" if key else "the conversation"
        notice(f"({secret} can be read on the way to {address}: it is not https)")
    return RemoteEngine(address, key, model)


def refuse_local(option: str, given: Mapping[str, Any]) -> None:
    """Options of a model on this machine, by name, as they were given or are by default. Raises InputError."""
    named = [name for name, value in given.items() if value not in (None, 0, "auto")]
    if named:
        raise InputError(f"{', '.join(named)}: of a model on this machine; leave it out with {option}.")


def refuse_remote(option: str, given: Mapping[str, Any]) -> None:
    """Options that need `option`. Raises InputError."""
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise InputError(f"{', '.join(named)}: of a server elsewhere; give its address with {option} URL.")


def read_keys(path: Path, option: str) -> list[str]:
    """The keys in a file, one a line; empty lines and those that begin with # are not. Says so when others may read
    them, too. Raises InputError."""
    from qwen35_local import bounded_file
    from qwen35_local.cli.terminal import notice

    try:
        text = bounded_file.read(path, 1 << 20, accepts_pipe=True).decode("utf-8-sig")
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be read ({error.strerror or error}).") from None
    except UnicodeDecodeError:
        text, mode = "\ufffd", 0
    keys = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not keys or not all(8 <= len(key) <= 512 and key.isascii() and key.isprintable() for key in keys):
        raise InputError(f"{option} {path}: expected a key a line, each of 8 to 512 printable ASCII characters.")
    if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
        notice(f"({path} can be read by others, and so can its keys: chmod 600 keeps them to yourself)")
    return keys
