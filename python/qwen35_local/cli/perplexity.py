"""`qwen35 perplexity`: how well a model predicts a text, and how far it is from another."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qwen35_local.cli.argument import MODEL_HELP
from qwen35_local.cli.options import Device, Threads, count
from qwen35_local.models.kv import KvFormat
from qwen35_local.partial_file import PartialFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qwen35_local.engine.quality import LogitSource, Quality


IDS_LIMIT_BYTES = 64 << 20  # ten million ids; .npy has no limit, as it is mapped


def perplexity(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL_HELP}.", show_default=False)],
    file: Annotated[
        Path | None, typer.Argument(help="Text to score, in UTF-8, of at most 1 GiB; -: stdin.", show_default=False)
    ] = None,
    ids: Annotated[
        Path | None, typer.Option(help="Token ids instead of a text: .npy, or numbers separated by spaces; -: stdin.")
    ] = None,
    special: Annotated[
        bool, typer.Option("--special", help="Read what spells a control token in the text as that token.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(metavar="BASE", help="Compare with another MODEL, or with saved logits (.npy).")
    ] = None,
    save_logits: Annotated[
        Path | None, typer.Option(metavar="OUT.npy", help="Write fp32 logits [tokens, vocabulary] of one pass.")
    ] = None,
    window: Annotated[int, count("--ctx", low=2, help="Tokens per window.")] = 512,
    kv: Annotated[KvFormat, typer.Option(help="How keys and values are kept; those of BASE stay f16.")] = "f16",
    threads: Threads = 0,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Perplexity of a text or of token ids; with --against also KL divergence and top-1 agreement, with errors."""
    from qwen35_local import _core
    from qwen35_local.cli.model import check_device
    from qwen35_local.cli.progress import bar
    from qwen35_local.engine import quality
    from qwen35_local.errors import InputError

    check_device(device)
    if (file is None) == (ids is None):
        raise InputError("give a text file or --ids FILE, one of the two")
    if special and ids is not None:
        raise InputError("--special is about a text; with --ids every id is the token it says")
    file, ids = stdin_for_dash(file), stdin_for_dash(ids)
    text = "" if file is None else read_text(file)
    loaded = load(model, threads, device)
    tokens = encode(file, text, loaded, special=special) if ids is None else read_ids(ids, loaded.n_vocab)
    if len(tokens) < 2:
        n_tokens = "1 token" if len(tokens) else "no tokens"
        raise InputError(f"{file or ids}: {n_tokens}; at least 2 are needed, since each is scored by those before it")
    base: LogitSource | None = None
    if against is not None:
        is_saved = against.endswith(".npy")
        base = quality.SavedLogits(Path(against)) if is_saved else quality.ModelLogits(load(against, threads, device))
    one_pass = save_logits is not None or isinstance(base, quality.SavedLogits)
    with LogitWriter(save_logits, len(tokens), loaded.n_vocab) as writer, bar("scoring", "tok") as progress:
        result = quality.measure(
            quality.ModelLogits(loaded, kv),
            tokens,
            window=max(len(tokens), 2) if one_pass else window,
            base=base,
            keep=writer.add,
            progress=progress,
        )
    assert isinstance(loaded, _core.Model)
    show(result, as_json=as_json)


def load(name: str, threads: int, device: str) -> "_Model":
    from qwen35_local.cli.model import open_core

    return open_core(name, device=device, threads=threads)


def read_text(file: Path) -> str:
    """The characters of the file; what is unusual about it is said. Raises InputError, FormatError, OSError."""
    from qwen35_local.cli.terminal import notice
    from qwen35_local.errors import InputError
    from qwen35_local.text import plain_text

    read = plain_text.read(file)
    if not read.text:
        raise InputError(f"{file}: is empty; expected a text to score")
    if read.remark:
        notice(f"{file}: {read.remark}")
    return read.text


