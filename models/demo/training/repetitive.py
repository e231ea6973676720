"""Pages on which much repeats that is no loop: tables, data, code, verse."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator


def pages() -> Iterator[tuple[str, str]]:
    """Name and text."""
    draw = random.Random(0)
    yield "a matrix of zeros as CSV", "\n".join(",".join("0" * 30) for _ in range(25))
    yield "an identity matrix", "\n".join(" ".join("1" if n == m else "0" for n in range(24)) for m in range(24))
    yield "zeros in a JSON array", json.dumps([0] * 500)
    yield "empty records", json.dumps([{"id": n, "name": "", "tags": [], "value": None} for n in range(200)], indent=2)
    yield "records that are alike", json.dumps([{"name": "", "tags": [], "value": None}] * 60, indent=2)
    yield "random numbers", json.dumps([draw.randrange(1000) for _ in range(2000)])
    yield "base64 of noise", base64.b64encode(draw.randbytes(6000)).decode()
    yield "base64 of zeros", base64.b64encode(bytes(1500)).decode()
    yield "a hex dump", "\n".join(f"{n:08x}  " + " ".join(["00"] * 16) for n in range(0, 1600, 16))
    yield (
        "a table with empty cells",
        "| day | a | b | c |\n|---|---|---|---|\n" + "".join(f"| {n} |   |   |   |\n" for n in range(1, 366)),
    )
    yield "a table of one answer", "".join(f"| question {n} | yes | yes | yes |\n" for n in range(300))
    yield "a multiplication table", "\n".join(" ".join(f"{n * m:4}" for m in range(1, 21)) for n in range(1, 21))
    yield "a byte table in C", "{\n" + "\n".join("    " + "0x00, " * 12 for _ in range(40)) + "\n};"
    yield "assertions", "".join(f"    self.assertEqual(parse(text[{n}]), expected[{n}])\n" for n in range(200))
    yield "rows of a page in HTML", '<tr>\n  <td class="empty">&nbsp;</td>\n</tr>\n' * 45
    yield "a song with a refrain", "\n\n".join(f"{_verse(draw)}\n\n{_REFRAIN}" for _ in range(7))
    yield (
        "ninety-nine bottles",
        "".join(
            f"{n} bottles of beer on the wall, {n} bottles of beer.\nTake one down and pass it around, "
            f"{n - 1} bottles of beer on the wall.\n\n"
            for n in range(99, 1, -1)
        ),
    )
    yield "laughter", "ha" * 400
    yield "a rule", "-" * 4000
    yield "a drawing", "\n".join("." * 60 for _ in range(30))
    yield "a chess board", "\n".join("# . # . # . # .\n. # . # . # . #" for _ in range(16))
    yield "silence", "…\n" * 300
    yield (
        "steps of a proof",
        "".join(f"{n} + {n + 1} = {2 * n + 1}, so the claim holds for {n}.\n\n" for n in range(400)),
    )


def counting() -> list[str]:
    """Endless lines, none of which is the one before."""
    return [
        "\n".join(str(n) for n in range(3000)),
        "\n".join(f"Step {n}: add one to the counter." for n in range(1500)),
        "\n\n".join(f"Attempt {n}. Let me check the number {n * n} once more, with care." for n in range(800)),
        ", ".join(f'"item{n}"' for n in range(2000)),
        "\n".join(f"2026-{n // 28 % 12 + 1:02}-{n % 28 + 1:02},{n},0,0,0" for n in range(1200)),
    ]


_REFRAIN = (
    "And the river goes on to the sea, my love,\nand the river goes on to the sea;\n"
    "what the mountain has lost is not lost, my love,\nit is waiting for you and for me."
)


def _verse(draw: random.Random) -> str:
    words = ["stone", "light", "water", "hill", "morning", "bird", "grass", "road", "lamp", "winter", "field", "cloud"]
    return "\n".join(
        f"The {draw.choice(words)} and the {draw.choice(words)} were {draw.choice(words)}" for _ in range(4)
    )
