import subprocess
from pathlib import Path
from typing import Any

import pytest

from qwen35_local.chat import jinja_worker, sandbox
from qwen35_local.chat.sandbox import render_jinja
from qwen35_local.errors import TemplateError

pytest.importorskip("resource", reason="needs the process limits of a POSIX system")


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 9**(9**9) }}",
        "{{ 'a' * 10**10 }}",
        "{{ 'a' | center(4000000000) }}",
        "{{ '%4000000000d' % 1 }}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% for a in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
        "x" * (sandbox.TEMPLATE_CHARACTERS + 1),
        "{{ range(10**12) | list }}",
    ],
)
def test_a_greedy_template_is_stopped(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 1)
    with pytest.raises(TemplateError):
        for reply in render_jinja(template, [{}]):
            raise reply if isinstance(reply, TemplateError) else AssertionError(reply[:100])


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__.__mro__[1].__subclasses__()",
        "cycler.__init__.__globals__.os.system('touch CANARY')",
        "lipsum.__globals__['os'].popen('touch CANARY').read()",
        "('{0.__class__.__init__.__globals__}' | attr('format'))(cycler)",
        "'{0.__class__}'.format(cycler)",
        "['{0.__class__}'] | map('format', cycler) | list",
        "messages.append(1)",
        "self.__init__.__globals__",
        "raise_exception.__globals__",
        "strftime_now.__func__",
        "namespace.__init__.__globals__",
        "messages | map(attribute='append') | list",
        "joiner.__init__.__globals__['__builtins__']",
    ],
)
def test_a_template_cannot_reach_python(expression: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    template = "{{ " + expression.replace("CANARY", str(canary)) + " }}"
    (reply,) = jinja_worker.render(template, [{"messages": [{"role": "user", "content": "q"}]}], 1000)
    assert not canary.exists()
    text = reply.get("text", "")
    assert not any(leak in text for leak in ("<class", "<function", "<built-in", "module"))


def test_environment_is_that_of_hugging_face() -> None:
    template = (
        "{% for n in [1, 2, 3] %}{% if n == 2 %}{% continue %}{% endif %}{{ n }}{% endfor %}"
        "{{ {'ä': '<b>'} | tojson }}{{ [1] | tojson(indent=1) }}{{ strftime_now('%Y') | length }}\n"
        "    {% if true %}\nx{% endif %}"
    )
    assert render_jinja(template, [{}]) == ['13{"ä": "<b>"}[\n 1\n]4\nx']


@pytest.mark.parametrize(
    ("tagged", "plain"),
    [
        ("a{% generation %}b{% endgeneration %}c", "abc"),
        ("a {%- generation -%} b {%- endgeneration -%} c", "abc"),
        ("{% for n in [1, 2] %}{%- generation %} {{ n }} {%- endgeneration %};{% endfor %}", " 1; 2;"),
        ("{% generation %}a{% generation %}b{% endgeneration %}c{% endgeneration %}", "abc"),
        ("{% generation %}{% set x = 1 %}{% endgeneration %}{{ x }}", "1"),
        ("{% for n in [1, 2, 3] %}{% generation %}{% if n == 2 %}{% continue %}{% endif %}{{ n }}"
         "{% endgeneration %}{% endfor %}", "13"),
        ("{% if false %}{% generation %}a{% endgeneration %}{% endif %}b", "b"),
        ("{% macro f(x) %}{% generation %}{{ x }}{% endgeneration %}{% endmacro %}{{ f(2) }}", "2"),
    ],
)  # fmt: skip
def test_generation_tags_do_nothing(tagged: str, plain: str) -> None:
    assert jinja_worker.render(tagged, [{}], 1000) == [{"text": plain}]


def test_an_open_generation_tag_is_named() -> None:
    (reply,) = jinja_worker.render("{% generation %}a", [{}], 1000)
    assert "endgeneration" in reply["error"]
    (reply,) = jinja_worker.render("a{% endgeneration %}", [{}], 1000)
    assert "endgeneration" in reply["error"]


def test_generation_tags_keep_the_limits() -> None:
    (reply,) = jinja_worker.render("{% generation %}{{ 'a' * 2000 }}{% endgeneration %}", [{}], 1000)
    assert "more than 1000 characters" in reply["error"]


def test_each_context_has_its_own_result() -> None:
    first, second = render_jinja("{{ 1 / x }}", [{"x": 2}, {"x": 0}])
    assert first == "0.5"
    assert isinstance(second, TemplateError)


def test_the_template_sees_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    seen: dict[str, str] = {}
    original = subprocess.run

    def run(*args: Any, **options: Any) -> Any:
        seen.update(options["env"])
        return original(*args, **options)

    monkeypatch.setattr(subprocess, "run", run)
    assert render_jinja("{{ 1 }}", [{}]) == ["1"]
    assert "PATH" in seen and "HF_TOKEN" not in seen
