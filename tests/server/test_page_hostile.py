"""What the page makes of text, whoever wrote it: Markdown where it is Markdown, and text where it is anything else.

In a real Chromium, under the page's own policy."""

import json
import random
from typing import Any

import pytest
from browsing import Person
from scripted import Script

from qwen35_local.engine.engine import Engine

pytestmark = pytest.mark.clients

# A tree as text: names of elements with what is in them.
OUTLINE = """async (texts) => {
  const { show } = await import("./page/markdown.js");
  const outline = (node) => node.nodeType === 3 ? node.data
    : `${node.localName}(${[...node.childNodes].map(outline).join("|")})`;
  return texts.map((text) => {
    const place = document.createElement("div");
    show(place, text);
    return [...place.childNodes].map(outline).join(" ");
  });
}"""

# What there is of elements and their attributes, where links lead, whether writing a text piece by piece ends in the
# same tree, and the milliseconds that the longest took.
SURVEY = """async (texts) => {
  const { show } = await import("./page/markdown.js");
  const found = { names: new Set(), links: new Set(), differing: [], longest: 0 };
  for (const text of texts) {
    const place = document.createElement("div");
    document.body.append(place);
    const began = performance.now();
    show(place, text);
    found.longest = Math.max(found.longest, performance.now() - began);
    for (const element of place.querySelectorAll("*")) {
      for (const name of element.getAttributeNames()) found.names.add(`${element.localName} ${name}`);
      found.names.add(element.localName);
      if (element.href !== undefined) found.links.add(element.href);
    }
    if (text.length < 500) {
      const grown = document.createElement("div");
      for (let n = 1; n <= text.length; n++) show(grown, text.slice(0, n));
      if (!grown.isEqualNode(place)) found.differing.push(text);
    }
    place.remove();
  }
  return { ...found, names: [...found.names], links: [...found.links], pwned: window.pwned };
}"""

BLOCKS = {
    "p",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "div",
    "pre",
    "blockquote",
    "ul",
    "ol",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
}
ELEMENTS = BLOCKS | {"th", "td", "span", "button", "code", "input", "strong", "em", "del", "a"}
ATTRIBUTES = {"class", "dir", "type"}
ALLOWED = (
    ELEMENTS
    | {f"{element} {attribute}" for element in ELEMENTS for attribute in ATTRIBUTES}
    | {"a href", "a target", "a rel", "a title", "ol start", "input disabled"}
)

SCRIPTS = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<svg/onload=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<a href='javascript:window.pwned=1'>x</a>",
    "</p></div></article><script>window.pwned=1</script>",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href='http://evil.example/'>",
    "[x](javascript:window.pwned=1)",
    "[x](JaVaScRiPt:window.pwned=1)",
    "[x](java\tscript:window.pwned=1)",
    "[x](data:text/html,<script>window.pwned=1</script>)",
    "[x](vbscript:x) [x](file:///etc/passwd) [x](//evil.example) [x](http:evil.example) [x](blob:x)",
    "[x](https://user:secret@evil.example)",
    "![x](http://evil.example/beacon.png)",
    "[![x](http://evil.example/beacon.png)](javascript:window.pwned=1)",
    '<javascript:window.pwned=1> <http://evil.example/" onmouseover="window.pwned=1>',
    "http://evil.example/'onclick='window.pwned=1 https://evil.example/\"><script>window.pwned=1</script>",
    "```html\n<script>window.pwned=1</script>\n```",
    '```" onclick="window.pwned=1\nx\n```',
    "| <script>window.pwned=1</script> | b |\n|-|-|\n| [x](javascript:window.pwned=1) | <img src=x onerror=pwned=1> |",
    "# <img src=x onerror=window.pwned=1>\n> <script>window.pwned=1</script>\n- <svg onload=window.pwned=1>",
    "`<script>window.pwned=1</script>` **<script>window.pwned=1</script>**",
    "&lt;script&gt;window.pwned=1&lt;/script&gt; &#60;script&#62;",
    "\u202e<script>\u2066\ufeff\x00\x1b[31m\ud7ff",
    "__proto__ constructor {{7*7}} ${window.pwned=1}",
]

SHAPES = {
    "One\ntwo\n\nthree": "p(One\ntwo) p(three)",
    "# A\n### B ##\n#c": "h3(A) h5(B) p(#c)",
    "**a** *b* ***c*** ~~d~~ `e*f*` __g__ _h_": (
        "p(strong(a)| |em(b)| |strong(em(c))| |del(d)| |code(e*f*)| |strong(g)| |em(h))"
    ),
    "a * b * c, 2**10, snake_case_name, **open": "p(a * b * c, 2**10, snake_case_name, **open)",
    r"\*a\* \`b\` \[c](http://d)": "p(*|a|*| |`|b|`| |[|c](|a(http://d)|))",
    "- a\n- b\n  - c\n\n  d\n- e": "ul(li(p(a))|li(p(b)|ul(li(p(c)))|p(d))|li(p(e)))",
    "3. a\n4. b\n\n   ```py\n   x = 1\n   ```": (
        "ol(li(p(a))|li(p(b)|div(div(span(py)|button(Copy))|pre(code(x = 1)))))"
    ),
    "- [x] a\n- [ ] b": "ul(li(input()|p(a))|li(input()|p(b)))",
    "> a\n> > b\n\nc": "blockquote(p(a)|blockquote(p(b))) p(c)",
    "a | b\n--|:-:\n1 | `x\\|y`\n": "div(table(thead(tr(th(a)|th(b)))|tbody(tr(td(1)|td(code(x|y))))))",
    "| a |\n| - |": "div(table(thead(tr(th(a)))|tbody()))",
    "a\n---\nb": "p(a) hr() p(b)",
    "```\na\n\n# b\n": "div(div(span(text)|button(Copy))|pre(code(a\n\n# b\n)))",
    "~~~ c\n```\n~~~": "div(div(span(c)|button(Copy))|pre(code(```)))",
    "[a *b*](https://c/d_(e)) https://f.g/h, x": "p(a(a *b*)| |a(https://f.g/h)|, x)",
    "1986. A year\n\nnext": "ol(li(p(A year))) p(next)",
    "It was\n1986. A year": "p(It was\n1986. A year)",
    "": "",
    " \n\n": "",
}


