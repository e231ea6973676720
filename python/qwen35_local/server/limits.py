"""How much one client may ask for, in size and in time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """`all_bodies_bytes`: of the bodies that are being received. `queue_events`: told but not yet read by the client;
    beyond it the reply is cancelled. `scores`: of a prompt's tokens, and those in their places, in one answer.
    `stall_seconds`: how long a client may read nothing. `ping_seconds`: how long a stream may be silent.
    `reply_seconds`: of a whole reply; 0: no limit. `grace_seconds`: how long running replies may take to finish when
    the server ends. `breaks_loops`: whether thinking, and chat replies, that repeat themselves without end are
    ended."""

    body_bytes: int = 32 << 20
    all_bodies_bytes: int = 256 << 20
    messages: int = 10_000
    tools: int = 1_000
    prompts: int = 128
    scores: int = 1 << 19
    connections: int = 1_000
    header_seconds: float = 20
    body_seconds: float = 60
    keep_alive_seconds: float = 75
    stall_seconds: float = 60
    ping_seconds: float = 5
    reply_seconds: float = 0
    grace_seconds: float = 10
    queue_events: int = 16_384
    breaks_loops: bool = True
