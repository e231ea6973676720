"""Natural text as token ids: `python -m models.demo.training.corpus FOLDER OUT`.

FOLDER is where Debian's packages manpages-de, -es, -fr, -ja, -ru and -zh, debian-handbook and python3.11-doc lie
unpacked (`dpkg -x FILE.deb FOLDER`); to them comes the standard library of the Python that runs this. OUT gets
`tokenizer.json`, trained on the text, and three parts that share no document: `train.npy`, documents one behind the
other, each behind <|endoftext|>; `held-out.npy` and `calibration.npy`, windows of 1,024 tokens, each of another
document. What has one file name is one document: a page and its translations are all in one part.
"""

from __future__ import annotations

import argparse
import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from . import plain_text
from .text import encode, id_of, train_tokenizer

WINDOW = 1024
WINDOWS = 8  # held out of a kind, and as many for calibration
SHARE = 12  # one in so many documents is held out, one is for calibration
KIND_BYTES, TOKENIZER_BYTES = 5 << 20, 1 << 20  # of text of a kind, at most
SHORT = 500  # characters; a page of fewer says nothing

_HANDBOOK = "usr/share/doc/debian-handbook/html"
KINDS = {
    "German": ["usr/share/man/de/*/*.gz", f"{_HANDBOOK}/de-DE/*.html"],
    "English": ["usr/share/doc/python3.11/html/_sources/**/*.txt", f"{_HANDBOOK}/en-US/*.html"],
    "Spanish": ["usr/share/man/es/*/*.gz", f"{_HANDBOOK}/es-ES/*.html"],
    "French": ["usr/share/man/fr/*/*.gz", f"{_HANDBOOK}/fr-FR/*.html"],
    "Japanese": ["usr/share/man/ja/*/*.gz", f"{_HANDBOOK}/ja-JP/*.html"],
    "Russian": ["usr/share/man/ru/*/*.gz", f"{_HANDBOOK}/ru-RU/*.html"],
    "Chinese": ["usr/share/man/zh_CN/*/*.gz", f"{_HANDBOOK}/zh-CN/*.html"],
    "Python": [],
}


@dataclass(frozen=True)
class Document:
    """A file's text; `key` is the same for all files of its name, and scatters names evenly."""

    path: Path
    key: int

    @property
    def part(self) -> str:
        return {0: "held-out", 1: "calibration"}.get(self.key % SHARE, "train")

    def text(self) -> str:
        return plain_text.read(self.path)


def document(path: Path) -> Document:
    return Document(path, int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:8], "little"))


def documents(folder: Path, kind: str) -> list[Document]:
    """The files of a kind in an order that is as good as random, the same in every run."""
    if kind == "Python":
        library = Path(sysconfig.get_path("stdlib"))
        outside = {"site-packages", "dist-packages", "test", "tests"}
        paths = [p for p in library.rglob("*.py") if not outside & set(p.relative_to(library).parts)]
    else:
        paths = [path for pattern in KINDS[kind] for path in folder.glob(pattern) if not path.is_symlink()]
    if not paths:
        raise SystemExit(f"{folder}: no {kind} text; unpack the packages named above into it")
    return sorted(map(document, paths), key=lambda d: (d.key, str(d.path)))


def texts(listed: Iterable[Document], part: str, limit_bytes: int) -> Iterator[str]:
    """The texts of one part until they are `limit_bytes` long."""
    total = 0
    for each in listed:
        text = each.text() if each.part == part else ""
        if len(text) < SHORT:
            continue
        yield text
        total += len(text.encode())
        if total >= limit_bytes:
            return


def windows(tokenizer: Tokenizer, written: Iterable[str]) -> NDArray[np.int32]:
    """[8 * 1024]: the middle of each of the first texts that are long enough."""
    found = []
    for ids in (encode(tokenizer, text) for text in written):
        if len(ids) >= WINDOW:
            start = (len(ids) - WINDOW) // 2
            found.append(np.asarray(ids[start : start + WINDOW], np.int32))
        if len(found) == WINDOWS:
            return np.concatenate(found)
    raise SystemExit(f"{len(found)} documents of {WINDOW} tokens where {WINDOWS} are wanted; unpack all the packages")


def write(folder: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    listed = {kind: documents(folder, kind) for kind in KINDS}
    tokenizer = train_tokenizer(t for d in listed.values() for t in texts(d, "train", TOKENIZER_BYTES))
    tokenizer.save(str(out / "tokenizer.json"))
    end = id_of(tokenizer, "<|endoftext|>")
    train: list[NDArray[np.int32]] = []
    apart: dict[str, list[NDArray[np.int32]]] = {"held-out": [], "calibration": []}
    for kind, files in listed.items():
        before, n_bytes = len(train), 0
        for text in texts(files, "train", KIND_BYTES):
            train.append(np.asarray([end, *encode(tokenizer, text)], np.int32))
            n_bytes += len(text.encode())
        for part, pieces in apart.items():
            pieces.append(windows(tokenizer, texts(files, part, KIND_BYTES)))
        n_tokens = sum(map(len, islice(train, before, None)))
        print(f"{kind}: {len(train) - before} documents, {n_bytes / 1e6:.1f} MB, {n_tokens / 1e6:.2f}M tokens")
    np.save(out / "train.npy", np.concatenate(train))
    for part, pieces in apart.items():
        np.save(out / f"{part}.npy", np.concatenate(pieces))


def main() -> None:
    parser = argparse.ArgumentParser(description="Natural text as token ids.")
    parser.add_argument("folder", type=Path, help="where the packages lie unpacked")
    parser.add_argument("out", type=Path, help="folder for the tokenizer and the token ids")
    options = parser.parse_args()
    write(options.folder, options.out)


if __name__ == "__main__":
    main()
