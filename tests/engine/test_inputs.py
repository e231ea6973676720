"""Two images under the same ids, wherever what was evaluated is kept: in memory, on disk, in another process."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qwen35_local import _core
from qwen35_local.chat.messages import Media, Message
from qwen35_local.chat.presets import Sampling
from qwen35_local.chat.template import Template
from qwen35_local.engine import store
from qwen35_local.engine.cache import PrefixCache
from qwen35_local.engine.cached_sequence import CachedSequence
from qwen35_local.engine.engine import Engine
from qwen35_local.engine.model_input import ModelInput, digest, input_rows
from qwen35_local.engine.prompts import Prompts
from qwen35_local.engine.reply import Request
from qwen35_local.engine.reply_log import ReplyLog, Written
from qwen35_local.engine.spill import Spill
from qwen35_local.errors import InputError
from qwen35_local.models.positions import grid_positions

GREEDY = Sampling(temperature=0.0)
PAD = 900
BEFORE, BEHIND = 300, 40  # tokens of text around an image of 6 x 8
N = BEFORE + 48 + BEHIND


def image(model: _core.Model, seed: int, height: int = 6, width: int = 8) -> _core.InputRows:
    stream = np.random.default_rng(seed)
    rows = stream.standard_normal((height * width, int(model.config["hidden"]))).astype(np.float32)
    return input_rows(rows, grid_positions(height, width).astype(np.int32))


def asked(model: _core.Model, seed: int) -> ModelInput:
    """Always the same ids."""
    tokens = np.array([100 + n % 700 for n in range(N)], np.int32)
    tokens[BEFORE : BEFORE + 48] = PAD
    return ModelInput(tokens, ((BEFORE, image(model, seed)),))


def cold(model: _core.Model, prompt: ModelInput) -> NDArray[np.float32]:
    return _core.Sequence(model).append(prompt.tokens, inputs=prompt.inputs)[-1]


CHECKPOINTS = {BEFORE + 20: "within the image", BEFORE + 48: "behind the image", N: "the end"}


def read(cached: CachedSequence, prompt: ModelInput) -> tuple[int, NDArray[np.float32]]:
    """How many rows were reused, and the logits behind the prompt."""
    start = cached.seek(prompt)
    logits = cached.read(prompt, CHECKPOINTS)
    assert logits is not None
    return start.reused, logits


def test_keys_tell_blocks_apart(demo: _core.Model) -> None:
    one, again, two = (asked(demo, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.tokens, two.tokens)
    assert np.array_equal(one.keys, again.keys)
    differing = np.flatnonzero(one.keys != two.keys)
    assert differing.tolist() == list(range(BEFORE, BEFORE + 48))
    assert (one.keys[differing] < 0).all()
    text = ModelInput(one.tokens)
    assert text.keys is text.tokens
    turned = ModelInput(one.tokens, ((BEFORE, image(demo, 1, 8, 6)),))
    assert not np.array_equal(turned.keys, one.keys)  # the same rows at other positions


def test_a_digest_is_that_of_the_content(demo: _core.Model) -> None:
    one, two = asked(demo, 1), asked(demo, 2)
    digests = {digest(p.tokens, p.runs) for p in (one, two, ModelInput(one.tokens), asked(demo, 1))}
    assert len(digests) == 3
    assert (
        digest(np.arange(3, dtype=np.int32)) == "ad5dc1478de06a4c2728ea528bd9361a"
    )  # sha256sum of their bytes: it is kept in files


def test_two_images_are_two_in_memory(demo: _core.Model) -> None:
    cached = CachedSequence(_core.Sequence(demo))
    one, two = asked(demo, 1), asked(demo, 2)
    for prompt, expected in ((one, 0), (two, BEFORE), (one, N), (two, N)):
        reused, logits = read(cached, prompt)
        assert reused <= expected
        assert reused == expected or expected == BEFORE  # nothing was kept just before the image
        np.testing.assert_array_equal(logits, cold(demo, prompt))


def test_a_reading_goes_on_within_an_image(demo: _core.Model) -> None:
    cached = CachedSequence(_core.Sequence(demo), chunk_tokens=33)
    one, two = asked(demo, 1), asked(demo, 2)
    read(cached, one)
    for entry in list(cached.cache):
        if entry.label != "within the image":
            cached.cache.remove(entry)
    read(cached, two.part(0, 3))
    reused, logits = read(cached, one)
    assert reused == BEFORE + 20
    np.testing.assert_array_equal(logits, cold(demo, one))


def test_two_images_are_two_on_disk(demo: _core.Model, tmp_path: Path) -> None:
    """Snapshots that left memory, and those that another run has saved."""
    one, two = asked(demo, 1), asked(demo, 2)
    spill = Spill(tmp_path / "spill", demo, "f16", 1 << 30)
    (tmp_path / "spill").mkdir()
    cached = CachedSequence(_core.Sequence(demo), PrefixCache(0, spill, disk_tokens=1))
    for prompt in (one, two):
        read(cached, prompt)
    assert any(entry.snapshot is None for entry in cached.cache)
    read(cached, two)
    reused, logits = read(cached, one)
    assert reused == N
    np.testing.assert_array_equal(logits, cold(demo, one))

    first = CachedSequence(_core.Sequence(demo))
    read(first, one)
    store.save(tmp_path, [(e, e.snapshot) for e in first.cache if e.snapshot is not None], "model", "f16")
    second = CachedSequence(_core.Sequence(demo))
    store.load(tmp_path, second.cache, demo, "model", "f16")
    assert read(second, two)[0] <= BEFORE
    np.testing.assert_array_equal(read(second, two)[1], cold(demo, two))
    third = CachedSequence(_core.Sequence(demo))
    store.load(tmp_path, third.cache, demo, "model", "f16")
    reused, logits = read(third, one)
    assert reused == N
    np.testing.assert_array_equal(logits, cold(demo, one))
    behind = one.tokens[:5]  # positions go on where the image left them
    np.testing.assert_array_equal(third._sequence.append(behind), first._sequence.append(behind))


def test_an_image_in_a_message_stands_for_its_rows(demo: _core.Model) -> None:
    """As many tokens as rows in the place of the template's one placeholder, and nothing else differs."""
    engine = Engine(demo, vision=lambda shown: image(demo, shown.source))
    question = (Media("image", 1), "What is this?")
    encoded = engine.encode(Request([Message("user", question)], GREEDY))
    pad = engine.tokenizer.special_tokens["<|image_pad|>"]
    ((at, rows),) = encoded.inputs
    assert len(rows) == encoded.tokens.count(pad) == 48
    assert encoded.tokens[at : at + 48] == [pad] * 48
    text = engine.tokenizer.decode(encoded.tokens)
    assert text.replace("<|image_pad|>" * 48, "<|image_pad|>") == encoded.prompt.text


