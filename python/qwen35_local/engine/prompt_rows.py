"""How the rows that a pass has for prompts are shared out: of each prompt the same, and what some do not need for the
others; those first that have least left. And which prompts wait for what another one shares with them."""

from collections.abc import Iterable, Sequence

from qwen35_local.engine.cache import PrefixCache, common_prefix
from qwen35_local.engine.cached_sequence import CachedSequence, Part
from qwen35_local.engine.pace import Pace
from qwen35_local.engine.task import Task

Reading = tuple[Task, CachedSequence]
"""A task whose prompt is being read, and what it is read on."""


def being_read(running: Iterable[Task]) -> list[Reading]:
    reading = [(task, task.slot) for task in running if task.is_reading and task.slot is not None]
    return sorted(reading, key=lambda pair: _rest(pair[1]))


def take_parts(reading: Sequence[Reading], room: int) -> list[tuple[Task, Part]]:
    """At most `room` rows of them. A part ends before its share where its prompt leaves a snapshot."""
    parts: list[tuple[Task, Part]] = []
    for n, (task, slot) in enumerate(reading):
        share = room // (len(reading) - n)
        if share:
            parts.append((task, slot.next_part(share)))
            room -= len(parts[-1][1].rows)
    return parts


def waits_for_another(task: Task, running: Iterable[Task], cache: PrefixCache) -> bool:
    """Whether a prompt that is being read begins like this one, further than all that was read before. What they share
    leaves a snapshot then, and this one goes on from there."""
    reading = [other.slot for other in running if other.is_reading and other.slot is not None]
    if not reading or task.scoring is not None:
        return False
    keys = task.goal.keys
    entry = cache.find(keys).entry
    known = 0 if entry is None else len(entry.keys)
    for slot in reading:
        shared = common_prefix(slot.goal.keys, keys)
        if shared == len(keys) < len(slot.goal):
            shared -= 1  # the logits that follow its last row are wanted, and only the end of a prompt leaves some
        if len(slot) < shared and known < shared:
            slot.mark(shared, "where another prompt parts from it")
            return True
    return False


def may_hold_up(reading: Sequence[Reading], pace: Pace, most: int) -> bool:
    """Whether a pass of `most` rows is for prompts alone since it ends one, whose reply begins the sooner; replies that
    are written have their next token when they were promised one all the same."""
    room = pace.prompt_rows(most, beside_replies=True)
    rests = [_rest(slot) for _, slot in reading]
    return bool(rests) and rests[0] <= room // len(rests) and pace.may_hold_up(min(room, sum(rests)))


def _rest(slot: CachedSequence) -> int:
    return len(slot.goal) - len(slot)
