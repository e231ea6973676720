"""The page without a mouse: whatever is done, the focus stays where one would go on; in a real Chromium."""

import json

import pytest
from browsing import Person, until
from conversations import CAPITAL, SUM
from scripted import Script

from qwen35_local.engine.engine import Engine

pytestmark = pytest.mark.clients

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def focused(person: Person) -> str:
    """The role of the message that has the focus, else what has it."""
    where = "((e) => e.tagName === 'ARTICLE' ? e.classList[0] : e.id || e.className || e.tagName)"
    return str(person.page.evaluate(f"{where}(document.activeElement)"))


def press(person: Person, *keys: str) -> None:
    for key in keys:
        person.page.keyboard.press(key)


def test_messages(person: Person) -> None:
    person.page.keyboard.type(CAPITAL)
    press(person, "Enter")
    person.wait()
    assert focused(person) == "input"
    press(person, "ArrowUp", "r")
    person.page.locator("article.assistant .branches", has_text="2/2").wait_for()
    person.wait()
    assert focused(person) == "assistant"
    press(person, "ArrowUp", "e")
    press(person, "Escape")
    assert focused(person) == "user"
    press(person, "e", "Control+a")
    person.page.keyboard.type("What is the capital of France?")
    press(person, "Enter")
    person.page.locator("article.user .branches", has_text="2/2").wait_for()
    person.wait()
    assert focused(person) == "assistant"
    press(person, "ArrowUp", "ArrowLeft")
    assert person.texts("user") == [CAPITAL]
    assert focused(person) == "user"
    press(person, "ArrowDown", "ArrowDown")
    assert focused(person) == "input"


def test_a_result_of_a_tool(person: Person, demo_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    person.press("Settings")
    person.page.get_by_label("Tools", exact=False).fill(json.dumps([WEATHER]))
    press(person, "Tab", "Tab", "Tab", "Enter")
    with monkeypatch.context() as patch:
        Script(patch).say(
            demo_engine, "</think>", "<tool_call>", "\n<function=get_weather>\n</function>\n", "</tool_call>"
        )
        person.say("What is the weather?")
    person.page.get_by_label("Result of get_weather").focus()
    person.page.keyboard.type("sunny")
    press(person, "Tab", "Enter")
    person.page.locator("article.tool").wait_for()
    person.wait()
    assert focused(person) == "assistant"


def test_buttons_that_go(person: Person, demo_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        Script(patch).say(demo_engine, "".join(f"Point {n} is one more to think of. " for n in range(300)))
        person.page.keyboard.type(SUM)
        person.page.get_by_role("button", name="Send", exact=True).focus()
        press(person, "Enter")
        assert focused(person) == "stop"
        person.page.get_by_role("button", name="Answer now").focus()
        press(person, "Enter")
        until(lambda: focused(person) == "stop")
        press(person, "Enter")
        person.wait()
    assert focused(person) == "send"


def test_the_list(person: Person) -> None:
    for text in (CAPITAL, SUM):
        person.press("New conversation")
        person.say(text)
    person.page.on("dialog", lambda dialog: dialog.accept())
    press(person, "Control+k", "ArrowDown", "ArrowDown", "Tab", "Enter")
    assert person.page.get_by_label("Name of the conversation").input_value() == CAPITAL
    person.page.keyboard.type("Of cities")
    press(person, "Enter")
    names = person.page.locator(".entry .name")
    assert names.all_inner_texts() == ["Of cities", SUM]
    assert person.page.evaluate("document.activeElement.textContent") == "Of cities"
    press(person, "Tab", "Tab", "Enter")
    names.filter(has_text="Of cities").wait_for(state="detached")
    assert person.page.evaluate("document.activeElement.textContent") == SUM
    press(person, "Enter")
    assert person.texts("user") == [SUM]
    assert focused(person) == "input"
