"""`qwen35 bench --predict`: a table of what a card would do."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qwen35_local.cli.model import find
from qwen35_local.cli.subjects import subjects_of
from qwen35_local.errors import InputError
from qwen35_local.plan.predict import CARDS, REACHED, Card, predict
from qwen35_local.plan.subject import Extras

_COLUMNS = ("model", "type", "depth", "KV", "GB a token", "kernels", "tok/s", "share")


def show(card: str, models: Sequence[str], type: str, depths: Sequence[int], kvs: Sequence[str], format: str) -> None:
    """Raises InputError, and what a plan of the model raises."""
    if card not in CARDS:
        raise InputError(f"--predict is {card!r}; expected one of {', '.join(CARDS)}")
    if not models:
        raise InputError("--predict needs a MODEL, as in 35b-a3b")
    if format not in ("table", "json"):
        raise InputError(f"--format is {format!r}; a prediction is shown as table or json")
    on = CARDS[card]
    found = [entry for model in models for entry in rows(model, type, on, depths, kvs)]
    if format == "json":
        json.dump({"card": asdict(on), "is_prediction": True, "reached": REACHED, "rows": found}, sys.stdout, indent=2)
        print()
    else:
        table(on, found)


def rows(model: str, type: str, card: Card, depths: Sequence[int], kvs: Sequence[str]) -> list[dict[str, Any]]:
    subject = subjects_of(find(model, type), model, type, Extras(device="cuda"))[0]
    found = []
    for depth in depths:
        for kv in kvs:
            one = predict(subject.footprint, card, depth, kv)
            found.append(
                {
                    "model": subject.name,
                    "type": subject.type,
                    **asdict(one),
                    "tokens_per_s": one.tokens_per_s,
                    "percent_of_bandwidth": 100 * one.share(card),
                }
            )
    return found


def table(card: Card, found: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(
        title=f"Predicted, not measured: decoding on a {card.name}",
        caption=f"bytes at {REACHED:.0%} of {card.gb_per_s:,.0f} GB/s, and {card.step_us} us a kernel",
        box=box.SIMPLE_HEAD,
    )
    for name in _COLUMNS:
        shown.add_column(name, justify="left" if name in ("model", "type", "KV") else "right", no_wrap=True)
    for row in found:
        shown.add_row(
            row["model"],
            row["type"],
            f"{row['depth']:,}",
            row["kv"],
            f"{row['n_bytes'] / 1e9:.2f}",
            str(row["kernels"]),
            f"{row['tokens_per_s']:.0f}",
            f"{row['percent_of_bandwidth']:.0f} %",
        )
    Console().print(shown)
