"""Held-out accuracy per skill: `python -m models.demo.training.evaluate CHECKPOINT_OR_GGUF`.

A checkpoint folder runs in torch, a GGUF in the project's runtime with the tokenizer of the checkpoint beside this
file. `--versus OTHER` gives the same prompts to another model, and tells in which rows chance does not explain that one
of the two is right more often (pairs.py).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .data import EVALUATED, held_out_prompts, set_thinking, with_system
from .generate import Generator, Runtime
from .pairs import LEVEL, Pairs, pairs, significant
from .skills.core import Exchange
from .text import encode, render

MAX_TOKENS = 220
TOKENIZER = Path(__file__).parents[1] / "checkpoint/tokenizer.json"
QUICK = ["chat", "facts", "recall", "find code", "json", "tool call", "addition", "sorting"]


MODES = {True: "thinking", False: "direct"}


@dataclass(frozen=True)
class Score:
    """One skill in one mode: which prompts a model answered rightly, and another one, if there is another."""

    skill: str
    thinking: bool
    right: list[bool]
    other: list[bool] | None = None

    @property
    def pairs(self) -> Pairs | None:
        return None if self.other is None else pairs(self.right, self.other)

    def to_json(self) -> dict[str, Any]:
        of = {"skill": self.skill, "thinking": self.thinking, "prompts": len(self.right)}
        of["accuracy"] = accuracy(self.right)
        if self.other is None or self.pairs is None:
            return of
        differ = {"only_first": self.pairs.first, "only_other": self.pairs.other, "p": self.pairs.p}
        return of | {"other_accuracy": accuracy(self.other)} | differ


def accuracy(right: list[bool]) -> float:
    return sum(right) / max(1, len(right))


def prompt_text(exchange: Exchange, thinking: bool) -> str:
    """The exchange up to its judged message, ready for the model to continue."""
    exchange = Exchange(**exchange.__dict__)
    set_thinking(exchange, thinking)
    end = exchange.target % len(exchange.messages)
    exchange.messages = exchange.messages[:end]
    return render(with_system(exchange), exchange.tools, prompt=True, thinking=thinking)


def parse_call(answer: str) -> dict[str, Any] | None:
    """The first tool call of an answer, arguments as strings."""
    found = re.search(r"<tool_call>\n<function=([^>\n]+)>\n(.*?)</function>\n</tool_call>", answer, re.S)
    if not found:
        return None
    pairs = re.findall(r"<parameter=([^>\n]+)>\n(.*?)\n</parameter>", found[2], re.S)
    return {"name": found[1], "arguments": dict(pairs)}


def correct(exchange: Exchange, reply: str, thinking: bool) -> bool:
    """Whether a reply gives what the exchange expects, after its closed thought."""
    if thinking:
        _, closed, reply = reply.partition("</think>")
        if not closed:
            return False
    answer = reply.strip()
    if exchange.match == "exact":
        return bool(answer == exchange.expect)
    if exchange.match == "call":
        return bool(parse_call(answer) == exchange.expect)
    if exchange.match == "json":
        try:
            return bool(json.loads(answer) == exchange.expect)
        except ValueError:
            return False
    return re.search(rf"(?<!\w){re.escape(exchange.expect)}(?!\w)", answer, re.I) is not None


def right_replies(
    model: Generator, tokenizer: Tokenizer, skill: str, count: int, thinking: bool, failures: list[str] | None = None
) -> list[bool]:
    """Whether each greedy reply to `count` held-out prompts is right; wrong ones are appended to `failures`."""
    exchanges = held_out_prompts(skill, count)
    prompts = [prompt_text(exchange, thinking) for exchange in exchanges]
    replies = [
        tokenizer.decode(ids, skip_special_tokens=True)
        for ids in model.generate([encode(tokenizer, prompt) for prompt in prompts], MAX_TOKENS)
    ]
    right = []
    for exchange, prompt, reply in zip(exchanges, prompts, replies, strict=True):
        right.append(correct(exchange, reply, thinking))
        if not right[-1] and failures is not None:
            failures.append(f"[{skill}] ...{prompt[-160:]!r}\n    wanted {exchange.expect!r}\n    got    {reply!r}")
    return right


def summary(model: Generator, tokenizer: Tokenizer, count: int) -> str:
    """One line with a few skills, thinking, for a training log: all prompts in one generation, short limit."""
    exchanges = [exchange for skill in QUICK for exchange in held_out_prompts(skill, count)]
    prompts = [encode(tokenizer, prompt_text(exchange, True)) for exchange in exchanges]
    right = dict.fromkeys(QUICK, 0)
    for i, ids in enumerate(model.generate(prompts, 90)):
        right[QUICK[i // count]] += correct(exchanges[i], tokenizer.decode(ids, skip_special_tokens=True), True)
    return "held-out: " + "  ".join(f"{skill} {n}/{count}" for skill, n in right.items())


def heading(modes: Sequence[bool], *, is_paired: bool) -> str:
    """Of the Markdown table that `row` makes the rows of."""
    columns = ["{}: first", "{}: other", "{}: only first / only other"] if is_paired else ["{}"]
    named = [column.format(MODES[mode]) for mode in modes for column in columns]
    return f"| skill | prompts | {' | '.join(named)} |\n|---|---:|{'---:|' * len(named)}"


def row(skill: str, scores: list[Score]) -> str:
    """A skill, each mode in turn."""
    cells = [skill, str(len(scores[0].right))]
    for score in scores:
        cells.append(f"{accuracy(score.right):.1%}")
        if score.other is not None and score.pairs is not None:
            cells += [f"{accuracy(score.other):.1%}", f"{score.pairs.first} / {score.pairs.other}"]
    return f"| {' | '.join(cells)} |"


def verdict(scores: list[Score]) -> str:
    """Of a table of pairs: where the two models differ by more than chance, and all rows together. The modes of a
    prompt are one question, which counts once for the model that has more of them right."""
    paired = [(score, score.pairs, score.other) for score in scores if score.pairs is not None and score.other]
    differing = [
        f"{score.skill} ({MODES[score.thinking]}), {found.first} / {found.other}, p = {found.p:.2g}"
        for (score, found, _), is_real in zip(paired, significant([found.p for _, found, _ in paired]), strict=True)
        if is_real
    ]
    first, other = list[int](), list[int]()
    for skill in dict.fromkeys(score.skill for score, _, _ in paired):
        first += map(sum, zip(*(score.right for score, _, _ in paired if score.skill == skill), strict=True))
        other += map(sum, zip(*(answers for score, _, answers in paired if score.skill == skill), strict=True))
    every, least = pairs(first, other), min(found.p for _, found, _ in paired)
    return (
        f"rows that differ, of {len(paired)}, at {LEVEL:.0%} by Holm: {'; '.join(differing) or 'none'} (least p of one "
        f"row: {least:.2g})\nprompts of all rows: first better {every.first}, other better {every.other}, "
        f"p = {every.p:.2g}"
    )


def load(path: Path, tokenizer_path: Path, threads: int = 0) -> tuple[Generator, Tokenizer]:
    """The model behind a checkpoint folder or a GGUF file."""
    if path.is_dir():
        from .torch_generate import Torch
        from .weights import read

        network, tokenizer = read(path)
        return Torch(network, tokenizer), tokenizer
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    return Runtime(path, tokenizer, threads=threads), tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out accuracy of the demo model.")
    parser.add_argument("path", type=Path, help="checkpoint folder or GGUF file")
    parser.add_argument("--versus", type=Path, metavar="OTHER", help="another one, given the same prompts")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="tokenizer.json for a GGUF")
    parser.add_argument("--skill", action="append", choices=sorted(EVALUATED), help="only these skills")
    parser.add_argument("--count", type=int, default=100, help="prompts per skill and mode")
    parser.add_argument("--mode", choices=["both", "thinking", "direct"], default="both")
    parser.add_argument("--threads", type=int, default=0, help="for a GGUF; 0: all")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--failures", action="store_true", help="print wrong replies")
    options = parser.parse_args()
    paths = [options.path] if options.versus is None else [options.path, options.versus]
    models = [load(path, options.tokenizer, options.threads) for path in paths]
    modes = {"both": (True, False), "thinking": (True,), "direct": (False,)}[options.mode]
    failures: list[str] = []
    scores: list[Score] = []
    if not options.json:
        print(heading(modes, is_paired=len(models) > 1), flush=True)
    for skill in options.skill or EVALUATED:
        for mode in modes:
            right = [right_replies(*model, skill, options.count, mode, failures) for model in models]
            scores.append(Score(skill, mode, *right))
        if not options.json:
            print(row(skill, scores[-len(modes) :]), flush=True)
    if options.json:
        print(json.dumps([score.to_json() for score in scores], indent=2))
    elif len(models) > 1:
        print(verdict(scores))
    if options.failures:
        print("\n".join(failures))


if __name__ == "__main__":
    main()
