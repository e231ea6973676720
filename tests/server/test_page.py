"""The page as bytes, and its endpoints: small, from nowhere else, and under a policy that lets nothing else run."""

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from scripted import Script
from serving import Served, served

from qwen35_local.engine.engine import Engine
from qwen35_local.server.page import routes

CHAT = "/v1/chat/completions"
FILES = sorted(path.name for path in routes._FOLDER.iterdir())
PATHS = ["/", *(f"/page/{name}" for name in FILES)]
KEY = "a-secret-key"
QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]


@pytest.fixture(scope="module")
def locked(demo_engine: Engine) -> Iterator[Served]:
    with served(demo_engine, keys=[KEY]) as running:
        yield running


def test_it_is_small(http: httpx.Client) -> None:
    assert "index.html" in FILES
    assert sum(len(http.get(path).content) for path in PATHS) < 150_000


@pytest.mark.parametrize("path", PATHS)
def test_headers(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["img-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers


def test_types(http: httpx.Client) -> None:
    types = {name.rpartition(".")[2]: http.get(f"/page/{name}").headers["content-type"] for name in FILES}
    assert types == {
        "css": "text/css; charset=utf-8",
        "html": "text/html; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }


@pytest.mark.parametrize("path", PATHS)
def test_no_address_of_elsewhere(http: httpx.Client, path: str) -> None:
    text = http.get(path).text
    text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://\w|[\"'`(=]//|url\(|@import", text)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_makes_markup_of_text(http: httpx.Client, path: str) -> None:
    text = http.get(path).text
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser", text
    )
    assert not re.search(r"\son[a-z]+=|style=|<script(?! src)(?! type=\"module\" src)", text if path == "/" else "")


@pytest.mark.parametrize("path", ["/page/", "/page/%2e%2e%2froutes.py", "/page/x.js", "/page/routes.py"])
def test_no_other_file(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_what_is_seen_without_a_key(locked: Served) -> None:
    assert all(httpx.get(locked.url + path).status_code == 200 for path in PATHS)
    assert httpx.post(locked.url + "/page/app.js").status_code == 401
    assert httpx.get(locked.url + "/v1/qwen35/status").status_code == 401
    assert httpx.post(locked.url + "/v1/qwen35/answer-now", json={"id": "x"}).status_code == 401


def test_status(http: httpx.Client, demo_engine: Engine) -> None:
    before = http.get("/v1/qwen35/status").json()
    assert before["model"] == "demo"
    assert before["context_tokens"] == demo_engine.context_tokens
    assert before["memory"]["weights"] == demo_engine.model.weight_bytes
    assert before["sampling"]["thinking"]["temperature"] == demo_engine.preset(thinking=True).temperature
    usage = http.post(CHAT, json={"messages": QUESTION}).json()["usage"]
    after = http.get("/v1/qwen35/status").json()
    assert after["replies"] == before["replies"] + 1
    assert after["generated_tokens"] == before["generated_tokens"] + usage["completion_tokens"]
    assert after["running"] == after["waiting"] == 0


def test_cost_of_a_reply(http: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "What is 8 + 9?"}], "temperature": 0, "return_cost": True}
    choice = http.post(CHAT, json=body).json()["choices"][0]
    cost = choice["qwen35"]
    assert cost["reason"] == "stop"
    assert cost["prompt_tokens"] == cost["reused_tokens"] + cost["evaluated_tokens"] > 0
    again = http.post(CHAT, json=body).json()["choices"][0]["qwen35"]
    assert again["reused_tokens"] > cost["reused_tokens"]
    assert again["source"]
    assert "qwen35" not in http.post(CHAT, json={**body, "return_cost": False}).json()["choices"][0]


def test_cost_tells_nothing_of_other_prompts(http: httpx.Client) -> None:
    secret = "pomegranate"
    for text in (f"Tell me of the {secret}", "Tell me of the sea"):
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 1, "return_cost": True}
        answer = http.post(CHAT, json=body)
    cost = answer.json()["choices"][0]["qwen35"]
    assert cost["differs_at"] is not None
    assert "sea" in cost["differing_text"]
    assert secret not in answer.text


def test_answer_now(server: Served, http: httpx.Client, demo_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    thought = "".join(f"Point {n} is one more to think of. " for n in range(300))
    Script(monkeypatch).say(demo_engine, thought, "</think>", "Late.")
    body = {"messages": QUESTION, "stream": True, "enable_thinking": True, "return_cost": True, "max_tokens": 1200}
    chunks = []
    with http.stream("POST", CHAT, json=body) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunks.append(line)
            if len(chunks) == 5:
                wanted = {"id": json.loads(line[6:])["id"]}
                assert httpx.post(server.url + "/v1/qwen35/answer-now", json=wanted).status_code == 200
    assert "the thinking was ended to answer now" in chunks[-1]
    assert sum("reasoning_content" in chunk for chunk in chunks) < 600


@pytest.mark.parametrize("body", [{"id": "chatcmpl-0"}, {"id": ""}])
def test_answer_now_of_nothing(http: httpx.Client, body: dict[str, str]) -> None:
    answer = http.post("/v1/qwen35/answer-now", json=body)
    assert answer.status_code == 404
    assert answer.json()["error"]["param"] == "id"


def test_answer_now_without_an_id(http: httpx.Client) -> None:
    assert http.post("/v1/qwen35/answer-now", json={}).status_code == 400
