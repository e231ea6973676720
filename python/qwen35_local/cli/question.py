"""A question to a person at a terminal, answered with yes or no."""

import sys

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}


def can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(question: str, *, is_advised: bool) -> bool:
    """Asks on stderr until the answer is yes or no; Enter alone is what is advised, the end of input is no. Raises
    KeyboardInterrupt. However it ends, the cursor stands at the start of a line."""
    while True:
        try:
            sys.stderr.write(f"{question} {'[Y/n]' if is_advised else '[y/N]'} ")
            sys.stderr.flush()
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            raise
        if not line.endswith("\n"):
            sys.stderr.write("\n")
        answer = _ANSWERS.get(line.strip().lower()) if line.strip() else is_advised and bool(line)
        if answer is not None:
            return answer
        sys.stderr.write("Answer y or n.\n")
