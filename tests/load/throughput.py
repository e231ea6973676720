"""Many streams at once, beside one, and beside llama.cpp's server on the same file in turns.

    python -m tests.load.throughput --llama-server PATH [--size 0.8b] [--type Q4_0] [--rounds 3]

The model has the real shapes, random weights and the vocabulary of the embedded model, padded to the real number of
rows. Tokens per second are counted from the first token of the last stream to the end of the first one. The second part
asks a conversation's second turn while four others are being written, beside the same with nobody else.
"""

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx

from qwen35_local import _core, hub
from qwen35_local.quantize.synthetic import Synthetic, synthetic

TOKENS = 48
PROMPT_TOKENS = 32
UNUSED = 5  # a token type of GGUF
STREAMS = (1, 4, 16)


class Spoken(Synthetic):
    """With a tokenizer, so that servers load it."""

    def _metadata(self) -> dict[str, object]:
        own = {name: v for name, v in super()._metadata().items() if not name.startswith("tokenizer.")}
        demo = _core.GgufFile(hub.embedded_model()).metadata
        spoken = {name: value for name, value in demo.items() if name.startswith("tokenizer.")}
        missing = self.config.vocabulary - len(spoken["tokenizer.ggml.tokens"])
        spoken["tokenizer.ggml.tokens"] = [*spoken["tokenizer.ggml.tokens"], *(f"<|{n}|>" for n in range(missing))]
        spoken["tokenizer.ggml.token_type"] = [*spoken["tokenizer.ggml.token_type"], *([UNUSED] * missing)]
        return own | spoken


def write_model(size: str, preset: str, path: Path) -> None:
    made = synthetic(size, preset)
    Spoken(**{name: getattr(made, name) for name in ("name", "size", "config", "preset", "tensors", "_by_name")}).write(
        path
    )


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@contextmanager
def running(command: list[str], url: str) -> Iterator[str]:
    """A server, once it answers /health, until the end of this."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with {process.returncode}: {' '.join(command)}")
            try:
                if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


async def stream(client: httpx.AsyncClient, url: str, prompt: list[int], tokens: int) -> list[float]:
    """When each token came."""
    never = {str(n): -100 for n in ENDS}
    body: dict[str, Any] = {
        "model": "any",
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "logit_bias": never,
        "logprobs": 1,
    }
    if url in RIVALS:
        body["ignore_eos"] = True
    times: list[float] = []
    async with client.stream("POST", f"{url}/v1/completions", json=body, timeout=600) as answer:
        if answer.status_code != 200:
            raise SystemExit(f"{url}: {answer.status_code} {(await answer.aread()).decode()[:500]}")
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                told = choices[0].get("logprobs") if choices else None
                count = len(told.get("tokens") or told.get("content") or ()) if told else 0
                times += [time.monotonic()] * count
    return times


async def together(url: str, n: int, random: Random) -> float:
    """Tokens per second of n streams."""
    prompts = [[random.randrange(300, 3000) for _ in range(PROMPT_TOKENS)] for _ in range(n)]
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=64)) as client:
        found = await asyncio.gather(*(stream(client, url, prompt, TOKENS) for prompt in prompts))
    if any(len(times) < TOKENS // 2 for times in found):  # a token without text of its own may not be told
        raise SystemExit(f"{url}: streams of {sorted({len(times) for times in found})} tokens, expected {TOKENS}")
    start, end = max(times[0] for times in found), min(times[-1] for times in found)
    inside = sum(start < at <= end for times in found for at in times)
    return inside / (end - start)


async def second_turn(url: str, beside: int, random: Random, new_tokens: int) -> float:
    """Seconds to the first token of a second turn with `new_tokens` more, while `beside` others are being written."""
    first = [random.randrange(300, 3000) for _ in range(700)]
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=64)) as client:
        await stream(client, url, first, 1)
        others = [
            asyncio.create_task(stream(client, url, [random.randrange(300, 3000) for _ in range(PROMPT_TOKENS)], 400))
            for _ in range(beside)
        ]
        await asyncio.sleep(2.0)  # alone too: what the first turn leaves to be done is over
        begin = time.monotonic()
        times = await stream(client, url, [*first, *(random.randrange(300, 3000) for _ in range(new_tokens))], 1)
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    return times[0] - begin


ENDS: tuple[int, ...] = ()
RIVALS: set[str] = set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", help="llama.cpp's, to take turns with")
    parser.add_argument("--size", default="0.8b")
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=_core.usable_threads())
    options = parser.parse_args()
    global ENDS
    demo = _core.GgufFile(hub.embedded_model()).metadata
    kinds = demo["tokenizer.ggml.token_type"]
    ENDS = tuple(n for n, kind in enumerate(kinds) if kind in (3, 4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_model(options.size, options.type, path)
        ports = [free_port(), free_port()]
        ours = [sys.executable, "-m", "qwen35_local", "serve", str(path), "--port", str(ports[0])]
        ours += ["--parallel", "16", "--ctx", "4096", "--threads", str(options.threads), "--cache-disk", "0"]
        theirs = [options.llama_server or "", "-m", str(path), "--port", str(ports[1]), "-np", "16", "-c", "65536"]
        theirs += ["-t", str(options.threads), "--no-webui"]
        with running(ours, f"http://127.0.0.1:{ports[0]}") as url:
            if options.llama_server:
                with running(theirs, f"http://127.0.0.1:{ports[1]}") as rival:
                    RIVALS.add(rival)
                    measure(options.rounds, {"ours": url, "theirs": rival})
            else:
                measure(options.rounds, {"ours": url})


def measure(rounds: int, servers: dict[str, str]) -> None:
    found: dict[tuple[str, int], list[float]] = {}
    for turn in range(rounds + 1):
        for n in STREAMS:
            for name, url in servers.items():
                speed = asyncio.run(together(url, n, Random(turn * 100 + n)))
                if turn:  # the first round warms up
                    found.setdefault((name, n), []).append(speed)
                print(f"{name} {n} streams: {speed:.1f} tok/s", file=sys.stderr, flush=True)
    for name in servers:
        ones = found[name, 1]
        for n in STREAMS:
            ratios = [many / one for many, one in zip(found[name, n], ones, strict=True)]
            speed, gain = statistics.median(found[name, n]), statistics.median(ratios)
            print(f"{name}: {n} streams {speed:.1f} tok/s, {gain:.2f}x one")
    if "theirs" in servers:
        for n in STREAMS:
            ratios = [a / b for a, b in zip(found["ours", n], found["theirs", n], strict=True)]
            print(f"ours / theirs at {n} streams: {statistics.median(ratios):.2f}")
    for new_tokens in (64, 256, 1024):
        ratios = []
        for turn in range(rounds):
            alone, beside = (
                asyncio.run(second_turn(servers["ours"], n, Random(turn * 10 + n), new_tokens)) for n in (0, 4)
            )
            ratios.append(beside / alone)
        print(f"second turn of {new_tokens} new tokens, 4 others being written: {statistics.median(ratios):.2f}x alone")


if __name__ == "__main__":
    main()
