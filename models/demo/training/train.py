"""Trains the demo model: `python -m models.demo.training.train --minutes 90 --out runs/demo`.

With `--text FOLDER` it is a network of the same shape, or with `--moe` of a mixture of experts, that learns to predict
every token of natural text, as `corpus` writes it.

The learning-rate schedule follows the wall clock, so a slower machine sees fewer tokens and still finishes its decay. A
run that was stopped (SIGTERM saves first) goes on from its last saved state when started again with the same `--out`.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import time
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from . import weights
from .data import conversation, set_thinking, with_system
from .evaluate import summary
from .network import BALANCE_WEIGHT, DENSE, MIXTURE, Network, fuse
from .optimise import Optimiser, Rounding, schedule
from .text import encode_with_targets, render, tokenizer_text, train_tokenizer
from .torch_generate import Torch
from .windows import Windows

LENGTHS = [*range(32, 513, 32), 640, 768, 896, 1024]
DRAFT_WEIGHT, DRAFT_EVERY = 0.3, 3
SAVE_EVERY_S = 300.0
REPORT_EVERY_S = 600.0
LOG_EVERY = 48


class Batches:
    """Endless batches of one length each: ids [B,T] and target mask [B,T]."""

    def __init__(self, tokenizer: Tokenizer, seed: int, tokens: int) -> None:
        self.tokenizer, self.rng, self.tokens = tokenizer, Random(seed), tokens
        self.waiting: dict[int, list[tuple[list[int], list[bool]]]] = {length: [] for length in LENGTHS}
        self.pad = tokenizer.token_to_id("<|endoftext|>")

    def next(self, stage: float) -> tuple[Tensor, Tensor]:
        """The next full batch; `stage` 0..1 is the place in the curriculum."""
        while True:
            exchange = conversation(self.rng, stage)
            set_thinking(exchange, self.rng.random() < 0.55)
            ids, targets = encode_with_targets(
                self.tokenizer, render(with_system(exchange), exchange.tools).rstrip("\n")
            )
            length = next((n for n in LENGTHS if n >= len(ids)), 0)
            if not length:
                continue
            queue = self.waiting[length]
            queue.append((ids, targets))
            if len(queue) * length >= self.tokens:
                self.waiting[length] = []
                return self._pack(queue, length)

    def _pack(self, samples: list[tuple[list[int], list[bool]]], length: int) -> tuple[Tensor, Tensor]:
        ids = torch.full((len(samples), length), self.pad)
        targets = torch.zeros(len(samples), length, dtype=torch.bool)
        for row, (tokens, wanted) in enumerate(samples):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            targets[row, : len(tokens)] = torch.tensor(wanted)
        return ids, targets


def losses(network: Network, ids: Tensor, targets: Tensor, drafting: bool = True) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the main model and, when drafting, of the draft block over the target positions."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = network.hidden(ids)
        main = network.logits(hidden[:, :-1][targets[:, 1:]])
        draft = network.draft_logits(hidden.detach(), ids, targets[:, 2:]) if drafting else None
    return F.cross_entropy(main.float(), ids[:, 1:][targets[:, 1:]]), (
        torch.zeros(()) if draft is None else F.cross_entropy(draft.float(), ids[:, 2:][targets[:, 2:]])
    )


class Run:
    """A training run: network, optimiser, data, clock, and its files under `out`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        vocabulary, saved = self.out / "tokenizer.json", self.out / "state.pt"
        if options.start is not None and not saved.exists():
            self.network, self.tokenizer = weights.read(options.start)
            self.tokenizer.save(str(vocabulary))
        else:
            self.network = Network(MIXTURE if options.moe else DENSE)
            self.tokenizer = self._tokenizer(vocabulary)
        self.optimiser = Optimiser(self.network)
        self.spent, self.steps, self.tokens, self.stopped = 0.0, 0, 0, False
        if saved.exists():
            state = torch.load(saved, weights_only=False)
            self.network.load_state_dict(state["network"])
            self.optimiser.load(state["optimiser"])
            self.spent, self.steps, self.tokens = state["spent"], state["steps"], state["tokens"]
        seed = options.seed + self.steps
        self.batches: Batches | Windows = (
            Batches(self.tokenizer, seed, options.batch)
            if options.text is None
            else Windows(options.text, seed, options.batch)
        )
        if options.compile:
            fuse()

    def _tokenizer(self, saved: Path) -> Tokenizer:
        if self.options.text is not None:
            shutil.copyfile(self.options.text / "tokenizer.json", saved)
        elif not saved.exists():
            train_tokenizer(tokenizer_text(self.options.seed)).save(str(saved))
        return Tokenizer.from_file(str(saved))

    def save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state(),
            "spent": self.spent,
            "steps": self.steps,
            "tokens": self.tokens,
        }
        torch.save(state, self.out / "state.new")
        (self.out / "state.new").replace(self.out / "state.pt")
        weights.write(self.out / "latest", self.network, self.tokenizer)

    def step(self, progress: float) -> tuple[float, float, float]:
        """One update; returns main loss, draft loss, gradient norm."""
        ids, targets = self.batches.next(1.0 if self.options.start else min(1.0, progress / 0.5))
        with Rounding(self.network, self.options.quantised and progress > self.options.decay_from):
            drafting = self.network.config.draft_layers > 0 and self.steps % DRAFT_EVERY == 0
            main, draft = losses(self.network, ids, targets, drafting)
            balance = BALANCE_WEIGHT * self.network.balance() if self.network.config.experts else 0.0
            (main + DRAFT_WEIGHT * draft + balance).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step(self.options.rate * schedule(progress, self.options.decay_from))
        for p in self.network.parameters():
            p.grad = None
        self.steps += 1
        self.tokens += ids.numel()
        return main.item(), draft.item(), norm.item()

    def held_out(self) -> str:
        """One line about what is not trained on."""
        if isinstance(self.batches, Batches):
            return summary(Torch(self.network, self.tokenizer), self.tokenizer, 12)
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            return f"held-out: loss {losses(self.network, *self.batches.held_out(), False)[0].item():.4f}"

    def train(self) -> None:
        """Runs until the clock says so."""
        budget, last = self.options.minutes * 60.0, time.monotonic()
        saved = reported = self.spent
        sums, count, since, tokens = [0.0, 0.0], 0, self.spent, self.tokens
        self.save()
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopped", True))
        while self.spent < budget and not self.stopped:
            main, draft, norm = self.step(self.spent / budget)
            now = time.monotonic()
            self.spent, last = self.spent + now - last, now
            sums, count = [sums[0] + main, sums[1] + draft], count + 1
            if count == LOG_EVERY:
                speed = (self.tokens - tokens) / (self.spent - since)
                print(
                    f"{self.spent / 60:6.1f} min  step {self.steps}  tokens {self.tokens / 1e6:.2f}M"
                    f"  loss {sums[0] / count:.4f}  draft {sums[1] / count * DRAFT_EVERY:.4f}"
                    f"  norm {norm:.2f}  {speed:.0f} tok/s",
                    flush=True,
                )
                sums, count, since, tokens = [0.0, 0.0], 0, self.spent, self.tokens
            if self.spent - saved > SAVE_EVERY_S:
                self.save()
                saved = self.spent
            if self.spent - reported > REPORT_EVERY_S:
                print(self.held_out(), flush=True)
                reported = self.spent
        self.save()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--minutes", type=float, default=90.0, help="wall-clock length of the whole run")
    parser.add_argument("--out", required=True, help="folder of the run: tokenizer, state and the latest checkpoint")
    parser.add_argument("--text", type=Path, help="folder of corpus: predict all of a natural text, not replies")
    parser.add_argument("--moe", action="store_true", help="a mixture of experts, not the demo model's shape")
    parser.add_argument("--start", type=Path, help="checkpoint folder to go on from, with a fresh optimiser and clock")
    parser.add_argument("--batch", type=int, default=2560, help="tokens per step, padding included")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates; under 1 with --start")
    parser.add_argument("--decay-from", type=float, default=0.72, help="fraction of the run where the rates fall")
    parser.add_argument("--seed", type=int, default=35)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's choice")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="needs a C++ compiler")
    parser.add_argument(
        "--quantised", action=argparse.BooleanOptionalAction, default=True, help="4-bit rounding in the decay"
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    Run(options).train()


if __name__ == "__main__":
    main()
