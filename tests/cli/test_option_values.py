"""Each option with each wrong value: exit code 2 and one message that names the option, the value and what is expected,
before any model is looked for."""

import sys

import pytest

from qwen35_local import _core
from qwen35_local.cli import app

ABSENT_DEVICES = [name for name, absence in _core.devices().items() if absence is not None]
NO_NUMBER = ["", "nope", "nan", "1.5.5", "0x10", "1,5"]
NOT_WHOLE = [*NO_NUMBER, "inf", "-inf", "1.5", "1e3", "-1", "9" * 30, "9" * 5000]
NOT_FINITE = [*NO_NUMBER, "inf", "-inf", "1e300", "-1", "9" * 400]
DEVICES = ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:12345", "cpu,cuda"]
DRAFTS = ["", "on", "9", "-1", "1.5", "²", "AUTO", "9" * 5000]
WORDS = ["", "nope", "F16", "f32", "5", "f16,q8"]

CHAT, SELFTEST = ["chat", "-p", "x"], ["selftest"]
PERPLEXITY, BENCH = ["perplexity", "no-model", "no-file"], ["bench"]
QUANTIZE, PLAN = ["quantize", "no-model"], ["plan", "9b"]
CASES: list[tuple[list[str], str, list[str]]] = [
    (CHAT, "--temperature", [*NOT_FINITE, "101"]),
    (CHAT, "--top-p", [*NOT_FINITE, "7"]),
    (CHAT, "--min-p", [*NOT_FINITE, "1.01"]),
    (CHAT, "--top-k", [*NOT_WHOLE, "2147483648"]),
    (CHAT, "--seed", [*NOT_WHOLE, "18446744073709551616"]),
    (CHAT, "--logprobs", [*NOT_WHOLE, "1001"]),
    (CHAT, "--stop", ["", "x" * 257]),
    (CHAT, "--logit-bias", ["", "5", "=3", "5=", "5=nope", "5=nan", "5=inf", "5=1e7"]),
    (CHAT, "--max-tokens", [*NOT_WHOLE, "2147483648"]),
    (CHAT, "--ctx", [*NOT_WHOLE, "1e30", "2147483648"]),
    (CHAT, "--threads", [*NOT_WHOLE, "1025"]),
    (CHAT, "--cache", NOT_FINITE),
    (CHAT, "--cache-disk", NOT_FINITE),
    (CHAT, "--kv", WORDS),
    (CHAT, "--device", DEVICES),
    (CHAT, "--when-full", WORDS),
    (CHAT, "--draft", DRAFTS),
    (["serve"], "--draft", DRAFTS),
    (SELFTEST, "--kv", [*WORDS, "auto"]),
    (SELFTEST, "--scenarios", [*NOT_WHOLE, "0"]),
    (SELFTEST, "--seed", NOT_WHOLE),
    (SELFTEST, "--ctx", NOT_WHOLE),
    (SELFTEST, "--device", DEVICES),
    (SELFTEST, "--threads", [*NOT_WHOLE, "1025"]),
    (PERPLEXITY, "--kv", [word for word in WORDS if word != "f32"]),
    (PERPLEXITY, "--ctx", [*NOT_WHOLE, "0", "1", "2"]),
    (PERPLEXITY, "--device", DEVICES),
    (PERPLEXITY, "--threads", [*NOT_WHOLE, "1025"]),
    (BENCH, "--gen", NOT_WHOLE),
    (BENCH, "--device", DEVICES),
    (BENCH, "--repetitions", [*NOT_WHOLE, "0"]),
    (BENCH, "--threads", [*NOT_WHOLE, "1025"]),
    (BENCH, "--kv", ["", "nope", "f32", "f16,", "auto"]),
    (BENCH, "--prompt", ["", "nope", "-1", "1e3", "9" * 30]),
    (BENCH, "--format", WORDS),
    (QUANTIZE, "--threads", [*NOT_WHOLE, "1025"]),
    (PLAN, "--kv", WORDS),
    (PLAN, "--device", DEVICES),
    (PLAN, "--ctx", ["", "nope", "nan", "inf", "-1", "0", "1e30", "9" * 30]),
    (PLAN, "--memory", ["", "nope", "nan", "inf", "-1", "0", "1e30", "9" * 30, "24X"]),
]


@pytest.mark.parametrize(("command", "option", "values"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_each_option_with_each_wrong_value(
    command: list[str],
    option: str,
    values: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for value in values:
        monkeypatch.setattr(sys, "argv", ["qwen35", *command, f"{option}={value}"])
        assert app.run() == 2, value
        said = capsys.readouterr()
        message = " ".join(word for word in said.err.replace("│", " ").split() if set(word) - set("─╭╮╰╯"))
        assert said.out == ""
        assert option in message, message
        assert value[:5] in message, message
        assert "expected" in message or " is not " in message, message
        assert "Traceback" not in message
        assert "Value error" not in message and "e+" not in message.partition("expected")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kv=f32"], "Invalid value for '--kv': 'f32' is not one of 'f16', 'q8', 'k8v4', 'q4', 'auto'."),
        (["--draft=9"], "Invalid value for '--draft': '9' is not auto, off, or 0 to 8"),
        (["--cache=-1"], "Invalid value for '--cache': '-1' is not a finite number from 0 to 1048576"),
    ],
)
def test_the_words(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["qwen35", *CHAT, *words])
    assert app.run() == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", [CHAT, SELFTEST, PERPLEXITY, BENCH, PLAN], ids=lambda command: command[0])
@pytest.mark.parametrize("device", ABSENT_DEVICES)
def test_a_device_that_is_not_here(
    command: list[str], device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any model is looked for."""
    monkeypatch.setattr(sys, "argv", ["qwen35", *command, "--device", device])
    assert app.run() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"qwen35: device '{device}' is not available: {_core.devices()[device]}. Use 'auto'")
    assert said.err.count("\n") == 1


def test_the_limit_of_threads_is_the_cores(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["qwen35", "chat", "-p", "x", "--threads", "99999999999999999999"])
    assert app.run() == 2
    assert "an integer from 0 to 1024" in capsys.readouterr().err
