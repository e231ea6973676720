"""`qwen35 serve` as a program: what it prints, refuses, answers, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from qwen35_local.cli.remote import read_keys

BODY = {"messages": [{"role": "user", "content": "What is 12 + 30?"}], "temperature": 0}
KEY = "a-secret-key"


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "qwen35_local", "serve", "--ctx", "1024", "--cache-disk", "0", *options]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program once it serves, and where."""
    environment = {**os.environ, "QWEN35_HOME": str(folder)}
    with subprocess.Popen(command(*options), stderr=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stderr is not None
        try:
            line = next(line for line in program.stderr if line.startswith("serving at "))
            yield program, line.removeprefix("serving at ").partition(";")[0]
        finally:
            program.kill()


def refused(*options: str) -> str:
    run = subprocess.run(command(*options), capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    return run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_it_is_asked_to_end(tmp_path: Path, ending: signal.Signals) -> None:
    with serving(tmp_path, "--port", "0", "--alias", "mine") as (program, url):
        answer = httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=60).json()
        assert answer["model"] == "mine"
        assert "42" in answer["choices"][0]["message"]["content"]
        program.send_signal(ending)
        assert program.wait(20) == 0
        assert program.stderr is not None
        (line,) = program.stderr.read().splitlines()
        assert " POST /v1/chat/completions 200 " in line


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Unless nothing is to be kept: with `--cache-disk 0`, as here first, or `--no-save`."""
    options = ("--port", "0", "--ctx", "2048")
    said = [{"role": "system", "content": "You are careful. " * 20}, {"role": "user", "content": "What is 12 + 30?"}]
    cached = []
    for more in ([], [], ["--cache-disk", "1"], ["--cache-disk", "1"], ["--cache-disk", "1", "--no-save"]):
        with serving(tmp_path, *options, *more) as (program, url):
            body = {"messages": said, "temperature": 0}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
            cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
            program.send_signal(signal.SIGTERM)
            assert program.wait(20) == 0
    total = answer["usage"]["prompt_tokens"]
    assert cached == [0, 0, 0, total, 0]


def test_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} is taken" in refused("--port", str(port))


def test_other_address_needs_a_key(tmp_path: Path) -> None:
    assert "--api-key-file" in refused("--host", "0.0.0.0")
    assert "--host" in refused("--host", "no.such.host.invalid", "--api-key-file", str(key_file(tmp_path)))


def key_file(folder: Path) -> Path:
    path = folder / "keys"
    path.write_text(f"# of this machine\n{KEY}\n")
    path.chmod(0o600)
    return path


def test_key_file(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0", "--host", "0.0.0.0", "--api-key-file", str(key_file(tmp_path))) as (_, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"x-api-key": KEY}).status_code == 200
        evil = {"x-api-key": KEY, "Host": "evil.example"}
        assert httpx.get(f"{url}/v1/models", headers=evil).status_code == 403


def test_key_file_as_an_editor_of_windows_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"\xef\xbb\xbf" + f"{KEY}\r\nanother-key\r\n".encode())
    path.chmod(0o600)
    assert read_keys(path, "--api-key-file") == [KEY, "another-key"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of Unix")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_key_file_that_others_can_read(tmp_path: Path, mode: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = key_file(tmp_path)
    path.chmod(mode)
    assert read_keys(path, "--api-key-file") == [KEY]
    assert ("chmod 600" in capsys.readouterr().err) == (mode != 0o600)


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", "a key with a \x1b in it\n", "schlüssel-lang\n"])
def test_key_file_that_holds_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    assert "--api-key-file" in refused("--api-key-file", str(path))


def test_origin_that_is_none() -> None:
    assert "--allow-origin" in refused("--allow-origin", "*")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets here")
def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(tmp_path, "--unix-socket", str(path)) as (program, _):
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as client:
            assert client.get("/health").status_code == 200
        assert "another program has it" in refused("--unix-socket", str(path))
        file = key_file(tmp_path)
        assert "no socket" in refused("--unix-socket", str(file))
        assert KEY in file.read_text()
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 0
    assert not path.exists()
