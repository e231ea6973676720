"""Templates that refuse, write nothing or are no text: one error, and the conversation lives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwen35_local import _core
from qwen35_local.chat.messages import Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.cli.repl import Repl
from qwen35_local.cli.session import Session
from qwen35_local.cli.session_store import SessionStore
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.reply import Done, Request
from qwen35_local.errors import FormatError

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n{% endfor %}"
)
OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
ONLY_ASKED = "{% if not add_generation_prompt %}{{ raise_exception('not asked') }}{% endif %}"
REFUSES = "{% if 'no' in messages[-1].content %}{{ raise_exception('no is no answer') }}{% endif %}"
SILENT = "{% if 'no' not in messages[-1].content %}" + TURNS + OPENING + "{% endif %}"

Made = Callable[[Any], Engine]


@pytest.fixture
def made(demo: _core.Model) -> Made:
    return lambda template: Engine(demo, metadata=demo.metadata | {"tokenizer.chat_template": template})


def answer(engine: Engine, *said: str) -> Done:
    messages = [Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(said)]
    *_, done = engine.reply(Request(messages, Sampling(temperature=0), max_tokens=20))
    assert isinstance(done, Done)
    return done


def test_generation_tags_do_not_change_an_answer(made: Made) -> None:
    plain = (TURNS + OPENING).replace("{% generation %}", "").replace("{% endgeneration %}", "")
    first, second = (answer(made(text), "My name is Ann.", "Hello.", "Who?") for text in (TURNS + OPENING, plain))
    assert first.message == second.message
    assert first.usage.prompt_tokens == second.usage.prompt_tokens


@pytest.mark.parametrize(
    ("template", "fault"),
    [(REFUSES + TURNS + OPENING, "no is no answer"), (SILENT, "writes nothing")],
    ids=["refuses", "writes nothing"],
)
def test_a_conversation_survives_its_template(
    made: Made, template: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("QWEN35_HOME", str(tmp_path))
    session = Session(made(template), name="one")
    session.choose("max_tokens", "5")
    repl = Repl(session, SessionStore(tmp_path / "sessions"))
    repl.take("no")
    assert fault in capsys.readouterr().out
    assert session.messages == []
    repl.take("Hello!")
    assert [message.role for message in session.messages] == ["user", "assistant"]
    repl.take("no")
    assert len(session.messages) == 2
    repl.keep_state()
    session.messages[0] = replace(session.messages[0], content="no")
    repl.keep_state()
    assert "!" in capsys.readouterr().out


def test_reading_ahead_needs_no_leave_of_the_template(made: Made) -> None:
    """It renders a conversation that nobody has asked about; where that is refused, nothing is read ahead."""
    engine = made(ONLY_ASKED + TURNS + OPENING)
    done = answer(engine, "Hello!")
    request = Request([Message("user", "Hello!")], Sampling())
    engine.prefill_ahead(request, done.message)
    engine.finish_idle()
    assert list(engine.checkpoints([replace(request, messages=[*request.messages, done.message])]))


@pytest.mark.parametrize("template", [5, 1.5, True, ["a"], []])
def test_a_template_that_is_no_text_is_refused(made: Made, template: Any) -> None:
    with pytest.raises(FormatError, match=r"tokenizer\.chat_template is .*; expected a text"):
        made(template)