def check(found: dict[str, Any]) -> None:
    assert set(found["names"]) <= ALLOWED
    assert all(link.startswith(("http://", "https://")) for link in found["links"])
    assert found.get("pwned") is None
    assert found["differing"] == []


def test_markdown(person: Person) -> None:
    assert dict(zip(SHAPES, person.page.evaluate(OUTLINE, list(SHAPES)), strict=True)) == SHAPES


def test_links_leave_nothing_behind(person: Person) -> None:
    text = "[a](https://b.example/c) http://d.example"
    rel = "async (text) => { const { show } = await import('./page/markdown.js'); const place = document.createElement"
    rel += (
        "('div'); show(place, text); return [...place.querySelectorAll('a')].map((a) => [a.href, a.rel, a.target]); }"
    )
    expected = "noopener noreferrer nofollow"
    assert person.page.evaluate(rel, text) == [
        ["https://b.example/c", expected, "_blank"],
        ["http://d.example/", expected, "_blank"],
    ]


def test_scripts_are_text(person: Person) -> None:
    check(person.page.evaluate(SURVEY, SCRIPTS))
    shown = person.page.evaluate(OUTLINE, SCRIPTS[:9])
    assert all(
        text.split("|")[0].startswith(f"p({script.split('=')[0]}") for text, script in zip(shown, SCRIPTS, strict=False)
    )


def test_any_text(person: Person) -> None:
    """Pieces of Markdown and of markup in any order."""
    pieces = [
        *"*_`~#>|-[]()!\\<&: \n\n\t",
        "1. ",
        "- ",
        "```",
        "~~~",
        "**",
        "](",
        "http://a.b",
        "    ",
        "|-|\n",
        "\r\n",
    ]
    pieces += ["word", "ä", "\U0001f600", "<script>", "javascript:", "[x] ", "\n\n", "---\n", "\u202e", "\x00"]
    draw = random.Random(5)
    texts = ["".join(draw.choices(pieces, k=draw.randint(1, 60))) for _ in range(600)]
    found = person.page.evaluate(SURVEY, texts)
    check(found)
    assert {"a", "code", "table", "li", "blockquote", "em"} <= set(found["names"])  # so that it was Markdown, too


REPEATED = [
    "*", "**a ", "*a **b ", "_a ", "`", "` `` ", "[", "](", "[a](", "[a](http://b", "<", "\\", "> ", ">", "- ",
    "- a\n  ", "- a\n\n", "1. ", "#", "# ", "|", "|a\n|-\n", "a|\n-|\n", "~", "~~~\n", "``` `", "\n", " ", "\t",
    "x", "http://", "https://a/", "a@b ", "-", "- - ", "***a*** ", "((", "\ud83d\ude00", "a\n",
]  # fmt: skip


def test_no_text_takes_long(person: Person) -> None:
    """A hundred thousand characters each: a time that grew with their square would be minutes."""
    for piece in REPEATED:
        text = piece * (100_000 // len(piece))
        found = person.page.evaluate(SURVEY, [text, text + "*`~](http://x) |"])
        check(found)
        assert found["longest"] < 8_000, piece


def test_a_hostile_reply(person: Person, demo_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(SCRIPTS[:-2])
    Script(monkeypatch).say(demo_engine, text, "</think>", text)
    person.page.get_by_label("Thinking", exact=True).select_option("on")
    person.say(text)
    person.messages().locator(".thinking summary").click()
    assert person.texts("user")[0].count("<script>") == text.count("<script>")
    assert person.messages().locator(".thought").inner_text().count("<script>") == text.count("<script>")
    assert person.messages().locator(".text").inner_text().count("<script>") > 5
    assert person.page.locator("#messages :is(script, img, svg, iframe, style, meta, base)").count() == 0
    assert person.page.evaluate("window.pwned") is None
    person.page.reload()
    person.page.locator(".entry .name").first.click()
    assert person.page.locator("#messages :is(script, img, svg, iframe, style, meta, base)").count() == 0
    assert person.page.evaluate("window.pwned") is None


def test_a_hostile_call(person: Person, demo_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    script = SCRIPTS[1]
    call = f"\n<function=look>\n<parameter=place>\n{script}\n</parameter>\n</function>\n"
    Script(monkeypatch).say(demo_engine, "<tool_call>", call, "</tool_call>")
    place = {"type": "object", "properties": {"place": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "look", "parameters": place}}
    person.press("Settings")
    person.page.get_by_label("Tools", exact=False).fill(json.dumps([tool]))
    person.press("Save")
    person.page.get_by_label("Thinking", exact=True).select_option("off")
    person.say("Look.")
    assert json.loads(person.page.locator(".call pre").inner_text()) == {"place": script}
    assert person.page.locator("#messages img").count() == 0
    assert person.page.evaluate("window.pwned") is None
