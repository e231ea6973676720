"""Natural text for training: what is left of man pages and HTML, and that no document is in two parts."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="the demo model's text needs jinja2")
pytest.importorskip("tokenizers", reason="the demo model's text needs tokenizers")

import numpy as np

from models.demo.training import corpus, plain_text
from models.demo.training.text import encode, train_tokenizer

PAGE = r""".\" a comment
.TH LS 1 "2022" "GNU"
.SH "THE NAME"
ls \- list \fBall\fP files
of \f(CWa\fR folder\(aq\&s \" another comment
.PP
.BR \-a ", " \-\-all
.BR open (2),
.IR "a file" .
.nf
int  main(void);
  return \e0;
.fi
.TP
一覧
表示
done \s-1small\s0 \[em] \*(lqend
.TS
allbox; l l
.TE
"""


def test_a_man_page_is_read_as_a_reader_sees_it() -> None:
    assert plain_text.man(PAGE).splitlines() == [
        "THE NAME",
        "ls - list all files of a folder's",
        "",
        "-a, --all open(2), a file.",
        "int  main(void);",
        "  return \\0;",
        "一覧表示 done small — end",
    ]


def test_pages_of_other_macros_are_left_out() -> None:
    assert plain_text.man(".Dd May 2022\n.Nm ls\ntext\n") == ""
    assert plain_text.man(".so man2/open.2\n") == ""


def test_html_is_its_blocks() -> None:
    page = """<html><head><title>No</title></head><body><ul class="docnav top"><li>Back<ul><li>no</li></ul></li></ul>
      <h1>One <em>word</em></h1><p>Two
         &amp; three<br/>four</p><pre>  a = 1
    b = 2
</pre><script>no()</script><ul><li>five</li></ul></body></html>"""
    assert plain_text.html(page).splitlines() == [
        "One word",
        "Two & three",
        "four",
        "  a = 1",
        "    b = 2",
        "five",
    ]


def test_files_are_read_by_their_kind(tmp_path: Path) -> None:
    packed, other = tmp_path / "ls.1.gz", tmp_path / "a.py"
    packed.write_bytes(gzip.compress(b".SH A\nb\n"))
    other.write_bytes(b".SH = 1\n")
    assert plain_text.read(packed) == "A\nb\n"
    assert plain_text.read(other) == ".SH = 1\n"
    other.write_bytes(b"\xff")
    assert plain_text.read(other) == ""


def test_a_page_and_its_translations_are_in_one_part() -> None:
    names = [f"page{n}.1.gz" for n in range(600)]
    parts = [{corpus.document(Path(folder) / name).part for folder in ("de/man1", "fr/man1")} for name in names]
    assert all(len(part) == 1 for part in parts)
    counts = {name: sum(part == {name} for part in parts) for name in ("train", "held-out", "calibration")}
    assert min(counts.values()) > 25
    assert counts["train"] > 450


def test_windows_are_the_middles_of_long_documents() -> None:
    def number(n: int) -> str:
        return "".join("abcdefghij"[int(digit)] for digit in str(n))

    long = [" ".join(f"{number(document)}{number(n)}" for n in range(3000)) for document in range(corpus.WINDOWS)]
    tokenizer = train_tokenizer(long)
    ids = corpus.windows(tokenizer, ["short", *long]).reshape(corpus.WINDOWS, corpus.WINDOW)
    for row, text in zip(ids, long, strict=True):
        whole = np.asarray(encode(tokenizer, text))
        start = (len(whole) - corpus.WINDOW) // 2
        assert (row == whole[start : start + corpus.WINDOW]).all()
    with pytest.raises(SystemExit, match="8 are wanted"):
        corpus.windows(tokenizer, long[1:])
