"""A pass that is captured once and replayed has the bits of the same kernels launched one by one, as they are where a
profile is kept. Also prints what a token takes of both: python captured.py TOKENS."""

import sys
import time

import numpy as np

from qwen35_local import _core, hub

PROMPT = 300  # more than a page


def decode(tokens: int, launched_singly: bool) -> tuple[list[np.ndarray], float]:
    """The logits of a prompt's end and of every token behind it, and milliseconds a token."""
    model = _core.Model(hub.embedded_model(), device="cuda", profile=launched_singly)
    sequence = _core.Sequence(model)
    logits = [sequence.append([1 + i % 97 for i in range(PROMPT)])]
    begin = time.perf_counter()
    logits += [sequence.append([1 + i % 89]) for i in range(tokens)]
    return logits, 1000 * (time.perf_counter() - begin) / tokens


def main() -> None:
    tokens = int(sys.argv[1])
    captured, replayed_ms = decode(tokens, launched_singly=False)
    single, single_ms = decode(tokens, launched_singly=True)
    print(f"{tokens} tokens: replayed {replayed_ms:.2f} ms each, launched singly {single_ms:.2f} ms")
    for i, (a, b) in enumerate(zip(captured, single, strict=True)):
        if a.tobytes() != b.tobytes():
            raise SystemExit(f"token {i}: {np.sum(a != b)} of {a.size} logits differ")


if __name__ == "__main__":
    main()