def test_a_conversation_about_another_image_is_evaluated_anew(demo: _core.Model) -> None:
    engine = Engine(demo, vision=lambda shown: image(demo, shown.source))
    logits = []
    for source, reuses_image in ((1, False), (2, False), (1, True), (2, True)):
        prefilled = engine.prefill(Request([Message("user", (Media("image", source), "What is this?"))], GREEDY))
        prompt = prefilled.encoded.model_input
        np.testing.assert_array_equal(prefilled.logits, cold(demo, prompt))
        assert (prefilled.start.reused > prompt.inputs[0][0]) == reuses_image
        logits.append(prefilled.logits)
    assert not np.array_equal(logits[0], logits[1])


def test_an_image_without_an_encoder_or_a_place_is_refused(demo: _core.Model) -> None:
    request = Request([Message("user", (Media("image", 1), "What is this?"))], GREEDY)
    with pytest.raises(InputError, match="holds an image, and no encoder"):
        Engine(demo).encode(request)
    template = Template.for_model("{% for m in messages %}<|im_start|>{{ m.role }}<|im_end|>{% endfor %}")
    prompts = Prompts(template, Engine(demo).tokenizer, ReplyLog(), lambda shown: image(demo, shown.source))
    with pytest.raises(InputError, match="template has no place for it"):
        prompts.of(request)


def test_a_reply_is_the_one_behind_its_image(demo: _core.Model) -> None:
    """Two replies of the same text, written as other tokens behind two images under the same ids."""
    log, message = ReplyLog(), Message("assistant", "a cat")
    digests = [asked(demo, seed).digest for seed in (1, 2)]
    for number, after in enumerate(digests):
        log.keep(Written(message, "", (number,), "a cat", after))
    for number, after in enumerate(digests):
        chosen = log.choose(message, lambda after=after: after)
        assert chosen is not None
        assert chosen.tokens == (number,)