def encode(file: Path | None, text: str, model: "_Model", *, special: bool) -> "NDArray[np.int32]":
    """Token ids [T] of the text; control tokens spelled in it are ordinary text unless `special`, and that is said."""
    import numpy as np

    from qwen35_local.cli.terminal import notice, printable_line
    from qwen35_local.text.tokenizer import Tokenizer

    tokenizer = Tokenizer(model.metadata)
    if special:
        return np.asarray(tokenizer.encode_prompt([(text, True)]), dtype=np.int32)
    spelled = tokenizer.specials_in(text)
    if spelled:
        kinds = printable_line(", ".join(dict.fromkeys(spelled)), 100)
        times = f"{len(spelled)} times" if len(spelled) > 1 else "once"
        notice(f"{file}: spells control tokens {times} ({kinds}), scored as letters; --special reads them as tokens")
    return np.asarray(tokenizer.encode(text), dtype=np.int32)


def read_ids(path: Path, n_vocab: int) -> "NDArray[np.int32]":
    """Token ids [T] from .npy, or from text of at most IDS_LIMIT_BYTES. Raises InputError, FormatError, OSError."""
    import numpy as np

    from qwen35_local import bounded_file
    from qwen35_local.engine import npy_file
    from qwen35_local.errors import InputError

    if path.suffix == ".npy":
        values = npy_file.mapped(path, "token ids", 1, "iu")
    else:
        words = bounded_file.read(path, IDS_LIMIT_BYTES, accepts_pipe=True).replace(b",", b" ").split()
        wrong_word = next((word for word in words if not word.isdigit() or len(word) > 10), None)
        if wrong_word is not None:
            said = wrong_word[:40].decode("utf-8", "replace")
            raise InputError(f"{path}: {said!r} is no token id; expected whole numbers between spaces or commas")
        values = np.fromiter(map(int, words), np.int64, len(words))
    wrong = np.flatnonzero((values < 0) | (values >= n_vocab))
    if len(wrong):
        raise InputError(f"{path}: id {values[wrong[0]]} at position {wrong[0]} is outside the vocabulary of {n_vocab}")
    ids: NDArray[np.int32] = values.astype(np.int32)
    return ids


def stdin_for_dash(path: Path | None) -> Path | None:
    return Path("/dev/stdin") if path == Path("-") else path


class LogitWriter:
    """Rows of logits into an .npy file that appears under its name only when whole."""

    def __init__(self, path: Path | None, n_tokens: int, n_vocab: int) -> None:
        self._path = path
        self._shape = (n_tokens, n_vocab)
        self._next = 0

    def __enter__(self) -> "LogitWriter":
        if self._path is not None:
            from numpy.lib.format import open_memmap

            with ExitStack() as stack:
                self._file = stack.enter_context(PartialFile(self._path))
                self._rows = open_memmap(self._file.path, mode="w+", dtype="float32", shape=self._shape)
                self._open = stack.pop_all()
        return self

    def add(self, rows: "NDArray[np.float32]") -> None:
        if self._path is not None:
            self._rows[self._next : self._next + len(rows)] = rows
            self._next += len(rows)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._path is None:
            return
        with self._open:
            if kind is None:
                self._rows.flush()
                self._file.commit()


def show(result: "Quality", *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result.as_dict()) + "\n")
        return
    rows = [
        ("tokens scored", f"{result.scored} of {result.tokens}"),
        ("perplexity", f"{result.perplexity.value:.4f} ± {result.perplexity.error:.4f}"),
    ]
    if (d := result.distance) is not None:
        rows += [
            ("base perplexity", f"{d.base_perplexity.value:.4f} ± {d.base_perplexity.error:.4f}"),
            ("KL divergence, mean", f"{d.kl_mean.value:.6f} ± {d.kl_mean.error:.6f} nats"),
            ("KL divergence, 99.9 %", f"{d.kl_999.value:.6f} ± {d.kl_999.error:.6f} nats"),
            ("KL divergence, largest", f"{d.kl_max:.6f} nats"),
            ("same top token", f"{100 * d.top1_agreement.value:.3f} ± {100 * d.top1_agreement.error:.3f} %"),
        ]
    for label, value in rows:
        sys.stdout.write(f"{label:<24}{value}\n")


if TYPE_CHECKING:
    from qwen35_local._core import Model as _Model
