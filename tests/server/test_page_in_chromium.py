"""The page in a real Chromium, talking to the embedded model."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import Person, until
from conversations import CAPITAL, SUM
from scripted import Script
from serving import Served, served

from qwen35_local.engine.engine import Engine
from qwen35_local.engine.thinking import CLOSING
from qwen35_local.errors import Busy

pytestmark = pytest.mark.clients

KEY = "a-secret-key"
THOUGHT = "".join(f"Point {n} is one more to think of. " for n in range(300))
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TAP = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(monkeypatch)


def thinks(person: Person, how: str) -> None:
    person.page.get_by_label("Thinking", exact=True).select_option(how)


def has(person: Person, expression: str) -> bool:
    return bool(person.page.evaluate(expression))


def test_a_reply_is_written_and_kept(person: Person) -> None:
    person.say(CAPITAL)
    (answer,) = person.texts()
    assert "Rome" in answer
    assert person.page.title().startswith(CAPITAL)
    person.say("And of France?")
    person.messages().last.locator(".why summary").click()
    why = person.messages().last.locator(".why").inner_text()
    assert "tokens/s" in why
    assert re.search(r"prompt \d+: [1-9]\d* reused, [1-9]\d* read", why)
    assert re.search(r"reused\s+\d+, from (the end of|where|what was) ", why)
    kept = person.texts("user") + person.texts()
    person.page.reload()
    person.page.locator(".entry .name").first.click()
    assert person.texts("user") + person.texts() == kept
    second = person.asked[1]["messages"]
    assert [message["role"] for message in second] == ["user", "assistant", "user"]
    assert second[1]["content"].strip() == answer


def test_thinking_is_folded_and_live(person: Person, script: Script, demo_engine: Engine) -> None:
    script.say(demo_engine, THOUGHT[:3000], "</think>", "Done.")
    person.say(SUM, waits=False)
    live = person.page.locator(".thinking.live summary")
    live.wait_for()
    assert "Point" in live.inner_text()
    assert not has(person, "document.querySelector('.thinking.live').open")
    live.click()
    thought = person.messages().locator(".thought")
    before = thought.inner_text()
    person.wait()
    after = thought.inner_text()
    assert after.startswith(before[:20])
    assert len(after) > len(before)
    assert person.messages().locator(".thinking summary").inner_text().startswith("Thought")
    assert person.texts() == ["Done."]


def test_answer_now(person: Person, script: Script, demo_engine: Engine) -> None:
    script.say(demo_engine, THOUGHT * 2, "</think>", "Late.")
    person.say(SUM, waits=False)
    person.press("Answer now")
    person.page.locator("article.assistant .text p").first.wait_for()
    assert not person.page.get_by_role("button", name="Answer now").is_visible()
    person.press("Stop")
    person.wait()
    person.messages().locator(".thinking summary").click()
    thought = person.messages().locator(".thought", has_text="Point 0")
    assert thought.inner_text().rstrip().endswith(CLOSING.strip())


@pytest.mark.parametrize("how", ["Escape", "Stop"])
def test_stop(person: Person, server: Served, script: Script, demo_engine: Engine, how: str) -> None:
    thinks(person, "off")
    script.say(demo_engine, "One more word. " * 2000)
    person.say("Go on.", waits=False)
    until(lambda: len(person.texts()[0]) > 40)
    if how == "Stop":
        person.press("Stop")
    else:
        person.page.keyboard.press("Escape")
    person.wait()
    until(lambda: not server.service.running)
    (text,) = person.texts()
    assert 40 < len(text) < 20_000
    assert person.messages().locator(".why").inner_text() == "stopped"
    person.page.reload()
    person.page.locator(".entry .name").first.click()
    assert person.texts() == [text]


def test_edit_retry_and_branches(person: Person) -> None:
    person.say(CAPITAL)
    first = person.texts()
    person.press("Edit", person.messages("user"))
    person.page.get_by_label("Text of the message").fill("What is the capital of France?")
    person.page.keyboard.press("Enter")
    person.page.locator("article.user .branches", has_text="2/2").wait_for()
    person.wait()
    second = person.texts()
    assert "Paris" in second[0]
    person.press("Retry", person.messages())
    person.page.locator("article.assistant .branches", has_text="2/2").wait_for()
    person.wait()
    person.messages("user").focus()
    person.page.keyboard.press("ArrowLeft")
    assert person.texts("user") == [CAPITAL]
    assert person.texts() == first
    person.page.keyboard.press("ArrowRight")
    person.page.keyboard.press("ArrowDown")
    assert person.messages().locator(".branches").inner_text().strip("‹›") == "2/2"
    person.page.keyboard.press("ArrowLeft")
    assert person.texts() == second
    assert [len(asked["messages"]) for asked in person.asked] == [1, 1, 1]


def test_a_reply_can_be_edited(person: Person) -> None:
    person.say(CAPITAL)
    person.press("Edit", person.messages())
    person.page.get_by_label("Text of the message").fill("It is Milan.")
    person.press("Keep")
    person.say("Are you sure?")
    assert person.asked[1]["messages"][1]["content"] == "It is Milan."
    person.press("Branch before", person.messages().first)
    assert "Rome" in person.texts()[0]
    assert len(person.texts()) == 1


def test_a_tool_is_called_and_a_person_gives_its_result(person: Person) -> None:
    person.press("Settings")
    person.page.get_by_label("Tools", exact=False).fill("[{")
    person.press("Save")
    assert "not JSON" in person.page.locator("#settings-error").inner_text()
    person.page.get_by_label("Tools", exact=False).fill(json.dumps([WEATHER]))
    person.page.get_by_label("Temperature").fill("0")
    person.press("Save")
    person.say("What is the weather in Paris?")
    assert person.page.locator(".call-name").inner_text() == "get_weather"
    assert json.loads(person.page.locator(".call pre").inner_text()) == {"city": "Paris"}
    person.page.get_by_label("Result of get_weather").fill('{"weather": "sunny"}')
    person.press("Send result")
    person.page.locator("article.tool").wait_for()
    person.wait()
    assert "sunny" in person.texts()[-1]
    assert person.page.get_by_label("Result of get_weather").count() == 0
    call, result = person.asked[1]["messages"][1:]
    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
    assert result == {"role": "tool", "content": '{"weather": "sunny"}', "tool_call_id": call["tool_calls"][0]["id"]}


def test_settings_are_sent(person: Person) -> None:
    person.press("Settings")
    person.page.get_by_label("System prompt").fill("You are brief.")
    for label, value in (("Temperature", "0.5"), ("Top k", "7"), ("Seed", "3"), ("Reply, at most tokens", "64")):
        person.page.get_by_label(label, exact=True).fill(value)
    person.press("Save")
    thinks(person, "budget")
    person.page.get_by_label("Thinking, at most so many tokens").fill("20")
    person.page.keyboard.press("Tab")
    person.say(SUM)
    thinks(person, "off")
    person.say(SUM)
    first, second = person.asked
    wanted = {"temperature": 0.5, "top_k": 7, "seed": 3, "max_tokens": 64, "thinking_budget": 20}
    assert {name: first[name] for name in wanted} == wanted
    assert first["messages"][0] == {"role": "system", "content": "You are brief."}
    assert first["chat_template_kwargs"] == {"enable_thinking": True}
    assert second["chat_template_kwargs"] == {"enable_thinking": False}
    assert "thinking_budget" not in second
    person.press("New conversation")
    person.say(SUM)
    assert "temperature" not in person.asked[2]


def test_conversations_are_listed_renamed_found_and_deleted(person: Person) -> None:
    person.say(CAPITAL)
    person.press("New conversation")
    person.say(SUM)
    names = person.page.locator(".entry .name")
    assert names.all_inner_texts() == [SUM, CAPITAL]
    person.page.locator(".entry", has_text=CAPITAL).hover()
    person.page.get_by_label(f"Rename {CAPITAL}").click()
    person.page.get_by_label("Name of the conversation").fill("Of <b>cities</b>")
    person.page.keyboard.press("Enter")
    assert sorted(names.all_inner_texts()) == ["Of <b>cities</b>", SUM]
    person.page.keyboard.press("Control+k")
    person.page.keyboard.type("rome")
    assert names.all_inner_texts() == ["Of <b>cities</b>"]
    person.page.keyboard.press("Enter")
    assert person.texts("user") == [CAPITAL]
    person.page.get_by_label("Search conversations").fill("")
    person.page.on("dialog", lambda dialog: dialog.accept())
    person.page.get_by_label("Delete Of <b>cities</b>").click()
    names.filter(has_text="Of").wait_for(state="detached")
    person.page.reload()
    names.first.wait_for()
    assert names.all_inner_texts() == [SUM]


def test_export_and_import(person: Person, tmp_path: Path) -> None:
    person.say(CAPITAL)
    with person.page.expect_download() as downloaded:
        person.press("Export")
    path = tmp_path / "kept.json"
    downloaded.value.save_as(path)
    (kept,) = json.loads(path.read_text())["conversations"]
    kept["title"] = "<img src=x onerror=alert(1)>"
    path.write_text(json.dumps({"format": "qwen35-conversations", "version": 1, "conversations": [kept]}))
    person.page.locator("#import-file").set_input_files(path)
    person.page.get_by_role("button", name=kept["title"], exact=True).click()
    assert person.texts("user") == [CAPITAL]
    assert person.page.locator(".entry").count() == 2


def exported(*nodes: dict[str, Any]) -> str:
    """A file of one conversation, whose root has the first of these nodes below it."""
    named = {"root": {"role": "root", "children": ["b"]}} | dict(zip("bcd", nodes, strict=False))
    return json.dumps({"format": "qwen35-conversations", "conversations": [{"id": "a", "nodes": named}]})


NOT_EXPORTS = {
    "text": "no",
    "list": "[]",
    "nothing": '{"format": "qwen35-conversations"}',
    "no root": '{"format": "qwen35-conversations", "conversations": [{"id": "a", "nodes": {}}]}',
    "no such role": exported({"role": "system", "content": "x", "children": []}),
    "no text": exported({"role": "user", "content": ["x"], "children": []}),
    "no children": exported({"role": "user", "content": "x"}),
    "twice": exported(
        {"role": "user", "content": "x", "children": ["c", "c"]}, {"role": "user", "content": "x", "children": []}
    ),
}


@pytest.mark.parametrize("value", NOT_EXPORTS.values(), ids=NOT_EXPORTS)
def test_what_is_no_export_is_refused(person: Person, tmp_path: Path, value: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(value)
    person.page.locator("#import-file").set_input_files(path)
    person.page.locator("#notice").wait_for()
    assert "wrong.json" in person.page.locator("#notice").inner_text()
    assert "exported" in person.page.locator("#notice").inner_text()
    assert person.page.locator(".entry").count() == 0


def test_what_hangs_in_itself_is_left_off(person: Person, tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    path.write_text(exported({"role": "user", "content": "x", "children": ["b", "root", "__proto__", "c"]}))
    person.page.locator("#import-file").set_input_files(path)
    person.page.locator(".entry .name").click()
    assert person.texts("user") == ["x"]


def test_a_refusal_is_shown_and_can_be_retried(
    person: Person, demo_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*arguments: object, **more: object) -> None:
        raise Busy("all 1 places are taken and 9 replies wait for one", 3)

    with monkeypatch.context() as patch:
        patch.setattr(demo_engine, "submit", busy)
        person.say(CAPITAL)
        error = person.page.locator("article.assistant .error").inner_text()
    assert "9 replies wait" in error
    assert "Try again in 3 s" in error
    person.press("Retry", person.messages())
    person.page.locator(".branches", has_text="2/2").wait_for()
    person.wait()
    assert "Rome" in person.texts()[0]


def test_a_key_is_asked_for(browser: Any, demo_engine: Engine) -> None:
    with served(demo_engine, keys=[KEY]) as locked:
        context = browser.new_context()
        person = Person(context.new_page(), locked.url)
        person.page.goto(person.url)
        for given in ("wrong-key", KEY):
            person.page.get_by_label("Key", exact=True).locator("input").fill(given)
            person.press("Use it")
            if given != KEY:
                person.page.locator("#key-why", has_text="the key is wrong").wait_for()
        person.say(CAPITAL)
        assert "Rome" in person.texts()[0]
        kept = person.page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]")
        assert KEY in kept[0]
        assert KEY not in kept[1] + kept[2]
        assert context.cookies() == []
        assert person.errors == []
        context.close()


@pytest.mark.parametrize("options", [TAP])
def test_phone(person: Person) -> None:
    person.say("A word that is long: " + "x" * 300)
    wide = "y" * 500 + "\n\n|a|b|\n|-|-|\n|" + "z" * 300 + "|2|\n\n```\n" + "w " * 300
    into = "const { show } = await import('./page/markdown.js'); show(document.querySelector('.markdown'), text);"
    person.page.evaluate(f"async (text) => {{ {into} }}", wide)
    assert has(person, "document.documentElement.scrollWidth <= innerWidth")
    assert not person.page.locator("#list").is_visible()
    person.page.get_by_role("button", name="Conversations").tap()
    person.page.locator(".entry .name").first.tap()
    person.page.locator("#list").wait_for(state="hidden")
    for name in ("Send", "Settings"):
        box = person.page.get_by_role("button", name=name, exact=True).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["y"] + box["height"] <= 780


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, {"color_scheme": "light"}])
def test_light_and_dark(person: Person, options: dict[str, Any]) -> None:
    def is_dark() -> bool:
        colour = person.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return max(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 60

    assert is_dark() == (options["color_scheme"] == "dark")
    person.press("Light or dark")
    assert is_dark() != (options["color_scheme"] == "dark")
    person.page.reload()
    assert is_dark() != (options["color_scheme"] == "dark")


def test_state_of_the_server(person: Person, http: httpx.Client) -> None:
    person.page.locator("#server summary").click()
    person.page.locator("#server-facts dt", has_text="memory").wait_for()
    facts = person.page.locator("#server-facts").inner_text()
    assert http.get("/v1/qwen35/status").json()["summary"] in facts
    assert "of weights" in facts
