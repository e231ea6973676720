"""Renders a foreign Jinja template where it can do no harm.

A template comes with the model file and is a program. Jinja's immutable sandbox keeps it from reaching Python, but not
from looping for ever or from asking for 10 GB of one letter, and neither can be stopped inside a process. So every
rendering runs in a child process (about 0.1 s) with an empty environment, limits on processor time, memory and output,
and a clock in the parent. Where the system has no such limits (Windows, memory on macOS) the clock alone remains.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qwen35_local.errors import TemplateError

CPU_SECONDS = 2
CLOCK_SECONDS = 60 if find_spec("resource") else 10
"""A busy machine may take long over 2 s of processor time; without that limit the clock has to be strict."""
MEMORY_BYTES = 512 << 20
TEMPLATE_CHARACTERS = 1 << 20
OUTPUT_CHARACTERS = 4 << 20
"""Beyond what the conversation itself holds; see `render_jinja`."""

_WORKER = Path(__file__).with_name("jinja_worker.py")
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "SYSTEMROOT", "LD_LIBRARY_PATH", "HOME", "TZ")


def render_jinja(template: str, contexts: Sequence[Mapping[str, Any]]) -> list[str | TemplateError]:
    """Text, or the error, for each context (variables by name, plain JSON values), all in one child process.

    The limits grow with the size of the contexts, so that a long conversation is not mistaken for an attack. Raises
    TemplateError when the template breaks the limits."""
    if len(template) > TEMPLATE_CHARACTERS:
        raise TemplateError(f"the chat template has {len(template)} characters; the limit is {TEMPLATE_CHARACTERS}.")
    data = json.dumps(list(contexts))
    request = {
        "template": template,
        "contexts": list(contexts),
        "cpu_seconds": CPU_SECONDS + len(data) // (1 << 20),
        "memory_bytes": MEMORY_BYTES + 32 * len(data),
        "output_characters": OUTPUT_CHARACTERS + 2 * len(data),
    }
    replies = _ask_worker(json.dumps(request), CLOCK_SECONDS + len(data) // (1 << 20))
    return [
        reply["text"] if "text" in reply else TemplateError(f"the chat template failed: {reply['error']}")
        for reply in replies
    ]


def _ask_worker(request: str, clock_seconds: int) -> list[dict[str, str]]:
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    limits = (
        f"it must render within {CPU_SECONDS} s of processor time, {MEMORY_BYTES >> 20} MiB and {OUTPUT_CHARACTERS} "
        "characters. Use another model file or pass a template of your own."
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(_WORKER)],
            input=request.encode(),
            capture_output=True,
            timeout=clock_seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TemplateError(f"the chat template did not finish in {clock_seconds} s; {limits}") from error
    if done.returncode != 0:
        last_line = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        raise TemplateError(f"the chat template broke its limits ({last_line or f'exit {done.returncode}'}); {limits}")
    replies: list[dict[str, str]] = json.loads(done.stdout)
    return replies
