"""What the loop breaker finds and what it lets pass: `python -m models.demo.training.loops FILE --texts FOLDER`.

FILE: GGUFs whose vocabularies are used beside the embedded model's. Every text is looked at as thinking and as an
answer: the documents under FOLDER (as for `corpus`; without it this Python's sources), the texts to calibrate on, and
pages on which much repeats that is no loop. Then loops of every period, what counts up, and what the embedded model
writes without chance.
"""

from __future__ import annotations

import argparse
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import inf
from pathlib import Path

from qwen35_local import _core, hub
from qwen35_local.chat.presets import Sampling
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.loops import LONGEST_PERIOD, WITH_ANSWER, WITH_THINKING, LoopFinder, Patience
from qwen35_local.engine.reply import Completion, Done
from qwen35_local.text.tokenizer import Tokenizer

from . import repetitive
from .corpus import KINDS, documents
from .plain_text import read

REPLY_TOKENS = 32_768
CALIBRATION = Path(__file__).parents[3] / "quantize/calibration/texts"
PATIENCE = {"thinking": WITH_THINKING, "answer": WITH_ANSWER}


def looked_at(tokens: Iterable[int], texts: Iterable[str], patience: Patience) -> int:
    """After how many tokens a reply of these is found to go round in circles; 0: it is not."""
    finder = LoopFinder()
    for n, (token, text) in enumerate(zip(tokens, texts, strict=True), 1):
        if finder.push(token, text, patience):
            return n
    return 0


def sources(folder: Path | None, limit: int) -> Iterator[tuple[str, str, str]]:
    """Kind, name and text."""
    for kind in KINDS if folder is not None else ["Python"]:
        for document in islice(documents(folder or Path(), kind), limit):
            yield kind, str(document.path), document.text()
    for path in sorted(CALIBRATION.rglob("*.txt"))[:limit]:
        yield "to calibrate on", str(path), path.read_text()
    tests = Path(sysconfig.get_path("stdlib")) / "test"
    for path in sorted(tests.glob("*.py"))[:limit]:
        yield "Python's tests", str(path), read(path)
    for name, text in repetitive.pages():
        yield "repetitive pages", name, text


def false_alarms(tokenizer: Tokenizer, folder: Path | None, limit: int) -> None:
    counted: dict[str, list[int]] = {}  # texts, tokens, alarms as thinking and as an answer
    spelled = [tokenizer.token_bytes(n).decode("utf-8", "replace") for n in range(tokenizer.n_used)]
    for kind, name, text in sources(folder, limit):
        tokens = tokenizer.encode(text)[:REPLY_TOKENS]
        texts = [spelled[token] for token in tokens]
        row = counted.setdefault(kind, [0, 0, 0, 0])
        row[0] += 1
        row[1] += len(tokens)
        for n, (where, patience) in enumerate(PATIENCE.items(), 2):
            found = looked_at(tokens, texts, patience)
            if found:
                row[n] += 1
                print(f"    {where}, token {found}: {name}")
    for kind, (n_texts, n_tokens, *alarms) in counted.items():
        print(f"  {kind:<18}{n_texts:>6} texts {n_tokens:>10,} tokens  alarms: {alarms[0]} as thinking, {alarms[1]}")


def synthetic(tokenizer: Tokenizer, most: int) -> None:
    """Loops of every period, of `most` at most, behind an ordinary text; and lines that count up."""
    spelled = [tokenizer.token_bytes(n).decode("utf-8", "replace") for n in range(tokenizer.n_used)]
    prose = tokenizer.encode((CALIBRATION / "long.txt").read_text())
    for where, patience in PATIENCE.items():
        found = 0
        periods = range(1, min(most, LONGEST_PERIOD) + 1)
        for period in periods:
            unit = [*dict.fromkeys(prose)][:period]
            loop = [*prose[:500], *islice(_forever(unit), 2 * patience.tokens)]
            found += looked_at(loop, [spelled[token] for token in loop], patience) > 0
        counting = [tokenizer.encode(text) for text in repetitive.counting()]
        wrong = sum(looked_at(tokens, [spelled[token] for token in tokens], patience) > 0 for tokens in counting)
        print(f"  {where}: {found} of {len(periods)} periods found; {wrong} of {len(counting)} that count up")


def _forever(unit: Sequence[int]) -> Iterator[int]:
    while True:
        yield from unit


def written(count: int, most: int) -> None:
    """Of the embedded model, behind the beginnings of documents, without chance or end: so it loops sooner or later."""
    engine = Engine(_core.Model(hub.embedded_model()))
    tokenizer = engine.tokenizer
    endless = Sampling(temperature=0.0, logit_bias={n: -inf for n in tokenizer.end_ids if n < tokenizer.n_used})
    ended: dict[str, int] = {}
    longest = 0
    for _, _, text in islice(sources(None, count), count):
        prompt = tokenizer.encode(text)[:64]
        asked = Completion(prompt, endless, max_tokens=most, breaks_loops=True)
        *_, done = engine.complete(asked)
        assert isinstance(done, Done)
        ended[done.reason] = ended.get(done.reason, 0) + 1
        if done.reason == "loop":
            longest = max(longest, done.usage.generated_tokens)
        else:
            print(f"    {done.reason}, {done.usage.generated_tokens} tokens: …{done.message.text[-160:]!r}")
    print(f"  the embedded model at temperature 0, at most {most} tokens: {ended}; the latest found after {longest}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--limit", type=int, default=300, help="documents of a kind")
    parser.add_argument("--written", type=int, default=20, help="texts that the embedded model goes on with")
    parser.add_argument("--tokens", type=int, default=4096, help="of each of them")
    options = parser.parse_args()
    for path in [hub.embedded_model(), *options.files]:
        tokenizer = Tokenizer(_core.GgufFile(path, header=True).metadata)
        print(f"{path.name}: {tokenizer.n_used} tokens")
        false_alarms(tokenizer, options.texts, options.limit)
        synthetic(tokenizer, 16 * options.limit)
    written(options.written, options.tokens)


if __name__ == "__main__":
    main()
