"""What `qwen35 perplexity` scores of a text file: the characters that are in it, by the tokens they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen35_local import _core, hub
from qwen35_local.cli.perplexity import perplexity
from qwen35_local.engine import quality
from qwen35_local.errors import FileFormatError, InputError
from qwen35_local.text.tokenizer import Tokenizer

LINE = "My name is Ann. The capital of Italy is Rome.\n"
TEXT = LINE * 6
CHAT = "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n<think>\n"


@pytest.fixture(scope="module")
def demo() -> _core.Model:
    return _core.Model(hub.embedded_model())


@pytest.fixture
def score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """score(data, **options): the result as JSON, and what was said on stderr."""

    def score(data: bytes, **options: Any) -> tuple[dict[str, Any], str]:
        path = tmp_path / "text.txt"
        path.write_bytes(data)
        perplexity(str(hub.embedded_model()), path, as_json=True, **options)
        out, err = capsys.readouterr()
        return json.loads(out), err

    return score


def measured(model: _core.Model, tokens: list[int]) -> dict[str, Any]:
    source = quality.ModelLogits(model)
    return quality.measure(source, np.asarray(tokens, np.int32), window=512).as_dict()


@pytest.mark.parametrize(
    ("data", "text", "said"),
    [
        (TEXT.encode(), TEXT, ""),
        (TEXT.replace("\n", "\r\n").encode(), TEXT.replace("\n", "\r\n"), ""),
        (TEXT.replace("\n", "\r").encode(), TEXT.replace("\n", "\r"), ""),
        (b"\xef\xbb\xbf" + TEXT.encode(), TEXT, ""),
        (TEXT.strip().encode(), TEXT.strip(), ""),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), TEXT, "is UTF-16"),
        (LINE.encode("utf-16-le"), "".join(c + "\0" for c in LINE), "without a byte order mark"),
        (CHAT.encode(), CHAT, "spells control tokens 4 times (<|im_start|>, <|im_end|>, <think>)"),
    ],
    ids=["lf", "crlf", "cr", "bom", "no newline", "utf-16", "utf-16 without mark", "chat"],
)
def test_the_text_is_scored_as_it_is(demo: _core.Model, score: Any, data: bytes, text: str, said: str) -> None:
    found, notice = score(data)
    assert found == measured(demo, Tokenizer(demo.metadata).encode(text))
    assert said in notice if said else notice == ""


def test_special_reads_control_tokens(demo: _core.Model, score: Any) -> None:
    tokenizer = Tokenizer(demo.metadata)
    found, notice = score(CHAT.encode(), special=True)
    start, end, think = (tokenizer.token_id(tag) for tag in ("<|im_start|>", "<|im_end|>", "<think>"))
    parts = [tokenizer.encode(part) for part in ("user\nHi!", "\n", "assistant\n", "\n")]
    tokens = [start, *parts[0], end, *parts[1], start, *parts[2], think, *parts[3]]
    assert found == measured(demo, tokens)
    assert notice == ""


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a", "1 token; at least 2"),
        ("na\u00efve".encode("latin-1"), "not UTF-8 at byte 2"),
    ],
)
def test_what_cannot_be_scored_is_said(score: Any, data: bytes, fault: str) -> None:
    with pytest.raises((InputError, FileFormatError), match=f"text.txt: {fault}"):
        score(data)


def test_special_is_about_a_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--ids"):
        perplexity(str(hub.embedded_model()), ids=tmp_path / "ids.txt", special=True)
