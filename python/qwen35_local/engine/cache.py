"""Points that a model can go back to: snapshots in a radix tree keyed by content, kept under a budget of bytes.

A prompt may start from any snapshot whose keys (model_input.keys: ids of tokens, digests of other rows) are a prefix of
its own; the recurrent state of the DeltaNet layers cannot be cut anywhere else (docs/architecture.md 2.9). Which
snapshots are there never changes an answer, only what it costs.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.engine.model_input import Keys, keys

Logits = NDArray[np.float32]

NO_KEYS: Keys = np.empty(0, np.int32)


@dataclass(eq=False)
class Entry:
    """A snapshot after the rows `keys` [n]; None while it is on disk. `label` says where that is, for a reader.
    `logits` [V] follow the last row; they are there only where a prompt ended, and only with them can one end here."""

    keys: Keys
    label: str
    snapshot: _core.Snapshot | None
    logits: Logits | None = None
    hits: int = 0
    used: int = 0
    pages: Mapping[int, int] = field(init=False)
    """Bytes by id of the pages of keys and values that the snapshot pins."""

    def __post_init__(self) -> None:
        self.put(self.snapshot)

    def put(self, snapshot: _core.Snapshot | None) -> None:
        self.snapshot = snapshot
        self.pages = {} if snapshot is None else {page.id: page.n_bytes for page in snapshot.pages}

    @property
    def own_bytes(self) -> int:
        """What it holds in memory apart from pages of keys and values, which snapshots share."""
        held = self.snapshot.n_bytes if self.snapshot is not None else 0
        return held + (self.logits.nbytes if self.logits is not None else 0)


class Disk(Protocol):
    """Where snapshots go that leave memory."""

    budget_bytes: int

    @property
    def n_bytes(self) -> int: ...
    def put(self, entry: Entry) -> bool:
        """Writes the entry's snapshot; False when that failed."""

    def get(self, entry: Entry) -> _core.Snapshot | None:
        """Reads it back; None when it cannot be had."""

    def drop(self, entry: Entry) -> None: ...


class Found(NamedTuple):
    """`entry`: the longest usable prefix. `common`: how many rows some snapshot shares with the prompt; `rest`: how
    that snapshot goes on where the prompt does not."""

    entry: Entry | None
    common: int
    rest: Keys


@dataclass(eq=False)
class _Node:
    edge: Keys
    parent: "_Node | None"
    entry: Entry | None = None
    children: "dict[int, _Node]" = field(default_factory=dict)


