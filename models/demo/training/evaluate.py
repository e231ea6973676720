"""Held-out accuracy per skill: `python -m models.demo.training.evaluate CHECKPOINT_OR_GGUF`.

A checkpoint folder runs in torch, a GGUF in the project's runtime with the tokenizer of the checkpoint beside this
file.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .data import EVALUATED, held_out_prompts, set_thinking, with_system
from .generate import Generator, Runtime
from .skills.core import Exchange
from .text import encode, render

MAX_TOKENS = 220
TOKENIZER = Path(__file__).parents[1] / "checkpoint/tokenizer.json"
QUICK = ["chat", "facts", "recall", "find code", "json", "tool call", "addition", "sorting"]


@dataclass(frozen=True)
class Score:
    """Accuracy of one skill in one mode."""

    skill: str
    thinking: bool
    prompts: int
    accuracy: float


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


def score(
    model: Generator, tokenizer: Tokenizer, skill: str, count: int, thinking: bool, failures: list[str] | None = None
) -> Score:
    """Greedy accuracy on `count` held-out prompts; wrong replies are appended to `failures`."""
    exchanges = held_out_prompts(skill, count)
    prompts = [prompt_text(exchange, thinking) for exchange in exchanges]
    replies = [
        tokenizer.decode(ids, skip_special_tokens=True)
        for ids in model.generate([encode(tokenizer, prompt) for prompt in prompts], MAX_TOKENS)
    ]
    right = 0
    for exchange, prompt, reply in zip(exchanges, prompts, replies, strict=True):
        good = correct(exchange, reply, thinking)
        right += good
        if not good and failures is not None:
            failures.append(f"[{skill}] ...{prompt[-160:]!r}\n    wanted {exchange.expect!r}\n    got    {reply!r}")
    return Score(skill, thinking, len(exchanges), right / max(1, len(exchanges)))


def summary(model: Generator, tokenizer: Tokenizer, count: int) -> str:
    """One line with a few skills, thinking, for a training log: all prompts in one generation, short limit."""
    exchanges = [exchange for skill in QUICK for exchange in held_out_prompts(skill, count)]
    prompts = [encode(tokenizer, prompt_text(exchange, True)) for exchange in exchanges]
    right = dict.fromkeys(QUICK, 0)
    for i, ids in enumerate(model.generate(prompts, 90)):
        right[QUICK[i // count]] += correct(exchanges[i], tokenizer.decode(ids, skip_special_tokens=True), True)
    return "held-out: " + "  ".join(f"{skill} {n}/{count}" for skill, n in right.items())


def table(scores: list[Score]) -> str:
    """A Markdown table: one row per skill, both modes."""
    lines = ["| skill | prompts | thinking | direct |", "|---|---:|---:|---:|"]
    for skill in dict.fromkeys(s.skill for s in scores):
        both = {s.thinking: s for s in scores if s.skill == skill}
        shown = [f"{both[mode].accuracy:.1%}" if mode in both else "" for mode in (True, False)]
        lines.append(f"| {skill} | {next(iter(both.values())).prompts} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines)


def load(path: Path, tokenizer_path: Path) -> tuple[Generator, Tokenizer]:
    """The model behind a checkpoint folder or a GGUF file."""
    if path.is_dir():
        from .torch_generate import Torch
        from .weights import read

        network, tokenizer = read(path)
        return Torch(network, tokenizer), tokenizer
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    return Runtime(path, tokenizer), tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out accuracy of the demo model.")
    parser.add_argument("path", type=Path, help="checkpoint folder or GGUF file")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="tokenizer.json for a GGUF")
    parser.add_argument("--skill", action="append", choices=sorted(EVALUATED), help="only these skills")
    parser.add_argument("--count", type=int, default=100, help="prompts per skill and mode")
    parser.add_argument("--mode", choices=["both", "thinking", "direct"], default="both")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--failures", action="store_true", help="print wrong replies")
    options = parser.parse_args()
    model, tokenizer = load(options.path, options.tokenizer)
    modes = {"both": (True, False), "thinking": (True,), "direct": (False,)}[options.mode]
    failures: list[str] = []
    scores = [
        score(model, tokenizer, skill, options.count, mode, failures)
        for skill in options.skill or EVALUATED
        for mode in modes
    ]
    print(json.dumps([asdict(s) for s in scores], indent=2) if options.json else table(scores))
    if options.failures:
        print("\n".join(failures))


if __name__ == "__main__":
    main()
