"""What the block drafts (docs/architecture.md 5), and verifying it: drafts are guesses that change no sequence, and the
tokens drawn are those drawn without them."""

from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
from random_model import random_tokens

from qwen35_local import _core
from qwen35_local.engine.model_input import ModelInput, input_rows
from qwen35_local.errors import InputError
from qwen35_local.models.positions import InputRows, grid_positions

Kv = Literal["f32", "f16", "q8", "q4", "k8v4"]
FORMATS: list[Kv] = ["f32", "f16", "q8", "q4", "k8v4"]
VARIETIES: list[dict[str, Any]] = [{"mtp": True}, {"mtp": True, "moe": True}]
TEXT = random_tokens(900, seed=31)
DRAFTS = 8


@cache
def model_of(path: Any, draft_tokens: int = 32768) -> _core.Model:
    return _core.Model(path, drafts=DRAFTS, draft_tokens=draft_tokens, threads=2)


def reference_drafts(model: Any, state: Any, hidden: np.ndarray, token: int, most: int) -> list[np.ndarray]:
    """Logits of each draft of a chain behind a text whose pairs are in `state`."""
    reference, found = model.reference(), []
    for _ in range(most):
        logits, hidden = reference.draft([token], hidden[-1:], state)
        found.append(logits[0])
        token = int(logits[0].argmax())
    return found


def is_near(drafts: list[tuple[int, float]], expected: list[np.ndarray]) -> bool:
    """The reference's own choice, or one that it finds as good; with its probability."""
    for (token, probability), logits in zip(drafts, expected, strict=True):
        weights = np.exp(np.sort(logits)[::-1][:64] - logits.max())
        if (
            logits[token] < logits.max() - 1e-3
            or abs(probability - np.exp(logits[token] - logits.max()) / weights.sum()) > 1e-3
        ):
            return False
        if token != int(logits.argmax()):
            break  # the chains part
    return True


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 300])
@pytest.mark.parametrize("variety", VARIETIES, ids=str)
def test_drafts_are_the_references(tiny: Any, variety: dict[str, Any], count: int) -> None:
    model = tiny(**variety)
    reference = model.reference()
    state = reference.new_state()
    hidden = reference.hidden(TEXT[:count], state)
    if count > 1:
        reference.draft(TEXT[1:count], hidden[:-1], state)
    sequence = _core.Sequence(model_of(model.path), kv="f32")
    sequence.append(TEXT[:count], logits="none")
    [drafts] = model_of(model.path).draft([(sequence, TEXT[count], 5)])
    assert len(drafts) == 5
    assert is_near(drafts, reference_drafts(model, state, hidden, TEXT[count], 5))


def test_drafts_behind_an_image(tiny: Any) -> None:
    model = tiny(mtp=True)
    width, text = model.config.hidden, TEXT[:18]
    picture = np.random.default_rng(3).normal(size=(6, width)).astype(np.float32)
    places = grid_positions(2, 3)
    asked = ModelInput(np.array(text, np.int32), ((12, input_rows(picture, places.astype(np.int32))),))
    sequence = _core.Sequence(model_of(model.path), kv="f32")
    sequence.append(asked.tokens, inputs=asked.inputs, logits="none")
    with_image = model_of(model.path).draft([(sequence, TEXT[18], 4)])
    reference = model.reference()
    state = reference.new_state()
    hidden = reference.hidden(text, state, [InputRows(12, picture.astype(np.float64), places)])
    assert len(with_image[0]) == 4 and hidden.shape == (18, width)
    sequence.append(TEXT[18:19], logits="none")
    assert np.isfinite([p for _, p in model_of(model.path).draft([(sequence, TEXT[19], 4)])[0]]).all()


def test_drafts_a_few_tokens_behind_an_image(tiny: Any) -> None:
    """Its last row and the tokens behind wait for their pairs."""
    model = tiny(mtp=True)
    picture = np.random.default_rng(3).normal(size=(6, model.config.hidden)).astype(np.float32)
    rows = input_rows(picture, grid_positions(2, 3).astype(np.int32))
    found = []
    for first in (40, 18):  # at once, and up to the end of the image
        sequence = _core.Sequence(model_of(model.path), kv="f32")
        sequence.append(np.array(TEXT[:first], np.int32), inputs=((12, rows),), logits="none")
        for at in range(first, 40):
            sequence.append(TEXT[at : at + 1], logits="none")
        found.append(model_of(model.path).draft([(sequence, TEXT[40], 8)]))
    assert found[0] == found[1]


