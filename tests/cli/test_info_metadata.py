"""`info` of a file whose header can be read never fails: what is wrong with a value is said beside everything else."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from wrong_values import VALUES

from qwen35_local import _core, hub
from qwen35_local.cli.info import describe, show
from qwen35_local.errors import FormatError
from qwen35_local.plan.subject import Extras, of_file

DEMO = hub.embedded_model()
FILE = _core.GgufFile(DEMO, header=True)
NOT_READ = ("general.type", "general.size", "general.parameter_count", "general.file_type", "general.quantization")
NOT_READ += ("general.sampling", "general.source", "general.base_model", "tokenizer.ggml.padding_token_id")
GOOD = {key: value for key, value in FILE.metadata.items() if key != "tokenizer.chat_template"}  # known by a slow look
KEYS = [key for key in GOOD if not key.startswith(NOT_READ)]
KEYS += ["tokenizer.chat_template", "tokenizer.ggml.scores", "tokenizer.ggml.bos_token_id", "general.license"]


def described(metadata: dict[str, Any]) -> dict[str, Any]:
    named = ("tensors", "n_bytes", "version", "kind", "refusal", "notices", "vision")
    file: Any = SimpleNamespace(metadata=metadata, **{name: getattr(FILE, name) for name in named})
    return describe(DEMO, file)


def test_the_file_itself_has_no_problem() -> None:
    facts = described(FILE.metadata)
    assert facts["problems"] == []
    assert facts["tokenizer"]["model"] == "gpt2"
    assert facts["template"]["name"] == "qwen3.5"


def is_of_the_type(value: Any, good: Any) -> bool:
    is_number = type(good) is float and type(value) is int
    return is_number or type(value) is type(good)


@pytest.mark.parametrize("key", KEYS)
def test_each_key_with_each_type(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    good = FILE.metadata.get(key)
    for value in VALUES:
        facts = described(GOOD | {key: value})
        said = json.dumps(facts)
        show(facts)
        printed = capsys.readouterr().out
        assert "\x1b" not in printed
        if good is not None and not is_of_the_type(value, good):
            assert key in said, value
            assert "unusable: " in printed or "problem  " in printed, value


@pytest.mark.parametrize("key", KEYS)
def test_plan_refuses_each_key_of_the_configuration(key: str) -> None:
    """By its name. What a plan does not need may be anything."""
    good = FILE.metadata.get(key)
    named = ("tensors", "kind", "refusal", "notices")
    for value in VALUES:
        file: Any = SimpleNamespace(metadata=GOOD | {key: value}, **{name: getattr(FILE, name) for name in named})
        try:
            of_file(DEMO, file, Extras())
        except FormatError as error:
            assert str(DEMO) in str(error)
            assert key in str(error) or is_of_the_type(value, good), (value, str(error))
        else:
            assert is_of_the_type(value, good) or not key.startswith("qwen35."), value


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tokenizer.ggml.token_type", 1, "unusable: tokenizer.ggml.token_type is 1; expected a list of"),
        ("tokenizer.ggml.merges", "a b", "unusable: tokenizer.ggml.merges is 'a b'; expected a list, each a text."),
        (
            "general.architecture",
            [1],
            "general.architecture is a list of 1 entries (int); expected a text.",
        ),
        ("tokenizer.chat_template", 7, "unusable: tokenizer.chat_template is 7; expected a text."),
    ],
)
def test_the_line(key: str, value: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(described(GOOD | {key: value}))
    assert said in capsys.readouterr().out
