"""What `qwen35 perplexity` scores of a text file: the characters that are in it, by the tokens they are."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen35_local import _core, hub
from qwen35_local.cli.perplexity import perplexity, read_ids
from qwen35_local.engine import quality
from qwen35_local.engine.saved_logits import SavedLogits
from qwen35_local.errors import FormatError, InputError
from qwen35_local.quantize.convert import convert
from qwen35_local.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "models/demo/checkpoint"

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
    scores = quality.score(quality.ModelLogits(model), np.asarray(tokens, np.int32), window=512)
    return quality.summary(scores).as_dict()


def results(found: dict[str, Any]) -> dict[str, Any]:
    """What was measured, without of what."""
    return {name: found[name] for name in ("scored", "windows", "perplexity", "distance", "comparison")}


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
    assert results(found) == measured(demo, Tokenizer(demo.metadata).encode(text))
    assert said in notice if said else notice == ""


def test_special_reads_control_tokens(demo: _core.Model, score: Any) -> None:
    tokenizer = Tokenizer(demo.metadata)
    found, notice = score(CHAT.encode(), special=True)
    start, end, think = (tokenizer.token_id(tag) for tag in ("<|im_start|>", "<|im_end|>", "<think>"))
    parts = [tokenizer.encode(part) for part in ("user\nHi!", "\n", "assistant\n", "\n")]
    tokens = [start, *parts[0], end, *parts[1], start, *parts[2], think, *parts[3]]
    assert results(found) == measured(demo, tokens)
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
    with pytest.raises((InputError, FormatError), match=f"text.txt: {fault}"):
        score(data)


def test_special_is_about_a_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--ids"):
        perplexity(str(hub.embedded_model()), ids=tmp_path / "ids.txt", special=True)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_of_shape(shape: str) -> bytes:
    """An array that does not have the shape its header names."""
    return npy(np.zeros(3, np.int32)).replace(b"(3,), }".ljust(20), f"({shape}), }}".ljust(20).encode())


IDS = [700, 3, 9]
ZIP = io.BytesIO()
np.savez(ZIP, a=np.array(IDS))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"700 3\n 9\n"),
        ("a.txt", b"700,3,9"),
        ("a.npy", npy(np.array(IDS, np.uint64))),
        ("a.npy", npy(np.array(IDS, np.int16))),
    ],
)
def test_token_ids(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_ids(tmp_path / name, 1000).tolist() == IDS


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("a.txt", b"7 x", "'x' is no token id; expected whole numbers"),
        ("a.txt", b"7 -1", "'-1' is no token id"),
        ("a.txt", b"7 1.5", "'1.5' is no token id"),
        ("a.txt", b"7 " + b"9" * 5000, "'9999999999999999999999999999999999999999' is no token id"),
        ("a.txt", b"\0" * 50, ".* is no token id"),
        ("a.txt", b"7 1000", "id 1000 at position 1 is outside the vocabulary of 1000"),
        ("a.npy", b"", "not a readable .npy file of token ids"),
        ("a.npy", b"7 8 9", "not a readable .npy file of token ids"),
        ("a.npy", ZIP.getvalue(), "not a readable .npy file of token ids"),
        ("a.npy", npy(np.array([{}], object)), "not a readable .npy file of token ids"),
        ("a.npy", npy_of_shape("9**9,"), "not a readable .npy file of token ids"),
        ("a.npy", npy_of_shape("(9,"), "not a readable .npy file of token ids"),
        ("a.npy", npy_of_shape("9" * 15), "not a readable .npy file of token ids"),
        ("a.npy", npy_of_shape("9999,"), "not a readable .npy file of token ids"),
        ("a.npy", npy(np.array(IDS, np.int32))[:-1], "not a readable .npy file of token ids"),
        ("a.npy", npy(np.array([IDS])), r"shape \(1, 3\) of int64; expected token ids, with one axis"),
        ("a.npy", npy(np.array([1.5, 2])), r"shape \(2,\) of float64; expected token ids"),
        ("a.npy", npy(np.array(["a"])), ".* expected token ids"),
        ("a.npy", npy(np.array([7, -1])), "id -1 at position 1"),
        ("a.npy", npy(np.array([2**64 - 1], np.uint64)), "id 18446744073709551615 at position 0"),
    ],
)
def test_what_is_no_token_ids(tmp_path: Path, name: str, data: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name}: {fault}"):
        read_ids(tmp_path / name, 1000)


@pytest.mark.parametrize(
    "data", [b"", ZIP.getvalue(), npy(np.zeros(3)), npy(np.array([["a"]])), npy(np.zeros((3, 3)))[:-1]]
)
def test_what_is_no_logits(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.npy: .*logits \[windows, tokens, vocabulary\]"):
        SavedLogits(tmp_path / "a.npy", [(0, 3, 0)])


@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
def test_files_without_an_end(tmp_path: Path, target: str) -> None:
    """None is waited for or read on and on; a pipe without a writer is empty."""
    if target == "pipe":
        os.mkfifo(tmp_path / "pipe")
    for name in ("a.npy", "a.txt"):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(InputError, match="no regular file"):
        read_ids(tmp_path / "a.npy", 1000)
    with pytest.raises(InputError, match="no regular file"):
        SavedLogits(tmp_path / "a.npy", [(0, 3, 0)])
    for options in ({"file": tmp_path / "a.txt"}, {"ids": tmp_path / "a.txt"}):
        with pytest.raises((InputError, FormatError), match=r"is a device|is empty|no tokens"):
            perplexity(str(hub.embedded_model()), **options)  # type: ignore[arg-type]


def test_an_endless_text_of_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen35_local.cli.perplexity.IDS_LIMIT_BYTES", 1 << 20)
    (tmp_path / "a.txt").write_bytes(b"7 " * (1 << 19) + b"7")
    with pytest.raises(FormatError, match=r"a\.txt: larger than 1 MiB"):
        read_ids(tmp_path / "a.txt", 1000)


@pytest.mark.parametrize("options", [["-"], ["--ids", "-"]])
def test_a_dash_is_stdin(demo: _core.Model, options: list[str]) -> None:
    tokens = Tokenizer(demo.metadata).encode(LINE)
    given = LINE.encode() if options == ["-"] else " ".join(map(str, tokens)).encode()
    command = [sys.executable, "-m", "qwen35_local", "perplexity", str(hub.embedded_model()), *options, "--json"]
    done = subprocess.run(command, input=given, capture_output=True, check=True)
    assert results(json.loads(done.stdout)) == measured(demo, tokens)


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with its weights in Q4_0, as another to measure."""
    path = tmp_path_factory.mktemp("coarse") / "coarse.gguf"
    convert(CHECKPOINT, path, "Q4_0")
    return path


