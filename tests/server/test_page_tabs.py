"""The page in two tabs, and what happens to a conversation while one of its replies is written; in a real Chromium."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import Person, until
from conversations import CAPITAL, SUM
from scripted import Script
from serving import Served, served

from qwen35_local.engine.engine import Engine

pytestmark = pytest.mark.clients

KEY = "a-secret-key"
STORY = "Tell me a story."
LONG = "".join(f"Point {n} is one more to tell of. " for n in range(300))


@pytest.fixture
def other(person: Person) -> Person:
    """The same person in a second tab."""
    again = Person(person.page.context.new_page(), person.url)
    again.errors = person.errors
    again.go()
    return again


@pytest.fixture
def slowly(demo_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reply is `LONG`, a hundred tokens a second at most."""
    allow = Script._allow

    def later(script: Script, sampler: Any) -> None:
        time.sleep(0.01)
        allow(script, sampler)

    monkeypatch.setattr(Script, "_allow", later)
    Script(monkeypatch).say(demo_engine, "</think>", LONG)


@pytest.fixture
def writing(person: Person, server: Served, slowly: None) -> Iterator[None]:
    """A reply to `STORY` is being written in the first tab."""
    person.say(STORY, waits=False)
    until(lambda: len(person.texts()[0]) > 40)
    yield
    for page in person.page.context.pages:
        page.close()
    until(lambda: not server.service.running)


def names(person: Person) -> list[str]:
    return list(person.page.locator(".entry .name").all_inner_texts())


def remove(person: Person, name: str) -> None:
    person.page.on("dialog", lambda dialog: dialog.accept())
    person.page.locator(".entry", has_text=name).hover()
    person.page.get_by_label(f"Delete {name}").click()


def test_what_is_said_in_another_tab_stays(person: Person, other: Person, writing: None) -> None:
    """While the first tab writes, and keeps what it writes, the second goes on in the same conversation."""
    other.page.locator(".entry .name").click()
    other.page.locator(".why", has_text="being written in another tab").wait_for()
    until(lambda: other.texts()[0].startswith("Point 0 is"))
    other.say(CAPITAL, waits=False)
    other.press("Stop")  # it waits for the place
    other.wait()
    other.page.locator(".entry").hover()
    other.page.get_by_label(f"Rename {STORY}").click()
    other.page.keyboard.type("Of words")
    other.page.keyboard.press("Enter")
    until(lambda: names(person) == ["Of words"])
    assert other.messages().first.locator(".why").inner_text() == "being written in another tab"
    person.press("Stop")
    person.wait()
    until(lambda: other.messages().first.locator(".why").inner_text() == "stopped")
    said = person.texts("user"), person.texts()
    assert said[0] == [STORY, CAPITAL]
    until(lambda: (other.texts("user"), other.texts()) == said)
    person.page.reload()
    person.page.locator(".entry .name").click()
    assert (person.texts("user"), person.texts()) == said
    assert names(person) == ["Of words"]


def test_an_editor_stays_while_another_tab_goes_on(person: Person, other: Person) -> None:
    person.say(CAPITAL)
    until(lambda: names(other) == [CAPITAL])
    other.page.locator(".entry .name").click()
    other.press("Edit", other.messages("user"))
    other.page.get_by_label("Text of the message").fill("half a senten")
    person.say(SUM)
    until(lambda: len(other.texts()) == 2)
    assert other.page.get_by_label("Text of the message").input_value() == "half a senten"


def test_what_is_deleted_while_it_is_written_is_gone(person: Person, server: Served, writing: None) -> None:
    remove(person, STORY)
    until(lambda: not server.service.running)
    assert person.texts() == names(person) == []
    person.page.reload()
    person.page.locator("#conversations .hint").wait_for()
    assert names(person) == []


def test_what_another_tab_deletes_is_gone(person: Person, other: Person, server: Served, writing: None) -> None:
    remove(other, STORY)
    person.page.locator("#notice", has_text="deleted in another tab").wait_for()
    until(lambda: not server.service.running)
    assert person.texts() == names(person) == []
    other.page.reload()
    other.page.locator("#conversations .hint").wait_for()


def test_a_name_that_is_being_typed_stays(person: Person, writing: None) -> None:
    person.page.locator(".entry").hover()
    person.page.get_by_label(f"Rename {STORY}").click()
    person.page.keyboard.type("Of wo")
    person.page.evaluate("document.getElementById('stop').click()")
    person.wait()
    person.page.keyboard.type("rds")
    person.page.keyboard.press("Enter")
    assert names(person) == ["Of words"]
    assert person.page.evaluate("document.activeElement.className") == "name"


FULL = """const put = IDBObjectStore.prototype.put;
IDBObjectStore.prototype.put = function (...given) {
  const request = put.apply(this, given);
  if (window.full) this.transaction.abort(); // as the browser does when the disk is full
  return request;
};"""


def test_where_no_more_can_be_kept(browser: Any, server: Served) -> None:
    context = browser.new_context()
    context.add_init_script(FULL)
    person = Person(context.new_page(), server.url)
    person.go()
    person.say(CAPITAL)
    person.page.evaluate("window.full = true")
    person.say("And of France?")
    assert "could not be kept" in person.page.locator("#notice").inner_text()
    assert len(person.texts()) == 2
    person.page.evaluate("window.full = false")
    person.say("And of Spain?")
    said = person.texts("user")
    assert not person.page.locator("#notice").is_visible()
    person.page.reload()
    person.page.locator(".entry .name").click()
    assert person.texts("user") == said == [CAPITAL, "And of France?", "And of Spain?"]
    assert person.errors == []
    context.close()


def test_a_key_where_nothing_can_be_kept(browser: Any, demo_engine: Engine) -> None:
    """Site data forbidden, as a browser may have it: the key lasts as long as the page."""
    with served(demo_engine, keys=[KEY]) as locked:
        context = browser.new_context()
        denied = "{ get() { throw new DOMException('denied', 'SecurityError'); } }"
        stores = ("sessionStorage", "localStorage", "indexedDB")
        context.add_init_script("\n".join(f"Object.defineProperty(window, '{name}', {denied});" for name in stores))
        person = Person(context.new_page(), locked.url)
        person.page.goto(person.url)
        person.page.locator("#notice", has_text="keeps nothing").wait_for()
        person.page.get_by_label("Key", exact=True).locator("input").fill(KEY)
        person.press("Use it")
        person.say(CAPITAL)
        assert "Rome" in person.texts()[0]
        assert person.errors == []
        context.close()


def test_the_server_ends_in_the_middle_of_a_reply(browser: Any, demo_engine: Engine, slowly: None) -> None:
    context = browser.new_context()
    with served(demo_engine) as ending:
        person = Person(context.new_page(), ending.url)
        person.go()
        person.say(STORY, waits=False)
        until(lambda: len(person.texts()[0]) > 40)
    person.wait()
    assert person.messages().locator(".error").inner_text() == "the server is ending."
    kept = person.texts()
    assert len(kept[0]) > 40
    person.say(SUM)
    assert "does not answer" in person.messages().last.locator(".error").inner_text()
    assert person.texts()[0] == kept[0]
    assert person.errors == []
    context.close()
