"""Documents made from a seed: digits, identifiers, tables and records, of which people write little and models read
much."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

_DOCUMENTS = 5  # of a subject
_Choice = TypeVar("_Choice")

_WORDS = (
    "amber anchor basin beacon birch bridge canyon cedar cinder cobalt comet copper coral delta ember falcon fjord "
    "garnet glacier harbor hazel heron indigo island jasper juniper kestrel lagoon lantern larch maple marble meadow "
    "nimbus ochre onyx orchid osprey pebble pine prairie quartz raven reef ridge river saffron sierra slate summit"
)
_PLACES = "Bergen Cusco Daegu Ghent Hobart Izmir Jaipur Kyoto Lagos Minsk Oaxaca Porto Quito Recife Split Turin"
_STATES = ("queued", "running", "done", "failed", "cancelled")


class _Source:
    """Draws of `Random.random`, the one stream that Python keeps the same from version to version."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def below(self, count: int) -> int:
        return int(self._random.random() * count)

    def pick(self, choices: Sequence[_Choice]) -> _Choice:
        return choices[self.below(len(choices))]

    def hexadecimal(self, digits: int) -> str:
        return "".join(self.pick("0123456789abcdef") for _ in range(digits))

    def word(self) -> str:
        return self.pick(_WORDS.split())

    def place(self) -> str:
        return self.pick(_PLACES.split())

    def name(self) -> str:
        return f"{self.word()}-{self.word()}"


def generated() -> dict[str, list[str]]:
    """Subject to its documents."""
    return {
        f"generated/{name}": [make(_Source(_DOCUMENTS * n + seed)) for seed in range(_DOCUMENTS)]
        for n, (name, make) in enumerate(_SUBJECTS.items())
    }


def _arithmetic(source: _Source) -> str:
    """Sums and products worked out as at school."""
    lines = []
    for _ in range(6):
        a, b = 100 + source.below(9900), 12 + source.below(988)
        terms = [(int(digit) * 10**place, place) for place, digit in enumerate(reversed(str(b))) if digit != "0"]
        lines.append(f"{a} × {b}:")
        lines += [f"  {a} × {term} = {a * term}" for term, _ in terms]
        lines.append(f"  {' + '.join(str(a * term) for term, _ in terms)} = {a * b}")
        total, less = a * b, 1000 + source.below(9000)
        lines.append(
            f"  {total} - {less} = {total - less}; {total} / {less} = {total // less} remainder {total % less}\n"
        )
    return "\n".join(lines)


def _table(source: _Source) -> str:
    """Comma-separated values, and a Markdown table of their sums."""
    header, sums, rows = "id,item,place,count,price", dict.fromkeys(_PLACES.split(), 0), []
    for n in range(16):
        place, count, cents = source.place(), 1 + source.below(40), 99 + source.below(20000)
        sums[place] += count * cents
        rows.append(f"{1000 + n * 7},{source.name()},{place},{count},{cents / 100:.2f}")
    totals = [f"| {place} | {cents / 100:,.2f} |" for place, cents in sorted(sums.items()) if cents]
    return "\n".join([header, *rows, "", "| place | total |", "|---|---:|", *totals])


def _log(source: _Source) -> str:
    """What a server writes."""
    lines, second = [], source.below(80000)
    for _ in range(10):
        second += source.below(9)
        clock = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.{source.below(1000):03}"
        address = ".".join(str(source.below(256)) for _ in range(4))
        path = f"/{source.word()}/{source.below(5000)}?page={source.below(20)}"
        status, level = source.pick(((200, "INFO"), (200, "INFO"), (304, "INFO"), (404, "WARN"), (503, "ERROR")))
        lines.append(f"{clock} {level:5} [{source.name()}] {address} GET {path} {status} {source.below(90000)} B")
    return "\n".join(lines)


def _records(source: _Source) -> str:
    """JSON with nesting, digests and missing values."""
    records = [
        {
            "id": source.hexadecimal(12),
            "name": source.name(),
            "state": source.pick(_STATES),
            "score": (source.below(2000) - 1000) / 1000,
            "tags": [source.word() for _ in range(source.below(4))],
            "owner": source.pick((None, {"place": source.place(), "since": 1990 + source.below(40)})),
        }
        for _ in range(5)
    ]
    return json.dumps(records, indent=2)


def _lookup(source: _Source) -> str:
    """Pairs of a name and a value, then some asked for again: what attention over a distance is for."""
    pairs = {source.name(): source.hexadecimal(8) for _ in range(24)}
    names = list(pairs)
    asked = [source.pick(names) for _ in range(10)]
    listed = [f"The key of {name} is {value}." for name, value in pairs.items()]
    return "\n".join([*listed, "", *(f"What is the key of {name}? It is {pairs[name]}." for name in asked)])


_SUBJECTS: dict[str, Callable[[_Source], str]] = {
    "arithmetic": _arithmetic,
    "log": _log,
    "lookup": _lookup,
    "records": _records,
    "table": _table,
}