def test_json_says_what_was_measured(demo: _core.Model, coarse: Path, score: Any, tmp_path: Path) -> None:
    tokens = Tokenizer(demo.metadata).encode(TEXT)
    found, _ = score(TEXT.encode(), against=str(hub.embedded_model()), versus=str(coarse), window=16, kv="q8")
    assert {name: value for name, value in found.items() if name not in results(found)} == {
        "model": str(hub.embedded_model()),
        "base": str(hub.embedded_model()),
        "other": str(coarse),
        "file": str(tmp_path / "text.txt"),
        "ids": None,
        "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
        "ids_sha256": hashlib.sha256(np.array(tokens, np.int32).tobytes()).hexdigest(),
        "tokens": len(tokens),
        "window": 16,
        "kv": "q8",
        "device": demo.device,
    }
    assert found["scored"] == len(tokens) // 16 * 7


def test_a_record_per_token(demo: _core.Model, coarse: Path, score: Any, tmp_path: Path) -> None:
    """Its columns are those that docs/quality.md lists, and give the printed results again."""
    tokens = Tokenizer(demo.metadata).encode(TEXT)
    np.save(tmp_path / "mask.npy", np.arange(len(tokens)) % 2 == 0)
    options = {"against": str(coarse), "versus": str(coarse), "targets": tmp_path / "mask.npy"}
    found, _ = score(TEXT.encode(), window=16, per_token=tmp_path / "out.npy", **options)
    records = np.load(tmp_path / "out.npy")
    listed = re.findall(r"^\| `(\w+)` \| (\S+) \|", (ROOT / "docs/quality.md").read_text(), re.MULTILINE)
    assert [(name, records.dtype[name].name) for name in records.dtype.names] == listed
    assert records["token"].tolist() == [tokens[i] for i in records["position"]]
    assert np.exp(-records["log_prob"].mean()) == pytest.approx(found["perplexity"]["value"])
    assert records["kl"].mean() == pytest.approx(found["distance"]["kl_mean"]["value"])
    assert records["kl"].mean() > 0
    assert not records["other_kl"].any()
    for name, part in (("targets", records["target"]), ("rest", ~records["target"])):
        assert found[name]["scored"] == part.sum()
        assert found[name]["distance"]["kl_mean"]["value"] == pytest.approx(records["kl"][part].mean())