class PrefixCache:
    """When the budget is passed, the least useful snapshot goes first. Its use is

        (1 + times it was restored) * tokens that would have to be read again without it / (bytes it frees * age)

    where the tokens are those since the snapshot before it on its path, and age counts insertions and finds since it
    was used. So the ends of long readings outlive their middles, a prefix that several conversations started from
    outlives their ends, and a long chain is thinned out evenly instead of cut. On disk the same, but for the bytes."""

    def __init__(
        self,
        budget_bytes: int = 1 << 30,
        disk: Disk | None = None,
        disk_tokens: int = 256,
        host_bytes: int | None = None,
        saved_page_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """`host_bytes`: on a device with memory of its own, of the host's for all that snapshots alone hold, of which
        `saved_page_bytes` are pages of keys and values; the budget is then of the device's, to lend. A snapshot that
        has to go is written to `disk` when it saves at least `disk_tokens`; fewer are read again sooner than they are
        written and fetched."""
        self.budget_bytes = budget_bytes
        self.host_bytes = host_bytes
        self._saved_page_bytes = saved_page_bytes
        self.disk = disk
        self.disk_tokens = disk_tokens
        self._root = _Node(NO_KEYS, None)
        self._nodes: dict[Entry, _Node] = {}
        self._pins: Counter[int] = Counter()  # how many snapshots pin a page
        self._page_bytes = 0
        self._own_bytes = 0
        self._clock = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._nodes))

    @property
    def n_bytes(self) -> int:
        """Memory held by all snapshots; a page that several of them pin counts once."""
        return self._own_bytes + self._page_bytes

    def find(self, sought: Keys, *, wants_logits: bool = True) -> Found:
        """The snapshot to go on from to the rows `sought` [n]; one of all of them has to have logits if those are
        wanted."""
        node, depth, best = self._root, 0, None
        while True:
            if node.entry is not None and (depth < len(sought) or not wants_logits or node.entry.logits is not None):
                best = node.entry
            child = node.children.get(int(sought[depth])) if depth < len(sought) else None
            if child is None:
                rest = next((c.edge for c in node.children.values()), NO_KEYS)
                return Found(best, depth, rest)
            shared = common_prefix(child.edge, sought[depth:])
            depth += shared
            if shared < len(child.edge):
                return Found(best, depth, child.edge[shared:])
            node = child

    def path(self, sought: Keys) -> list[Entry]:
        """The snapshots that the rows `sought` pass, shortest first."""
        return sorted((e for e in self._nodes if is_prefix(e.keys, sought)), key=lambda entry: len(entry.keys))

    def fetch(self, entry: Entry) -> _core.Snapshot | None:
        """The snapshot of an entry, back in memory; None, and the entry is gone, when it cannot be had."""
        if entry.snapshot is not None:
            return entry.snapshot
        snapshot = self.disk.get(entry) if self.disk is not None else None
        if snapshot is None:
            self.remove(entry)
            return None
        assert self.disk is not None
        self.disk.drop(entry)
        self._unpin(entry)
        entry.put(snapshot)
        self._pin(entry)
        self._evict(entry)
        return snapshot

    def touch(self, entry: Entry) -> None:
        """Notes that `entry` was restored."""
        entry.hits += 1
        self._tick(entry)

    def weigh(self, next_entry: Entry | None = None) -> None:
        """To be called when a sequence has let go of pages, which only snapshots may hold now, and before it is given
        others: those of `next_entry` if there is one."""
        if self.host_bytes is not None:
            self._evict(next_entry, 0 if next_entry is None else sum(next_entry.pages.values()))

    def insert(self, snapshot: _core.Snapshot, label: str, logits: Logits | None = None) -> None:
        """Keeps a snapshot, under the first label its content was given, and lets go of what is then beyond the budget;
        the new one stays."""
        held = keys(snapshot.tokens, snapshot.inputs)
        node = self._node(held)
        if node.entry is not None:
            if node.entry.logits is None and logits is not None:
                node.entry.logits = logits
                self._own_bytes += logits.nbytes
            self._tick(node.entry)
            return
        entry = node.entry = Entry(held, label, snapshot, logits)
        self._nodes[entry] = node
        self._pin(entry)
        self._tick(entry)
        self._evict(entry)

    def holds(self, sought: Keys, *, with_logits: bool = False) -> bool:
        """Whether there is a snapshot after exactly the rows `sought`."""
        node, depth = self._root, 0
        while depth < len(sought):
            child = node.children.get(int(sought[depth]))
            if child is None or common_prefix(child.edge, sought[depth:]) < len(child.edge):
                return False
            node, depth = child, depth + len(child.edge)
        return node.entry is not None and (node.entry.logits is not None or not with_logits)

    def lend(self, n_bytes: int) -> None:
        """So much of the budget is somebody else's until it is lent back, as a negative number; snapshots beyond the
        rest leave."""
        self.budget_bytes -= n_bytes
        self._evict(None)

    def remove(self, entry: Entry) -> None:
        if entry not in self._nodes:
            return
        if entry.snapshot is None and self.disk is not None:
            self.disk.drop(entry)
        self._unpin(entry)
        node = self._nodes.pop(entry)
        node.entry = None
        self._prune(node)

    def clear(self) -> None:
        for entry in self:
            self.remove(entry)

    def _pin(self, entry: Entry) -> None:
        """Counts what the entry holds in memory."""
        self._own_bytes += entry.own_bytes
        self._page_bytes += sum(size for page, size in entry.pages.items() if not self._pins[page])
        self._pins.update(entry.pages.keys())

    def _unpin(self, entry: Entry) -> None:
        self._own_bytes -= entry.own_bytes
        self._page_bytes -= self._alone(entry)
        for page in entry.pages:
            self._pins[page] -= 1
            if not self._pins[page]:
                del self._pins[page]

    def _alone(self, entry: Entry) -> int:
        """Bytes of the pages that no other snapshot pins."""
        return sum(size for page, size in entry.pages.items() if self._pins[page] == 1)

    def _evict(self, newest: Entry | None, used_bytes: int = 0) -> None:
        """`used_bytes` of pages will be a sequence's."""
        while self._held_bytes - used_bytes > (self.budget_bytes if self.host_bytes is None else self.host_bytes):
            others = [entry for entry in self._nodes if entry is not newest and entry.snapshot is not None]
            if not others:
                break
            self._leave_memory(min(others, key=self._use))
        while self.disk is not None and self.disk.n_bytes > self.disk.budget_bytes:
            self.remove(min((entry for entry in self._nodes if entry.snapshot is None), key=self._use))

    @property
    def _held_bytes(self) -> int:
        return self.n_bytes if self.host_bytes is None else self._own_bytes + self._saved_page_bytes()

    def _leave_memory(self, entry: Entry) -> None:
        if self.disk is None or self._saved_tokens(entry) < self.disk_tokens or not self.disk.put(entry):
            self.remove(entry)
            return
        self._unpin(entry)
        entry.put(None)
        self._pin(entry)

    def _saved_tokens(self, entry: Entry) -> int:
        """What would have to be read again without it."""
        node = self._nodes[entry].parent
        while node is not None and node.entry is None:
            node = node.parent
        return len(entry.keys) - (0 if node is None or node.entry is None else len(node.entry.keys))

    def _use(self, entry: Entry) -> float:
        frees = entry.own_bytes + self._alone(entry) if entry.snapshot is not None else 1
        age = self._clock - entry.used + 1
        return (1 + entry.hits) * self._saved_tokens(entry) / (frees * age)

    def _tick(self, entry: Entry) -> None:
        self._clock += 1
        entry.used = self._clock

    def _node(self, sought: Keys) -> _Node:
        """The node after the rows `sought`, made where there is none."""
        node, depth = self._root, 0
        while depth < len(sought):
            first = int(sought[depth])
            child = node.children.get(first)
            if child is None:
                child = node.children[first] = _Node(sought[depth:], node)
            shared = common_prefix(child.edge, sought[depth:])
            if shared < len(child.edge):
                middle = node.children[first] = _Node(child.edge[:shared], node)
                child.edge, child.parent = child.edge[shared:], middle
                middle.children[int(child.edge[0])] = child
                child = middle
            node, depth = child, depth + shared
        return node

    def _prune(self, node: _Node) -> None:
        """Takes out nodes that lead nowhere, and joins one that only leads on with what follows it."""
        while node.parent is not None and node.entry is None and not node.children:
            del node.parent.children[int(node.edge[0])]
            node = node.parent
        if node.parent is not None and node.entry is None and len(node.children) == 1:
            (child,) = node.children.values()
            child.edge, child.parent = np.concatenate([node.edge, child.edge]), node.parent
            node.parent.children[int(child.edge[0])] = child


def common_prefix(a: Keys, b: Keys) -> int:
    """How many rows both begin with."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def is_prefix(short: Keys, long: Keys) -> bool:
    return len(short) <= len(long) and bool(np.array_equal(short, long[: len(short)]))
