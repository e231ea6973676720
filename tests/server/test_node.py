"""OpenAI's client for Node and the AI SDK, at the versions of node/package-lock.json, which `make clients` installs."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import Served

HERE = Path(__file__).parent / "node"
# Node looks for packages beside what imports them, so that the tests are copied to where these are installed.
INSTALLED = Path(__file__).parents[2] / "build" / "node"
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(
        NODE is None or not (INSTALLED / ".installed").exists(), reason="needs Node and its clients: make clients"
    ),
]


@pytest.mark.parametrize("name", ["openai", "ai_sdk"])
def test_client(server: Served, name: str) -> None:
    for module in HERE.glob("*.mjs"):
        shutil.copy(module, INSTALLED)
    tokenizer = server.service.engine.tokenizer
    never = {str(token): -1e6 for token in tokenizer.end_ids if token < tokenizer.n_used}
    asked = {"SERVER_URL": server.url, "NEVER_ENDS": json.dumps(never)}
    run = subprocess.run(
        [str(NODE), "--test", "--test-reporter=spec", f"{name}.test.mjs"],
        cwd=INSTALLED,
        env=os.environ | asked,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"pass [1-9]", run.stdout)
