"""The endpoints of llama.cpp's server."""

import json
import re
from typing import Any

import httpx
import pytest
from conversations import CAPITAL, events_of
from serving import Served

from qwen35_local.engine.engine import Engine

PROMPT = f"<|im_start|>user\n{CAPITAL}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
ASKED: dict[str, Any] = {"prompt": PROMPT, "temperature": 0}


def posted(http: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_completion_goes_on_from_a_prompt(http: httpx.Client) -> None:
    whole = posted(http, "/completion", ASKED)
    assert "Rome" in whole["content"]
    assert (whole["stop"], whole["stop_type"], whole["stopping_word"]) == (True, "eos", "")
    assert whole["tokens_evaluated"] == len(posted(http, "/tokenize", {"content": PROMPT})["tokens"])
    assert whole["timings"]["predicted_n"] == whole["tokens_predicted"] > 3
    assert whole["timings"]["cache_n"] + whole["timings"]["prompt_n"] == whole["tokens_evaluated"]
    tokens = posted(http, "/tokenize", {"content": PROMPT})["tokens"]
    for prompt in (tokens, [PROMPT[:20], *posted(http, "/tokenize", {"content": PROMPT[20:]})["tokens"]]):
        assert posted(http, "/completion", ASKED | {"prompt": prompt})["content"] == whole["content"]


def test_a_stream_adds_up_to_the_completion(http: httpx.Client) -> None:
    whole = posted(http, "/completion", ASKED)
    answer = http.post("/completion", json=ASKED | {"stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    parts = [data for _, data in events_of(answer.text)]
    assert "".join(part["content"] for part in parts) == whole["content"]
    assert [part["stop"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1]["tokens_predicted"] == whole["tokens_predicted"]


def test_progress_is_told_where_it_is_asked_for(http: httpx.Client) -> None:
    prompt = "never read before " * 300
    asked = {"prompt": prompt, "n_predict": 1, "stream": True, "return_progress": True}
    parts = [data for _, data in events_of(http.post("/completion", json=asked).text)]
    told = [part["prompt_progress"] for part in parts if "prompt_progress" in part]
    assert told[-1]["processed"] == told[-1]["total"] == parts[-1]["tokens_evaluated"]
    assert [entry["processed"] for entry in told] == sorted(entry["processed"] for entry in told)


def test_settings_of_a_completion(http: httpx.Client) -> None:
    short = posted(http, "/completion", ASKED | {"n_predict": 2})
    assert (short["tokens_predicted"], short["stop_type"]) == (2, "limit")
    stopped = posted(http, "/completion", ASKED | {"stop": ["Rome"]})
    assert (stopped["stop_type"], stopped["stopping_word"]) == ("word", "Rome")
    assert "Rome" not in stopped["content"]
    probed = posted(http, "/completion", ASKED | {"n_probs": 2})["completion_probabilities"]
    assert "".join(entry["token"] for entry in probed) == posted(http, "/completion", ASKED)["content"]
    assert all(len(entry["top_logprobs"]) == 2 for entry in probed)
    (rome,) = {entry["id"] for entry in probed if "Rome" in entry["token"]} or {probed[0]["id"]}
    banned = posted(http, "/completion", ASKED | {"logit_bias": [[rome, False]], "n_probs": 1})
    assert rome not in [entry["id"] for entry in banned["completion_probabilities"]]


def test_a_completion_of_a_given_form(http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [41, 42]}}, "required": ["n"]}
    schema |= {"additionalProperties": False}
    found = json.loads(posted(http, "/completion", ASKED | {"json_schema": schema, "n_predict": 60})["content"])
    assert found["n"] in (41, 42)


def test_tokens_and_back(http: httpx.Client) -> None:
    text = "Straße <|im_end|> 你好"
    tokens = posted(http, "/tokenize", {"content": text})["tokens"]
    assert posted(http, "/detokenize", {"tokens": tokens}) == {"content": text, "prompt": text}
    plain = posted(http, "/tokenize", {"content": text, "parse_special": False})["tokens"]
    assert len(plain) > len(tokens)
    assert posted(http, "/detokenize", {"tokens": plain})["content"] == text
    pieces = posted(http, "/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert [piece["id"] for piece in pieces] == tokens
    data = b"".join(p.encode() if isinstance(p := piece["piece"], str) else bytes(p) for piece in pieces)
    assert data.decode() == text
    assert any(isinstance(piece["piece"], list) for piece in pieces)
    assert posted(http, "/tokenize", {"content": ""}) == {"tokens": []}


def test_tokens_in_the_words_of_vllm(http: httpx.Client) -> None:
    """What lm-eval asks a server that has the tokenizer (`lm_eval.utils.RemoteTokenizer`)."""
    info = http.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"], info["model_max_length"]) == (None, "<|im_end|>", 4096)
    assert info["chat_template"] == http.get("/props").json()["chat_template"]
    text = f"a 字{info['eos_token']}"
    told = posted(http, "/tokenize", {"prompt": text, "add_special_tokens": False, "return_token_strs": True})
    assert told["tokens"] == posted(http, "/tokenize", {"content": text})["tokens"]
    assert (told["count"], told["max_model_len"]) == (len(told["tokens"]), 4096)
    assert told["token_strs"][-1] == info["eos_token"] and told["token_strs"][0] == "a"
    assert posted(http, "/tokenize", {"model": "demo", "prompt": text})["token_strs"] is None
    assert posted(http, "/detokenize", {"tokens": told["tokens"]})["prompt"] == text


def test_a_template_is_applied(http: httpx.Client) -> None:
    asked = {"messages": [{"role": "user", "content": CAPITAL}], "chat_template_kwargs": {"enable_thinking": False}}
    assert posted(http, "/apply-template", asked) == {"prompt": PROMPT}
    asked = {"messages": [{"role": "user", "content": CAPITAL}], "add_generation_prompt": False}
    assert posted(http, "/apply-template", asked)["prompt"] == PROMPT.partition("<|im_start|>assistant")[0]
    turns = [{"role": "developer", "content": "a"}, {"role": "system", "content": "b"}, *asked["messages"]]
    asked = {"messages": turns, "reasoning_effort": "none"}
    assert posted(http, "/apply-template", asked) == {"prompt": f"<|im_start|>system\na\n\nb<|im_end|>\n{PROMPT}"}


def test_what_the_server_is(http: httpx.Client, demo_engine: Engine) -> None:
    props = http.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 4096
    assert props["total_slots"] == 1
    assert props["chat_template"] == demo_engine.template.text
    assert props["chat_template_caps"]["supports_tools"] is True
    assert props["modalities"] == {"vision": False, "video": False, "audio": False}
    assert "/" not in props["model_path"]
    (slot,) = http.get("/slots").json()
    assert slot == {"id": 0, "n_ctx": 4096, "speculative": True, "is_processing": False, "n_past": 0}
    assert props["default_generation_settings"]["params"]["speculative.n_max"] == 8


def test_metrics_count_what_was_done(http: httpx.Client) -> None:
    def read() -> dict[str, float]:
        answer = http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = answer.text.splitlines()
        samples = [line for line in lines if not line.startswith("#")]
        named = {re.split(r"[{ ]", line)[0] for line in samples}
        for word in ("HELP", "TYPE"):
            told = [line.split()[2] for line in lines if line.startswith(f"# {word} ")]
            assert named <= set(told)
            assert len(told) == len(set(told))
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in samples)}

    before = read()
    done = posted(http, "/completion", ASKED)
    after = read()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("qwen35_prompt_tokens_total") == done["tokens_evaluated"]
    assert grown("qwen35_generated_tokens_total") == done["tokens_predicted"]
    assert grown("qwen35_drafted_tokens_total") == done["timings"].get("draft_n", 0)
    assert grown("qwen35_accepted_tokens_total") == done["timings"].get("draft_n_accepted", 0)
    assert grown('qwen35_replies_total{reason="stop"}') == 1
    assert grown('qwen35_requests_total{status="200"}') >= 1


def test_no_word_of_what_was_said_is_told(server: Served, http: httpx.Client) -> None:
    before = server.mark()
    posted(http, "/completion", {"prompt": "xylophone quartz", "n_predict": 1})
    for path in ("/slots", "/metrics", "/props"):
        assert "xylophone" not in http.get(path).text
    lines = server.lines_since(before)
    assert len(lines) == 4 and "xylophone" not in " ".join(lines)


@pytest.mark.parametrize("path", ["/completion", "/tokenize", "/detokenize", "/apply-template"])
def test_errors_have_a_code_and_a_type(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json={})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (400, "invalid_request_error")
    assert "missing" in error["message"]


def test_template_of_a_reply_that_goes_on(http: httpx.Client) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}], "chat_template_kwargs": {"enable_thinking": False}}
    opened = posted(http, "/apply-template", asked)["prompt"]
    given = {"role": "assistant", "content": "Hello, "}
    more = {
        "messages": [*asked["messages"], given],
        "continue_final_message": "content",
        "add_generation_prompt": False,
    }
    assert posted(http, "/apply-template", more)["prompt"] == f"{opened}Hello, "
    given["reasoning_content"] = "A greeting."
    thought = posted(http, "/apply-template", more)["prompt"]
    assert thought.endswith("<think>\nA greeting.\n</think>\n\nHello, ")