@pytest.mark.parametrize("kv", FORMATS)
def test_drafts_together_are_those_alone(tiny: Any, kv: Kv) -> None:
    """Of several sequences that want different numbers, whatever was drafted before."""
    model = model_of(tiny(mtp=True).path)
    counts, wanted = (1, 3, 254, 511, 700), (3, 8, 0, 5, 8)
    sequences = [_core.Sequence(model, kv=kv) for _ in counts]
    for sequence, count in zip(sequences, counts, strict=True):
        sequence.append(TEXT[:count], logits="none")
    items = [(s, TEXT[n], most) for s, n, most in zip(sequences, counts, wanted, strict=True)]
    together = model.draft(items)
    assert [len(drafts) for drafts in together] == list(wanted)
    assert together == [model.draft([item])[0] for item in items] == model.draft(items)


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("count", [5, 250, 508, 512, 764])
def test_drafting_changes_nothing(tiny: Any, kv: Kv, count: int) -> None:
    """Pages and state, the logits that follow, and rewinding to before the drafts."""
    model = model_of(tiny(mtp=True).path)

    def evaluated(*, drafts: bool) -> tuple[list[bytes], bytes, np.ndarray]:
        sequence = _core.Sequence(model, kv=kv)
        sequence.append(TEXT[: count - 3], logits="none")
        sequence.append(TEXT[count - 3 : count + 4], logits="none", uncertain=6)
        for n in (count + 4, count, count - 2):
            sequence.rewind(n)
            if drafts:
                assert len(model.draft([(sequence, TEXT[n], DRAFTS)])[0]) == DRAFTS
        logits = sequence.append(TEXT[count - 2 : count + 20], logits="all")
        snapshot = sequence.snapshot()
        return [page.data().tobytes() for page in snapshot.pages], snapshot.state().tobytes(), logits

    pages, _, logits = evaluated(drafts=True)
    expected = evaluated(drafts=False)
    assert pages == expected[0]
    assert np.array_equal(logits, expected[2])


