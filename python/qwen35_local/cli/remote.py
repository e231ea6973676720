"""--endpoint and --upstream: from an address on the command line to an engine behind it."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwen35_local.cli.options import refuse
from qwen35_local.errors import InputError

if TYPE_CHECKING:
    from qwen35_local.remote.engine import RemoteEngine

RemoteModel = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Of the models that the server has.", show_default=False),
]

OF_HERE = ("model", "ctx", "memory", "kv", "cache", "cache_disk", "draft", "threads", "device")


@dataclass(frozen=True)
class Elsewhere:
    """A server of OpenAI's API, if `url` is one. `option` and `key_option` are how these are given."""

    option: str
    url: str | None
    key_option: str
    key_file: Path | None
    model: str | None

    def check(self, context: typer.Context, of_here: tuple[str, ...] = OF_HERE) -> None:
        """Raises InputError for parameters of a server where none was given, and the other way round. `of_here`: of a
        model on this machine."""
        if self.url is not None:
            refuse(context, of_here, f"of a model on this machine; leave it out with {self.option}.")
        else:
            own = {"--model": self.model, self.key_option: self.key_file}
            named = [option for option, value in own.items() if value is not None]
            if named:
                raise InputError(f"{', '.join(named)}: of a server elsewhere; give its address with {self.option} URL.")

    def open(self) -> "RemoteEngine":
        """Raises InputError, RemoteError."""
        from qwen35_local.cli.terminal import notice
        from qwen35_local.remote.address import read_address
        from qwen35_local.remote.engine import RemoteEngine

        assert self.url is not None
        address = read_address(self.url, self.option)
        key = "" if self.key_file is None else read_keys(self.key_file, self.key_option)[0]
        if address.is_open_to_others:
            secret = "the key and the conversation" if key else "the conversation"
            notice(f"({secret} can be read on the way to {address}: it is not https)")
        return RemoteEngine(address, key, self.model)


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