def test_saved_logits_stand_for_the_model(coarse: Path, score: Any, tmp_path: Path) -> None:
    saved = tmp_path / "logits.npy"
    score(TEXT.encode(), window=16, save_logits=saved)
    assert np.load(saved, mmap_mode="r").shape[1] == 16
    path = tmp_path / "text.txt"
    for base in (str(saved), str(hub.embedded_model())):
        perplexity(str(coarse), path, against=base, window=16, per_token=tmp_path / f"{len(base)}.npy")
    one, other = (np.load(tmp_path / f"{len(base)}.npy") for base in (str(saved), str(hub.embedded_model())))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="windows of 16 tokens; this text and --ctx make"):
        perplexity(str(coarse), path, against=str(saved), window=32)


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (512, ": no errors, which are from window to window"),
        (24, ": the errors are rough, from 8 on they are fair"),
        (8, ""),
    ],
)
def test_few_windows_are_said(window: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    perplexity(str(hub.embedded_model()), tmp_path / "text.txt", window=window)
    lines = dict(re.findall(r"^(.+?)  +(.+)$", capsys.readouterr().out, re.MULTILINE))
    assert re.fullmatch(rf"\d+ of \d+ tokens{said}", lines["windows"])
    assert ("±" in lines["perplexity"]) == (window != 512)


def test_every_value_stands_apart_from_its_name(
    coarse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, mask = tmp_path / "text.txt", tmp_path / "mask.npy"
    text.write_text(TEXT)
    np.save(mask, np.arange(len(Tokenizer(_core.GgufFile(hub.embedded_model()).metadata).encode(TEXT))) % 2 == 0)
    perplexity(str(coarse), text, against=str(hub.embedded_model()), versus=str(coarse), targets=mask, window=16)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  other: KL divergence, largest  ") for line in lines)
    assert len({re.match(r" *\S+(?: \S+)*  +", line).end() for line in lines}) == 1  # type: ignore[union-attr]


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--versus OTHER compares two distances"):
        perplexity(str(hub.embedded_model()), tmp_path / "text.txt", versus="other.gguf")


@pytest.mark.parametrize(
    ("mask", "fault"),
    [
        (np.ones(3, bool), r"3 values, and the text has \d+ tokens"),
        (np.ones(3, np.int32), r"shape \(3,\) of int32; expected true or false per token"),
        (np.ones((3, 3), bool), r"shape \(3, 3\) of bool; expected true or false per token"),
    ],
)
def test_what_is_no_mask(score: Any, tmp_path: Path, mask: Any, fault: str) -> None:
    np.save(tmp_path / "mask.npy", mask)
    with pytest.raises(InputError, match=rf"mask\.npy: {fault}"):
        score(TEXT.encode(), targets=tmp_path / "mask.npy")