@pytest.mark.parametrize("vocabulary", [1024, 1009])
def test_few_tokens_to_draft_from(tiny: Any, vocabulary: int) -> None:
    """The first ones and the last, from a multiple of 32 on; each draft is the best of those."""
    path = tiny(mtp=True, vocabulary=vocabulary).path
    every, few = model_of(path), model_of(path, 64)
    chosen = [*range(64), *range((vocabulary - 512) // 32 * 32, vocabulary)]
    for count in range(5, 60):
        sequences = [_core.Sequence(model, kv="f32") for model in (every, few)]
        for sequence in sequences:
            sequence.append(TEXT[:count], logits="none")
        mask = np.zeros(32, np.uint32)
        for token in chosen:
            mask[token // 32] |= np.uint32(1 << token % 32)
        [[(best, _)]] = every.draft([(sequences[0], TEXT[count], 1, mask)])
        [[(token, _)]] = few.draft([(sequences[1], TEXT[count], 1)])
        assert token == best and token in chosen


def test_masks_bind_the_first_draft(tiny: Any) -> None:
    model = model_of(tiny(mtp=True, vocabulary=1024).path, 64)
    sequence = _core.Sequence(model)
    sequence.append(TEXT[:9], logits="none")
    for allowed in (3, 63, 512, 1023):
        mask = np.zeros(32, np.uint32)
        mask[allowed // 32] = np.uint32(1 << allowed % 32)
        [drafts] = model.draft([(sequence, TEXT[9], 3, mask)])
        assert [len(drafts), drafts[0][0]] == [3, allowed]
    assert model.draft([(sequence, TEXT[9], 3, np.zeros(32, np.uint32))]) == [[]]
    only_outside = np.zeros(32, np.uint32)
    only_outside[100 // 32] = np.uint32(1 << 100 % 32)
    assert model.draft([(sequence, TEXT[9], 3, only_outside)]) == [[]]


def test_unlikely_drafts_end_the_chain(tiny: Any) -> None:
    model = model_of(tiny(mtp=True).path)
    sequence = _core.Sequence(model)
    sequence.append(TEXT[:9], logits="none")
    [all_of_them] = model.draft([(sequence, TEXT[9], 8)])
    products = np.cumprod([probability for _, probability in all_of_them])
    assert products[3] > products[4]
    for n, product in enumerate(products):
        for least, expected in ((product * 0.999, n + 1), (product * 1.001, n)):
            [drafts] = model.draft([(sequence, TEXT[9], 8, None, float(least))])
            assert drafts == all_of_them[:expected]
    mask = np.zeros(8, np.uint32)
    mask[0] = 1 << 5
    [[(token, probability), *_]] = model.draft([(sequence, TEXT[9], 8, mask, 0.999)])
    assert (token, probability) == (5, 1.0)  # among those that can come


def drawn(sequence: _core.Sequence, sampler: _core.Sampler, token: int, n: int) -> list[int]:
    """One token after the other."""
    tokens: list[int] = []
    while len(tokens) < n:
        [sampled] = sequence.step([token], sampler=sampler).sampled
        tokens.append(token := sampled.token)
    return tokens


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_tokens_drawn_are_those_without_drafts(tiny: Any, kv: Kv, temperature: float) -> None:
    """Right and wrong drafts in every pattern, with penalties and masks that depend on how many were drawn."""
    model = model_of(tiny(mtp=True).path)
    options: dict[str, Any] = {"temperature": temperature, "seed": 5, "presence_penalty": 0.5, "penalty_last_n": 20}
    base = _core.Sequence(model, kv=kv)
    base.append(TEXT[:240], logits="none")
    expected = drawn(base.fork(), _core.Sampler(**options), TEXT[240], 60)
    sequence, sampler = base.fork(), _core.Sampler(**options)
    pending, tokens, turn = TEXT[240], [], 0
    while len(tokens) < 40:
        right = turn % (DRAFTS + 1)
        drafts = expected[len(tokens) :][:right] + [
            (t + 1) % 250 for t in expected[len(tokens) + right :][: DRAFTS - right]
        ]
        result = sequence.step([pending, *drafts], sampler=sampler, uncertain=DRAFTS, logprobs=2)
        assert len(result.sampled) == right + 1
        sequence.rewind(len(sequence) - DRAFTS + right)
        tokens += [sampled.token for sampled in result.sampled]
        pending = tokens[-1]
        turn += 1
    assert tokens == expected[: len(tokens)]
    assert len(sampler) == len(tokens)


def test_each_draw_has_its_mask(tiny: Any) -> None:
    model = model_of(tiny(mtp=True).path)
    sequence, sampler = _core.Sequence(model), _core.Sampler(temperature=0.0)
    allowed = [7, 9, 11, 200]
    masks = []
    for token in allowed:
        masks.append(np.zeros(8, np.uint32))
        masks[-1][token // 32] = np.uint32(1 << token % 32)
    sampler.set_masks([*masks, None])
    result = sequence.step([1, *allowed], sampler=sampler, uncertain=4)
    assert [sampled.token for sampled in result.sampled[:4]] == allowed and len(result.sampled) == 5
    plain = _core.Sequence(model).step([1, *allowed], sampler=_core.Sampler(temperature=0.0)).sampled
    assert result.sampled[4].token == plain[0].token


def test_a_stop_ends_the_walk(tiny: Any) -> None:
    model = model_of(tiny(mtp=True).path)
    sampler = _core.Sampler(temperature=0.0, logit_bias={9: 1e6}, stop_ids=[9])
    result = _core.Sequence(model).step([1, 9, 9], sampler=sampler, uncertain=2)
    assert [sampled.is_stop for sampled in result.sampled] == [True]


def test_a_pass_that_cannot_hold_all_drafts(tiny: Any) -> None:
    """The token before them shares their pass."""
    model = model_of(tiny(mtp=True).path)
    expected = _core.Sequence(model).step(TEXT[:20], sampler=_core.Sampler(temperature=0.0), uncertain=4)
    sequence, item = _core.Sequence(model), None
    sampler, done = _core.Sampler(temperature=0.0), 0
    while done < 20:
        item = _core.StepItem(sequence, TEXT[done:20], sampler=sampler, uncertain=4)
        [result] = model.step([item], rows=6)
        done += result.evaluated
    assert [s.token for s in result.sampled] == [s.token for s in expected.sampled]
    with pytest.raises(InputError, match="at least the 4 uncertain tokens of an item and the one before"):
        sequence.step(TEXT[:5], sampler=sampler, uncertain=4, rows=4)


def test_refusals(tiny: Any) -> None:
    model = model_of(tiny(mtp=True).path)
    sequence = _core.Sequence(model, context_tokens=10)
    with pytest.raises(InputError, match="the sequence has none"):
        model.draft([(sequence, 1, 1)])
    sequence.append(TEXT[:7], logits="none")
    for item, said in [
        ((sequence, -1, 1), "token -1"),
        ((sequence, 1, 9), "at most the 8"),
        ((sequence, 1, 4), "the 3 that the context has room for"),
    ]:
        with pytest.raises(InputError, match=said):
            model.draft([item])
    with pytest.raises(InputError, match="the same one"):
        model.draft([(sequence, 1, 1), (sequence, 1, 1)])
    for without in (_core.Model(tiny(mtp=True).path), _core.Model(tiny().path, drafts=3)):
        other = _core.Sequence(without)
        other.append([1])
        with pytest.raises(InputError, match="no block that drafts"):
            without.draft([(other, 1, 1)])
    with pytest.raises(InputError, match="all 2 tokens are uncertain"):
        sequence.step([1, 2], sampler=_core.Sampler(), uncertain=2)
    with pytest.raises(InputError, match="multiple of 32"):
        _core.Model(tiny(mtp=True).path, drafts=1, draft_tokens=33)
