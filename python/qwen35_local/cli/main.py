"""The first lines of `qwen35`. Nothing slow is imported before an interrupt has its meaning."""

import sys


def main() -> None:
    """Runs the command line and exits with its code (`cli.app.run` lists them)."""
    try:
        from qwen35_local.cli import interrupt

        interrupt.end_at_once()
        from qwen35_local.cli import app, streams

        streams.prepare()
        interrupt.end_in_order()
        code = app.run()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
