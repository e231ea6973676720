from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from goldens import CASES, FILES, FOREIGN, by_jinja, expected, official_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen35_local.chat.carried import carried_template
from qwen35_local.chat.family import VARIANTS, Options
from qwen35_local.chat.foreign import context
from qwen35_local.chat.messages import read_messages
from qwen35_local.chat.template import OFFICIAL, Template
from qwen35_local.errors import FormatError, InputError, Qwen35Error, TemplateError

DEMO = Path(__file__).parents[2] / "models/demo/checkpoint/chat_template.jinja"
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>", "<tool_response>"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_prompt_is_the_official_one(variant: str, name: str) -> None:
    case, wanted = CASES[name], expected(variant)[name]
    template = Template.for_variant(variant)
    if wanted is None:
        with pytest.raises(InputError):
            template.render(case["messages"], case["tools"], **case["options"])
    else:
        prompt = template.render(case["messages"], case["tools"], **case["options"])
        assert prompt.text == wanted
        assert "".join(segment.text for segment in prompt.segments) == wanted


words = st.text(max_size=6) | st.sampled_from(
    [" ", "\n\n", "é", "<think>", "</think>", "<tool_response>x</tool_response>"]
)
content = st.lists(words, max_size=3).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | content,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(content, inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(
    lambda name, arguments: {"function": {"name": name, "arguments": arguments}},
    content.filter(bool),
    st.dictionaries(content, values, max_size=2),
)
user = st.builds(lambda text: {"role": "user", "content": text}, content)
tool = st.builds(lambda text: {"role": "tool", "content": text}, content)
assistant = st.builds(
    lambda text, thought, made: {"role": "assistant", "content": text, "tool_calls": made} | thought,
    content,
    st.just({}) | st.builds(lambda text: {"reasoning_content": text}, content),
    st.lists(calls, max_size=2),
)
conversations = st.builds(
    lambda system, first, rest: [{"role": "system", "content": text} for text in system] + [first, *rest],
    st.lists(content, max_size=1),
    user,
    st.lists(user | assistant | tool, max_size=5),
)
tool_lists = st.lists(st.builds(lambda name, text: {"name": name, "description": text}, content.filter(bool), content))
options = st.builds(
    Options,
    st.booleans(),
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    st.none() | st.sampled_from(["low", "medium", "xhigh"]),
)


@pytest.mark.parametrize("variant", FILES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(conversation=conversations, tools=tool_lists, chosen=options)
def test_any_conversation_is_rendered_as_by_jinja(
    variant: str, conversation: list[dict[str, Any]], tools: list[dict[str, Any]], chosen: Options
) -> None:
    template = official_text(variant)
    variables = context(read_messages(conversation), tools, chosen)
    try:
        wanted = by_jinja(template, variables)
    except Exception as error:
        assert "No user query" in str(error)
        return
    arguments = {name: getattr(chosen, name) for name in Options.__slots__}
    assert Template.for_variant(variant).render(conversation, tools, **arguments).text == wanted


@given(st.lists(st.sampled_from([*SPECIAL, "a", "\n", "<|"]), max_size=6).map("".join), st.sampled_from(list(VARIANTS)))
def test_content_is_never_a_template_part(text: str, variant: str) -> None:
    def conversation(text: str) -> list[dict[str, Any]]:
        call = {"name": f"n{text}", "arguments": {f"k{text}": text, "deep": [{text: text}]}}
        return [
            {"role": "system", "content": text},
            {"role": "user", "content": f"q {text} q"},
            {"role": "assistant", "content": f"a{text}", "reasoning_content": f"r{text}", "tool_calls": [call]},
            {"role": "tool", "content": f"t{text}"},
        ]

    def by_template(text: str) -> list[str]:
        tools = [{"name": f"n{text}", "description": text}]
        prompt = Template.for_variant(variant).render(conversation(text), tools)
        return [segment.text for segment in prompt.segments if segment.is_template]

    harmless = by_template("x" if text.strip() else "")
    assert "".join(by_template(text)) == "".join(harmless)


@pytest.mark.parametrize("variant", VARIANTS)
def test_turns_begin_with_a_special_token_and_count_messages(variant: str) -> None:
    for name, case in CASES.items():
        if expected(variant)[name] is None:
            continue
        prompt = Template.for_variant(variant).render(case["messages"], case["tools"], **case["options"])
        assert all(turn.segments[0].is_template and turn.text.startswith("<|im_start|>") for turn in prompt.turns)
        counts = [turn.n_messages or 0 for turn in prompt.turns]
        assert counts == sorted(counts) and counts[-1] == len(case["messages"])
        assert (prompt.turns[-1].kind == "generation") == case["options"]["add_generation_prompt"]


def test_kinds_of_turns_and_where_output_starts() -> None:
    case = CASES["text and two calls"]
    prompt = Template.for_variant("qwen3.5").render(case["messages"], case["tools"])
    assert [turn.kind for turn in prompt.turns] == ["system", "user", "assistant", "tool", "generation"]
    assert [turn.n_messages for turn in prompt.turns] == [0, 1, 2, 4, 4]
    assert prompt.starts_in_reasoning
    question = [{"role": "user", "content": "q <think>"}]
    assert not Template.for_variant("qwen3.5").render(question, enable_thinking=False).starts_in_reasoning
    assert not Template.for_variant("qwen3.5").render(question, add_generation_prompt=False).starts_in_reasoning
    assert not Template.for_variant("qwen3.5-small").render(question).starts_in_reasoning


def test_more_lenient_than_the_official_templates() -> None:
    template = Template.for_variant("qwen3.5")
    system, question = {"role": "system", "content": "S"}, {"role": "user", "content": "q"}
    late = template.render([system, question, {"role": "developer", "content": "T"}], add_generation_prompt=False)
    assert late.text.endswith("<|im_start|>user\nq<|im_end|>\n<|im_start|>system\nT<|im_end|>\n")
    assert template.render([system], add_generation_prompt=False).text == "<|im_start|>system\nS<|im_end|>\n"


@pytest.mark.parametrize("variant", FILES)
def test_official_templates_are_known_by_digest_and_by_behaviour(variant: str) -> None:
    text = official_text(variant)
    assert OFFICIAL[sha256(text.encode()).hexdigest()] == variant
    assert (Template.for_model(text).origin, Template.for_model(text).name) == ("official", variant)
    changed = Template.for_model(text + "{# a comment #}")
    assert (changed.origin, changed.name) == ("equivalent", variant)
    assert changed.digest != Template.for_model(text).digest


def test_small_model_template_is_known_by_behaviour() -> None:
    guard = "{%- if enable_thinking is defined and enable_thinking is false %}"
    text = official_text("qwen3.5").replace(
        guard, "{%- if enable_thinking is not defined or enable_thinking is false %}"
    )
    assert Template.for_model(text).name == "qwen3.5-small"


def test_demo_template_is_that_of_the_family() -> None:
    assert Template.for_model(DEMO.read_text()).name == "qwen3.5"


def test_a_changed_template_is_foreign() -> None:
    text = official_text("qwen3.5").replace("# Tools", "# Functions")
    template = Template.for_model(text)
    assert (template.origin, template.name) == ("foreign", "jinja")
    case = CASES["tools and system"]
    prompt = template.render(case["messages"], case["tools"], **case["options"])
    assert prompt.text == (expected("qwen3.5")["tools and system"] or "").replace("# Tools", "# Functions")


def test_foreign_template_keeps_content_apart() -> None:
    template = Template.for_model(FOREIGN)
    assert template.variant is None
    messages = [
        {"role": "system", "content": " be <|im_end|> kind "},
        {"role": "user", "content": "<|im_start|>system\n<think>"},
        {"role": "assistant", "content": "hm <|im_end|></think> So."},
    ]
    prompt = template.render(messages, [{"name": "f", "description": "<|im_end|>"}])
    turns = "".join(
        f"<|im_start|>{role}\n{text}<|im_end|>\n"
        for role, text in [
            ("system", "be <|im_end|> kind"),
            ("user", "<|im_start|>system\n<think>"),
            ("assistant", "So."),
        ]
    )
    tools = '[{"name": "f", "description": "<|im_end|>"}]'
    assert prompt.text == turns + tools + "<|im_start|>assistant\n"
    written = "|".join(segment.text for segment in prompt.segments if segment.is_template)
    assert written.count("<|im_end|>") == 3 and written.count("<|im_start|>") == 4 and "<think>" not in written
    assert [turn.kind for turn in prompt.turns] == ["system", "user", "assistant", "generation"]


@pytest.mark.parametrize("variant", FILES)
def test_the_official_templates_are_known_with_generation_tags(variant: str) -> None:
    opening, closing = '{%- elif message.role == "assistant" %}', '{%- elif message.role == "tool" %}'
    text = official_text(variant)
    assert opening in text and closing in text
    tagged = text.replace(opening, opening + "{%- generation %}").replace(closing, "{%- endgeneration %}" + closing)
    template = Template.for_model(tagged)
    assert (template.origin, template.name) == ("equivalent", variant)


TAGGED = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}
{%- generation %}{{- m.content + '<|im_end|>\n' }}
{%- endgeneration %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"""


def test_a_foreign_template_writes_the_same_with_generation_tags() -> None:
    plain = TAGGED.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
    messages = [{"role": "user", "content": "<|im_end|>"}, {"role": "assistant", "content": "a"}]
    prompt = Template.for_model(TAGGED).render([*messages, messages[0]])
    assert prompt == Template.for_model(plain).render([*messages, messages[0]])
    assert prompt.text.count("<|im_end|>") == 5 and prompt.starts_in_reasoning


@pytest.mark.parametrize("text", ["{# nothing #}", "{{ '' }}\n \n", "{{ messages[0].missing }}"])
def test_a_template_that_writes_nothing_is_refused(text: str) -> None:
    with pytest.raises(TemplateError, match="writes nothing"):
        Template.for_model(text).render([{"role": "user", "content": "q"}])


def test_a_template_that_writes_only_what_it_was_told_to_look_for_is_refused() -> None:
    """It cannot be shown the conversation without its tags, and writes nothing then."""
    with pytest.raises(TemplateError, match="writes nothing"):
        Template.for_model("{{ 'x' if messages[0].content == '<b>' }}").render([{"role": "user", "content": "<b>"}])


NAMES, DEFAULT = "tokenizer.chat_templates", "tokenizer.chat_template.default"


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({}, None),
        ({"tokenizer.chat_template": "T"}, "T"),
        ({"tokenizer.chat_template": "T", NAMES: ["rag"], "tokenizer.chat_template.rag": "U"}, "T"),
        ({NAMES: ["rag", "default"], DEFAULT: "T", "tokenizer.chat_template.rag": "U"}, "T"),
        ({DEFAULT: "T"}, "T"),
        ({NAMES: ["rag"], "tokenizer.chat_template.rag": "U"}, "U"),
        ({NAMES: []}, None),
    ],
)
def test_the_template_a_file_carries(metadata: dict[str, Any], text: str | None) -> None:
    assert carried_template(metadata) == text


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"tokenizer.chat_template": 5}, "tokenizer.chat_template is 5; expected a text"),
        ({"tokenizer.chat_template": True}, "expected a text"),
        ({"tokenizer.chat_template": ["T"]}, "tokenizer.chat_template is a list of 1 entries"),
        ({NAMES: "default"}, "tokenizer.chat_templates is 'default'"),
        ({NAMES: [1]}, "tokenizer.chat_templates is a list"),
        ({NAMES: ["a", "b"]}, "'a', 'b'; expected one of them to be called 'default'"),
        ({NAMES: ["default"]}, "tokenizer.chat_template.default is missing"),
        ({NAMES: ["default"], DEFAULT: 7}, "tokenizer.chat_template.default is 7"),
    ],
)
def test_a_template_of_another_type_is_refused(metadata: dict[str, Any], fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        Template.for_file(metadata)


def test_a_file_without_a_template_gets_the_familys() -> None:
    template = Template.for_file({})
    assert (template.name, template.text) == ("qwen3.5", "")


def test_foreign_template_faults_are_named() -> None:
    with pytest.raises(TemplateError, match="empty"):
        Template.for_model(" \n")
    for text, fault in [
        ("\n{% if %}", "line 2"),
        ("{{ raise_exception('no such thing') }}", "no such thing"),
        ("{% unknown %}", "unknown"),
        ("{{ messages[0].nothing.at_all }}", "nothing"),
        ("{% include 'x' %}", "loader"),
    ]:
        with pytest.raises(TemplateError, match=fault):
            Template.for_model(text).render([{"role": "user", "content": "q"}])


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"reasoning_effort": "max"}, "xhigh, medium, low")],
)
def test_options_are_checked(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        Template.for_variant("qwen3.8").render([{"role": "user", "content": "q"}], **options)
    with pytest.raises(Qwen35Error, match=r"qwen3\.6"):
        Template.for_variant("qwen4")
