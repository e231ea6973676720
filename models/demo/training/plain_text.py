"""Man pages, HTML and other files to plain text: what a reader would see, simply made."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path

_COMMENT = re.compile(r"\\\".*")
_ESCAPE = re.compile(r"\\(?:f(?:\[[^\]]*\]|\(..|.)|s[+-]?\d+|\*(?:\[[^\]]*\]|\(..|.)|\[([^\]]*)\]|\((..)|(.))")
# Glyphs of one and of two letters, each before what it shows.
_ONE = "-- e\\ \\\\ '' ``"
_TWO = "aq' dq\" lq“ rq” oq‘ cq’ Fo« Fc» ga` ha^ ti~ rs\\ em— en– hy- mi− bu• co© mu× ->→"
_GLYPHS = {pair[:-1]: pair[-1] for pair in (*_ONE.split(), *_TWO.split())} | dict.fromkeys(" ~0", " ")
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|((?:\\ |\S)+)')
_FONTS = {"B", "I", "R", "SM", "SB"}
_ALTERNATING = {a + b for a in "BIR" for b in "BIR" if a != b}
_BREAKS = {"TP", "IP", "HP", "br", "nf", "EX", "fi", "EE", "RS", "RE"}
_GAPS = {"PP", "P", "LP", "sp"}
_WIDE = "\u2e80"  # from here on scripts that put no space between words


def _shown(text: str) -> str:
    """A line of roff without its escapes: fonts, sizes and strings vanish, glyphs are what they show."""
    return _ESCAPE.sub(lambda m: _GLYPHS.get(m[1] or m[2] or m[3] or "", ""), text)


def _joined(lines: list[str]) -> str:
    """Lines filled to one, as roff does outside of examples."""
    text = ""
    for line in lines:
        wide = text[-1:] >= _WIDE and line[:1] >= _WIDE
        text += line if wide or not text else " " + line
    return text


class _Page:
    """A man page while it is read: finished lines, and those of the paragraph that is being filled."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.filling: list[str] = []
        self.verbatim = False
        self.until = ""  # the request that ends what is skipped

    def end(self, gap: bool = False) -> None:
        if self.filling:
            self.done.append("\n".join(self.filling) if self.verbatim else _joined(self.filling))
            self.filling = []
        if gap and self.done and self.done[-1]:
            self.done.append("")

    def request(self, name: str, rest: str) -> None:
        arguments = [_shown(a.replace('""', '"') or b) for a, b in _ARGUMENT.findall(rest)]
        if name in _FONTS:
            self.filling.append(" ".join(arguments))
        elif name in _ALTERNATING:
            self.filling.append("".join(arguments))
        elif name in ("SH", "SS"):
            self.end(gap=True)
            self.done.append(" ".join(arguments))
        elif name in _GAPS or name in _BREAKS:
            self.end(gap=name in _GAPS)
            self.verbatim = name in ("nf", "EX") or (self.verbatim and name not in ("fi", "EE"))
            if name == "IP" and arguments:
                self.filling.append(arguments[0])
        elif name in ("TS", "de", "ig"):
            self.until = "TE" if name == "TS" else "."


def man(source: str) -> str:
    """The text of a page of the man macros, "" for the other macros (mdoc) and for a page that only names another."""
    page = _Page()
    for line in source.splitlines():
        line = _COMMENT.sub("", line)
        control = re.match(r"[.'] *(\w+|\.)?(.*)", line)
        if page.until:
            page.until = "" if control and control[1] == page.until else page.until
        elif control and control[1] in ("Dd", "so"):
            return ""
        elif control:
            page.request(control[1] or "", control[2])
        elif not line.strip():
            page.end(gap=True)
        else:
            if line[0] == " " and not page.verbatim:
                page.end()
            page.filling.append(_shown(line).rstrip() if page.verbatim else _shown(line).strip())
    page.end()
    return "\n".join(page.done).strip() + "\n"


class _Html(HTMLParser):
    """The blocks of a page, without what is there to move about."""

    BLOCKS = re.compile(r"p|div|h\d|[uod]l|li|dt|dd|tr|pre|table|br")
    MARKS = frozenset(("docnav", "title", "banner", "toc"))

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self.pieces: list[str] = []
        self.pre = 0
        self.skipped: list[str] = []  # the element that is left out, and those of its kind inside it

    def end_block(self) -> None:
        text = "".join(self.pieces)
        text = text.strip("\n") if self.pre else " ".join(text.split())
        if text:
            self.blocks.append(text)
        self.pieces = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        marks = {word for key, value in attrs if key in ("id", "class") for word in (value or "").split()}
        left_out = tag in ("head", "script", "style") or (tag in ("ul", "p", "div") and bool(marks & self.MARKS))
        if self.skipped:
            self.skipped += [tag] if tag == self.skipped[0] else []
        elif left_out:
            self.skipped = [tag]
        if self.BLOCKS.fullmatch(tag):
            self.end_block()
        self.pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self.BLOCKS.fullmatch(tag):
            self.end_block()
        self.pre -= tag == "pre"
        if self.skipped and tag == self.skipped[0]:
            self.skipped.pop()

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            self.pieces.append(data)


def html(source: str) -> str:
    """The text of a page, a line per block."""
    parser = _Html()
    parser.feed(source)
    parser.close()
    parser.end_block()
    return "\n".join(parser.blocks) + "\n"


def read(path: Path) -> str:
    """The text of a file: HTML and man pages (FILE.SECTION.gz) without their marks, all else as it is; "" where it is
    not UTF-8."""
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except UnicodeDecodeError:
        return ""
    if path.suffix == ".html":
        return html(text)
    return man(text) if path.suffix == ".gz" else text
