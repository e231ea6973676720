"""From MODEL on the command line to a loaded model; a checkpoint is converted once, into the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qwen35_local.cli.terminal import notice, printable_line
from qwen35_local.errors import InputError

if TYPE_CHECKING:
    from qwen35_local import _core
    from qwen35_local.api.opening import Wish
    from qwen35_local.engine.engine import Engine
    from qwen35_local.hub.offer import Offer
    from qwen35_local.hub.resolve import Absent, Checkpoint, ModelFile


def open_file(path: Path) -> "_core.GgufFile":
    """A file that is to be loaded; what is odd about it is said. Raises FormatError when it is no model that can be
    run, OSError."""
    from qwen35_local.api import opening

    return opening.open_file(path, notice_line)


def open_core(name: str | None, *, device: str = "auto", context_tokens: int = 0, threads: int = 0) -> "_core.Model":
    """Raises InputError, Unavailable, and what open_file raises."""
    from qwen35_local import _core

    path = model_path(name)
    model = _core.Model(open_file(path), device=device, context_tokens=context_tokens, threads=threads)
    say_if_read(path, model)
    return model


def check_device(device: str, *, is_greeted: bool = False) -> None:
    """Before anything is looked for, converted or read. Says why a card that may be here is not used, unless a greeting
    does. Raises Unavailable."""
    from qwen35_local import _core
    from qwen35_local.engine.load import device_note, is_passed_over

    _core.device_memory(device)
    if not is_greeted and is_passed_over(device):
        notice(f"computing on the processor: {printable_line(device_note(device), 500)}")


def say_if_read(path: Path, model: "_core.Model") -> None:
    from qwen35_local.api import opening

    opening.notice_if_read(path, model, notice_line)


def notice_line(text: str) -> None:
    """A sentence, which may hold a file's words, as a line on stderr."""
    notice(printable_line(text, 1000))


def open_engine(name: str | None, wish: "Wish") -> "Engine":
    """Raises what model_path and `api.opening.Opening.engine` raise."""
    from qwen35_local.api.opening import FLAGS, Opening

    return Opening(wish, FLAGS, notice_line).engine(model_path(name))


def memory_bytes(memory: str | None) -> int | None:
    """What --memory says. Raises InputError."""
    from qwen35_local.units import parse_bytes

    return None if memory is None else parse_bytes("--memory", memory)


def find(name: str | None, type: str | None = None, *, as_source: bool = False) -> "ModelFile | Checkpoint | Absent":
    """What MODEL means in every command (`hub.resolve`). A model that was looked up by its name is said on stderr.
    Raises InputError."""
    from qwen35_local.hub.resolve import Absent, resolve, whose
    from qwen35_local.quantize.recipe import FILE_TYPES

    found = resolve(name, type, convertible=FILE_TYPES, as_source=as_source)
    if not isinstance(found, Absent) and found.stored is not None:
        path = printable_line(str(found.stored.path), 500)
        notice(f"{printable_line(name or '')}: found in {whose(found.stored.store)}: {path}")
    return found


def model_path(name: str | None) -> Path:
    """The GGUF that `name` means, converting a checkpoint if that was not done yet, and downloading after a question
    what is not on this disk. Raises InputError, FormatError, and typer.Exit when the answer is no."""
    from qwen35_local.hub.resolve import Absent, Checkpoint

    found = find(name)
    if isinstance(found, Absent):
        from qwen35_local.cli.pull import obtain

        with on_a_hub(found):
            return obtain(found.name)
    return converted(found) if isinstance(found, Checkpoint) else found.path


def source_path(name: str) -> Path:
    """The checkpoint folder or the GGUF to convert from. Raises InputError."""
    from qwen35_local.hub.resolve import Absent, Checkpoint

    found = find(name, as_source=True)
    if isinstance(found, Absent):
        raise InputError(
            f"{name}: not on this disk; `qwen35 pull {found.name} --convert --type TYPE` downloads the checkpoint and "
            "converts it"
        )
    return found.folder if isinstance(found, Checkpoint) else found.path


def converted(found: "Checkpoint") -> Path:
    """Raises what `convert` raises."""
    from qwen35_local.api import opening
    from qwen35_local.cli.quantize import conversion_bar

    if found.cached.is_file():
        return found.cached
    notice(f"converting {printable_line(str(found.folder))} to {found.type}, once, into {found.cached.parent}")
    with conversion_bar() as progress:
        return opening.converted(found, notice_line, progress)


def header_of(found: "Absent") -> "tuple[ModelFile | Checkpoint, Offer]":
    """What `plan` and `info` look at of a model that is not on this disk: the header of a GGUF or the config.json of a
    checkpoint, and the files that a hub offers. Raises InputError, FormatError."""
    from qwen35_local.hub import remote
    from qwen35_local.hub.resolve import of_path

    with on_a_hub(found):
        offer = remote.find(found.name)
        header = remote.header(offer)
    file = printable_line(offer.files[0].path)
    notice(f"{found.name}: not on this disk; read from the beginning of {file} of {offer.repository}")
    return of_path(header), offer


@contextmanager
def on_a_hub(found: "Absent") -> Iterator[None]:
    """Says what is on this disk in part. Where no hub answers, the model is said to be missing here."""
    from qwen35_local.hub import wire
    from qwen35_local.hub.resolve import searched

    if found.problem is not None:
        notice(f"{found.name}: {printable_line(found.problem, 500)}")
    try:
        yield
    except wire.Unreachable as error:
        raise InputError(f"{found.name}: not on this disk (looked in {searched()}), and {error}") from None
