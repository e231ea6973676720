"""Room on Python's stack, looked for before it is needed."""

import sys


def check_room(calls: int) -> None:
    """Raises RecursionError where there is no room for so many calls inside one another."""
    try:
        sys._getframe(max(0, sys.getrecursionlimit() - calls))
    except ValueError:
        return  # there are fewer frames than that
    raise RecursionError(f"the stack of Python has no room for {calls} more calls")
