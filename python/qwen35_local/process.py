"""Processes of this machine, by their number."""

import os
import sys


def runs(pid: int) -> bool:
    """Whether there is a process of this number. On Windows always False: what it has open cannot be removed there, so
    that trying is safe."""
    if sys.platform == "win32":
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
