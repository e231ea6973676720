"""Training conversations without end, from a seed: skills mixed into conversations of one or many turns."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random

from .skills import arithmetic, chat, facts, recall, search, stories, structured, tools, words
from .skills.core import Exchange, Message, Skill, Tool, draw

SKILLS: dict[str, tuple[Skill, float]] = {
    "talk": (chat.talk, 4),
    "identity": (chat.identity, 3),
    "declining": (chat.decline, 1.2),
    "addition": (arithmetic.addition, 14),
    "word sum": (arithmetic.word_sum, 1.2),
    "subtraction": (arithmetic.subtraction, 1.5),
    "multiplication": (arithmetic.multiplication, 1),
    "comparison": (arithmetic.comparison, 1),
    "facts": (facts.facts, 17),
    "unknown": (facts.unknown, 0.5),
    "yes or no": (facts.yes_no, 1),
    "follow-up": (facts.follow_up, 0.8),
    "remark": (chat.remark, 0.5),
    "recall": (recall.remember, 15),
    "telling": (recall.learn, 1.5),
    "not told": (recall.forgotten, 1.5),
    "find code": (search.find, 15),
    "find code, long": (search.find_long, 1.5),
    "repeat": (search.repeat, 3),
    "json": (structured.extract, 16),
    "spelling": (words.spell, 2),
    "reversing": (words.reverse, 0.5),
    "letters": (words.letters, 0.5),
    "counting": (words.count_to, 1.2),
    "count items": (words.count_items, 0.5),
    "sorting": (words.sort_numbers, 1),
    "sorting words": (words.sort_words, 0.3),
    "list item": (words.pick, 0.7),
    "story": (stories.story, 1),
    "tool call": (tools.call, 9),
    "no tool": (tools.missing, 1.2),
}
EVALUATED: dict[str, Skill] = {
    **{name: skill for name, (skill, _) in SKILLS.items() if name not in ("telling", "talk", "story")},
    "chat": chat.talk,
    "addition": arithmetic.two_digit_addition,
    "tool answer": tools.use_result,
}
ASKED = EVALUATED | {"story": stories.story}  # of a story no reply is the right one
_SHORT = [
    "talk",
    "identity",
    "declining",
    "addition",
    "facts",
    "facts",
    "comparison",
    "spelling",
    "multiplication",
    "telling",
    "counting",
    "repeat",
    "subtraction",
    "list item",
    "unknown",
    "json",
    "story",
    "remark",
]
_SYSTEMS = [
    "You are a helpful assistant.",
    "You are a small demonstration model.",
    "Answer briefly.",
    "You are the qwen35-local demo model.",
    "Be kind and short.",
    "You are a friendly program.",
    "You are a helpful assistant. Answer in English.",
]


def _system(rng: Random) -> str | None:
    return rng.choice(_SYSTEMS) if rng.random() < 0.25 else None


def between(rng: Random, count: int, evaluation: bool = False, tools_used: bool = False) -> list[Message]:
    """`count` short exchanges to put between two others; with tools on offer nothing a tool could answer."""
    messages: list[Message] = []
    for _ in range(count):
        name = rng.choice(["talk", "identity", "facts", "spelling", "repeat"] if tools_used else _SHORT)
        messages += draw(SKILLS[name][0], rng, False).messages
    return messages


def conversation(rng: Random, stage: float = 1.0) -> Exchange:
    """One training conversation. `stage` 0..1 moves the mix from short and simple to long and many-turned."""
    names = list(SKILLS)
    weights = [SKILLS[name][1] for name in names]
    if stage < 0.5:
        weights[names.index("find code, long")] *= stage * 2
        weights[names.index("repeat")] *= 2 - 2 * stage
    name = rng.choices(names, weights)[0]
    exchange = draw(SKILLS[name][0], rng, False)
    exchange.system = _system(rng)
    many = 0.12 + 0.25 * stage
    if name in ("recall",) and rng.random() < 0.35 + 0.3 * stage:
        _spread(rng, exchange, stage)
    elif rng.random() < many and name != "find code, long":
        before = between(
            rng, rng.choices([1, 2, 3, 4], [5, 3, 1.5 * stage, stage])[0], tools_used=exchange.tools is not None
        )
        exchange.messages = before + exchange.messages
    if exchange.tools is None and name in ("talk", "facts", "identity", "recall", "spelling") and rng.random() < 0.08:
        exchange.tools = tools.offer(rng, rng.sample(tools.KINDS, 1))
    elif exchange.tools is not None and name == "tool call" and rng.random() < 0.2:
        exchange.messages = exchange.messages + _second(rng, exchange.tools)
    return exchange


def _second(rng: Random, offered: list[Tool]) -> list[Message]:
    """One more exchange after a tool was used: another call with the same tools, or something that needs none."""
    names = {tool["function"]["name"] for tool in offered}
    if rng.random() < 0.5:
        while True:
            more = draw(tools.call, rng, False)
            if more.messages[1]["tool_calls"][0]["function"]["name"] in names & {kind.name for kind in tools.KINDS}:
                return more.messages
            if not names & {kind.name for kind in tools.KINDS}:
                break
    return between(rng, 1, tools_used=True)


def _spread(rng: Random, exchange: Exchange, stage: float) -> None:
    """Puts other exchanges between the telling and the asking of a recall conversation."""
    if len(exchange.messages) < 4:
        return
    count = rng.choices([1, 2, 3, 5], [4, 3, 2 * stage, stage])[0]
    exchange.messages = exchange.messages[:-2] + between(rng, count) + exchange.messages[-2:]


def set_thinking(exchange: Exchange, thinking: bool) -> None:
    """Keeps or empties the thoughts of a conversation."""
    exchange.messages = copy.deepcopy(exchange.messages)
    for message in exchange.messages:
        if message["role"] == "assistant":
            message["reasoning_content"] = message.get("reasoning_content", "") if thinking else ""


def with_system(exchange: Exchange) -> list[Message]:
    """The messages with the system message, if any, first."""
    return ([{"role": "system", "content": exchange.system}] if exchange.system else []) + exchange.messages


def conversations(seed: int, stage: float = 1.0) -> Iterator[Exchange]:
    """Endless training conversations, thinking on in a little more than half of them."""
    rng = Random(seed)
    while True:
        exchange = conversation(rng, stage)
        set_thinking(exchange, rng.random() < 0.55)
        yield exchange


def held_out_prompts(name: str, count: int, seed: int = 1) -> list[Exchange]:
    """`count` held-out exchanges of one skill of ASKED; `recall` spreads its telling and asking over other turns."""
    rng = Random(f"{name}|{seed}")
    exchanges, seen = [], set()
    for _ in range(count * 30):
        exchange = draw(ASKED[name], rng, True)
        if name == "recall" and rng.random() < 0.6:
            _spread(rng, exchange, 1.0)
        exchange.system = _system(rng)
        text = repr(exchange.messages)
        if text not in seen:
            seen.add(text)
            exchanges.append(exchange)
        if len(exchanges) == count:
            break
    return exchanges
