"""Sections of docs/architecture.md that code and tests cite are there, and nothing is cited that nobody can read."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("csrc", "python", "models", "quantize", "tests")
SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".metal", ".mm", ".py", ".pyi"}

HEADING = re.compile(r"^#{2,3} (\d+(?:\.\d+)?)[. ]", re.M)
# "docs/architecture.md 2.6", "docs/architecture.md 2.2 to 2.8", "… 8.1 and 8.6", "… 3, 8.2"
CITATION = re.compile(r"docs/architecture\.md((?:(?:,| and| to)? \d+(?:\.\d+)?)*)")
ELSEWHERE = re.compile(
    r"architecture notes|\bspec(?:ification)?,? (?:section )?\d|\bspec sections?\b|\bsections? \d[\d.]* of the", re.I
)


def sources() -> list[Path]:
    return [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in SUFFIXES and path != Path(__file__)
    ]


def cited(text: str) -> list[str]:
    """The section numbers of every citation; "" for one without a number."""
    joined = re.sub(r"\s*\n\s*(?://|#)?\s*", " ", text)  # a citation may go on in the next line of a comment
    return [
        section for match in CITATION.finditer(joined) for section in (re.findall(r"\d+(?:\.\d+)?", match[1]) or [""])
    ]


def test_citations_are_found() -> None:
    assert cited("// docs/architecture.md 2.2 to\n// 2.8 and") == ["2.2", "2.8"]
    assert cited("docs/architecture.md 8.1 and 8.6).") == ["8.1", "8.6"]
    assert cited("see docs/architecture.md.") == [""]
    assert ELSEWHERE.search("specification 2.6") and ELSEWHERE.search("Section 9 of the architecture notes")
    assert not ELSEWHERE.search('GGUF specification, "File structure"')


def test_cited_sections_exist() -> None:
    sections = set(HEADING.findall((ROOT / "docs/architecture.md").read_text()))
    assert {"2.6", "8.7", "9"} <= sections
    dangling, count = [], 0
    for path in sources():
        for section in cited(path.read_text()):
            count += 1
            if section not in sections:
                dangling.append(f"{path.relative_to(ROOT)}: docs/architecture.md {section}")
    assert count > 25
    assert not dangling, "\n".join(dangling)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_outside_the_repository_is_cited(folder: str) -> None:
    wrong = []
    for path in sources():
        if path.is_relative_to(ROOT / folder):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if ELSEWHERE.search(line):
                    wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)
