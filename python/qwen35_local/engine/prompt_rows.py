"""How the rows that a pass has for prompts are shared out: of each prompt the same, and what some do not need for the
others; those first that have least left."""

from collections.abc import Iterable, Sequence

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


def may_hold_up(reading: Sequence[Reading], pace: Pace, most: int) -> bool:
    """Whether a pass of `most` rows is for prompts alone since it ends one, whose reply begins the sooner; replies that
    are written have their next token when they were promised one all the same."""
    room = pace.prompt_rows(most, beside_replies=True)
    rests = [_rest(slot) for _, slot in reading]
    return bool(rests) and rests[0] <= room // len(rests) and pace.may_hold_up(min(room, sum(rests)))


def _rest(slot: CachedSequence) -> int:
    return len(slot.goal) - len(slot)
