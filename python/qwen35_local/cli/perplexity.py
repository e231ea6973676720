"""`qwen35 perplexity`: how well a model predicts a text, and how far it is from another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from qwen35_local.cli.argument import MODEL_HELP
from qwen35_local.cli.options import Device, Threads, count
from qwen35_local.models.kv import KvFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qwen35_local.engine.quality import LogitSource
    from qwen35_local.engine.saved_logits import Spans


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
    versus: Annotated[
        str | None,
        typer.Option(metavar="OTHER", help="With --against: a MODEL, or saved logits, whose distance to compare with."),
    ] = None,
    targets: Annotated[
        Path | None,
        typer.Option(metavar="MASK.npy", help="True or false per token: the results also of each kind by itself."),
    ] = None,
    save_logits: Annotated[
        Path | None,
        typer.Option(metavar="OUT.npy", help="Write fp32 logits [windows, tokens of a window, vocabulary]."),
    ] = None,
    per_token: Annotated[
        Path | None, typer.Option(metavar="OUT.npy", help="Write a record per scored token (docs/quality.md).")
    ] = None,
    window: Annotated[int, count("--ctx", low=3, help="Tokens per window.")] = 512,
    kv: Annotated[
        KvFormat, typer.Option(help="How MODEL and OTHER keep keys and values; those of BASE stay f16.")
    ] = "f16",
    threads: Threads = 0,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Perplexity of a text or of token ids; with --against also KL divergence and top-1 agreement, with errors."""
    from qwen35_local.cli import perplexity_report as report
    from qwen35_local.cli.model import check_device, model_path
    from qwen35_local.cli.progress import bar
    from qwen35_local.engine import npy_file, quality, saved_logits
    from qwen35_local.errors import InputError
    from qwen35_local.partial_file import check_target

    check_device(device)
    check_choice(file, ids, against, versus, special=special)
    if save_logits is not None and per_token is not None and save_logits.absolute() == per_token.absolute():
        raise InputError(f"{per_token}: --save-logits and --per-token need a file each")
    file, ids = stdin_for_dash(file), stdin_for_dash(ids)
    text = "" if file is None else read_text(file)
    path = model_path(model)
    loaded = load(path, threads, device)
    tokens = encode(file, text, loaded, special=special) if ids is None else read_ids(ids, loaded.n_vocab)
    check_length(file or ids, len(tokens))
    mask = None if targets is None else read_targets(targets, len(tokens))
    spans = quality.windows(len(tokens), window)
    base = None if against is None else source(against, "f16", spans, threads, device)
    other = None if versus is None else source(versus, kv, spans, threads, device)
    read = [path, file, ids, targets, *(Path(each.path) for each in (base, other) if each is not None)]
    for written in (save_logits, per_token):
        if written is not None:
            check_target(written, read)
    with npy_file.Writer(save_logits) as logits, npy_file.Writer(per_token) as records:
        logits.begin("<f4", saved_logits.shape(spans, loaded.n_vocab))
        with bar("scoring", "tok") as progress:
            scores = quality.score(
                quality.ModelLogits(loaded, kv),
                tokens,
                window=window,
                base=base and base.logits,
                other=other and other.logits,
                targets=mask,
                keep=logits.add,
                progress=progress,
            )
        records.begin(scores.dtype, scores.shape)
        records.add(scores)
    subject = {
        "model": str(path),
        "base": base and base.path,
        "other": other and other.path,
        **report.text_facts(file, ids, tokens),
        "window": spans[0][1],
        "kv": kv,
        "device": loaded.device,
    }
    report.show(subject, scores, as_json=as_json)


def check_choice(
    file: Path | None, ids: Path | None, against: str | None, versus: str | None, *, special: bool
) -> None:
    """Raises InputError for options that do not go together."""
    from qwen35_local.errors import InputError

    if (file is None) == (ids is None):
        raise InputError("give a text file or --ids FILE, one of the two")
    if special and ids is not None:
        raise InputError("--special is about a text; with --ids every id is the token it says")
    if versus is not None and against is None:
        raise InputError("--versus OTHER compares two distances from one base; give it with --against BASE")


def check_length(path: Path | None, n_tokens: int) -> None:
    from qwen35_local.errors import InputError

    if n_tokens < 2:
        said = "1 token" if n_tokens else "no tokens"
        raise InputError(f"{path}: {said}; at least 2 are needed, since each is scored by those before it")


class Source(NamedTuple):
    path: str
    logits: "LogitSource"


def source(name: str, kv: KvFormat, spans: "Spans", threads: int, device: str) -> Source:
    """A model, or saved logits. Raises InputError, FormatError, OSError."""
    from qwen35_local.cli.model import model_path
    from qwen35_local.engine import quality, saved_logits

    if name.endswith(".npy"):
        return Source(name, saved_logits.SavedLogits(Path(name), spans))
    path = model_path(name)
    return Source(str(path), quality.ModelLogits(load(path, threads, device), kv))


def load(path: Path, threads: int, device: str) -> "_Model":
    from qwen35_local.cli.model import open_core

    return open_core(str(path), device=device, threads=threads)


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
        values = npy_file.mapped(path, "token ids", (1,), "iu")
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


def read_targets(path: Path, n_tokens: int) -> "NDArray[np.bool_]":
    """A mask [T] over the tokens. Raises InputError, OSError."""
    from qwen35_local.engine import npy_file
    from qwen35_local.errors import InputError

    mask = npy_file.mapped(path, "true or false per token", (1,), "b")
    if len(mask) != n_tokens:
        raise InputError(f"{path}: {len(mask):,} values, and the text has {n_tokens:,} tokens; give one for each")
    return mask


def stdin_for_dash(path: Path | None) -> Path | None:
    return Path("/dev/stdin") if path == Path("-") else path


if TYPE_CHECKING:
    from qwen35_local._core import Model as _Model
